"""Short calls at points in time, made by one thread: they end a request's time in the queue or the model."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from airflow_async_sm.emulator.clock import Clock

log = logging.getLogger(__name__)


class Timer:
    """One planned call. Cancelling it also lets go of everything that the call would have used."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    @property
    def cancelled(self) -> bool:
        return self._call is None

    def cancel(self) -> None:
        """Do not make the call, if it has not been made."""
        self._call = None

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """The calls that are still to come, and the thread that makes them."""

    # Nearly every timer is cancelled long before its time; below this number it is not worth sweeping them
    # out.
    _SWEEP_ABOVE = 1_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._planned: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._sweep_at = self._SWEEP_ABOVE
        self._thread = threading.Thread(target=self._run, name="emulator-timers", daemon=True)

    def start(self) -> None:
        """Begin to make the calls."""
        self._thread.start()

    def stop(self) -> None:
        """Make no further call, and wait for the one that is being made."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Plan ``call`` for ``moment`` on the emulator's clock. It must be short and must not wait."""
        timer = Timer(call)
        with self._changed:
            heapq.heappush(self._planned, (moment, next(self._order), timer))
            if len(self._planned) > self._sweep_at:
                self._sweep()
            self._changed.notify_all()
        return timer

    def _sweep(self) -> None:
        self._planned = [entry for entry in self._planned if not entry[2].cancelled]
        heapq.heapify(self._planned)
        self._sweep_at = max(self._SWEEP_ABOVE, 2 * len(self._planned))

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            try:
                timer.fire()
            except Exception:  # One bad call must not take all later ones with it.
                log.exception("A timer's call failed")

    def _next(self) -> Timer | None:
        with self._changed:
            while not self._stopped:
                moment = self._planned[0][0] if self._planned else None
                if moment is not None and moment <= self._clock.now():
                    return heapq.heappop(self._planned)[2]
                self._clock.wait(self._changed, moment)
            return None
