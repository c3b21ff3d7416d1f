"""From alarms to capacity: the policies of every target are asked, and one of them is followed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from airflow_async_sm.emulator.scaling.activities import Activity
from airflow_async_sm.emulator.scaling.alarms import MINUTE, AlarmState, Evaluation, evaluate, reason_data
from airflow_async_sm.emulator.scaling.capacity import CapacityChanges
from airflow_async_sm.emulator.scaling.metrics import Load
from airflow_async_sm.emulator.scaling.moto_alarms import StoredAlarm
from airflow_async_sm.emulator.scaling.moto_scaling import MotoScaling, Readings, StoredPolicy
from airflow_async_sm.emulator.scaling.policies import (
    Bounds,
    Breach,
    Capacity,
    Cooldown,
    Proposal,
    TargetTracking,
    choose,
    proposal,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaling:
    """A policy's last change of capacity."""

    activity: Activity
    out: bool
    before: int

    def cooldown(self, seconds: float, now: float) -> Cooldown | None:
        """Return the cooldown if it lasts: from the beginning until so long after the change is complete."""
        if self.activity.status == "Failed":
            return None
        ended = self.activity.ended_at
        lasts = ended is None or now < ended + seconds
        return Cooldown(out=self.out, before=self.before) if lasts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Triggered:
    """A policy with an alarm of its own that is in ALARM."""

    stored: StoredPolicy
    alarm: str
    breach: Breach

    @property
    def tracking(self) -> bool:
        return isinstance(self.stored.policy, TargetTracking)


class PolicyFollower:
    """
    Evaluates the alarms of scaling policies, and does what the policies want.

    :param moto: Where targets, policies, alarms and metric data are.
    :param changes: Makes the changes of capacity.
    """

    def __init__(self, moto: MotoScaling, changes: CapacityChanges) -> None:
        self._moto = moto
        self._changes = changes
        self._last: dict[tuple[str, str], dict[str, _Scaling]] = {}
        self._not_imitated: set[str] = set()

    def forget(self, region: str, resource_id: str) -> None:
        """Forget the cooldowns of a scalable target that is no more."""
        self._last.pop((region, resource_id), None)

    def clear(self) -> None:
        """Forget the cooldowns of all targets."""
        self._last.clear()

    def follow(self, region: str, now: float) -> None:
        """
        Evaluate every alarm of the region that triggers a policy of a variant, and then follow the policies.

        :param region: The region.
        :param now: The full minute that has just come.
        """
        policies = self._moto.policies(region)
        alarms = self._moto.alarms(region, policies)
        since = min(
            (start for alarm in alarms if alarm.rule for start in alarm.rule.starts(now)), default=now
        )
        readings = self._moto.readings(region, since=since)
        triggered: dict[str, list[_Triggered]] = {}
        for alarm in alarms:
            breach = _breach(alarm, self._evaluate(alarm, readings, now))
            if breach is None:
                continue
            for stored in (policies[arn] for arn in alarm.policies):
                one = _Triggered(stored=stored, alarm=alarm.name, breach=breach)
                triggered.setdefault(stored.resource_id, []).append(one)
        for resource_id, own in triggered.items():
            tracking = [stored for stored in policies.values() if stored.resource_id == resource_id]
            self._follow_target(region, resource_id, own, holding=_holding(tracking, own), now=now)

    def _evaluate(self, alarm: StoredAlarm, readings: Readings, now: float) -> Evaluation | None:
        """Return an alarm's state, and show it; ``None`` for an alarm of a kind that is not imitated."""
        rule, source = alarm.rule, alarm.source
        if rule is None or source is None:
            if alarm.name not in self._not_imitated:
                log.warning("Alarm %s is of a kind that is not imitated; it keeps its state", alarm.name)
                self._not_imitated.add(alarm.name)
            return None
        period = max(MINUTE, rule.period)
        values = {
            start: source.value(partial(readings.value, start=start, end=start + period))
            for start in rule.starts(now)
        }
        evaluation = evaluate(rule, values, alarm.state)
        if evaluation.state.value != alarm.shown_state:
            data = reason_data(rule, evaluation, now=now, statistic=source.statistic)
            self._moto.set_state(alarm, evaluation.state, evaluation.reason, data, now=now)
        return evaluation

    def _follow_target(
        self, region: str, resource_id: str, triggered: Sequence[_Triggered], *, holding: bool, now: float
    ) -> None:
        """Do what the winner of a target's policies wants."""
        target, scalable = self._moto.target(region, resource_id), self._changes.find(region, resource_id)
        if target is None or scalable is None:
            return
        load = scalable.load()
        bounds = Bounds.parse(target.min_capacity, target.max_capacity, target.suspended_state)
        last = self._last.setdefault((region, resource_id), {})
        proposals = _proposals(triggered, load, bounds, last, now)
        chosen = choose(proposals, load.desired, holding=holding)
        if chosen is not None:
            activity = self._changes.set(scalable, resource_id, chosen.count, cause=chosen.cause, now=now)
            if activity.status != "Failed":
                _remember(last, chosen, activity, load.desired)


def _proposals(
    triggered: Iterable[_Triggered],
    load: Load,
    bounds: Bounds,
    last: Mapping[str, _Scaling],
    now: float,
) -> list[Proposal]:
    capacity = Capacity(desired=load.desired, in_service=load.instances)
    found = []
    for one in triggered:
        policy, scaling = one.stored.policy, last.get(one.stored.arn)
        cooldown = None
        if scaling is not None:
            cooldown = scaling.cooldown(policy.out_cooldown if scaling.out else policy.in_cooldown, now)
        count = proposal(policy, one.breach, capacity, bounds, cooldown)
        if count is not None:
            cause = f"monitor alarm {one.alarm} in state ALARM triggered policy {one.stored.name}"
            found.append(
                Proposal(
                    policy=one.stored.arn, count=count, cause=cause, tracking=one.tracking, cooldown=cooldown
                )
            )
    return found


def _remember(last: dict[str, _Scaling], chosen: Proposal, activity: Activity, desired: int) -> None:
    """Note a policy's change. A scale-out ends the cooldown of every scale-in."""
    out, before = chosen.count > desired, desired
    if out:
        for arn in [arn for arn, scaling in last.items() if not scaling.out]:
            del last[arn]
        if chosen.cooldown is not None and chosen.cooldown.out:
            # What a larger scale-out is compared with stays where the first one began.
            before = min(before, chosen.cooldown.before)
    last[chosen.policy] = _Scaling(activity=activity, out=out, before=before)


def _holding(policies: Iterable[StoredPolicy], triggered: Sequence[_Triggered]) -> bool:
    """Return whether a target tracking policy that may take capacity away is not ready to."""
    ready = {one.stored.arn for one in triggered if one.breach.low}
    return any(
        isinstance(stored.policy, TargetTracking) and stored.policy.scale_in and stored.arn not in ready
        for stored in policies
    )


def _breach(alarm: StoredAlarm, evaluation: Evaluation | None) -> Breach | None:
    """Return what policies are told of an alarm, if it is in ALARM, may act, and has a value."""
    if evaluation is None or evaluation.state is not AlarmState.ALARM or not alarm.actions_enabled:
        return None
    if evaluation.newest is None or alarm.rule is None:
        return None
    low = alarm.rule.comparison.startswith("Less")
    return Breach(metric=evaluation.newest, threshold=alarm.rule.threshold, low=low)
