"""A program with what it starts: signals reach all of it, and nobody else."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_async_sm.emulator.models import processes
from airflow_async_sm.emulator.models.processes import ProcessGroup
from tests.world import eventually

# Says who its child is, and ends with the code that it is given. The child sleeps on.
LEAVES_A_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "raise SystemExit(int(sys.argv[1]))",
]
STAYS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a group; every one has ended after the test."""
    made = []

    def begin(command):
        with (tmp_path / "output").open("ab") as output:
            made.append(ProcessGroup(command, environment=dict(os.environ), output=output))
        return made[-1]

    yield begin
    for group in made:
        group.end()


@pytest.fixture
def signals(monkeypatch):
    """Return what is sent to groups, with whether the leader's number was still its own."""
    sent, send = [], os.killpg

    def note(pid, number):
        try:
            os.kill(pid, 0)  # One that has ended and was not waited for still has its number.
            sent.append((signal.Signals(number).name, "own"))
        except ProcessLookupError:
            sent.append((signal.Signals(number).name, "free"))
        send(pid, number)

    monkeypatch.setattr(processes.os, "killpg", note)
    return sent


def runs(pid):
    """Return whether a process runs; one that nobody has waited for yet does not, where that can be seen."""
    try:
        os.kill(pid, 0)
        if not Path("/proc/self").exists():
            return True
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs a look at a child that leaves it as it is")
def test_number_of_a_leader_that_has_ended_stays_its_own_until_its_group_is_gone(start, signals, tmp_path):
    group = start([*LEAVES_A_CHILD, "3"])
    assert eventually(lambda: group.code) == 3
    assert group.code == 3
    child = int((tmp_path / "output").read_text())
    group.ask_to_end()
    group.end()
    eventually(lambda: not runs(child))
    assert signals == [("SIGTERM", "own"), ("SIGKILL", "own")]
    assert group.code == 3


def test_nothing_is_sent_when_the_group_is_gone(start, signals):
    group = start(STAYS)
    group.end()
    assert group.code == -signal.SIGKILL
    group.ask_to_end()
    group.kill()
    group.end()
    assert signals == [("SIGKILL", "own")]


def test_wait_has_a_limit(start):
    group = start(STAYS)
    before = time.monotonic()
    group.wait(0.2)
    assert 0.2 <= time.monotonic() - before < 20
    assert group.code is None
    group.ask_to_end()
    group.wait(20)
    assert group.code == -signal.SIGTERM


def test_what_is_left_is_killed_with_the_last_look_where_no_other_look_is_to_be_had(
    start, monkeypatch, tmp_path
):
    monkeypatch.delattr(os, "waitid", raising=False)
    group = start([*LEAVES_A_CHILD, "3"])
    assert eventually(lambda: group.code) == 3
    child = int((tmp_path / "output").read_text())
    eventually(lambda: not runs(child))
    sent = []
    monkeypatch.setattr(processes.os, "killpg", lambda *what: sent.append(what))
    group.end()
    assert sent == []


def test_leader_that_somebody_else_has_waited_for_is_signalled_no_more(start, monkeypatch, signals):
    group = start([sys.executable, "-c", ""])
    os.waitpid(group._process.pid, 0)
    group.code  # noqa: B018 - the look is what matters
    group.kill()
    assert signals == []


def test_exit_of_its_own_and_by_a_signal(start):
    ended = SimpleNamespace(exit=start([sys.executable, "-c", "raise SystemExit(17)"]), signal=start(STAYS))
    os.kill(ended.signal._process.pid, signal.SIGUSR1)
    assert eventually(lambda: ended.exit.code) == 17
    assert eventually(lambda: ended.signal.code) == -signal.SIGUSR1
