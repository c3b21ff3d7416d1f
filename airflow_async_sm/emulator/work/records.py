"""What became of every accepted request: a log that tests and people can read."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class RequestState(StrEnum):
    """Where a request is. Everything but ``QUEUED`` and ``RUNNING`` is an end."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    DROPPED = "dropped"


OPEN_STATES = frozenset({RequestState.QUEUED, RequestState.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """
    One accepted request. Times are epoch seconds; ``None`` means that it has not happened.

    :param request_id: The emulator's own id of the request, which is also the id in its default object keys.
    :param number: Its place in the order of acceptance, from 1.
    :param endpoint: Name of the endpoint.
    :param region: Region of the endpoint.
    :param inference_id: The id that the caller gave, or that was made for it. Callers may repeat it.
    :param state: Where the request is.
    :param input_location: The address of the payload, or ``None`` for one that came with the request.
    :param output_location: Where a result goes.
    :param failure_location: Where a failure goes, or ``None`` if nothing is written then.
    :param submitted_at: When the request was accepted.
    :param started_at: When an instance took it from the queue.
    :param finished_at: When it ended. Its object, if there is one, can be read by then.
    :param invocations: How many times the request was sent to the model.
    :param status: HTTP status of the model's answer, if there was one.
    :param reason: Why it failed: the text that stands in the failure object where the platform wrote it, else
        the service's sentence about the model's status.
    """

    request_id: str
    number: int
    endpoint: str
    region: str
    inference_id: str
    state: RequestState
    input_location: str | None
    output_location: str
    failure_location: str | None
    submitted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    invocations: int = 0
    status: int | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the record as a dictionary of JSON values."""
        return asdict(self)


class RequestLog:
    """All records of an emulator, in the order in which the requests were accepted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, RequestRecord] = {}
        self._counts: dict[tuple[str, str], Counter[RequestState]] = {}
        self._numbers = itertools.count(1)

    def restore(self, records: Iterable[RequestRecord]) -> None:
        """Begin with the records of an earlier run, or with none."""
        with self._lock:
            self._records = {record.request_id: record for record in records}
            self._counts = {}
            for record in self._records.values():
                self._count(record)[record.state] += 1
            last = max((record.number for record in self._records.values()), default=0)
            self._numbers = itertools.count(last + 1)

    def next_number(self) -> int:
        """Return the number of the next request."""
        return next(self._numbers)

    def begin(self, *, endpoint: str, region: str) -> None:
        """Count anew for a created endpoint. An earlier one of its name had requests of its own."""
        with self._lock:
            self._counts[region, endpoint] = Counter()

    def add(self, record: RequestRecord) -> None:
        """Enter an accepted request."""
        with self._lock:
            self._records[record.request_id] = record
            self._count(record)[record.state] += 1

    def note(self, request_id: str, **changes: Any) -> None:
        """Change what is known about an open request; a request that has ended stays as it is."""
        with self._lock:
            record = self._records[request_id]
            if record.state not in OPEN_STATES:
                raise RuntimeError(f"Request {request_id} has ended as {record.state}; it cannot change.")
            changed = self._records[request_id] = replace(record, **changes)
            count = self._count(record)
            count[record.state] -= 1
            count[changed.state] += 1

    def count_invocation(self, request_id: str) -> None:
        """Note that the model is called for an open request, once more."""
        with self._lock:
            record = self._records[request_id]
            self._records[request_id] = replace(record, invocations=record.invocations + 1)

    def all(self) -> list[RequestRecord]:
        """Return every record."""
        with self._lock:
            return list(self._records.values())

    def get(self, request_id: str) -> RequestRecord:
        """Return the record of one request."""
        with self._lock:
            return self._records[request_id]

    def is_expected(self, output_location: str) -> bool:
        """Return whether there is an open request whose result goes to this place."""
        with self._lock:
            return any(
                record.output_location == output_location and record.state in OPEN_STATES
                for record in self._records.values()
            )

    def counts(self, *, endpoint: str, region: str) -> dict[str, int]:
        """
        Return how many requests of an endpoint are in each state, with every state named.

        :param endpoint: Name of the endpoint.
        :param region: Region of the endpoint.
        """
        with self._lock:
            count = self._counts.get((region, endpoint), Counter())
            return {state.value: count[state] for state in RequestState}

    def _count(self, record: RequestRecord) -> Counter[RequestState]:
        return self._counts.setdefault((record.region, record.endpoint), Counter())
