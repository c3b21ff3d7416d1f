"""The log of all requests: the one book of what was accepted, what is open, and how the rest has ended."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.records import OPEN_STATES, RequestRecord, RequestState


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRequests:
    """
    The log at one moment.

    :param records: What is known of every request.
    :param open: The requests that had not ended.
    """

    records: tuple[RequestRecord, ...] = ()
    open: tuple[Request, ...] = ()


class RequestLog:
    """All requests of an emulator, in the order in which they were accepted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, RequestRecord] = {}
        self._open: dict[str, Request] = {}
        self._counts: dict[tuple[str, str], Counter[RequestState]] = {}

    def save(self) -> SavedRequests:
        """Return everything, as it is at this moment."""
        with self._lock:
            return SavedRequests(records=tuple(self._records.values()), open=tuple(self._open.values()))

    def restore(self, saved: SavedRequests) -> None:
        """Begin with the requests of an earlier run, or with none."""
        with self._lock:
            self._records = {record.request_id: record for record in saved.records}
            self._open = {request.request_id: request for request in saved.open}
            self._counts = {}
            for record in saved.records:
                self._count(record)[record.state] += 1

    def begin(self, *, endpoint: str, region: str) -> None:
        """Count anew for a created endpoint. An earlier one of its name had requests of its own."""
        with self._lock:
            self._counts[region, endpoint] = Counter()

    def accept(self, request: Request) -> None:
        """
        Enter a request that is accepted now.

        :raises RuntimeError: there has been one of its id.
        """
        with self._lock:
            if request.request_id in self._records:
                raise RuntimeError(f"There has been a request {request.request_id} already.")
            record = _first_record(request, number=len(self._records) + 1)
            self._records[request.request_id] = record
            self._open[request.request_id] = request
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
            if changed.state not in OPEN_STATES:
                del self._open[request_id]

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

    def open_requests(self) -> list[Request]:
        """Return the requests that have not ended."""
        with self._lock:
            return list(self._open.values())

    def is_expected(self, output: S3Uri) -> bool:
        """Return whether there is an open request whose result goes to this place."""
        return any(request.output == output for request in self.open_requests())

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


def _first_record(request: Request, *, number: int) -> RequestRecord:
    return RequestRecord(
        request_id=request.request_id,
        number=number,
        endpoint=request.endpoint,
        region=request.region,
        inference_id=request.submission.inference_id,
        state=RequestState.QUEUED,
        input_location=request.submission.input_location,
        output_location=str(request.output),
        failure_location=str(request.failure) if request.failure else None,
        submitted_at=request.submitted_at,
    )
