"""Start programs in sessions of their own, watch them, and end every process that came from them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # a requirement of every supported Airflow

from airflow_async_sm.demo.errors import ComponentFailed, NotReady
from airflow_async_sm.demo.signals import ending_signals_held_back

POLL_SECONDS = 0.05
TAIL_LINES = 40
TAIL_CHARACTERS = 6_000


@dataclass(frozen=True)
class Component:
    """One started program and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path


class Components:
    """
    The programs of one local Airflow.

    Each runs in a session of its own, so a Ctrl-C in the terminal reaches only us, and we end them in order.
    What they start in turn stays in that session (tasks get process groups of their own, sessions rarely),
    and has the environment variable named by ``mark``: this is how leftovers are told from everybody else's
    processes.

    :param folder: Working folder of the programs, and where their logs go: ``<name>.log``.
    :param mark: Name and value of an environment variable that no other process has.
    """

    def __init__(self, folder: Path, *, mark: tuple[str, str]) -> None:
        self._folder = folder
        self._mark = mark
        self._started: dict[str, Component] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a program under a name that is not in use yet."""
        log_file = self._folder / f"{name}.log"
        # Between the start and the note of it an interrupt would leave a process that nobody knows.
        with ending_signals_held_back(), log_file.open("wb") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._started[name] = Component(name, process, log_file)

    def finish(self, name: str, *, timeout: float) -> None:
        """
        Wait until a program has ended well, while the others go on.

        :param timeout: Seconds.
        :raises ComponentFailed: it, or one of the others, failed.
        :raises NotReady: it did not end in time.
        """
        component = self._started[name]
        deadline = time.monotonic() + timeout
        while (exit_code := component.process.poll()) is None:
            self.ensure_alive()
            if time.monotonic() > deadline:
                raise NotReady(name, timeout, self.log_tail(name))
            time.sleep(POLL_SECONDS)
        if exit_code != 0:
            raise ComponentFailed(name, exit_code, self.log_tail(name))
        # It is done. What is left of its session, if anything, still carries the mark.
        del self._started[name]

    def ensure_alive(self) -> None:
        """
        Look whether all programs are running.

        :raises ComponentFailed: one has ended.
        """
        for component in self._started.values():
            exit_code = component.process.poll()
            if exit_code is not None:
                raise ComponentFailed(component.name, exit_code, self.log_tail(component.name))

    def log_tail(self, name: str) -> str:
        """The last lines a program wrote."""
        component = self._started.get(name)
        if component is None:
            return ""
        lines = component.log_file.read_text(errors="replace").rstrip().splitlines()
        return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]

    def leaders(self) -> dict[str, int]:
        """Name and process id of every program that was started and has not been stopped."""
        return {component.name: component.process.pid for component in self._started.values()}

    def owned(self) -> list[psutil.Process]:
        """Every living process that came from our programs."""
        sessions = set(self.leaders().values())
        return [process for process in psutil.process_iter() if self._is_ours(process, sessions)]

    def _is_ours(self, process: psutil.Process, sessions: set[int]) -> bool:
        try:
            # A dead process that nobody collects (there may be no init in a container) is not a leftover.
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if os.getsid(process.pid) in sessions:
                return True
            name, value = self._mark
            return bool(process.environ().get(name) == value)
        except (psutil.Error, OSError):
            return False

    def stop(self, *, last: Iterable[str] = (), grace: float = 1.0) -> None:
        """
        End all programs and everything that came from them. Takes at most about ten times ``grace``.

        An interrupt while stopping does not leave the job half done: it makes it quicker, and is delivered at
        the end.

        :param last: Names of programs that others need in order to stop; they are asked only after them.
        :param grace: Seconds a program gets to follow the first request to stop, and half of what it gets for
            the second. Default 1: nothing is lost, because the whole instance is thrown away.
        """
        with ending_signals_held_back() as hurry:
            late = [self._started[name] for name in last if name in self._started]
            early = [component for component in self._started.values() if component not in late]
            _ask_to_stop(early)
            _wait_until(lambda: not _running(early) or hurry(), timeout=grace)
            # The second request makes a scheduler stop waiting for its tasks and a triggerer for its
            # triggers.
            _ask_to_stop([*early, *late])
            _wait_until(lambda: not _running([*early, *late]) or hurry(), timeout=2 * grace)
            self._kill_the_rest(timeout=3 * grace)
            self._started.clear()

    def _kill_the_rest(self, *, timeout: float) -> None:
        for component in self._started.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(component.process.pid, signal.SIGKILL)

        def all_gone() -> bool:
            remaining = self.owned()
            for process in remaining:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return not remaining

        _wait_until(all_gone, timeout=timeout)
        for component in self._started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                component.process.wait(timeout)


def _running(components: Iterable[Component]) -> list[Component]:
    return [component for component in components if component.process.poll() is None]


def _ask_to_stop(components: Iterable[Component]) -> None:
    for component in _running(components):
        component.process.terminate()


def _wait_until(done: Callable[[], bool], *, timeout: float) -> None:
    """Wait until ``done`` says so, or the time in seconds is up."""
    deadline = time.monotonic() + timeout
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
