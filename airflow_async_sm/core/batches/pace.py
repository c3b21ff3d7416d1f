"""
How many requests of a batch are sent, and how fast.

A request that waits in the queue for longer than it may is lost. So no more are sent than the endpoint
answers in time, as fast as it was seen to answer.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST_WINDOW", "SubmissionRate", "again_at", "room", "window"]

FIRST_WINDOW: Final = 200
"""So many requests are sent before anything is known of how fast the endpoint answers."""

# A request may use up this share of its time in the queue, if the endpoint goes on as it did.
_SHARE_OF_QUEUE_TIME: Final = 0.5
# Fewer answers say nothing about a rate, unless they took this share of the time in the queue.
_TELLING: Final = 20
_LONG: Final = 0.25

# What is left of the rate when the service has turned a request away, and how it recovers every second.
_LESS: Final = 0.6
_MORE: Final = 1.1
# Turned away at the same time is turned away once.
_AT_ONCE: Final = 1.0
_SLOWEST: Final = 1.0
# A rate that is far above what one task can send bounds nothing.
_UNBOUNDED: Final = 5_000.0

# Longest pause before an item is tried again, in seconds.
_LONGEST_PAUSE: Final = 3_600.0


def window(max_in_flight: int, *, answered: int, seconds: float, request_ttl: float) -> int:
    """
    Return how many requests the service may have at the same time.

    :param max_in_flight: What the user allows.
    :param answered: How many were answered lately.
    :param seconds: In how many seconds.
    :param request_ttl: Seconds a request may stay queued.
    """
    if answered < _TELLING and seconds < request_ttl * _LONG:
        return min(max_in_flight, FIRST_WINDOW)
    bearable = int(answered / max(seconds, 1.0) * request_ttl * _SHARE_OF_QUEUE_TIME)
    return min(max_in_flight, max(1, bearable))


def room(allowed: int, in_flight: int) -> int:
    """
    Return how many answers are worth waking a worker for, which then sends as many again.

    :param allowed: What :func:`window` returned.
    :param in_flight: How many the service has.
    """
    return max(1, in_flight - allowed // 2)


def again_at(now: float, *, attempt: int, retry_delay: float) -> float:
    """
    Return when an item that failed is tried again: the pause doubles with each attempt.

    :param now: The time.
    :param attempt: Which attempt has failed, from 1.
    :param retry_delay: The first pause, in seconds.
    """
    return now + min(_LONGEST_PAUSE, retry_delay * 2.0 ** (attempt - 1))


class SubmissionRate:
    """
    When the next request may be sent: as often as the user and the service bear.

    :param most: Requests a second at most; ``None``: as many as the service takes.

    All times are seconds of a clock that is never set.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most if most is not None else float("inf")
        self._rate = self._most
        self._next_at = 0.0
        self._begun_at = 0.0
        self._counted = 0
        self._before = 0.0
        self._slowed_at = float("-inf")
        self._raised_at = 0.0

    @property
    def rate(self) -> float:
        """How many may be sent each second now."""
        return self._rate

    def take(self, now: float, latest: float = float("inf")) -> float | None:
        """
        Return for how many seconds to wait before sending the next request. It has its place then.

        :param now: The time.
        :param latest: When it may be sent at the latest; ``None`` is returned, and nothing has a place, where
            that is too early. Default: at any time.
        """
        if now - self._begun_at > _AT_ONCE:
            self._before = self._counted / (now - self._begun_at)
            self._begun_at, self._counted = now, 0
        self._recover(now)
        at = max(self._next_at, now)
        if at > latest:
            return None
        self._counted += 1
        self._next_at = at + 1 / self._rate
        return at - now

    def turned_away(self, now: float) -> None:
        """Take note that the service was too busy for a request."""
        if now - self._slowed_at < _AT_ONCE:
            return
        self._slowed_at = self._raised_at = now
        # A second that has just begun tells less than the one before.
        sent = max(self._before, self._counted / max(now - self._begun_at, 0.1))
        self._rate = max(min(_SLOWEST, self._most), _LESS * min(self._rate, sent))

    def _recover(self, now: float) -> None:
        while self._rate < self._most and now - self._raised_at >= 1.0:
            self._raised_at = max(self._raised_at + 1.0, now - 60.0)
            self._rate = min(self._most, self._rate * _MORE)
            if self._rate > _UNBOUNDED:
                self._rate = self._most
