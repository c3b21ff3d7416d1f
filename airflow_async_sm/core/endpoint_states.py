"""What each state of an endpoint means to somebody who waits for it, or wants to send it a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from airflow_async_sm.core.handles import DELETED, IN_SERVICE, EndpointHandle
from airflow_async_sm.core.outcomes import Observation, Pending, Settled
from airflow_async_sm.core.texts import sentence

__all__ = [
    "CREATING",
    "DELETING",
    "STATUS_PHASES",
    "Admission",
    "Phase",
    "admit",
    "log_group",
    "observe_endpoint",
]

CREATING: Final = "Creating"
DELETING: Final = "Deleting"


class Phase(StrEnum):
    """What a status means to somebody who waits for the endpoint to serve."""

    MOVING = "moving"
    """It will become something else by itself."""
    SERVING = "serving"
    """It accepts requests."""
    BROKEN = "broken"
    """It will not serve without somebody's help."""
    LEAVING = "leaving"
    """It is being deleted."""


STATUS_PHASES: Final[Mapping[str, Phase]] = {
    CREATING: Phase.MOVING,
    "Updating": Phase.MOVING,
    "SystemUpdating": Phase.MOVING,
    "RollingBack": Phase.MOVING,
    IN_SERVICE: Phase.SERVING,
    "OutOfService": Phase.BROKEN,
    "Failed": Phase.BROKEN,
    "UpdateRollbackFailed": Phase.BROKEN,
    DELETING: Phase.LEAVING,
}


@dataclass(frozen=True, slots=True)
class Admission:
    """
    Whether an endpoint takes asynchronous requests.

    :param accepts: It takes them now.
    :param later: It does not yet, but will by itself.
    :param text: Why it does not, for a reader.
    """

    accepts: bool
    later: bool = False
    text: str = ""


def admit(endpoint_name: str, description: Mapping[str, Any] | None) -> Admission:
    """
    Return whether a request may be sent to an endpoint.

    :param description: The answer of DescribeEndpoint, or ``None`` if there is no such endpoint.
    """
    if description is None:
        return Admission(
            False,
            text=f"Endpoint {endpoint_name!r} does not exist. Check its name, the region and the account.",
        )
    status = str(description["EndpointStatus"])
    phase = STATUS_PHASES.get(status, Phase.SERVING)
    # While it is updated an endpoint goes on serving with what it has; while it is created it has nothing.
    if status == CREATING or phase in (Phase.BROKEN, Phase.LEAVING):
        return Admission(
            False,
            later=status == CREATING,
            text=f"Endpoint {endpoint_name!r} takes no requests: it is "
            + _status_and_reason(status, str(description.get("FailureReason") or "")),
        )
    if "AsyncInferenceConfig" not in description:
        return Admission(
            False,
            text=f"Endpoint {endpoint_name!r} is not asynchronous: its configuration has no "
            "AsyncInferenceConfig. Deploy it with one, or send it real-time requests.",
        )
    return Admission(True)


def observe_endpoint(handle: EndpointHandle, description: Mapping[str, Any] | None) -> Observation:
    """
    Return what one look at an endpoint means for the goal of ``handle``.

    :param description: The answer of DescribeEndpoint, or ``None`` if there is no such endpoint.
    """
    if handle.goal == DELETED:
        return _observe_deletion(description)
    if description is None:
        return Settled(succeeded=False, detail="The endpoint does not exist.")
    status, reason = str(description["EndpointStatus"]), str(description.get("FailureReason") or "")
    # A status that this version does not know is waited on: the deadline ends it, and the log has named it.
    match STATUS_PHASES.get(status, Phase.MOVING):
        case Phase.MOVING:
            return Pending(status)
        case Phase.SERVING:
            return _observe_service(handle, str(description["EndpointConfigName"]), reason)
        case _:
            return Settled(succeeded=False, detail=_status_and_reason(status, reason))


def _observe_service(handle: EndpointHandle, config_name: str, reason: str) -> Observation:
    """After a failed update an endpoint is in service again with its old configuration: no success."""
    wanted = handle.endpoint_config_name
    if wanted is None or wanted == config_name:
        return Settled(succeeded=True, detail=IN_SERVICE)
    detail = f"{IN_SERVICE}, but with configuration {config_name} instead of {wanted}"
    return Settled(succeeded=False, detail=_status_and_reason(detail, reason))


def _observe_deletion(description: Mapping[str, Any] | None) -> Observation:
    if description is None:
        return Settled(succeeded=True, detail=DELETED)
    status = str(description["EndpointStatus"])
    if STATUS_PHASES.get(status) is Phase.BROKEN:
        reason = str(description.get("FailureReason") or "")
        return Settled(succeeded=False, detail=_status_and_reason(status, reason))
    return Pending(status)


def log_group(endpoint_name: str) -> str:
    """Return the name of the CloudWatch log group of an endpoint's containers."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"


def _status_and_reason(status: str, reason: str) -> str:
    return sentence(f"{status}: {reason}" if reason else status)
