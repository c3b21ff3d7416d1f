"""What a task wants to send, turned into the bytes of a request's ``Body``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput

__all__ = ["Concealed", "encode_payload"]


def encode_payload(payload: Any) -> tuple[bytes, str]:
    """
    Return the bytes to send and the content type they have unless the caller names another.

    Bytes are sent as they are (``application/octet-stream``), text as UTF-8 (``text/plain``), and everything
    else as JSON (``application/json``).

    :raises InvalidInput: JSON cannot hold the value, or it is longer than a request's body may be.
    """
    match payload:
        case bytes() | bytearray() | memoryview():
            body, content_type = bytes(payload), "application/octet-stream"
        case str():
            body, content_type = _encode(payload, "text"), "text/plain; charset=utf-8"
        case _:
            body, content_type = _json(payload), "application/json"
    if len(body) > limits.BODY_BYTES.maximum:
        raise InvalidInput(
            f"payload has {len(body):,} bytes; SageMaker accepts at most "
            f"{limits.BODY_BYTES.maximum:,} inline. Put it into S3 and give its address as input_location."
        )
    return body, content_type


class Concealed:
    """
    A payload that others may carry and show: it is shown as its kind and size.

    :param value: The payload itself.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return _describe(self.value)


def _describe(payload: Any) -> str:
    if isinstance(payload, str | bytes | bytearray | memoryview | list | tuple | dict):
        unit = "bytes" if isinstance(payload, bytes | bytearray | memoryview) else "items"
        unit = "characters" if isinstance(payload, str) else unit
        return f"<{type(payload).__name__}, {len(payload):,} {unit}>"
    return f"<{type(payload).__name__}>"


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"payload of type {type(value).__name__} cannot be written as JSON ({error}). "
            "Give JSON values, text or bytes."
        ) from error
    return _encode(text, "JSON")


def _plain(value: Any) -> Any:
    """Return the list or dictionary that a value stands for, as the outputs of mapped tasks do."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _encode(text: str, kind: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"payload is {kind} that UTF-8 cannot hold ({error.reason}).") from error
