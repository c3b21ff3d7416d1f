"""Starting and ending programs, with small Python programs in the place of Airflow's."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from airflow_async_sm.demo.errors import ComponentFailed, NotReady
from airflow_async_sm.demo.processes import TAIL_LINES, Components

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
# Children that would outlive their parent: one in the same session, one in a session of its own.
PARENT = (
    "import subprocess, sys, time\n"
    "for alone in (False, True):\n"
    "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=alone)\n"
    "print('up', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def components(tmp_path: Path) -> Iterator[Components]:
    components = Components(tmp_path, mark=("TEST_MARK", str(tmp_path)))
    yield components
    components.stop(grace=0.2)


def start(components: Components, name: str, program: str) -> None:
    (mark_name, mark) = components._mark
    components.start(name, [sys.executable, "-c", program], {**os.environ, mark_name: mark})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_up(components: Components, name: str) -> Callable[[], bool]:
    return lambda: components.log_tail(name) == "up"


def test_program_leads_a_session_of_its_own(components: Components) -> None:
    start(components, "a", SLEEP)
    pid = components.leaders()["a"]
    assert os.getsid(pid) == pid != os.getsid(0)


def test_finish_waits_for_success(components: Components) -> None:
    start(components, "other", SLEEP)
    start(components, "once", "print('done')")
    components.finish("once", timeout=20)
    assert list(components.leaders()) == ["other"]


def test_finish_reports_failure_with_the_log(components: Components) -> None:
    start(components, "once", "print('what went wrong'); raise SystemExit(3)")
    with pytest.raises(ComponentFailed, match="what went wrong") as caught:
        components.finish("once", timeout=20)
    assert (caught.value.component, caught.value.exit_code) == ("once", 3)


def test_finish_notices_that_another_program_died(components: Components) -> None:
    start(components, "once", SLEEP)
    start(components, "other", "print('gone')")
    with pytest.raises(ComponentFailed, match="other ended with exit code 0"):
        components.finish("once", timeout=20)


def test_finish_is_bounded(components: Components) -> None:
    start(components, "once", SLEEP)
    wait_for(is_up(components, "once"))
    with pytest.raises(NotReady, match=r"once was not ready after 0\.1 s.*\nup"):
        components.finish("once", timeout=0.1)


def test_log_tail_is_the_end_of_the_log(components: Components) -> None:
    start(components, "a", "for i in range(1000): print('line', i)")
    components._started["a"].process.wait(20)
    assert components.log_tail("a").splitlines() == [f"line {i}" for i in range(1000 - TAIL_LINES, 1000)]
    assert components.log_tail("unknown") == ""


def test_stop_ends_everything_that_came_from_it(components: Components) -> None:
    start(components, "parent", PARENT)
    wait_for(is_up(components, "parent"))
    wait_for(lambda: len(components.owned()) == 3)
    owned = components.owned()
    components.stop(grace=1)
    assert not psutil.wait_procs(owned, timeout=5)[1]
    assert components.leaders() == {}


def test_stop_leaves_other_processes_alone(components: Components, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    others = Components(folder, mark=("TEST_MARK", str(folder)))
    start(others, "other", SLEEP)
    try:
        start(components, "a", SLEEP)
        components.stop(grace=1)
        others.ensure_alive()
    finally:
        others.stop(grace=0.2)


def test_stop_kills_what_does_not_listen(components: Components) -> None:
    start(components, "stubborn", STUBBORN)
    wait_for(is_up(components, "stubborn"))
    process = components._started["stubborn"].process
    components.stop(grace=0.2)
    assert process.returncode == -signal.SIGKILL


def test_stop_asks_the_last_ones_last(components: Components, tmp_path: Path) -> None:
    note = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    with open({file!r}, 'a') as file: file.write({name!r})\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    order = tmp_path / "order"
    for name in ("server", "worker"):
        start(components, name, note.format(file=str(order), name=f"{name} "))
        wait_for(is_up(components, name))
    components.stop(last=["server", "not started"], grace=5)
    assert order.read_text() == "worker server "


def test_interrupt_makes_the_stop_quicker_and_is_delivered_at_its_end(components: Components) -> None:
    start(components, "stubborn", STUBBORN)
    wait_for(is_up(components, "stubborn"))
    process = components._started["stubborn"].process
    process_terminate = process.terminate

    def terminate_and_interrupt() -> None:
        process_terminate()
        signal.raise_signal(signal.SIGINT)

    process.terminate = terminate_and_interrupt  # type: ignore[method-assign]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        components.stop(grace=60)
    assert time.monotonic() - began < 30
    assert process.returncode == -signal.SIGKILL
    assert components.leaders() == {}
