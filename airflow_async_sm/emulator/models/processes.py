"""A program and everything that it starts, signalled as a whole without hitting anybody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final

_FIRST_LOOK: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class ProcessGroup:
    """
    A program that leads a session of its own, and whatever it starts there.

    The group has the number of its leader. The system gives that number to nobody else as long as the leader
    has not been waited for, even when it has ended. So its end is looked at without waiting for it in the
    system's sense, until the whole group has been killed; nothing is signalled after that.

    :param command: The program and its arguments.
    :param environment: All of its variables.
    :param output: Where its output goes.
    :raises OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], output: BinaryIO) -> None:
        # Held for a moment only: everybody who may interrupt its holder can still kill the group.
        self._lock = threading.Lock()
        self._killed = False
        self._process = subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def code(self) -> int | None:
        """How the leader has ended: its exit code, or a signal as a negative number; ``None`` if it lives."""
        with self._lock:
            if self._killed or not hasattr(os, "waitid"):
                # Without that call (macOS before Python 3.13) there is no way to look without waiting. What
                # the leader has left behind is killed at once then: a moment later is too late.
                return self._reap()
            try:
                return _look(self._process.pid)
            except ChildProcessError:
                # Somebody has waited for all children of this process, and the number is free.
                self._killed = True
                return self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM to all of it."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to all of it. It is gone a moment later."""
        self._signal(signal.SIGKILL)

    def wait(self, limit: float) -> None:
        """
        Return when the leader has ended, or when the limit has passed.

        :param limit: Seconds.
        """
        give_up_at, pause = time.monotonic() + limit, _FIRST_LOOK
        while self.code is None and (left := give_up_at - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def end(self) -> None:
        """Kill all of it, and wait until the leader is gone."""
        self.kill()
        self._process.wait()

    def _reap(self) -> int | None:
        code = self._process.poll()
        if code is not None and not self._killed:
            self._killed = True
            self._send(signal.SIGKILL)
        return code

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if not self._killed:
                self._killed = number is signal.SIGKILL
                self._send(number)

    def _send(self, number: signal.Signals) -> None:
        # Nobody may be left, or nobody but those who have ended, which is what macOS calls not permitted.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _look(pid: int) -> int | None:
    """Return how a child has ended, and leave it to be waited for."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
