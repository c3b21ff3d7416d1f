"""What became of one accepted request, as tests and people read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
