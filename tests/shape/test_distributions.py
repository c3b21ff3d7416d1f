"""A wheel holds the package and nothing else; a source distribution holds all that a change needs."""

from __future__ import annotations

import subprocess

import pytest

from tests.pages import ROOT

hatchling = pytest.importorskip("hatchling.builders.wheel", reason="it comes with the default Airflow only")

# It takes no part in the package itself, so it comes with one environment.
pytestmark = pytest.mark.default_airflow


def held(builder) -> set[str]:
    """Return the paths that a distribution gets, without building it."""
    return {str(file.distribution_path) for file in builder.recurse_included_files()}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The files of the project: those that git knows of, and those that it would."""
    if not (ROOT / ".git").exists():
        pytest.skip("This is no clone")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def test_a_wheel_holds_the_package_only(known):
    assert held(hatchling.WheelBuilder(str(ROOT))) == {
        name for name in known if name.startswith("airflow_async_sm/")
    }


def test_a_wheel_holds_what_tells_that_the_package_is_typed_and_what_the_emulator_shows(known):
    wheel = held(hatchling.WheelBuilder(str(ROOT)))
    assert "airflow_async_sm/py.typed" in wheel
    assert any(name.endswith(".html") for name in wheel)


def test_a_source_distribution_holds_everything_but_how_the_project_is_checked_elsewhere(known):
    from hatchling.builders.sdist import SdistBuilder

    assert held(SdistBuilder(str(ROOT))) == {name for name in known if not name.startswith(".ci/")}
