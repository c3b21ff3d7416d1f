"""
The wait engine: after each look it says how long to sleep, or that the wait is over and how it ended.

It touches nothing. The worker's loop and the triggerer's loop both feed it, so they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, LookError, Observation, Outcome, Settled

__all__ = ["Finish", "Pace", "Sleep", "WaitEngine"]


@dataclass(frozen=True, slots=True)
class Sleep:
    """
    Look again later.

    :param seconds: After so many seconds.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish:
    """
    The wait is over.

    :param outcome: How it ended.
    """

    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """
    How often to look. A young wait is looked at often, an old one rarely: the pause is a share of its age.

    :param shortest: Shortest pause, in seconds.
    :param longest: Longest pause, in seconds.
    :param share: The pause as a share of the wait's age so far, between the two bounds.
    :param tolerated_errors: So many looks in a row may fail; one more ends the wait. With the default pauses,
        20 bear an outage of a quarter of an hour: giving up early can mean paying for a second inference.
    :param longest_after_error: Longest pause after a failed look, in seconds. Such pauses double each time.
    """

    shortest: float = 1.0
    longest: float = 5.0
    share: float = 0.3
    tolerated_errors: int = 20
    longest_after_error: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest < float("inf"):
            raise InvalidInput(f"poll_interval is {self.longest!r} s; at least {self.shortest} s is needed.")

    def after_age(self, age: float) -> float:
        """Return the pause of a wait that is ``age`` seconds old."""
        return min(self.longest, max(self.shortest, age * self.share))

    def after_errors(self, errors: int) -> float:
        """Return the pause after ``errors`` failed looks in a row."""
        return min(self.longest_after_error, self.longest * 2.0 ** min(errors - 1, 30))


class WaitEngine:
    """
    Decide what follows each look at one request or endpoint.

    :param started_at: When the work was submitted: the age of the wait counts from here.
    :param deadline_at: When the waiter gives up (``TimedOut``).
    :param expires_at: When nothing can arrive any more (``Expired``); ``None`` where there is no such moment.
    :param pace: How often to look, and how many failed looks to bear.

    All times are in seconds since 1970 (UTC), so that a wait keeps its age and its deadline across restarts.
    """

    def __init__(
        self,
        *,
        started_at: float,
        deadline_at: float,
        expires_at: float | None = None,
        pace: Pace,
    ) -> None:
        self._started_at = started_at
        self._deadline_at = deadline_at
        self._expires_at = expires_at
        self._pace = pace
        self._errors = 0
        self._finished = False

    @property
    def ends_at(self) -> float:
        """When the last look is due, in seconds since 1970 (UTC): the wait never goes on beyond it."""
        return self._deadline_at if self._expires_at is None else min(self._deadline_at, self._expires_at)

    def after(self, seen: Observation, *, now: float, stretch: float = 1.0) -> Sleep | Finish:
        """
        Return what to do after a look. Not to be asked after a finish.

        :param seen: What it saw.
        :param now: The time, in seconds since 1970 (UTC).
        :param stretch: How many times as long the pause is as it would be. The last look falls on the
            deadline all the same.
        """
        if self._finished:
            raise RuntimeError("This wait is over; a wait ends once.")
        if isinstance(seen, LookError):
            # What is in trouble is not asked sooner.
            step, stretch = self._after_error(seen, now), max(stretch, 1.0)
        else:
            step = self._after_look(seen, now)
        if isinstance(step, Finish):
            self._finished = True
            return step
        return Sleep(min(step.seconds * stretch, self.ends_at - now))

    def _after_look(self, seen: Observation, now: float) -> Sleep | Finish:
        self._errors = 0
        if isinstance(seen, Settled):
            return _finish(End.SUCCEEDED if seen.succeeded else End.FAILED, now, seen.detail, seen.location)
        if self._expires_at is not None and now >= self._expires_at:
            return _finish(End.EXPIRED, now)
        if now >= self._deadline_at:
            return _finish(End.TIMED_OUT, now)
        return Sleep(self._pace.after_age(now - self._started_at))

    def _after_error(self, error: LookError, now: float) -> Sleep | Finish:
        self._errors += 1
        # With the deadline passed and the last look failed, "nothing came" would be a guess.
        if error.fatal or self._errors > self._pace.tolerated_errors or now >= self.ends_at:
            return _finish(End.LOOK_FAILED, now, error.detail)
        return Sleep(self._pace.after_errors(self._errors))


def _finish(end: End, now: float, detail: str = "", location: str = "") -> Finish:
    return Finish(Outcome(end=end, seen_at=now, detail=detail, location=location))
