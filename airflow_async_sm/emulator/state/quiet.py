"""A moment in which nobody changes what moto stores."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# How long a save waits for calls that are going on. It is spent in full only where one takes longer, such as
# a long poll of a queue; new calls are not held back meanwhile.
PATIENCE: Final = 1.0

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Quiet:
    """Counts the calls of an application that go on, and can hold new ones back for a moment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active = 0
        self._held = False
        self._writes = 0

    @property
    def writes(self) -> int:
        """How many calls have come that may have changed something."""
        return self._writes

    def guard(self, application: WSGIApplication) -> WSGIApplication:
        """Return ``application`` with every call of it counted, and held back when it has to be."""

        def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            with self.call(writes=environ["REQUEST_METHOD"] not in _READING):
                return application(environ, start_response)

        return guarded

    @contextlib.contextmanager
    def hold(self, patience: float = PATIENCE) -> Iterator[None]:
        """
        Hold new calls back until the block ends. It begins when no call goes on.

        :param patience: Real seconds to wait for that. Then it begins all the same: what still goes on is
            waiting for something, as a rule.
        """
        give_up_at = time.monotonic() + patience
        with self._changed:
            while self._active and (left := give_up_at - time.monotonic()) > 0:
                self._changed.wait(left)
            self._held = True
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def call(self, *, writes: bool) -> Iterator[None]:
        """Count the block as a call that goes on, and wait before it while calls are held back."""
        with self._changed:
            while self._held:
                self._changed.wait()
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._writes += writes
                self._changed.notify_all()
