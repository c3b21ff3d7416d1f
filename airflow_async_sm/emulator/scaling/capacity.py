"""Changes of capacity: made, and followed until they are complete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.scaling.activities import Activities, Activity
from airflow_async_sm.emulator.scaling.policies import Bounds
from airflow_async_sm.emulator.scaling.scalable import CapacityUnavailable, Scalable

log = logging.getLogger(__name__)

# What set_desired() may say instead of doing it.
_REFUSALS: Final = (ValueError, CapacityUnavailable, AwsError)


class CapacityChanges:
    """
    Sets the number of instances of variants, and keeps the scaling activities.

    :param endpoints: Returns what can be scaled at this moment.
    """

    def __init__(self, endpoints: Callable[[], Iterable[Scalable]]) -> None:
        self.activities = Activities()
        self._endpoints = endpoints

    def all(self) -> list[Scalable]:
        """Return what can be scaled at this moment."""
        return list(self._endpoints())

    def find(self, region: str, resource_id: str) -> Scalable | None:
        """Return the variant of a scalable target, or ``None`` if there is none. Case does not matter."""
        wanted = resource_id.lower()
        for scalable in self._endpoints():
            own = f"endpoint/{scalable.name}/variant/{scalable.variant_name}".lower()
            if scalable.region == region and own == wanted:
                return scalable
        return None

    def set(self, scalable: Scalable, resource_id: str, count: int, *, cause: str, now: float) -> Activity:
        """
        Begin to change a capacity. If that is refused, the activity has failed.

        :param scalable: The variant.
        :param resource_id: Its scalable target.
        :param count: How many instances there shall be.
        :param cause: Why, as the activity says it.
        :param now: The time.
        """
        activity = self.activities.begin(scalable.region, resource_id, count=count, cause=cause, now=now)
        log.info("Setting %s to %d instances: %s", resource_id, count, cause)
        try:
            scalable.set_desired(count)
        except _REFUSALS as refusal:
            self.activities.fail(activity, str(refusal), now)
        return activity

    def into_bounds(self, region: str, resource_id: str, bounds: Bounds, *, now: float) -> None:
        """Move a variant's capacity to the nearest that is allowed, if it is outside."""
        scalable = self.find(region, resource_id)
        if scalable is None:
            return
        desired = scalable.load().desired
        count = bounds.clamp(desired)
        if count != desired:
            limit = "minimum" if count > desired else "maximum"
            self.set(scalable, resource_id, count, cause=f"{limit} capacity was set to {count}", now=now)

    def follow(self, now: float) -> None:
        """Note which changes are complete."""
        for activity in self.activities.open():
            scalable = self.find(activity.region, activity.resource_id)
            if scalable is None:
                self.activities.fail(activity, "The endpoint is gone.", now)
            else:
                load = scalable.load()
                self.activities.follow(activity, desired=load.desired, instances=load.instances, now=now)
