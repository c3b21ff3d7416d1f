"""
Many waits at once: who is looked at when, and by which of the requests that S3 takes.

Answers do not announce themselves, so places in S3 are asked for again and again. Each wait says when it
wants to be looked at next. Whoever is due is asked for together with all others in the same folder, where one
LIST is cheaper than a HEAD for each; so waits that share a folder come to share their moments as well.

All that is found out this way is that nothing is there yet, or that the answer is. Everything else, and the
end of a wait without an answer, takes a look of its own at that one request.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from airflow_async_sm.core.buckets import Ask, Bucket, Listing, Look, Seen, Sight, Spot
from airflow_async_sm.core.outcomes import Observation, Outcome, Pending, Settled
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.core.waiting import Finish, Sleep

__all__ = ["AT_EASE", "Rounds", "Waiting"]

AT_EASE: Final = 0.55
"""Where there is little to do, waits are looked at sooner than they have to be: pauses are this share."""

# From so many requests a second on, for waits that have to be asked for one by one, it is not little.
_FEW_PER_SECOND: Final = 30.0
# And so many are made at most: with more such waits, pauses are longer. That takes a quarter of a processor,
# and a triggerer has one for everything.
_MOST_PER_SECOND: Final = 250.0
# A failure is looked for after two pauses that are not shortened.
_FAILURE_PAUSES: Final = 2.0
# Each round's pauses are shortened by up to this share, so that triggerers do not look in step.
_JITTER: Final = 0.1
# Who is due so shortly after others is taken along; in seconds.
_TOGETHER: Final = 0.1
# A new wait is first looked at so much later, in seconds: many come at once, and a worker has just looked.
_JOINING: Final = 0.3
# Plans are made at most so often, in seconds, and not for each wait that comes or goes.
_PLANNED_ANEW: Final = 1.0


class Waiting(Protocol):
    """One wait, as far as the rounds have to do with it."""

    @property
    def is_at_its_end(self) -> bool:
        """Whether the next look is the last."""

    def unanswered(self) -> Pending | None:
        """Return what it means that no object was found; ``None``: only a look of its own can tell."""

    def after(self, seen: Observation, stretch: float) -> Sleep | Finish:
        """Return what follows a look. Pauses are ``stretch`` times as long as the wait would have them."""


class _Wait:
    __slots__ = ("bucket", "pause", "spots", "waiting")

    def __init__(self, waiting: Waiting, bucket: str) -> None:
        self.waiting = waiting
        self.bucket = bucket
        self.spots: list[Spot] = []
        # As long as the wait would have it.
        self.pause = 1.0


class Rounds:
    """
    The schedule of all waits that reach AWS in the same way.

    All times are seconds of a clock that is never set.

    :param draw: Returns a random number from 0 up to 1, for the jitter.
    """

    def __init__(self, *, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._waits: dict[int, _Wait] = {}
        self._buckets: dict[str, Bucket] = {}
        self._heap: list[tuple[float, int, Spot]] = []
        self._counted = 0
        self._planned_at = float("-inf")
        self._stretch = AT_EASE
        # How many requests may be made at once, as of the last round.
        self._allowed = _MOST_PER_SECOND
        self._began_at = 0.0

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, waiting: Waiting, output: S3Uri | None, failure: S3Uri | None, *, now: float) -> int:
        """
        Take up a wait, and return its name. It is looked at soon.

        :param waiting: The wait.
        :param output: Where the answer will be; ``None``: it is always looked at by itself.
        :param failure: Where a failure would be told; ``None``: that is not known.
        :param now: The time.
        """
        self._counted += 1
        name = self._counted
        self._waits[name] = _Wait(waiting, output.bucket if output else "")
        if output is None:
            self._as_a_whole(name, now + _JOINING)
            return name
        places = [Spot(name, output.bucket, output.key)]
        if failure is not None:
            places.append(Spot(name, failure.bucket, failure.key, is_failure=True))
        self._stand(name, places, now + _JOINING)
        return name

    def remove(self, name: int) -> None:
        """Forget a wait, if it is still known."""
        wait = self._waits.pop(name, None)
        if wait is not None:
            self._leave(wait)
        if len(self._heap) > 4 * len(self._waits) + 1_000:
            self._heap = [entry for entry in self._heap if self._is_awaited(entry)]
            heapq.heapify(self._heap)

    @property
    def next_at(self) -> float | None:
        """When somebody is due; ``None``: nobody, unless something is answered or a wait is added."""
        while self._heap and not self._is_awaited(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def begin(self, now: float) -> list[Ask]:
        """Return what to ask now. The answer to each goes to :meth:`absorb`."""
        self._plan(now)
        more = (now - self._began_at) * _MOST_PER_SECOND
        self._began_at, self._allowed = now, min(_MOST_PER_SECOND, self._allowed + more)
        due: dict[str, list[Spot]] = {}
        for spot in self._pop_due(now + _TOGETHER):
            due.setdefault(spot.bucket, []).append(spot)
        return [ask for bucket, spots in due.items() for ask in self._ask_for(bucket, spots, now)]

    def absorb(
        self, ask: Ask, answer: Seen | Observation, now: float
    ) -> Iterator[tuple[int, Outcome] | None]:
        """
        Take in an answer. Yield the waits that it ends, name and outcome, and ``None`` for each that goes on.

        :param ask: What was asked.
        :param answer: What came of it; for keys a :class:`Seen`, or an observation that holds for all.
        :param now: The time.
        """
        if not isinstance(ask, Look) and ask.bucket in self._buckets:
            self._buckets[ask.bucket].answered(ask, answer if isinstance(answer, Seen) else None, now)
        stretch = self._stretch * (1 - _JITTER * self._draw())
        for spot in ask.spots:
            spot.is_asked = False
            outcome = None if spot.is_left else self._take(spot, answer, now, stretch)
            yield None if outcome is None else (spot.name, outcome)

    def _take(self, spot: Spot, answer: Seen | Observation, now: float, stretch: float) -> Outcome | None:
        wait = self._waits[spot.name]
        sight = answer.at(spot.key) if isinstance(answer, Seen) else None
        if sight is Sight.UNREACHED:
            self._want(spot, now)
            return None
        if spot.is_failure and sight in (Sight.ABSENT, None):
            # What an absence means, and how many errors are borne, is said where the answer is looked for.
            self._want(spot, now + wait.pause * _FAILURE_PAUSES * max(1.0, stretch))
            return None
        seen = _meaning(spot, sight, wait.waiting) if isinstance(answer, Seen) else answer
        is_last = bool(spot.bucket) and not isinstance(seen, Settled) and wait.waiting.is_at_its_end
        if seen is None or is_last:
            self._as_a_whole(spot.name, now)
            return None
        step = wait.waiting.after(seen, stretch)
        if isinstance(step, Finish):
            self.remove(spot.name)
            return step.outcome
        # Short of its end, a pause says nothing of how often it wants to be looked at.
        wait.pause = max(1.0, step.seconds / stretch)
        self._want(spot, now + step.seconds)
        return None

    def _ask_for(self, bucket: str, spots: list[Spot], now: float) -> list[Ask]:
        most = int(self._allowed)
        if bucket:
            asks = list(self._buckets[bucket].asks(spots, most))
        else:
            asks = [Look(self._waits[spot.name].bucket, [spot]) for spot in spots[:most]]
            for spot in spots[:most]:
                spot.is_asked = True
        self._allowed -= sum(len(ask.spots) for ask in asks if not isinstance(ask, Listing))
        for place, spot in enumerate([spot for spot in spots if not spot.is_asked]):
            # Its folder is being listed, from before it was due, or there are too many.
            self._want(spot, now + 2 * _TOGETHER + place / _MOST_PER_SECOND)
        return asks

    def _as_a_whole(self, name: int, at: float) -> None:
        """Let a wait be looked at by itself from now on."""
        self._stand(name, [Spot(name)], at)

    def _stand(self, name: int, spots: list[Spot], at: float) -> None:
        wait = self._waits[name]
        self._leave(wait)
        wait.spots = spots
        for spot in spots:
            if spot.bucket:
                self._buckets.setdefault(spot.bucket, Bucket(spot.bucket)).add(spot)
            self._want(spot, at)

    def _leave(self, wait: _Wait) -> None:
        for spot in wait.spots:
            spot.is_left = True
            if spot.bucket:
                bucket = self._buckets[spot.bucket]
                bucket.remove(spot)
                if not bucket:
                    del self._buckets[spot.bucket]

    def _want(self, spot: Spot, at: float) -> None:
        spot.due = at
        self._counted += 1
        heapq.heappush(self._heap, (at, self._counted, spot))

    def _pop_due(self, until: float) -> Iterable[Spot]:
        while (at := self.next_at) is not None and at <= until:
            yield heapq.heappop(self._heap)[2]

    def _is_awaited(self, entry: tuple[float, int, Spot]) -> bool:
        """Return whether an entry still holds. What was asked for with others has a later one."""
        at, _, spot = entry
        return at == spot.due and not spot.is_asked and not spot.is_left

    def _plan(self, now: float) -> None:
        """Decide which folders are listed, and how long pauses are; not for each wait that comes or goes."""
        if now - self._planned_at < _PLANNED_ANEW:
            return
        self._planned_at = now
        alone = [wait.spots[0] for wait in self._waits.values() if not wait.spots[0].bucket]
        for bucket in self._buckets.values():
            bucket.plan(now)
            alone += bucket.apart()
        each_second = sum(
            1 / self._waits[spot.name].pause / (_FAILURE_PAUSES if spot.is_failure else 1.0) for spot in alone
        )
        at_leisure = min(1.0, each_second / _FEW_PER_SECOND)
        self._stretch = max(AT_EASE, at_leisure, each_second / _MOST_PER_SECOND)


def _meaning(spot: Spot, sight: Sight | None, waiting: Waiting) -> Observation | None:
    """
    Return what a wait is told of what is seen at its spot; ``None``: only a look of its own can tell.

    Such a look finds out whether a refusal is final, a failure was overtaken by an answer, or an endpoint is
    lost.
    """
    if sight is Sight.ABSENT:
        return waiting.unanswered()
    return Settled(succeeded=True) if sight is Sight.PRESENT and not spot.is_failure else None
