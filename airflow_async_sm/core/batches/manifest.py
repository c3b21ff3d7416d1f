"""
What became of each input of a batch.

Three lists are read side by side, in the order of the inputs: what was planned, what the ledger says, and
what lies in the folder of the outputs. None of them is ever whole in memory. Where ledger and folder differ
the folder is right: an answer that is there is an answer, whoever saw it come.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from airflow_async_sm.core.batches.failures import ItemFailure
from airflow_async_sm.core.batches.items import BatchItem, attempt_of, index_of, is_failure
from airflow_async_sm.core.batches.state import BatchState, Phase
from airflow_async_sm.core.texts import shortened

__all__ = [
    "COLUMNS",
    "FED_BACK",
    "ItemEnd",
    "ManifestIncomplete",
    "ObjectSeen",
    "Row",
    "dead_letter_row",
    "manifest_rows",
]

Row = dict[str, Any]
"""One line of a manifest: JSON values, under the names in :data:`COLUMNS`."""

COLUMNS: Final[Mapping[str, str]] = {
    "index": "int64",
    "item_id": "string",
    "origin": "string",
    "input_location": "string",
    "end": "string",
    "class": "string",
    "reason": "string",
    "attempts": "int64",
    "output_location": "string",
    "failure_location": "string",
    "size": "int64",
    "submitted_at": "float64",
    "answered_at": "float64",
    "seconds": "float64",
}
"""What a row says, in this order, with the types of the columns where they need one."""

_PAYLOAD: Final = ("input_location", "text", "base64", "content_type")


class ItemEnd(StrEnum):
    """What became of one input."""

    SUCCEEDED = "Succeeded"
    """Its answer is there."""
    FAILED = "Failed"
    """The model or the service says that it failed."""
    EXPIRED = "Expired"
    """Nothing came of it while something still could."""
    REFUSED = "Refused"
    """The service did not take it."""
    UNSUBMITTED = "Unsubmitted"
    """It was not sent."""
    OPEN = "Open"
    """The service has it, or may have it: something may come of it still."""


FED_BACK: Final = frozenset({ItemEnd.FAILED, ItemEnd.EXPIRED, ItemEnd.REFUSED, ItemEnd.UNSUBMITTED})
"""Inputs that ended like this have no answer and get none, so they can be sent again."""

_ENDS: Final = {
    Phase.PLANNED: ItemEnd.UNSUBMITTED,
    Phase.SENDING: ItemEnd.OPEN,
    Phase.OPEN: ItemEnd.OPEN,
    Phase.SUCCEEDED: ItemEnd.SUCCEEDED,
    Phase.FAILED: ItemEnd.FAILED,
    Phase.EXPIRED: ItemEnd.EXPIRED,
    Phase.REFUSED: ItemEnd.REFUSED,
}

# Where nobody else said why, the manifest does.
_REASONS: Final = {
    ItemEnd.FAILED: "Nothing is known of why it failed.",
    ItemEnd.EXPIRED: "Nothing came of it, and nothing can come any more.",
    ItemEnd.REFUSED: "The service did not take it.",
    ItemEnd.UNSUBMITTED: "It was not submitted.",
    ItemEnd.OPEN: "Nothing came of it yet.",
}
_KINDS: Final = {ItemEnd.FAILED: "Unknown", ItemEnd.REFUSED: "Rejected"}


class ManifestIncomplete(ValueError):
    """The planned inputs, or the objects, are not all there, or not in order: such a manifest would lie."""


@dataclass(frozen=True, slots=True)
class ObjectSeen:
    """
    One object that a listing shows.

    :param name: Its key below the folder that was listed.
    :param size: Its size, in bytes.
    :param last_modified: When it was written, in seconds since 1970 (UTC). S3 tells whole seconds.
    """

    name: str
    size: int
    last_modified: float


def manifest_rows(
    items: Iterator[BatchItem], state: BatchState, listing: Iterator[ObjectSeen], *, folder: str | None
) -> Iterator[tuple[BatchItem, Row]]:
    """
    Yield each planned input with what became of it. What is no output of the input itself is passed over.

    :param items: The planned inputs, in their order.
    :param state: What the ledger says of them.
    :param listing: The objects in the folder of the outputs, in the order of their keys.
    :param folder: S3 URI of that folder; ``None``: the ledger alone knows where outputs are.
    :raises ManifestIncomplete: an input is missing, or there twice, or one of the lists is not in order.
    """
    outputs = _Outputs(listing)
    expected = 0
    for item in items:
        if item.index != expected:
            raise ManifestIncomplete(
                f"Input {item.index} of the batch follows where number {expected} is to be. "
                "Nothing was written."
            )
        expected += 1
        if expected > state.count:
            break
        yield item, _row(item, state, outputs.newest_of(item), folder)
    if expected != state.count:
        raise ManifestIncomplete(
            f"The batch has {state.count} inputs, and {'more' if expected > state.count else expected} are "
            "planned. Nothing was written."
        )


def dead_letter_row(item: BatchItem, row: Row) -> Row:
    """
    Return an input that has no answer in the form in which another batch takes it.

    :param item: The input.
    :param row: What became of it.
    """
    written = json.loads(item.to_row())
    fed = {name: written[name] for name in _PAYLOAD if name in written}
    return fed | {name: row[name] for name in ("item_id", "origin", "class", "reason")}


class _Outputs:
    """The objects of a listing, one input after the other."""

    def __init__(self, listing: Iterator[ObjectSeen]) -> None:
        self._listing = listing
        self._last = ""
        self._ahead = self._next()

    def newest_of(self, item: BatchItem) -> ObjectSeen | None:
        """Return the object of the newest attempt that has one. Inputs are asked for in their order."""
        newest: ObjectSeen | None = None
        while self._ahead is not None:
            seen, index = self._ahead
            if index > item.index:
                break
            attempt = attempt_of(seen.name)
            # Failure objects may lie in the same folder, and their names begin in the same way. The service
            # may add to a name. And names sort as texts: the tenth attempt comes before the second.
            is_its = seen.name.startswith(item.filename(attempt)) and not is_failure(seen.name)
            if is_its and (newest is None or attempt > attempt_of(newest.name)):
                newest = seen
            self._ahead = self._next()
        return newest

    def _next(self) -> tuple[ObjectSeen, int] | None:
        for seen in self._listing:
            if seen.name < self._last:
                raise ManifestIncomplete(
                    f"The listing of the outputs is not in order: {seen.name!r} follows {self._last!r}. "
                    "Nothing was written."
                )
            self._last = seen.name
            if (index := index_of(seen.name)) is not None:
                return seen, index
        return None


def _row(item: BatchItem, state: BatchState, seen: ObjectSeen | None, folder: str | None) -> Row:
    known: Row = {
        "index": item.index,
        "item_id": item.item_id,
        "origin": item.origin,
        "input_location": item.input_location,
    }
    is_there = seen is not None or state.phase(item.index) is Phase.SUCCEEDED
    found = known | (_success(item, state, seen, folder) if is_there else _failure(item.index, state))
    return {name: found.get(name) for name in COLUMNS}


def _success(item: BatchItem, state: BatchState, seen: ObjectSeen | None, folder: str | None) -> Row:
    attempts = state.attempts(item.index)
    found: Row = {
        "end": ItemEnd.SUCCEEDED.value,
        "attempts": attempts,
        "submitted_at": state.sent_at(item.index),
    }
    if seen is None:
        # It was there when it was looked for. Where it is now is for who reads it to find out.
        place = state.place(item.index)
        named = None if folder is None else _below(folder, item.filename(attempts))
        return found | {"output_location": place[0] if place else named}
    attempt = attempt_of(seen.name)
    found |= {
        "attempts": max(attempts, attempt),
        "output_location": None if folder is None else _below(folder, seen.name),
        "size": seen.size,
        "answered_at": seen.last_modified,
    }
    if attempt == attempts and (sent_at := found["submitted_at"]) is not None:
        # S3's clock tells whole seconds, and a worker's clock may be ahead of it.
        found["seconds"] = round(max(0.0, seen.last_modified - sent_at), 3)
    return found


def _failure(index: int, state: BatchState) -> Row:
    phase, failure = state.phase(index), state.failure(index)
    end = _end_of(phase, failure)
    # One that is to be sent has the number of the attempt that was about to be made.
    unsent = phase is Phase.PLANNED
    found: Row = {
        "end": end.value,
        "class": _KINDS.get(end, end.value),
        "reason": _REASONS[end],
        "attempts": max(0, state.attempts(index) - 1) if unsent else state.attempts(index),
        "submitted_at": None if unsent else state.sent_at(index),
    }
    if failure is not None and end in FED_BACK:
        found |= {"class": failure.kind, "failure_location": failure.location}
        found["reason"] = shortened(failure.text) or found["reason"]
    return found


def _end_of(phase: Phase, failure: ItemFailure | None) -> ItemEnd:
    """Return the end of an input without an answer. One that waits for another attempt ended as it failed."""
    if phase is Phase.WAITING or (phase is Phase.PLANNED and failure is not None):
        expired = failure is not None and failure.kind == "Expired" and failure.location is None
        return ItemEnd.EXPIRED if expired else ItemEnd.FAILED
    return _ENDS[phase]


def _below(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
