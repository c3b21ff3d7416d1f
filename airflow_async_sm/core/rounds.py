"""
Many waits at once: who is looked at when, and by which of the requests that S3 takes.

Answers do not announce themselves, so places in S3 are asked for again and again. Each wait says when it
wants to be looked at next. Where one LIST is cheaper than a HEAD for each, a folder is due for all who wait
for keys in it, as often as the youngest wants; who is not there yet is told so only now and then.

All that is found out this way is that nothing is there yet, or that the answer is. Everything else, and the
end of a wait without an answer, takes a look of its own at that one request.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from math import ceil
from typing import Final, Protocol

from airflow_async_sm.core.buckets import Ask, Bucket, Folder, Listing, Look, Seen, Sight, Spot, heads
from airflow_async_sm.core.outcomes import LookError, Observation, Outcome, Pending, Settled
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
# All that is due comes at full tenths of a second, so that those who are due at about the same time are asked
# for together. A clock may be a little behind.
_EACH_SECOND: Final = 10
_BEHIND: Final = 0.01
# A new wait is first looked at so much later, in seconds: many come at once, and a worker has just looked.
_JOINING: Final = 0.3
# A folder is listed at most so often, in seconds.
_LISTED_EVERY: Final = 0.5
# Who wants the same pause each time is told ever less often that nothing is there, up to every tenth time.
_SELDOM: Final = 10
_ABOUT: Final = 1.01
# Plans are made at most so often, in seconds, and not for each wait that comes or goes.
_PLANNED_ANEW: Final = 1.0


class Waiting(Protocol):
    """One wait, as far as the rounds have to do with it."""

    @property
    def ends_in(self) -> float:
        """How many seconds are left until its last look."""

    def unanswered(self) -> Pending | None:
        """Return what it means that no object was found; ``None``: only a look of its own can tell."""

    def after(self, seen: Observation, stretch: float) -> Sleep | Finish:
        """Return what follows a look. Pauses are ``stretch`` times as long as the wait would have them."""


class _Wait:
    __slots__ = ("alike", "bucket", "failed_at", "pause", "spots", "waiting")

    def __init__(self, waiting: Waiting, bucket: str) -> None:
        self.waiting = waiting
        self.bucket = bucket
        self.spots: list[Spot] = []
        # As long as the wait would have it, and how often in a row that was the same.
        self.pause = 1.0
        self.alike = 0
        # When its failure object was seen.
        self.failed_at = float("inf")


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
        self._queue: list[tuple[float, int, Spot | Folder]] = []
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
        if len(self._queue) > 4 * len(self._waits) + 1_000:
            self._queue = [(at, n, one) for at, n, one in self._queue if one.queued == at and not one.is_left]
            heapq.heapify(self._queue)

    @property
    def next_at(self) -> float | None:
        """When somebody is due; ``None``: nobody, unless something is answered or a wait is added."""
        while self._queue:
            at, _, one = self._queue[0]
            if one.due == one.queued == at and not one.is_asked and not one.is_left:
                return at
            heapq.heappop(self._queue)
            if one.queued == at:
                # It is due later than it was when it was queued.
                one.queued = None
                if not one.is_asked and not one.is_left:
                    self._want(one, one.due)
        return None

    def begin(self, now: float) -> list[Ask]:
        """Return what to ask now. The answer to each goes to :meth:`absorb`."""
        self._plan(now)
        more = (now - self._began_at) * _MOST_PER_SECOND
        self._began_at, self._allowed = now, min(_MOST_PER_SECOND, self._allowed + more)
        asks: list[Ask] = []
        apart: dict[str, list[Spot]] = {}
        for one in self._pop_due(now + _BEHIND):
            if isinstance(one, Folder):
                asks += self._list(one, now)
            elif (folder := self._folder_of(one)) is None:
                apart.setdefault(one.bucket, []).append(one)
            elif self._waits[one.name].waiting.ends_in <= 0:
                self._as_a_whole(one.name, now)
            else:
                folder.heeding.append(one)
        for bucket, spots in apart.items():
            asks += self._each(bucket, [spot for spot in spots if not spot.is_left], now)
        return asks

    def absorb(
        self, ask: Ask, answer: Seen | Observation, now: float
    ) -> Iterator[tuple[int, Outcome] | None]:
        """
        Take in an answer. Yield the waits that it ends, name and outcome, and ``None`` for each that goes on.

        :param ask: What was asked.
        :param answer: What came of it; for keys a :class:`Seen`, or an observation that holds for all.
        :param now: The time.
        """
        stretch = self._stretch * (1 - _JITTER * self._draw())
        folder = ask.folder if isinstance(ask, Listing) else None
        for spot in self._told(ask, answer, now) if isinstance(ask, Listing) else ask.spots:
            spot.is_asked = False
            outcome = None if spot.is_left else self._take(spot, ask, answer, now, stretch)
            yield None if outcome is None else (spot.name, outcome)
        if folder is not None:
            folder.is_asked = False
            self._want(folder, now + folder.pause(now))

    def _told(self, ask: Listing, answer: Seen | Observation, now: float) -> list[Spot]:
        """Return who is told what a listing shows."""
        bucket, folder = self._buckets.get(ask.bucket), ask.folder
        if bucket is None or folder.is_left:
            return []
        told, folder.heeding = folder.heeding, []
        was_in_trouble, folder.is_in_trouble = folder.is_in_trouble, not isinstance(answer, Seen)
        if not isinstance(answer, Seen):
            # All are told once, and then each when it is due: what the youngest want must not use up what the
            # others bear.
            folder.wishes = folder.wishes if was_in_trouble else {}
            return told if was_in_trouble else bucket.in_folder(folder)
        self._part(bucket, bucket.learn(folder, answer, now), now)
        found = [spot for key in answer.keys for spot in bucket.at(key)]
        return list(dict.fromkeys([*found, *told])) if answer.is_whole else found

    def _take(
        self, spot: Spot, ask: Ask, answer: Seen | Observation, now: float, stretch: float
    ) -> Outcome | None:
        wait = self._waits[spot.name]
        folder = ask.folder if isinstance(ask, Listing) else None
        sight = answer.at(spot.key) if isinstance(answer, Seen) else None
        if spot.is_failure and sight in (Sight.ABSENT, Sight.FAILED, None):
            # What an absence means, and how many errors are borne, is said where the answer is looked for.
            pause = wait.pause * _FAILURE_PAUSES * max(1.0, stretch)
            self._pause(spot, pause, folder, now, times=_SELDOM)
            return None
        if spot.is_failure and sight is Sight.PRESENT:
            # The answer may have come before it: what counts is a look at its place from now on.
            wait.failed_at = min(wait.failed_at, now)
            self._want(wait.spots[0], now)
            return None
        seen: Observation | None
        if isinstance(answer, Seen):
            has_failed = not isinstance(ask, Look) and wait.failed_at <= ask.asked_at
            seen = _meaning(spot, answer, wait.waiting, has_failed=has_failed)
        else:
            seen = answer
        is_last = bool(spot.bucket) and not isinstance(seen, Settled) and wait.waiting.ends_in <= 0
        if seen is None or is_last:
            self._as_a_whole(spot.name, now)
            return None
        step = wait.waiting.after(seen, stretch)
        if isinstance(step, Finish):
            self.remove(spot.name)
            return step.outcome
        before, wait.pause = wait.pause, max(1.0, step.seconds / stretch)
        is_steady = sight is Sight.ABSENT and wait.pause <= before * _ABOUT and wait.failed_at > now
        wait.alike = wait.alike + 1 if is_steady else 0
        self._pause(spot, step.seconds, folder, now, times=min(_SELDOM, 1 + wait.alike))
        return None

    def _pause(self, spot: Spot, pause: float, folder: Folder | None, now: float, *, times: float) -> None:
        if folder is not None:
            # It is told at the first listing after its time.
            folder.note(spot, max(pause, _LISTED_EVERY), until=now + pause * (times + 2))
            pause = min(pause * times, self._waits[spot.name].waiting.ends_in)
        self._want(spot, now + pause)

    def _list(self, folder: Folder, now: float) -> list[Listing]:
        if self._allowed < 1:
            self._want(folder, now + 1 / _EACH_SECOND)
            return []
        listing = self._buckets[folder.bucket].listing(folder, now)
        self._allowed -= len(listing)
        if not listing:
            self._want(folder, now + _PLANNED_ANEW)
        return listing

    def _each(self, bucket: str, spots: list[Spot], now: float) -> list[Ask]:
        """Return what asks for spots one by one, as many as are allowed."""
        most = int(self._allowed)
        for place, spot in enumerate(spots[most:]):
            self._want(spot, now + (1 + place) / _MOST_PER_SECOND)
        self._allowed -= len(spots[:most])
        if bucket:
            return list(heads(bucket, spots[:most], now))
        for spot in spots[:most]:
            spot.is_asked = True
        return [Look(self._waits[spot.name].bucket, [spot]) for spot in spots[:most]]

    def _folder_of(self, spot: Spot) -> Folder | None:
        return self._buckets[spot.bucket].folder_of(spot) if spot.bucket else None

    def _part(self, bucket: Bucket, folders: list[Folder], now: float) -> None:
        """Let those be asked for one by one whose folders are listed no more."""
        for folder in folders:
            for spot in bucket.in_folder(folder):
                if not spot.is_asked:
                    self._want(spot, min(spot.due, now))

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
                    bucket.leave()
                    del self._buckets[spot.bucket]

    def _want(self, one: Spot | Folder, at: float) -> None:
        one.due = at = ceil(at * _EACH_SECOND) / _EACH_SECOND
        if not one.is_left and (one.queued is None or at < one.queued):
            one.queued = at
            self._counted += 1
            heapq.heappush(self._queue, (at, self._counted, one))

    def _pop_due(self, until: float) -> Iterator[Spot | Folder]:
        while (at := self.next_at) is not None and at <= until:
            one = heapq.heappop(self._queue)[2]
            one.queued = None
            yield one

    def _plan(self, now: float) -> None:
        """Decide which folders are listed, and how long pauses are; not for each wait that comes or goes."""
        if now - self._planned_at < _PLANNED_ANEW:
            return
        self._planned_at = now
        alone = [wait.spots[0] for wait in self._waits.values() if not wait.spots[0].bucket]
        for bucket in self._buckets.values():
            new, gone = bucket.plan(now)
            for folder in new:
                folder.heeding = bucket.in_folder(folder)
                self._want(folder, now + _JOINING)
            self._part(bucket, gone, now)
            alone += bucket.apart()
        each_second = sum(
            1 / self._waits[spot.name].pause / (_FAILURE_PAUSES if spot.is_failure else 1.0) for spot in alone
        )
        # What folders want is stretched already.
        folders = [folder for bucket in self._buckets.values() for folder in bucket.folders]
        each_second += self._stretch * sum(1 / folder.pause(now) for folder in folders)
        at_leisure = min(1.0, each_second / _FEW_PER_SECOND)
        self._stretch = max(AT_EASE, at_leisure, each_second / _MOST_PER_SECOND)


def _meaning(spot: Spot, seen: Seen, waiting: Waiting, *, has_failed: bool) -> Observation | None:
    """
    Return what a wait is told of what is seen at its spot; ``None``: only a look of its own can tell.

    Such a look finds out whether a refusal is final, or an endpoint is lost.
    """
    match seen.at(spot.key):
        case Sight.ABSENT if has_failed:
            return Settled(succeeded=False)
        case Sight.ABSENT:
            return waiting.unanswered()
        case Sight.FAILED:
            return LookError(seen.failed[spot.key])
        case Sight.PRESENT:
            return Settled(succeeded=True)
        case _:
            return None
