"""
How far a batch is: what the parts of its ledger say, taken together.

The ledger is a list of events that is only added to. Before requests are sent, an event says which; after
that, another says what came of sending them. A worker that dies in between leaves items of which nobody knows
whether the service has them: these are waited for like the others, and sent again only once nothing can come
of them any more.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from itertools import islice
from typing import Any, Final

from airflow_async_sm.core.batches.failures import ItemFailure, read, written
from airflow_async_sm.core.batches.ranges import members, ranges
from airflow_async_sm.core.failures import FailureKind

__all__ = ["BatchState", "Event", "Phase", "Place"]

Event = dict[str, Any]

Place = tuple[str | None, str | None]
"""Where an answer will be, and where a failure will be told."""


class Phase(IntEnum):
    """How far one item is."""

    PLANNED = 0
    """It is to be sent."""
    SENDING = 1
    """It was about to be sent; nobody knows whether the service has it."""
    OPEN = 2
    """The service has it."""
    SUCCEEDED = 3
    """Its answer is there."""
    FAILED = 4
    """It failed, and is not tried again."""
    EXPIRED = 5
    """Nothing came of it, nothing can come any more, and it is not tried again."""
    REFUSED = 6
    """The service did not take it."""
    WAITING = 7
    """It failed, and will be tried again."""


_IN_FLIGHT: Final = (Phase.SENDING, Phase.OPEN)
_UNSUCCESSFUL: Final = (Phase.FAILED, Phase.EXPIRED, Phase.REFUSED)
_ENDED: Final = (Phase.SUCCEEDED, *_UNSUCCESSFUL)


class BatchState:
    """
    All items of a batch.

    It takes some 20 bytes an item, and some hundreds for each that failed. ``folders`` are those of the
    batch's own in which answers and failures are found by name; ``None``: there is none, as far as is known.
    ``calls`` are those that workers made of AWS, by operation. ``instance_seconds`` is an estimate of what
    the endpoint's instances spent, since their number is known only when a worker looks.

    :param count: How many items there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._reset()

    def _reset(self) -> None:
        self._phases = bytearray(self.count)
        self._attempts = bytearray(self.count)
        self._sent_at = array("d", bytes(8 * self.count))
        self._failures: dict[int, ItemFailure] = {}
        self._places: dict[int, Place] = {}
        self._again_at: dict[int, float] = {}
        self.folders: Place = None, None
        self.calls: Counter[str] = Counter()
        self.instance_seconds = self._turn_at = 0.0
        self._tally = [self.count] + [0] * (len(Phase) - 1)
        self._first_planned = self._first_unsettled = 0

    def phase(self, index: int) -> Phase:
        """Return how far an item is."""
        return Phase(self._phases[index])

    def attempts(self, index: int) -> int:
        """Return how often an item was sent, or about to be."""
        return self._attempts[index]

    def sent_at(self, index: int) -> float | None:
        """Return when the part that an item was last sent with began, in seconds since 1970 (UTC)."""
        return self._sent_at[index] or None

    def failure(self, index: int) -> ItemFailure | None:
        """Return why an item has no answer; of one that is tried again, why it had none before."""
        return self._failures.get(index)

    def place(self, index: int) -> Place | None:
        """Return where an item's objects will be, where that is not what its name says."""
        return self._places.get(index)

    def number(self, *phases: Phase) -> int:
        """Return how many items are in one of these phases."""
        return sum(self._tally[phase] for phase in phases)

    @property
    def in_flight(self) -> int:
        """How many the service has, or may have."""
        return self.number(*_IN_FLIGHT)

    @property
    def done(self) -> int:
        """How many are at their end."""
        return self.number(*_ENDED)

    @property
    def unsuccessful(self) -> int:
        """How many have failed for good."""
        return self.number(*_UNSUCCESSFUL)

    @property
    def kinds(self) -> Counter[str]:
        """How many have failed for good, by what went wrong."""
        return Counter(failure.kind for _, failure in self.failures())

    def failures(self) -> Iterator[tuple[int, ItemFailure]]:
        """Yield the items that have failed for good, with why, in their order."""
        ended = (index for index in sorted(self._failures) if self._phases[index] in _UNSUCCESSFUL)
        return ((index, self._failures[index]) for index in ended)

    def indexes(self, *phases: Phase) -> Iterator[int]:
        """Yield the items in one of these phases, in their order."""
        wanted = frozenset(phases)
        return (index for index, phase in enumerate(self._phases) if phase in wanted)

    def first(self, phase: Phase) -> int | None:
        """Return the first item in a phase; ``None``: there is none."""
        at = self._phases.find(phase)
        return at if at >= 0 else None

    @property
    def first_unsettled(self) -> int:
        """The first item that is not at its end, or the number of items."""
        while self._first_unsettled < self.count and self._phases[self._first_unsettled] in _ENDED:
            self._first_unsettled += 1
        return self._first_unsettled

    def elsewhere(self) -> Iterator[tuple[int, Place]]:
        """Yield the items in flight whose objects do not go by their names, with their places."""
        return ((index, place) for index, place in self._places.items() if self._phases[index] in _IN_FLIGHT)

    def expired(self, before: float) -> Iterator[int]:
        """Yield the items that the service has, or may have, and that were sent before a moment."""
        return (index for index in self.indexes(*_IN_FLIGHT) if self._sent_at[index] < before)

    def oldest_sent_at(self) -> float | None:
        """Return when the oldest item that the service has, or may have, was sent; ``None``: it has none."""
        return min((self._sent_at[index] for index in self.indexes(*_IN_FLIGHT)), default=None)

    def next_again_at(self) -> float | None:
        """Return when the next item may be tried again; ``None``: none waits for that."""
        return min(self._again_at.values(), default=None)

    def next_part(self, most: int, now: float) -> tuple[int, list[int]]:
        """
        Return which items to send next, and the number of the attempt that this is for all of them.

        :param most: So many at most.
        :param now: The time. Items that failed before are sent again first, once they have waited.
        """
        ready = [index for index, at in self._again_at.items() if at <= now]
        if ready and most > 0:
            attempt = self._attempts[ready[0]] + 1
            alike = (index for index in ready if self._attempts[index] + 1 == attempt)
            return attempt, sorted(islice(alike, most))
        part: list[int] = []
        attempt, at = 1, self._phases.find(Phase.PLANNED, self._first_planned)
        self._first_planned = at if at >= 0 else self.count
        while at >= 0 and len(part) < most:
            # One that was about to be sent, and was not, is sent under the same number.
            number = max(1, self._attempts[at])
            if part and number != attempt:
                break
            attempt = number
            part.append(at)
            at = self._phases.find(Phase.PLANNED, at + 1)
        return attempt, part

    # What happens to it: each of these returns an event for the ledger, and has taken it in.

    def sending(self, attempt: int, items: Iterable[int], at: float) -> Event:
        """Note that items are about to be sent."""
        return self._take({"event": "sending", "attempt": attempt, "items": ranges(items), "at": at})

    def sent(
        self,
        items: Iterable[int],
        *,
        unsent: Iterable[int] = (),
        unknown: Iterable[int] = (),
        refused: Mapping[int, ItemFailure] | None = None,
        places: Mapping[int, Place] | None = None,
        folders: Place = (None, None),
        times: Mapping[int, float] | None = None,
    ) -> Event:
        """
        Note what came of sending items.

        :param items: Those that the service has accepted.
        :param unsent: Those that were not sent, or turned away for now.
        :param unknown: Those whose reply was lost.
        :param refused: Those that the service does not take.
        :param places: Where the objects of accepted ones will be, where their names do not say so.
        :param folders: Where the objects of all others will be.
        :param times: When they were sent, in seconds since 1970 (UTC), of those that the service has or may
            have. Default: when it was noted that they were about to be.
        """
        by_second: dict[int, list[int]] = {}
        for index, at in sorted((times or {}).items()):
            by_second.setdefault(int(at), []).append(index)
        event = {
            "event": "sent",
            "items": ranges(items),
            "unsent": ranges(unsent),
            "unknown": ranges(unknown),
            "refused": written(refused or {}),
            "places": {str(index): list(place) for index, place in (places or {}).items()},
            "folders": list(folders),
            "times": {str(second): ranges(group) for second, group in by_second.items()},
        }
        return self._take(event)

    def ended(
        self,
        *,
        succeeded: Iterable[int] = (),
        failed: Mapping[int, ItemFailure] | None = None,
        expired: Iterable[int] = (),
        again: Mapping[int, float] | None = None,
    ) -> Event:
        """
        Note what became of items.

        :param succeeded: Those whose answer is there.
        :param failed: Those with a failure object.
        :param expired: Those of which nothing can come any more.
        :param again: When those of the last two are tried again that are.
        """
        event = {
            "event": "ended",
            "succeeded": ranges(succeeded),
            "failed": written(failed or {}),
            "expired": ranges(expired),
            "again": {str(index): at for index, at in (again or {}).items()},
        }
        return self._take(event)

    def reopened(self, items: Iterable[int], at: float) -> Event:
        """Note that items that failed for good are tried again after all, from a moment on."""
        return self._take({"event": "reopened", "items": ranges(items), "at": at})

    def turn(self, at: float, calls: Mapping[str, int], instances: int) -> Event:
        """
        Note what a worker has done in its turn.

        :param at: When it ends, in seconds since 1970 (UTC).
        :param calls: The calls that it made of AWS, by operation.
        :param instances: How many instances the endpoint has.
        """
        return self._take({"event": "turn", "at": at, "calls": dict(calls), "instances": instances})

    def checkpoint(self) -> Event:
        """Return an event that stands for all before it."""
        by_time: dict[tuple[int, int, float], list[int]] = {}
        for index in range(self.count):
            if self._phases[index] or self._attempts[index]:
                key = (self._phases[index], self._attempts[index], self._sent_at[index])
                by_time.setdefault(key, []).append(index)
        return {
            "event": "checkpoint",
            "items": [[*key, ranges(group)] for key, group in by_time.items()],
            "failures": written(self._failures),
            "places": {str(index): list(place) for index, place in self._places.items()},
            "folders": list(self.folders),
            "again": {str(index): at for index, at in self._again_at.items()},
            "calls": dict(self.calls),
            "instance_seconds": self.instance_seconds,
            "turn_at": self._turn_at,
        }

    def apply(self, event: Event) -> None:
        """
        Take in an event that was read from the ledger.

        :param event: What one of the methods above returned. Kinds that this version does not know are
            passed over.
        """
        match event["event"]:
            case "sending":
                for index in members(event["items"]):
                    self._attempts[index], self._sent_at[index] = event["attempt"], event["at"]
                    self._move(index, Phase.SENDING)
                    # What an earlier attempt has left there says nothing of this one.
                    self._places.pop(index, None)
            case "sent":
                self._apply_sent(event)
            case "ended":
                self._apply_ended(event)
            case "reopened":
                for index in members(event["items"]):
                    self._move(index, Phase.WAITING)
                    self._again_at[index] = event["at"]
            case "turn":
                self.calls.update(event["calls"])
                seconds = event["at"] - self._turn_at if self._turn_at else 0.0
                self.instance_seconds += max(0.0, seconds) * event["instances"]
                self._turn_at = event["at"]
            case "checkpoint":
                self._apply_checkpoint(event)

    def _take(self, event: Event) -> Event:
        self.apply(event)
        return event

    def _apply_sent(self, event: Event) -> None:
        for name, phase in (("items", Phase.OPEN), ("unsent", Phase.PLANNED), ("unknown", Phase.SENDING)):
            for index in members(event[name]):
                self._move(index, phase)
        for index, failure in read(event["refused"]):
            self._failures[index] = failure
            self._move(index, Phase.REFUSED)
        self._places |= _places(event)
        self.folders = event["folders"][0], event["folders"][1]
        for second, group in event["times"].items():
            for index in members(group):
                self._sent_at[index] = float(second)

    def _apply_ended(self, event: Event) -> None:
        again = {int(index): at for index, at in event["again"].items()}
        for index in members(event["succeeded"]):
            self._move(index, Phase.SUCCEEDED)
        for index, failure in read(event["failed"]):
            self._failures[index] = failure
            self._move(index, Phase.WAITING if index in again else Phase.FAILED)
        for index in members(event["expired"]):
            self._failures[index] = ItemFailure(FailureKind.EXPIRED, "")
            self._move(index, Phase.WAITING if index in again else Phase.EXPIRED)
        self._again_at |= {index: at for index, at in again.items() if self._phases[index] == Phase.WAITING}

    def _apply_checkpoint(self, event: Event) -> None:
        self._reset()
        for phase, attempts, at, group in event["items"]:
            for index in members(group):
                self._attempts[index], self._sent_at[index] = attempts, at
                self._move(index, Phase(phase))
        self._failures = dict(read(event["failures"]))
        self._places = _places(event)
        self.folders = event["folders"][0], event["folders"][1]
        self._again_at = {int(index): at for index, at in event["again"].items()}
        self.calls, self.instance_seconds = Counter(event["calls"]), event["instance_seconds"]
        self._turn_at = event["turn_at"]

    def _move(self, index: int, phase: Phase) -> None:
        before = self._phases[index]
        self._tally[before] -= 1
        self._tally[phase] += 1
        self._phases[index] = phase
        if before == Phase.WAITING:
            self._again_at.pop(index, None)
        if phase not in _ENDED:
            self._first_unsettled = min(self._first_unsettled, index)
        if phase == Phase.PLANNED:
            self._first_planned = min(self._first_planned, index)
        if phase == Phase.SUCCEEDED:
            self._failures.pop(index, None)


def _places(event: Event) -> dict[int, Place]:
    return {int(index): (place[0], place[1]) for index, place in event["places"].items()}
