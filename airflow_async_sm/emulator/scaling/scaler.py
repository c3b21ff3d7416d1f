"""The loop of autoscaling: metrics, scheduled actions, alarms and policies, once in every emulated minute."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from airflow_async_sm.emulator.clock import Clock, Timer, Work
from airflow_async_sm.emulator.scaling.alarms import MINUTE
from airflow_async_sm.emulator.scaling.capacity import CapacityChanges
from airflow_async_sm.emulator.scaling.following import PolicyFollower
from airflow_async_sm.emulator.scaling.metrics import Measurement, Metrics, Summary
from airflow_async_sm.emulator.scaling.moto_scaling import MotoScaling, metrics_listed_once
from airflow_async_sm.emulator.scaling.policies import Bounds
from airflow_async_sm.emulator.scaling.scalable import Scalable
from airflow_async_sm.emulator.scaling.schedules import BadSchedule, parse_schedule

log = logging.getLogger(__name__)


class Scaler:
    """
    Follows the scaling policies of all endpoints.

    Everything happens at full minutes of the clock, in a thread that exists only for that moment: the metrics
    of the minute that is over go to CloudWatch, scheduled actions run, every alarm that triggers a policy of
    a variant is evaluated, and of each variant at most one policy is followed. What a client's call causes at
    once is in :class:`~airflow_async_sm.emulator.scaling.calls.ScalingCalls`. While it runs, moto lists every
    metric once, as CloudWatch does.

    :param clock: Where time comes from.
    :param metrics: What the endpoints count. The scaler empties it every minute.
    :param account_id: The one account.
    :param endpoints: Returns what can be scaled at this moment.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        account_id: str,
        endpoints: Callable[[], Iterable[Scalable]],
    ) -> None:
        self.clock = clock
        self.changes = CapacityChanges(endpoints)
        self.moto = MotoScaling(account_id)
        self._metrics = metrics
        self._follower = PolicyFollower(self.moto, self.changes)
        self._done_until = 0.0
        self._lock = threading.Lock()
        self._stopped = True
        self._timer: Timer | None = None
        self._thread: threading.Thread | None = None
        self._replaced = contextlib.ExitStack()

    def start(self) -> None:
        """Begin with the next full minute."""
        with self._lock:
            self._stopped = False
        self._replaced.enter_context(metrics_listed_once())
        following = _next_minute(self.clock.now())
        self._done_until = following - MINUTE
        self._arm(following)

    def stop(self) -> None:
        """Do nothing more, and wait for what is being done. A second call does nothing."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._replaced.close()

    def reset(self) -> None:
        """Forget activities, cooldowns and what was counted. What moto stores is moto's to forget."""
        for _ in self._metrics.take():
            pass
        self.changes.activities.clear()
        self._follower.clear()

    def into_bounds(self, region: str, resource_id: str) -> None:
        """Move a variant's capacity into the limits of its target, if it is outside."""
        target = self.moto.target(region, resource_id)
        if target is not None:
            bounds = Bounds.parse(target.min_capacity, target.max_capacity)
            self.changes.into_bounds(region, resource_id, bounds, now=self.clock.now())

    def forget(self, region: str, resource_id: str) -> None:
        """Forget a scalable target that is no more."""
        self._follower.forget(region, resource_id)

    def _arm(self, moment: float) -> None:
        with self._lock:
            if not self._stopped:
                self._timer = self.clock.at(moment, partial(self._begin, moment))

    def _begin(self, moment: float) -> None:
        with self._lock:
            if self._stopped:
                return
            work = self.clock.working()
            self._thread = threading.Thread(
                target=self._minute, args=(moment, work), name="emulator-scaler", daemon=True
            )
            self._thread.start()

    def _minute(self, moment: float, work: Work) -> None:
        with work:
            try:
                self._tick(moment)
            except Exception:  # The next minute must come, whatever is wrong with this one.
                log.exception("Autoscaling failed for a minute")
            self._done_until = moment
            # Minutes that passed meanwhile are left out: nobody knows any more how the queues were then.
            self._arm(max(moment + MINUTE, _next_minute(self.clock.now()) - MINUTE))

    def _tick(self, moment: float) -> None:
        self._publish(moment)
        self.changes.follow(moment)
        self.changes.activities.forget_before(moment)
        for region in self.moto.regions():
            for action in self.moto.scheduled_actions(region):
                self._run_if_due(region, action, moment)
            self._follower.follow(region, moment)

    def _publish(self, moment: float) -> None:
        """Publish what was counted, and how the queues are, for the minute that ends now."""
        by_region: dict[str, list[Measurement]] = {}
        for region, measurement in self._metrics.take():
            by_region.setdefault(region, []).append(measurement)
        for scalable in self.changes.all():
            by_region.setdefault(scalable.region, []).extend(
                Measurement(endpoint=scalable.name, variant=None, metric=metric, summary=Summary.of(value))
                for metric, value in scalable.load().gauges().items()
            )
        for region, measurements in by_region.items():
            self.moto.publish(region, measurements, at=moment - MINUTE)
            self.moto.forget_before(region, moment)

    def _run_if_due(self, region: str, action: Any, moment: float) -> None:
        target = self.moto.target(region, action.resource_id)
        if target is None or (target.suspended_state or {}).get("ScheduledScalingSuspended"):
            return
        try:
            schedule = parse_schedule(
                action.schedule,
                timezone=action.timezone,
                created=action.creation_time,
                begins=action.start_time,
                ends=action.end_time,
            )
        except BadSchedule as bad:
            log.warning("Scheduled action %s cannot run: %s", action.scheduled_action_name, bad)
            return
        if not schedule.runs(self._done_until, moment):
            return
        limits = action.scalable_target_action or {}
        target.update(limits.get("MinCapacity"), limits.get("MaxCapacity"), None)
        self.changes.activities.limits_changed(
            region,
            action.resource_id,
            minimum=target.min_capacity,
            maximum=target.max_capacity,
            cause=f"scheduled action name {action.scheduled_action_name} was triggered",
            now=moment,
        )
        self.into_bounds(region, action.resource_id)


def _next_minute(now: float) -> float:
    return (now // MINUTE + 1) * MINUTE
