"""What each state of an endpoint means to somebody who waits for it, or wants to send it a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from airflow_async_sm.core.endpoints import VARIANT_NAME
from airflow_async_sm.core.handles import CAPACITY, DELETED, DRAINED, IN_SERVICE, SETTLED, EndpointHandle
from airflow_async_sm.core.outcomes import Observation, Pending, Settled
from airflow_async_sm.core.texts import sentence

__all__ = [
    "CREATING",
    "DELETING",
    "STATUS_PHASES",
    "Admission",
    "Phase",
    "admit",
    "capacity",
    "log_group",
    "observe_endpoint",
    "phase_of",
    "progress",
    "variant_name",
    "variant_names",
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


def phase_of(description: Mapping[str, Any] | None) -> Phase | None:
    """
    Return what the status of an endpoint means; ``None`` if there is no endpoint.

    A status that this version does not know is waited on: the deadline ends it, and the log has named it.

    :param description: The answer of DescribeEndpoint, or ``None`` if there is no such endpoint.
    """
    return None if description is None else STATUS_PHASES.get(description["EndpointStatus"], Phase.MOVING)


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
            text=f"Endpoint {endpoint_name!r} takes no requests: it is " + sentence(progress(description)),
        )
    if "AsyncInferenceConfig" not in description:
        return Admission(
            False,
            text=f"Endpoint {endpoint_name!r} is not asynchronous: its configuration has no "
            "AsyncInferenceConfig. Deploy it with one, or send it real-time requests.",
        )
    return Admission(True)


def observe_endpoint(
    handle: EndpointHandle,
    description: Mapping[str, Any] | None,
    backlog: int | None = None,
    *,
    may_be_stale: bool = False,
) -> Observation:
    """
    Return what one look at an endpoint means for the goal of ``handle``.

    :param description: The answer of DescribeEndpoint, or ``None`` if there is no such endpoint.
    :param backlog: How many requests wait or are worked on; ``None``: no figure that is new enough.
    :param may_be_stale: The change was asked for a moment ago, so the answer may be from before it: then it
        is no failure that the endpoint is as it was.
    """
    seen = _observe(handle, description, backlog)
    status = None if description is None else str(description["EndpointStatus"])
    if may_be_stale and isinstance(seen, Settled) and not seen.succeeded and status in _BEFORE[handle.goal]:
        return Pending("as it was before the change")
    return seen


# What an endpoint may still seem to be just after its creation or update, or its deletion, was asked for.
_BEFORE: Final[Mapping[str, Collection[str | None]]] = {
    IN_SERVICE: (None, IN_SERVICE),
    DELETED: ("Failed", "OutOfService", "UpdateRollbackFailed"),
    SETTLED: (),
    CAPACITY: (),
    DRAINED: (),
}


def _observe(
    handle: EndpointHandle, description: Mapping[str, Any] | None, backlog: int | None
) -> Observation:
    if handle.goal == DELETED:
        return _observe_deletion(description)
    if description is None:
        # What is gone changes no more, and has no backlog.
        gone = handle.goal in (SETTLED, DRAINED)
        return Settled(succeeded=gone, detail="The endpoint does not exist.")
    phase = phase_of(description)
    if handle.goal == DRAINED:
        # What works on nothing any more publishes no figure either.
        idle = phase in (Phase.BROKEN, Phase.LEAVING)
        return Settled(succeeded=True) if idle else _observe_drain(handle, backlog)
    # While it is updated an endpoint goes on serving with the instances that it has.
    has_enough = handle.goal == CAPACITY and capacity(description)[0] >= handle.count
    if phase is Phase.MOVING and (description["EndpointStatus"] == CREATING or not has_enough):
        return Pending(progress(description))
    if handle.goal == SETTLED:
        return Pending(DELETING) if phase is Phase.LEAVING else Settled(succeeded=True)
    if phase not in (Phase.SERVING, Phase.MOVING):
        return Settled(succeeded=False, detail=sentence(progress(description)))
    if handle.goal == CAPACITY:
        return _observe_capacity(handle, description)
    return _observe_service(handle, description)


def progress(description: Mapping[str, Any]) -> str:
    """Return what an endpoint is and has at the moment, in one line; a change of it is another line."""
    status, reason = str(description["EndpointStatus"]), str(description.get("FailureReason") or "")
    parts = [status]
    variants = description.get("ProductionVariants") or []
    if status != CREATING and variants:
        current, desired = capacity(description)
        parts.append(f"{current} of {desired} instances")
    pending = description.get("PendingDeploymentSummary") or {}
    if name := pending.get("EndpointConfigName"):
        parts.append(f"on the way to configuration {name}")
    text = ", ".join(parts)
    return f"{text}: {reason}" if reason else text


def capacity(description: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many instances of an endpoint are in service, and how many there shall be."""
    variants = description.get("ProductionVariants") or []
    return (
        sum(int(variant.get("CurrentInstanceCount") or 0) for variant in variants),
        sum(int(variant.get("DesiredInstanceCount") or 0) for variant in variants),
    )


def variant_names(description: Mapping[str, Any] | None) -> list[str]:
    """Return the names of an endpoint's variants; of an endpoint that is gone the name that we give it."""
    variants = (description or {}).get("ProductionVariants") or [{}]
    return [str(variant.get("VariantName", VARIANT_NAME)) for variant in variants]


def variant_name(description: Mapping[str, Any] | None) -> str:
    """Return the name of an endpoint's one variant, as :func:`variant_names` does."""
    return variant_names(description)[0]


def _observe_service(handle: EndpointHandle, description: Mapping[str, Any]) -> Observation:
    """After a failed update an endpoint is in service again with its old configuration: no success."""
    wanted, config_name = handle.endpoint_config_name, str(description["EndpointConfigName"])
    if wanted is None or wanted == config_name:
        return Settled(succeeded=True, detail=IN_SERVICE)
    reason = str(description.get("FailureReason") or "")
    detail = f"{IN_SERVICE}, but with configuration {config_name} instead of {wanted}"
    return Settled(succeeded=False, detail=sentence(f"{detail}: {reason}" if reason else detail))


def _observe_capacity(handle: EndpointHandle, description: Mapping[str, Any]) -> Observation:
    current, desired = capacity(description)
    if current >= handle.count:
        return Settled(succeeded=True, detail=f"{current} instances")
    return Pending(f"{current} of {max(desired, handle.count)} instances")


def _observe_drain(handle: EndpointHandle, backlog: int | None) -> Observation:
    if backlog is None:
        return Pending("no figure of its backlog yet")
    if backlog <= handle.count:
        return Settled(succeeded=True, detail=f"a backlog of {backlog}")
    return Pending(f"a backlog of {backlog}")


def _observe_deletion(description: Mapping[str, Any] | None) -> Observation:
    if description is None:
        return Settled(succeeded=True, detail=DELETED)
    status = str(description["EndpointStatus"])
    if STATUS_PHASES.get(status) is Phase.BROKEN:
        return Settled(succeeded=False, detail=sentence(progress(description)))
    return Pending(status)


def log_group(endpoint_name: str) -> str:
    """Return the name of the CloudWatch log group of an endpoint's containers."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"
