"""What a watcher has done, for whoever runs the triggerer."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from airflow_async_sm import metrics
from airflow_async_sm.core.buckets import Ask, Seen

__all__ = ["Figures"]

_log = logging.getLogger(__name__)

# How often they are told, in seconds.
_TOLD_EVERY: Final = 60.0


class Figures:
    """
    Figures of the last minute.

    :param now: The time, in seconds of the event loop's clock.
    """

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._begin()

    def _begin(self) -> None:
        self.rounds = 0
        self.hits = 0
        self.errors = 0
        self._looks: Counter[str] = Counter()
        self._longest_turn = 0.0

    def count(self, ask: Ask, answer: object) -> None:
        """Count the requests that an ask took."""
        kind = type(ask).__name__.lower()
        self._looks[kind] += answer.requests if isinstance(answer, Seen) else 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Measure how long the event loop is held up."""
        began_at = time.perf_counter()
        yield
        self._longest_turn = max(self._longest_turn, time.perf_counter() - began_at)

    def tell(self, *, waits: int, now: float, is_last: bool = False) -> None:
        """Tell the figures of a minute that is over, as metrics and as one line in the triggerer's log."""
        if now - self._began_at < _TOLD_EVERY and not is_last:
            return
        _log.debug(
            "In %.0f s: %d waits, %d rounds, looks %s, %d ended, %d failed looks, longest turn %.0f ms",
            now - self._began_at,
            waits,
            self.rounds,
            dict(self._looks),
            self.hits,
            self.errors,
            self._longest_turn * 1000,
        )
        metrics.gauge("watcher.waits", waits)
        metrics.count("watcher.rounds", self.rounds)
        metrics.count("watcher.hits", self.hits)
        metrics.count("watcher.errors", self.errors)
        for kind, looks in self._looks.items():
            metrics.count("watcher.looks", looks, kind=kind)
        metrics.timing("watcher.turn", self._longest_turn)
        self._began_at = now
        self._begin()
