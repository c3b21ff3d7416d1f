"""No example goes without a test of its own."""

from __future__ import annotations

from pathlib import Path

from tests.dags.playbill import EXAMPLES


def test_each_example_is_run_by_a_test():
    assert EXAMPLES
    tests = {path.stem: path.read_text() for path in Path(__file__).parent.glob("test_example_*.py")}
    assert sorted(tests) == [f"test_{name}" for name in EXAMPLES]
    for name, text in tests.items():
        assert f'EXAMPLE = "{name.removeprefix("test_")}"' in text
        assert "stage.first(EXAMPLE)" in text
