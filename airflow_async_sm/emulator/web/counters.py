"""How often what was called: numbers with which a test proves that something happened once, or never."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from typing import Any, Final, Protocol

from airflow_async_sm.emulator.web.calls import Call

_UNKNOWN: Final = "unknown"


class Sent(Protocol):
    """What identifies a submission: its inference id, and what it is to be computed from."""

    @property
    def inference_id(self) -> str:
        """The id that the caller gave, or that was made for it."""

    @property
    def body(self) -> bytes | None:
        """The payload that came with the request."""

    @property
    def input_location(self) -> str | None:
        """The address of the payload."""


def payload_identity(body: bytes | None, input_location: str | None) -> str:
    """
    Return what tells one payload from another: its address, or the hash of what came with the request.

    :param body: The payload that came with the request.
    :param input_location: The address of the payload, where none came.
    """
    if input_location is not None:
        return input_location
    return f"sha256:{hashlib.sha256(body or b'').hexdigest()}"


class _Identities:
    """Counts by inference id and by payload. Its users hold a lock."""

    def __init__(self) -> None:
        self.total = 0
        self.inference_ids: Counter[str] = Counter()
        self.payloads: Counter[str] = Counter()

    def count(self, inference_id: str, payload: str) -> None:
        self.total += 1
        self.inference_ids[inference_id] += 1
        self.payloads[payload] += 1

    def as_data(self, *, identities: bool) -> dict[str, Any]:
        by = {"inference_id": self.inference_ids, "payload": self.payloads}
        return {
            "total": self.total,
            "more_than_once": {
                name: sum(number > 1 for number in numbers.values()) for name, numbers in by.items()
            },
            **({f"by_{name}": dict(numbers) for name, numbers in by.items()} if identities else {}),
        }


class Counters:
    """What users of the emulator called. The emulator's calls of itself are not in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._s3: Counter[tuple[str, str]] = Counter()
        self._submissions = _Identities()
        self._invocations = _Identities()

    def reset(self) -> None:
        """Begin at zero."""
        with self._lock:
            self._clear()

    def called(self, call: Call) -> None:
        """Count a call, whatever becomes of it."""
        operation = call.operation or _UNKNOWN
        with self._lock:
            self._calls[call.service or _UNKNOWN, operation] += 1
            if call.bucket is not None:
                self._s3[call.bucket, operation] += 1

    def refused(self, code: str) -> None:
        """Count an error that a client was answered, by its code."""
        with self._lock:
            self._errors[code] += 1

    def submitted(self, submission: Sent) -> None:
        """Count a submission that was accepted, also if its caller never hears of it."""
        payload = payload_identity(submission.body, submission.input_location)
        with self._lock:
            self._submissions.count(submission.inference_id, payload)

    def invoked(self, submission: Sent) -> None:
        """Count one call of a model."""
        payload = payload_identity(submission.body, submission.input_location)
        with self._lock:
            self._invocations.count(submission.inference_id, payload)

    def as_data(self, *, identities: bool = True) -> dict[str, Any]:
        """
        Return all numbers as JSON values.

        :param identities: Whether every inference id and payload is listed. Default true.
        """
        with self._lock:
            return {
                "calls": _nested(self._calls),
                "errors": dict(sorted(self._errors.items())),
                "s3_buckets": _nested(self._s3),
                "submissions": self._submissions.as_data(identities=identities),
                "model_calls": self._invocations.as_data(identities=identities),
            }


def _nested(numbers: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), number in sorted(numbers.items()):
        nested.setdefault(outer, {})[inner] = number
    return nested
