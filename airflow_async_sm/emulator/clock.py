"""
The emulator's only source of time, and the only place where anything waits for time to pass.

Everything that happens later is planned with :meth:`Clock.at`. So the same emulator runs in real time, many
times faster, or step by step, without knowing it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

log = logging.getLogger(__name__)

# Nearly every timer is cancelled long before its time; below this number it is not worth sweeping them out.
_SWEEP_ABOVE: Final = 1_000


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
        if call is None:
            return
        try:
            call()
        except Exception:  # One bad call must not take all later ones with it.
            log.exception("A planned call failed")


class Work:
    """
    Something that goes on in real time, such as a call of a model. Stepped time waits for its end.

    It can be a context manager, or be ended by another thread than the one that began it.
    """

    def end(self) -> None:
        """Say that it is over, or that it waits for time to pass. A second call does nothing."""

    def resume(self) -> None:
        """Say that it goes on after all."""

    def __enter__(self) -> Work:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()


class _Plan:
    """The calls that are still to come, in the order of their time. Its users hold a lock."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sweep_at = _SWEEP_ABOVE

    def add(self, moment: float, timer: Timer) -> bool:
        """Enter a call, and return whether it is the next one."""
        heapq.heappush(self._calls, (moment, next(self._order), timer))
        if len(self._calls) > self._sweep_at:
            self._calls = [entry for entry in self._calls if not entry[2].cancelled]
            heapq.heapify(self._calls)
            self._sweep_at = max(_SWEEP_ABOVE, 2 * len(self._calls))
        return self._calls[0][2] is timer

    def next_moment(self) -> float | None:
        """Return when the next call is due, or ``None`` if there is none."""
        while self._calls and self._calls[0][2].cancelled:
            heapq.heappop(self._calls)
        return self._calls[0][0] if self._calls else None

    def pop(self) -> Timer:
        """Take the next call out."""
        return heapq.heappop(self._calls)[2]


class Clock:
    """
    Time that passes by itself: epoch seconds that never step back, even when the machine's clock is set.

    :param speed: How many emulated seconds pass in a real one. Default 1. With another speed the emulated
        time runs ahead of the calendar, or stays behind it.
    :raises ValueError: a speed that is not above zero.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"speed is {speed!r}; it must be above zero.")
        self.speed = speed
        self._began = time.monotonic()
        self._epoch = time.time()
        self._plan = _Plan()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self, *, not_before: float = 0.0) -> None:
        """
        Begin to make the planned calls.

        :param not_before: The time is at least this. It lets a restarted emulator go on where it was.
        """
        self._stopped = False
        self._epoch += max(0.0, not_before - self.now())
        self._thread = threading.Thread(target=self._run, name="emulator-clock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make no further call, wait for the one that is being made, and forget the rest."""
        with self._changed:
            self._stopped = True
            self._plan = _Plan()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._epoch + (time.monotonic() - self._began) * self.speed

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Plan ``call`` for ``moment``. It must be short and must not wait."""
        timer = Timer(call)
        with self._changed:
            if self._plan.add(moment, timer):
                self._changed.notify_all()
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Plan ``call`` for so many seconds from now."""
        return self.at(self.now() + seconds, call)

    def working(self) -> Work:
        """Note that something goes on in real time; nothing waits for it here."""
        return Work()

    def describe(self) -> dict[str, float | str]:
        """Return what kind of clock it is, its speed and its time, as JSON values."""
        return {"kind": "running", "speed": self.speed, "now": self.now()}

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            timer.fire()

    def _next(self) -> Timer | None:
        with self._changed:
            while not self._stopped:
                moment = self._plan.next_moment()
                if moment is None:
                    self._changed.wait()
                elif (left := moment - self.now()) <= 0:
                    return self._plan.pop()
                else:
                    self._changed.wait(left / self.speed)
            return None


class SteppedClock(Clock):
    """
    Time that stands until it is told to pass. Planned calls are made by the thread that moves it.

    Model servers are real programs and take real time. So before time moves on from a moment, everything that
    became due at it is given the chance to finish.
    """

    def __init__(self) -> None:
        super().__init__()
        self._moment = self._epoch
        self._open: set[_SteppedWork] = set()
        self._moving = threading.Lock()

    def start(self, *, not_before: float = 0.0) -> None:
        """Begin; nothing happens before time is moved."""
        self._stopped = False
        self._moment = max(self._moment, not_before)

    def stop(self) -> None:
        """Make no further call, wait for the thread that moves the time, and forget the rest."""
        with self._changed:
            self._stopped = True
            self._open.clear()
            self._changed.notify_all()
        with self._moving, self._changed:
            self._plan = _Plan()

    def now(self) -> float:
        """Return the seconds since 1970 at which time stands."""
        return self._moment

    def working(self) -> Work:
        """Note that something goes on that time has to wait for."""
        work = _SteppedWork(self)
        work.resume()
        return work

    def describe(self) -> dict[str, float | str]:
        """Return what kind of clock it is and its time, as JSON values."""
        return {"kind": "stepped", "speed": 0.0, "now": self.now()}

    def advance(self, seconds: float, *, patience: float = 5.0) -> None:
        """
        Let time pass, from one planned moment to the next, and wait for the work that comes of each.

        :param seconds: Emulated seconds; 0 finishes what is due already.
        :param patience: Real seconds to wait for work that is going on. Work that takes longer, such as the
            call of a model that hangs, is left to itself until the next call of this method.
        """
        if seconds < 0:
            raise ValueError(f"seconds is {seconds!r}; time does not step back.")
        with self._moving:
            target = self._moment + seconds
            left_behind: set[Work] = set()
            while True:
                self._wait_for_work(left_behind, patience)
                with self._changed:
                    if self._stopped:
                        return
                    moment = self._plan.next_moment()
                    if moment is None or moment > target:
                        self._moment = target
                        return
                    self._moment = max(self._moment, moment)
                    timer = self._plan.pop()
                timer.fire()

    def settle(self, *, patience: float = 5.0) -> None:
        """Finish what is due at this moment, as :meth:`advance` does, without moving on."""
        self.advance(0.0, patience=patience)

    def _wait_for_work(self, left_behind: set[Work], patience: float) -> None:
        give_up_at = time.monotonic() + patience
        with self._changed:
            while not self._stopped and (going_on := self._open - left_behind):
                left = give_up_at - time.monotonic()
                if left <= 0:
                    left_behind |= going_on
                    return
                self._changed.wait(left)

    def _note(self, work: _SteppedWork, *, goes_on: bool) -> None:
        with self._changed:
            (self._open.add if goes_on else self._open.discard)(work)
            self._changed.notify_all()


class _SteppedWork(Work):
    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock

    def end(self) -> None:
        """Say that it is over, or that it waits for time to pass. A second call does nothing."""
        self._clock._note(self, goes_on=False)

    def resume(self) -> None:
        """Say that it goes on after all."""
        self._clock._note(self, goes_on=True)
