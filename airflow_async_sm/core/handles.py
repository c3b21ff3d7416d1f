"""What is kept of a submitted request, or of an endpoint in motion, while somebody waits for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.records import Record, check_text, check_time

__all__ = [
    "CAPACITY",
    "DELETED",
    "DRAINED",
    "IN_SERVICE",
    "NEVER",
    "SETTLED",
    "BatchHandle",
    "EndpointHandle",
    "Handle",
    "InvocationHandle",
]

# What an endpoint can be waited for.
IN_SERVICE: Final = "InService"
DELETED: Final = "Deleted"
SETTLED: Final = "Settled"
CAPACITY: Final = "Capacity"
DRAINED: Final = "Drained"

NEVER: Final = 1e11
"""A moment after all others, in seconds since 1970: there is no infinity in JSON."""

_GOALS: Final = (IN_SERVICE, DELETED, SETTLED, CAPACITY, DRAINED)


@dataclass(frozen=True, kw_only=True, slots=True)
class InvocationHandle(Record):
    """
    One request that was accepted, or may have been.

    Where the reply to a submission was lost, its exact locations are not known. Then they are the folders
    that belong to this request alone, and end with a slash.

    :param endpoint_name: The endpoint that accepted it; ``None``: not known, of a request made elsewhere.
    :param inference_id: Its name at the service; ``None``: not known, of a request made elsewhere.
    :param output_location: S3 URI where the answer will be, as the service returned it, or the folder.
    :param failure_location: S3 URI where a failure will be told, or the folder; ``None`` if the endpoint has
        no failure path.
    :param submitted_at: When it was accepted, in seconds since 1970 (UTC).
    :param expires_at: After this moment nothing can arrive any more, in seconds since 1970 (UTC);
        ``NEVER``: it is not known when that is, of a request made elsewhere.
    :param input_location: S3 URI of the payload; ``None``: it was sent inline, or is not known.
    :param uploaded: Whether the payload was put there for this request alone.
    :param endpoint_region: AWS region of the endpoint; ``None``: not known, of a request made elsewhere.
    """

    endpoint_name: str | None = None
    inference_id: str | None = None
    output_location: str
    failure_location: str | None = None
    submitted_at: float
    expires_at: float
    input_location: str | None = None
    uploaded: bool = False
    endpoint_region: str | None = None

    def __post_init__(self) -> None:
        check_text("InvocationHandle", "endpoint_name", self.endpoint_name, optional=True)
        check_text("InvocationHandle", "inference_id", self.inference_id, optional=True)
        check_text("InvocationHandle", "output_location", self.output_location)
        check_text("InvocationHandle", "failure_location", self.failure_location, optional=True)
        check_time("InvocationHandle", "submitted_at", self.submitted_at)
        check_time("InvocationHandle", "expires_at", self.expires_at)
        check_text("InvocationHandle", "input_location", self.input_location, optional=True)
        check_text("InvocationHandle", "endpoint_region", self.endpoint_region, optional=True)
        if not isinstance(self.uploaded, bool):
            raise InvalidInput(f"InvocationHandle.uploaded is {self.uploaded!r}; True or False is needed.")

    @property
    def is_confirmed(self) -> bool:
        """Whether the service's own locations are known, and so that it accepted the request."""
        return not self.output_location.endswith("/")

    def found(self, location: str, *, answer: bool) -> InvocationHandle:
        """
        Return the handle with the exact location of an object that was found in one of its folders.

        :param location: S3 URI of the object; empty: nothing was found, the handle is as it was.
        :param answer: Whether it is the output object, and not the failure object.
        """
        if not location:
            return self
        return replace(self, output_location=location) if answer else replace(self, failure_location=location)

    @property
    def name(self) -> str | None:
        """What tells it from all others, for a reader."""
        return self.inference_id

    def is_same(self, other: InvocationHandle) -> bool:
        """Return whether both are of one request. Where the user names requests, two may have one id."""
        place = self.output_location.rstrip("/").rpartition("/")[2]
        return self.inference_id == other.inference_id and place in other.output_location

    @property
    def subject(self) -> str:
        """How logs and errors name it."""
        if self.inference_id is None:
            return f"The request that is answered at {self.output_location}"
        if self.endpoint_name is None:
            return f"Request {self.inference_id}"
        return f"Request {self.inference_id} to endpoint {self.endpoint_name}"

    @property
    def aim(self) -> str:
        """What it is when the wait has succeeded."""
        return "answered"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointHandle(Record):
    """
    One endpoint on its way to a state.

    :param endpoint_name: Its name.
    :param goal: ``InService``; ``Deleted``, until it is gone; ``Settled``, until nothing changes it any more;
        ``Capacity``, until ``count`` instances are in service; or ``Drained``, until its backlog is at most
        ``count``.
    :param submitted_at: When the task asked for its first change, in seconds since 1970 (UTC).
    :param endpoint_config_name: The configuration it must be in service with; ``None``: any.
    :param count: How many instances, or how many requests in the backlog.
    :param changed_at: When the last change was asked for, in seconds since 1970 (UTC). What is seen shortly
        after it may be from before it. 0: nothing was.
    """

    endpoint_name: str
    goal: str
    submitted_at: float
    endpoint_config_name: str | None = None
    count: int = 0
    changed_at: float = 0.0

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        if self.goal not in _GOALS:
            raise InvalidInput(f"goal is {self.goal!r}; expected one of {', '.join(_GOALS)}.")
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 0:
            raise InvalidInput(f"count is {self.count!r}; a whole number of at least 0 is needed.")
        check_time("EndpointHandle", "submitted_at", self.submitted_at)
        check_time("EndpointHandle", "changed_at", self.changed_at)
        check_text("EndpointHandle", "endpoint_config_name", self.endpoint_config_name, optional=True)

    @property
    def subject(self) -> str:
        """How logs and errors name it."""
        return f"Endpoint {self.endpoint_name}"

    @property
    def aim(self) -> str:
        """The goal in words: what the endpoint is when the wait has succeeded."""
        match self.goal:
            case "Capacity":
                return f"in service with at least {self.count} instances"
            case "Drained":
                return f"drained to a backlog of at most {self.count}"
            case _:
                return {IN_SERVICE: "in service", DELETED: "gone", SETTLED: "settled"}[self.goal]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchHandle(Record):
    """
    One batch, and what it takes for its task to go on.

    :param endpoint_name: The endpoint that its requests are sent to.
    :param location: S3 URI of the folder with its plan and its ledger, with a slash at its end.
    :param submitted_at: When it was planned, in seconds since 1970 (UTC).
    :param began_at: When this try of its task began, in seconds since 1970 (UTC).
    :param items: How many inputs it has.
    :param output_folder: S3 URI of the folder of its own for answers; ``None``: it has none.
    :param failure_folder: S3 URI of the folder of its own for failures; ``None``: it has none.
    :param after: Only objects are counted whose names sort after this. May be empty.
    :param counted: So many of them were there when the wait began.
    :param enough: The task goes on when so many more are there.
    :param wake_at: It goes on then at the latest, in seconds since 1970 (UTC).
    :param done: How many inputs were at their end when the wait began.
    :param failed: How many of those have no answer.
    :param in_flight: How many the service had.
    :param sent_at: When the last of them was sent, in seconds since 1970 (UTC).
    :param oldest_at: When the oldest of them was sent, in seconds since 1970 (UTC); 0: there is none.
    """

    endpoint_name: str
    location: str
    submitted_at: float
    began_at: float
    items: int
    output_folder: str | None = None
    failure_folder: str | None = None
    after: str = ""
    counted: int = 0
    enough: int = 0
    wake_at: float = 0.0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    sent_at: float = 0.0
    oldest_at: float = 0.0

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        check_text("BatchHandle", "location", self.location)
        check_text("BatchHandle", "output_folder", self.output_folder, optional=True)
        check_text("BatchHandle", "failure_folder", self.failure_folder, optional=True)
        for field in ("submitted_at", "began_at", "wake_at", "sent_at", "oldest_at"):
            check_time("BatchHandle", field, getattr(self, field))
        for field in ("items", "counted", "enough", "done", "failed", "in_flight"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInput(
                    f"BatchHandle.{field} is {value!r}; a whole number of at least 0 is needed."
                )

    @property
    def name(self) -> str:
        """What tells it from all others, for a reader."""
        return f"in {self.location}"

    def is_same(self, other: BatchHandle) -> bool:
        """Return whether both are of one batch."""
        return self.location == other.location

    @property
    def subject(self) -> str:
        """How logs and errors name it."""
        return f"The batch of {self.items:,} inputs to endpoint {self.endpoint_name}"

    @property
    def aim(self) -> str:
        """What it is when the wait has succeeded."""
        return "ready to go on"


Handle = InvocationHandle | EndpointHandle | BatchHandle
"""What is waited for: a request, an endpoint or a batch."""
