"""The emulator's only source of time, and the only place where it waits for time to pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Clock:
    """Real time: epoch seconds that never step back, even when the machine's clock is set."""

    def __init__(self) -> None:
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._epoch + time.monotonic()

    def wait(self, condition: threading.Condition, until: float | None = None) -> None:
        """Give up ``condition``, which the caller holds, until it is notified or ``until`` has come."""
        condition.wait(None if until is None else max(0.0, until - self.now()))

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], bool], until: float | None = None
    ) -> bool:
        """Wait until ``ready()`` holds or ``until`` has come, and return whether it holds."""
        with condition:
            while not ready():
                if until is not None and self.now() >= until:
                    return False
                self.wait(condition, until)
            return True
