"""What scaling did, as DescribeScalingActivities tells it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.emulator.errors import AwsError, control_refusal

SERVICE: Final = "sagemaker"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"

# The service tells of the last six weeks.
_KEPT_SECONDS: Final = 6 * 7 * 24 * 3600.0
_PAGE: Final = 50


@dataclass(slots=True, kw_only=True)
class Activity:
    """
    One change of capacity, or of a target's limits. Times are epoch seconds.

    :param number: Its place in the order of all activities.
    :param region: Region of the endpoint.
    :param resource_id: The scalable target.
    :param count: The capacity that is wanted; ``None`` for a change of limits.
    :param description: What it is to do.
    :param cause: Why.
    :param started_at: When it began.
    :param status: ``InProgress``, ``Successful``, ``Overridden`` or ``Failed``.
    :param message: What has come of it.
    :param ended_at: When it ended; ``None`` while it is in progress.
    :param activity_id: Its id, made for it.
    """

    number: int
    region: str
    resource_id: str
    count: int | None
    description: str
    cause: str
    started_at: float
    status: str
    message: str
    ended_at: float | None = None
    activity_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def as_json(self) -> dict[str, Any]:
        """Return the members of ``ScalingActivity``."""
        members = {
            "ActivityId": self.activity_id,
            "ServiceNamespace": SERVICE,
            "ResourceId": self.resource_id,
            "ScalableDimension": DIMENSION,
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": self.started_at,
            "StatusCode": self.status,
            "StatusMessage": self.message,
        }
        return members if self.ended_at is None else {**members, "EndTime": self.ended_at}


class Activities:
    """The activities of the last six weeks. At most one of a target is in progress: the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Activity] = []
        self._count = 0

    def begin(self, region: str, resource_id: str, *, count: int, cause: str, now: float) -> Activity:
        """
        Enter a change of capacity that is about to be made. One in progress is over: it was overridden.

        :param region: Region of the endpoint.
        :param resource_id: The scalable target.
        :param count: The capacity that is wanted.
        :param cause: Why.
        :param now: The time.
        """
        with self._lock:
            for open_one in self._in_progress(region, resource_id):
                _override(open_one, count, now)
            return self._add(
                region,
                resource_id,
                count=count,
                description=f"Setting desired instance count to {count}.",
                cause=cause,
                now=now,
                status="InProgress",
                message=f"Successfully set desired instance count to {count}. "
                f"Waiting for change to be fulfilled by {SERVICE}.",
            )

    def limits_changed(
        self, region: str, resource_id: str, *, minimum: int, maximum: int, cause: str, now: float
    ) -> None:
        """Enter that a scheduled action changed a target's limits."""
        limits = f"min capacity to {minimum} and max capacity to {maximum}"
        with self._lock:
            activity = self._add(
                region,
                resource_id,
                count=None,
                description=f"Setting {limits}",
                cause=cause,
                now=now,
                status="Successful",
                message=f"Successfully set {limits}",
            )
            activity.ended_at = now

    def fail(self, activity: Activity, reason: str, now: float) -> None:
        """Note that a change could not be made, unless it has ended already."""
        with self._lock:
            if activity.ended_at is None:
                activity.status = "Failed"
                activity.message = (
                    f"Failed to set desired instance count to {activity.count}. Reason: {reason}"
                )
                activity.ended_at = now

    def follow(self, activity: Activity, *, desired: int, instances: int, now: float) -> None:
        """
        Note how far a change has come, unless it has ended already.

        :param activity: The change.
        :param desired: How many instances there shall be. Somebody else may have changed that.
        :param instances: How many are in service.
        :param now: The time.
        """
        with self._lock:
            if activity.ended_at is not None:
                return
            if desired != activity.count:
                _override(activity, desired, now)
            elif instances == desired:
                activity.status = "Successful"
                activity.message = (
                    f"Successfully set desired instance count to {desired}. "
                    f"Change successfully fulfilled by {SERVICE}."
                )
                activity.ended_at = now

    def open(self) -> list[Activity]:
        """Return the changes that are in progress."""
        with self._lock:
            return [activity for activity in self._all if activity.ended_at is None]

    def forget_before(self, moment: float) -> None:
        """Drop what is more than six weeks older than ``moment``."""
        with self._lock:
            kept = [one for one in self._all if one.started_at >= moment - _KEPT_SECONDS]
            self._all = kept

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._all = []

    def describe(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        Answer ``DescribeScalingActivities``: newest first.

        Not scaled activities are not recorded, so ``IncludeNotScaledActivities`` adds nothing.

        :param region: Region of the caller.
        :param request: The request's members.
        :raises AwsError: a bad page size or token.
        """
        size = request.get("MaxResults") or _PAGE
        if not isinstance(size, int) or not 1 <= size <= _PAGE:
            raise control_refusal(f"MaxResults must be between 1 and {_PAGE}.")
        below = position_of(request.get("NextToken"))
        wanted_id, wanted_dimension = request.get("ResourceId"), request.get("ScalableDimension")
        with self._lock:
            found = [
                activity
                for activity in reversed(self._all)
                if activity.region == region
                and (below is None or activity.number < below)
                and wanted_id in (None, activity.resource_id)
                and wanted_dimension in (None, DIMENSION)
            ]
            page = found[:size]
            answer: dict[str, Any] = {"ScalingActivities": [activity.as_json() for activity in page]}
            if len(found) > size:
                answer["NextToken"] = str(page[-1].number)
            return answer

    def _in_progress(self, region: str, resource_id: str) -> list[Activity]:
        return [
            activity
            for activity in self._all
            if activity.ended_at is None and (activity.region, activity.resource_id) == (region, resource_id)
        ]

    def _add(
        self,
        region: str,
        resource_id: str,
        *,
        count: int | None,
        description: str,
        cause: str,
        now: float,
        status: str,
        message: str,
    ) -> Activity:
        self._count += 1
        activity = Activity(
            number=self._count,
            region=region,
            resource_id=resource_id,
            count=count,
            description=description,
            cause=cause,
            started_at=now,
            status=status,
            message=message,
        )
        self._all.append(activity)
        return activity


def _override(activity: Activity, count: int, now: float) -> None:
    activity.status = "Overridden"
    activity.message = (
        f"Successfully set desired instance count to {activity.count}. Found it was later changed to {count}."
    )
    activity.ended_at = now


def position_of(token: Any) -> int | None:
    """
    Return where a page begins, or ``None`` for the first one.

    :param token: The ``NextToken`` of the request.
    :raises AwsError: it is none of ours.
    """
    if token is None:
        return None
    if not isinstance(token, str) or not token.isdecimal():
        raise AwsError("InvalidNextTokenException", "The next token is not valid.")
    return int(token)
