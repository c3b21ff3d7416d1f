"""Answers that are held back for a while on the emulator's clock."""

from __future__ import annotations

import threading

from airflow_async_sm.emulator.clock import Clock, Work


class Pauses:
    """
    The requests that wait. Each one blocks the thread of its own connection.

    :param clock: Where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._closed = False

    def wait(self, seconds: float) -> Work:
        """
        Wait, and return the work that has begun by then: stepped time does not move on before its end.

        :param seconds: How long, on the emulator's clock.
        """
        over = threading.Event()
        begun: list[Work] = []

        def go_on() -> None:
            begun.append(self._clock.working())
            over.set()

        with self._lock:
            if self._closed:
                return Work()
            self._waiting.add(over)
        timer = self._clock.after(seconds, go_on)
        over.wait()
        timer.cancel()
        with self._lock:
            self._waiting.discard(over)
        return begun[0] if begun else Work()

    def close(self) -> None:
        """End all waiting at once, and let nobody wait from now on."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for over in waiting:
            over.set()
