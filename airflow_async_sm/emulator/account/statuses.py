"""What an endpoint can be: its statuses, a change that is going on, and what is kept of it over a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from airflow_async_sm.emulator.account.plans import EndpointPlan


class EndpointStatus(StrEnum):
    """The service's names for the states of an endpoint."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    SYSTEM_UPDATING = "SystemUpdating"
    ROLLING_BACK = "RollingBack"
    UPDATE_ROLLBACK_FAILED = "UpdateRollbackFailed"
    OUT_OF_SERVICE = "OutOfService"
    DELETING = "Deleting"
    FAILED = "Failed"


SERVES: Final = frozenset(
    {
        EndpointStatus.IN_SERVICE,
        EndpointStatus.UPDATING,
        EndpointStatus.SYSTEM_UPDATING,
        EndpointStatus.ROLLING_BACK,
        EndpointStatus.UPDATE_ROLLBACK_FAILED,
    }
)
UPDATABLE: Final = frozenset({EndpointStatus.IN_SERVICE, EndpointStatus.UPDATE_ROLLBACK_FAILED})
DELETABLE: Final = UPDATABLE | {EndpointStatus.FAILED, EndpointStatus.OUT_OF_SERVICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    An update that is going on.

    :param plan: What the endpoint is to become.
    :param count: How many instances it begins with.
    :param weight: The variant's weight.
    :param deployment: The call's ``DeploymentConfig``, or ``None``.
    :param began: When it began.
    """

    plan: EndpointPlan
    count: int
    weight: float
    deployment: Mapping[str, Any] | None
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedEndpoint:
    """An endpoint as it is kept over a restart of the emulator."""

    name: str
    region: str
    arn: str
    plan: EndpointPlan
    status: EndpointStatus
    failure_reason: str | None
    created_at: float
    modified_at: float
    desired: int
    weight: float
    change: Change | None
    deployment: Mapping[str, Any] | None
