"""The calls from outside that are being served: counted, so that there can be an end of them."""

from __future__ import annotations

import threading
import time


class Traffic:
    """Lets calls in until it is told to let no more in."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = False

    def enter(self) -> bool:
        """Return whether a call may be served. Who was let in has to :meth:`leave`."""
        with self._changed:
            if self._shut:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Say that a call has been served."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self, patience: float) -> int:
        """
        Let no more calls in, and wait for those that are being served.

        :param patience: How many real seconds to wait at most.
        :returns: How many are still being served; 0 if all have ended.
        """
        give_up_at = time.monotonic() + patience
        with self._changed:
            self._shut = True
            while self._inside and (left := give_up_at - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._inside
