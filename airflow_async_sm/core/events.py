"""
The one codec of what a trigger tells the worker.

The event repeats the handle, because not every road back to the worker keeps the arguments of the deferral.
It is small JSON and is logged in full, so it holds locations, numbers and short texts, never a payload or a
result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from airflow_async_sm.core.handles import Handle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import Outcome
from airflow_async_sm.core.records import Record

__all__ = ["VERSION", "AnyRecord", "decode_event", "encode_event"]

VERSION = 1

AnyRecord = TypeVar("AnyRecord", bound=Record)


def encode_event(handle: Handle, outcome: Outcome) -> dict[str, Any]:
    """Return the event that says how the wait for ``handle`` ended."""
    return {"version": VERSION, "handle": handle.to_dict(), "outcome": outcome.to_dict()}


def decode_event(event: object, handle_type: type[AnyRecord]) -> tuple[AnyRecord, Outcome]:
    """
    Return the handle and the outcome of an event.

    :raises InvalidInput: there is no event, it is of another version or kind, or it is damaged.
    """
    if not isinstance(event, Mapping):
        raise InvalidInput(f"the event is {type(event).__name__}, not a dictionary")
    if event.get("version") != VERSION:
        raise InvalidInput(f"the event has version {event.get('version')!r}, not {VERSION}")
    return handle_type.from_dict(event.get("handle")), Outcome.from_dict(event.get("outcome"))
