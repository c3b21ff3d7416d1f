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


Handle = InvocationHandle | EndpointHandle
