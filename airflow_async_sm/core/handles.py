"""What is kept of a submitted request, or of an endpoint in motion, while somebody waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.records import Record, check_text, check_time

__all__ = ["DELETED", "IN_SERVICE", "EndpointHandle", "Handle", "InvocationHandle"]

IN_SERVICE: Final = "InService"
DELETED: Final = "Deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class InvocationHandle(Record):
    """
    One accepted request.

    :param endpoint_name: The endpoint that accepted it.
    :param inference_id: Its name at the service.
    :param output_location: S3 URI where the answer will be, as the service returned it. Never constructed.
    :param failure_location: S3 URI where a failure will be told; ``None`` if the endpoint has no
        failure path.
    :param submitted_at: When it was accepted, in seconds since 1970 (UTC).
    :param expires_at: After this moment nothing can arrive any more, in seconds since 1970 (UTC).
    """

    endpoint_name: str
    inference_id: str
    output_location: str
    failure_location: str | None = None
    submitted_at: float
    expires_at: float

    def __post_init__(self) -> None:
        check_text("InvocationHandle", "endpoint_name", self.endpoint_name)
        check_text("InvocationHandle", "inference_id", self.inference_id)
        check_text("InvocationHandle", "output_location", self.output_location)
        check_text("InvocationHandle", "failure_location", self.failure_location, optional=True)
        check_time("InvocationHandle", "submitted_at", self.submitted_at)
        check_time("InvocationHandle", "expires_at", self.expires_at)

    @property
    def subject(self) -> str:
        """How logs and errors name it."""
        return f"Request {self.inference_id} to endpoint {self.endpoint_name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointHandle(Record):
    """
    One endpoint on its way to a state.

    :param endpoint_name: Its name.
    :param goal: ``InService``, or ``Deleted`` when it is waited for until it is gone.
    :param submitted_at: When the change was asked for, in seconds since 1970 (UTC).
    :param endpoint_config_name: The configuration it must be in service with; ``None``: any.
    """

    endpoint_name: str
    goal: str
    submitted_at: float
    endpoint_config_name: str | None = None

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        if self.goal not in (IN_SERVICE, DELETED):
            raise InvalidInput(f"goal is {self.goal!r}; expected {IN_SERVICE!r} or {DELETED!r}.")
        check_time("EndpointHandle", "submitted_at", self.submitted_at)
        check_text("EndpointHandle", "endpoint_config_name", self.endpoint_config_name, optional=True)

    @property
    def subject(self) -> str:
        """How logs and errors name it."""
        return f"Endpoint {self.endpoint_name}"


Handle = InvocationHandle | EndpointHandle
