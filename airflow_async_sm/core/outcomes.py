"""
How a wait ends, and what one look can see.

A request has four ends. That nobody could look is none of them, but it ends a wait as well, so it has a name
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.records import Record, check_text, check_time

__all__ = ["End", "LookError", "Observation", "Outcome", "Pending", "Settled"]


class End(StrEnum):
    """The ends of a wait."""

    SUCCEEDED = "Succeeded"
    """The output object is there; the endpoint reached its goal."""
    FAILED = "Failed"
    """The failure object is there; the endpoint can no longer reach its goal."""
    EXPIRED = "Expired"
    """Nothing can arrive any more: queue time, invocation timeout and slack have passed."""
    TIMED_OUT = "TimedOut"
    """The waiter's own deadline passed first; the work may still finish."""
    LOOK_FAILED = "LookFailed"
    """Looking failed too often; what became of the work is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Record):
    """
    The end of one wait.

    :param end: Which of the ends.
    :param seen_at: When it was seen, in seconds since 1970 (UTC).
    :param detail: What is known beyond that, for a reader: a status, a reason, the last error. May be empty.
    :param location: S3 URI of the object that was found, where only its folder was known. May be empty.
    """

    end: End
    seen_at: float
    detail: str = ""
    location: str = ""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "end", End(self.end))
        except ValueError as error:
            raise InvalidInput(f"Outcome.end is {self.end!r}; expected one of {', '.join(End)}.") from error
        check_time("Outcome", "seen_at", self.seen_at)
        if self.detail:
            check_text("Outcome", "detail", self.detail)
        if self.location:
            check_text("Outcome", "location", self.location)


@dataclass(frozen=True, slots=True)
class Pending:
    """
    One look saw nothing final.

    :param status: What it saw instead, for one log line a change. May be empty.
    """

    status: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """
    One look saw the end of the work.

    :param succeeded: Whether that end is a success.
    :param detail: A status or a reason, for a reader. May be empty.
    :param location: S3 URI of the object that was found, where only its folder was known. May be empty.
    """

    succeeded: bool
    detail: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class LookError:
    """
    One look could not be made. A failed look is not a failed request.

    :param detail: What hindered it.
    :param fatal: No further look can be made either: waiting on would be pointless.
    """

    detail: str
    fatal: bool = False


Observation = Pending | Settled | LookError
