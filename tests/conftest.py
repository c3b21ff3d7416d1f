"""An Airflow of its own for every test run, and no AWS settings of whoever runs it."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import given  # noqa: F401 - it keeps what is removed below, so it has to come first

# Airflow reads its settings when it is first imported, so they are made before any test module is.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-async-sm-tests-"))

# What the tests themselves are told stays: processes that share out the tests begin with what is left here.
for name in list(os.environ):
    if name.startswith(("AIRFLOW_", "AWS_")) and not name.startswith("AIRFLOW_ASYNC_SM_"):
        del os.environ[name]
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
}
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
os.environ |= NO_AWS


# It tells of each request, and a test that looks every second has nothing else in its log.
logging.getLogger("httpx").setLevel(logging.WARNING)

# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_unconfigure() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


# Airflow's version has no part in these, or only one that other tests see as well.
WITHOUT_AIRFLOW = [
    Path(__file__).parent / place
    for place in (
        "contract/emulator",
        "contract/test_hook.py",
        "contract/test_iam_policies.py",
        "integration/test_batch.py",
        "integration/test_local_airflow.py",
        "unit/core",
        "unit/demo",
        "unit/emulator",
    )
]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Say which tests are for the default Airflow only, and begin with the files that take longest."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in WITHOUT_AIRFLOW):
            item.add_marker(pytest.mark.default_airflow)
    _leave_out_what_costs_money(config, items)
    yield
    if config.getoption("loadscopereorder", True) is False:
        _begin_with_the_longest(items)


def _begin_with_the_longest(items: list[pytest.Item]) -> None:
    """
    Put files with a whole Airflow first, each followed by another file.

    Several processes share the files out. One that takes minutes must not come last, when the others have
    nothing left to do; and two Airflows at once are much for a small machine.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    # One Airflow serves all files of its folder, so these come one after the other.
    long = sorted(path for path, tests in files.items() if _needs_airflow(tests))
    short = [path for path in files if path not in long]
    pairs = itertools.zip_longest(long, short)
    items[:] = [item for pair in pairs for path in pair if path is not None for item in files[path]]


def _needs_airflow(tests: list[pytest.Item]) -> bool:
    return any(test.get_closest_marker("airflow_processes") for test in tests)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """
    Give all files with a whole Airflow 3 to one process: two at once are much for a small machine.

    Airflow 2 waits for most of its time, so its files are shared out like the others.
    """
    if config.getoption("dist") != "loadfile" or version("apache-airflow").startswith("2."):
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneAirflowAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            whole = nodeid.startswith(("tests/dags/", "tests/integration/"))
            return "with a whole Airflow" if whole else super()._split_scope(nodeid)

    return OneAirflowAtATime(config, log)


def _leave_out_what_costs_money(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what calls the real AWS and needs credentials, unless ``-m`` asks for it."""
    if re.search(r"\baws\b", config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("aws")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def clean_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, region or address of the person who runs the tests, and none left over from a test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AIRFLOW_CONN_")):
            monkeypatch.delenv(name)
    for name, value in NO_AWS.items():
        monkeypatch.setenv(name, value)
