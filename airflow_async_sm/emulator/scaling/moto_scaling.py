"""
The scalable targets, policies and metric data that moto stores. Importing this module imports moto.

This module and the one for alarms are the only places of the room that know how moto keeps them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import CloudWatchBackend, MetricDatum, cloudwatch_backends

from airflow_async_sm.emulator.scaling.activities import DIMENSION, SERVICE
from airflow_async_sm.emulator.scaling.alarms import AlarmState
from airflow_async_sm.emulator.scaling.metrics import NAMESPACE, Measurement, Summary
from airflow_async_sm.emulator.scaling.moto_alarms import StoredAlarm, policy_key, stored_alarm
from airflow_async_sm.emulator.scaling.policies import Policy, StepScaling, TargetTracking
from airflow_async_sm.emulator.scaling.sources import Statistic

# CloudWatch keeps values of one minute for fifteen days.
_KEPT_SECONDS: Final = 15 * 24 * 3600.0


@contextlib.contextmanager
def metrics_listed_once() -> Iterator[None]:
    """
    Let moto list every metric once.

    It means to, but takes metrics with two dimensions for different ones whenever it compares them, so that
    every minute of a variant would be listed.
    """
    # A method is replaced on purpose; a test holds its original to what was read when this was written.
    backend: Any = CloudWatchBackend
    original = backend.get_filtered_metrics
    backend.get_filtered_metrics = _filtered_metrics
    try:
        yield
    finally:
        backend.get_filtered_metrics = original


def _filtered_metrics(self: Any, metric_name: str, namespace: str, dimensions: Any) -> list[Any]:
    found: dict[tuple[str, str, frozenset[tuple[str, str]]], Any] = {}
    for datum in self.get_all_metrics():
        if datum.filter(namespace=namespace, name=metric_name, dimensions=dimensions):
            found.setdefault(_metric_key(datum), datum)
    return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """A scaling policy of a variant."""

    arn: str
    name: str
    resource_id: str
    policy: Policy


class Readings:
    """The metric data of a region, as it was when this was made."""

    def __init__(self, data: Iterable[Any], since: float) -> None:
        self._data: dict[tuple[str, str, frozenset[tuple[str, str]]], list[tuple[float, Any]]] = {}
        oldest = _moto_time(since)
        for datum in data:
            if datum.timestamp >= oldest:
                moment = datum.timestamp.replace(tzinfo=UTC).timestamp()
                self._data.setdefault(_metric_key(datum), []).append((moment, datum))

    def value(self, statistic: Statistic, start: float, end: float) -> float | None:
        """Return a statistic from ``start`` until before ``end``, or ``None`` if there is no data."""
        summary: Summary | None = None
        key = (statistic.namespace, statistic.name, statistic.dimensions)
        for moment, datum in self._data.get(key, ()):
            if start <= moment < end and statistic.unit in (None, datum.unit):
                one = _summary(datum)
                summary = one if summary is None else summary.plus(one)
        return None if summary is None else summary.statistic(statistic.statistic)


class MotoScaling:
    """
    What the scaler reads in moto and writes to it.

    :param account_id: The one account.
    """

    def __init__(self, account_id: str) -> None:
        self._account_id = account_id

    def regions(self) -> list[str]:
        """Return the regions in which autoscaling was used."""
        return list(applicationautoscaling_backends[self._account_id].keys())

    def publish(self, region: str, measurements: Iterable[Measurement], *, at: float) -> None:
        """Put measurements into CloudWatch, for the minute that begins ``at``."""
        moment = _moto_time(at)
        data = [{**measurement.as_datum(), "Timestamp": moment} for measurement in measurements]
        self._cloudwatch(region).put_metric_data(NAMESPACE, data)

    def forget_before(self, region: str, moment: float) -> None:
        """Drop the oldest data if it is more than fifteen days older than ``moment``."""
        data = self._cloudwatch(region).metric_data
        oldest = _moto_time(moment - _KEPT_SECONDS)
        number = next((number for number, datum in enumerate(data) if datum.timestamp >= oldest), len(data))
        # In place, because a request may be adding to the same list.
        del data[:number]

    def readings(self, region: str, *, since: float) -> Readings:
        """Return the region's metric data since a moment."""
        return Readings(list(self._cloudwatch(region).metric_data), since)

    def target(self, region: str, resource_id: str) -> Any | None:
        """Return moto's scalable target of a variant, or ``None``."""
        return self._autoscaling(region).targets.get(DIMENSION, {}).get(resource_id)

    def policies(self, region: str) -> dict[str, StoredPolicy]:
        """Return the scaling policies of variants that have a target, by ARN."""
        found = {}
        for stored in list(self._autoscaling(region).policies.values()):
            if stored.scalable_dimension == DIMENSION and self.target(region, stored.resource_id) is not None:
                found[stored.policy_arn] = StoredPolicy(
                    arn=stored.policy_arn,
                    name=stored.policy_name,
                    resource_id=stored.resource_id,
                    policy=_policy(stored),
                )
        return found

    def policy(self, region: str, resource_id: str, name: str) -> Any | None:
        """Return moto's policy of a variant, or ``None``."""
        return self._autoscaling(region).policies.get(policy_key(resource_id, name))

    def described_policies(self, region: str) -> list[dict[str, Any]]:
        """Return all of SageMaker's policies as they are described, with the alarms that name them."""
        alarms = self._named_policies(region)
        return [
            _described(stored, alarms.get(stored.policy_arn, []))
            for stored in list(self._autoscaling(region).policies.values())
            if stored.service_namespace == SERVICE
        ]

    def drop_policies(self, region: str, resource_id: str) -> None:
        """Delete a variant's policies with the alarms that were made for them."""
        backend = self._autoscaling(region)
        for key, stored in list(backend.policies.items()):
            if (stored.scalable_dimension, stored.resource_id) == (DIMENSION, resource_id):
                stored.delete_alarms(self._account_id, region)
                backend.policies.pop(key, None)

    def scheduled_actions(self, region: str, resource_id: str | None = None) -> list[Any]:
        """Return moto's scheduled actions, of all variants or of one."""
        return [
            action
            for action in list(self._autoscaling(region).scheduled_actions)
            if action.scalable_dimension == DIMENSION and resource_id in (None, action.resource_id)
        ]

    def drop_scheduled_actions(self, region: str, resource_id: str) -> None:
        """Delete a variant's scheduled actions."""
        backend = self._autoscaling(region)
        dropped = self.scheduled_actions(region, resource_id)
        backend.scheduled_actions = [one for one in backend.scheduled_actions if one not in dropped]

    def alarms(self, region: str, policies: Mapping[str, StoredPolicy]) -> list[StoredAlarm]:
        """Return the alarms that have one of the policies among their actions."""
        found = []
        for alarm in list(self._cloudwatch(region).alarms.values()):
            triggered = [arn for arn in _policy_arns(alarm.alarm_actions) if arn in policies]
            if triggered and alarm.rule is None:
                found.append(stored_alarm(alarm, triggered))
        return found

    def set_state(self, alarm: StoredAlarm, state: AlarmState, reason: str, data: Any, *, now: float) -> None:
        """Show a new state of an alarm."""
        alarm.stored.update_state(reason, json.dumps(data), state.value)
        alarm.stored.state_updated_timestamp = _moto_time(now)

    def _named_policies(self, region: str) -> dict[str, list[dict[str, str]]]:
        """Return what the actions of alarms name, each with the alarms."""
        found: dict[str, list[dict[str, str]]] = {}
        for alarm in list(self._cloudwatch(region).alarms.values()):
            actions = [
                action
                for some in (alarm.alarm_actions, alarm.ok_actions, alarm.insufficient_data_actions)
                for action in some or ()
            ]
            for arn in dict.fromkeys(_policy_arns(actions)):
                found.setdefault(arn, []).append({"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn})
        return found

    def _cloudwatch(self, region: str) -> Any:
        return cloudwatch_backends[self._account_id][region]

    def _autoscaling(self, region: str) -> Any:
        return applicationautoscaling_backends[self._account_id][region]


def _metric_key(datum: Any) -> tuple[str, str, frozenset[tuple[str, str]]]:
    return datum.namespace, datum.name, frozenset((pair.name, pair.value) for pair in datum.dimensions)


def _policy_arns(actions: Iterable[str] | None) -> list[str]:
    # The alarms of target tracking name the policy with something behind it.
    return [action.split(":createdBy/")[0] for action in actions or ()]


def _described(stored: Any, alarms: list[dict[str, str]]) -> dict[str, Any]:
    described = {
        "PolicyARN": stored.policy_arn,
        "PolicyName": stored.policy_name,
        "ServiceNamespace": stored.service_namespace,
        "ResourceId": stored.resource_id,
        "ScalableDimension": stored.scalable_dimension,
        "PolicyType": stored.policy_type,
        "CreationTime": stored.creation_time,
        "StepScalingPolicyConfiguration": stored.step_scaling_policy_configuration,
        "TargetTrackingScalingPolicyConfiguration": stored.target_tracking_scaling_policy_configuration,
        "Alarms": alarms,
    }
    return {member: value for member, value in described.items() if value is not None}


def _policy(stored: Any) -> Policy:
    if stored.policy_type == "TargetTrackingScaling":
        return TargetTracking.parse(stored.target_tracking_scaling_policy_configuration)
    return StepScaling.parse(stored.step_scaling_policy_configuration)


def _summary(datum: Any) -> Summary:
    if isinstance(datum, MetricDatum):
        return Summary.of(datum.value)
    return Summary(datum.min, datum.max, datum.sum, datum.sample_count)


def _moto_time(moment: float) -> datetime:
    # moto compares times without a zone, which are UTC.
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)
