from __future__ import annotations

import pytest

from airflow_async_sm.core.texts import sentence


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Forbidden", "Forbidden."),
        ("Forbidden.", "Forbidden."),
        ("Why? ", "Why?"),
        ("Failed (403)", "Failed (403)."),
        ("and so on …", "and so on …"),
    ],
)
def test_a_text_ends_with_one_mark(text, made):
    assert sentence(text) == made
