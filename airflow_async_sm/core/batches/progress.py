"""How far a batch is, in numbers and in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Progress"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """
    How far a batch is.

    :param items: How many inputs it has.
    :param done: How many of them are at their end.
    :param failed: How many of those have no answer.
    :param in_flight: How many the service has.
    :param seconds: How long the batch has taken so far.
    :param rate: How many come to their end each second, lately; ``None``: that is not known.
    """

    items: int
    done: int
    failed: int
    in_flight: int
    seconds: float
    rate: float | None = None

    @property
    def percent(self) -> int:
        """How much is done, rounded down: 100 is all."""
        return 100 * self.done // self.items if self.items else 100

    @property
    def seconds_left(self) -> float | None:
        """An estimate of how long it takes still; ``None``: there is none."""
        return (self.items - self.done) / self.rate if self.rate else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, for others who want to know."""
        left = self.seconds_left
        return {
            "items": self.items,
            "done": self.done,
            "failed": self.failed,
            "in_flight": self.in_flight,
            "unsent": self.items - self.done - self.in_flight,
            "percent": self.percent,
            "seconds": round(self.seconds, 1),
            "rate": None if self.rate is None else round(self.rate, 3),
            "seconds_left": None if left is None else round(left),
        }

    def __str__(self) -> str:
        parts = [f"{self.percent} % of {self.items:,} inputs done", f"{self.in_flight:,} in the queue"]
        if self.failed:
            parts.insert(1, f"{self.failed:,} failed")
        if self.rate:
            parts.append(f"{self.rate:,.1f} a second")
        if (left := self.seconds_left) is not None and self.done < self.items:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3_600
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
