"""
The alarms of scaling policies as moto keeps them: read, and made for target tracking. Importing this module
imports moto.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from moto.applicationautoscaling.models import (
    FakeApplicationAutoscalingPolicy,
    applicationautoscaling_backends,
)
from moto.cloudwatch.models import (
    Alarm,
    Dimension,
    Metric,
    MetricDataQuery,
    MetricStat,
    cloudwatch_backends,
)
from moto.moto_api._internal import mock_random

from airflow_async_sm.emulator.scaling.activities import DIMENSION, SERVICE
from airflow_async_sm.emulator.scaling.alarms import (
    COMPARISONS,
    MINUTE,
    AlarmRule,
    AlarmState,
    Missing,
    target_tracking_rules,
)
from airflow_async_sm.emulator.scaling.metrics import NAMESPACE
from airflow_async_sm.emulator.scaling.sources import Source, Statistic, Unsupported

# What moto writes when an alarm is new; it then says OK, where CloudWatch says INSUFFICIENT_DATA.
_UNCHECKED: Final = "Unchecked: Initial alarm creation"

# The metrics behind the predefined ones. None of them is published for asynchronous endpoints.
_PREDEFINED: Final = {
    "SageMakerVariantInvocationsPerInstance": ("InvocationsPerInstance", "Sum"),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": ("ConcurrentRequestsPerModel", "Maximum"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlarm:
    """
    An alarm that triggers scaling policies.

    :param name: Its name.
    :param rule: When it is in which state; ``None`` if that is not imitated.
    :param source: What it looks at; ``None`` if that is not imitated.
    :param state: Its state.
    :param shown_state: The state that clients see. moto shows a new alarm as OK.
    :param policies: ARNs of the policies.
    :param actions_enabled: Whether it triggers them.
    :param stored: moto's own.
    """

    name: str
    rule: AlarmRule | None
    source: Source | None
    state: AlarmState
    shown_state: str
    policies: Sequence[str]
    actions_enabled: bool
    stored: Alarm


@contextlib.contextmanager
def target_tracking_alarms() -> Iterator[None]:
    """
    Let moto make the alarms of target tracking policies for variants, as it does for other services.

    A policy that is put again keeps its ARN and gets new alarms; moto would give it another ARN and leave the
    alarms of before.
    """
    # A method is replaced on purpose; a test holds its original to what was read when this was written.
    policy: Any = FakeApplicationAutoscalingPolicy
    original = policy.create_alarms

    def create_alarms(self: Any) -> None:
        if self.scalable_dimension == DIMENSION:
            _take_over(self)
            if self.policy_type == "TargetTrackingScaling":
                self.alarms.extend(_create_alarms(self))
        else:
            original(self)

    policy.create_alarms = create_alarms
    try:
        yield
    finally:
        policy.create_alarms = original


def tracked_source(resource_id: str, config: Mapping[str, Any]) -> Source:
    """
    Return what a target tracking policy looks at.

    :param resource_id: The variant's scalable target.
    :param config: The policy's ``TargetTrackingScalingPolicyConfiguration``.
    :raises Unsupported: its metric math is not imitated.
    :raises KeyError: a member of the metric is missing.
    """
    customized = config.get("CustomizedMetricSpecification")
    if customized and customized.get("Metrics"):
        return Source.parse(customized["Metrics"])
    if customized:
        return Source.of(
            Statistic.parse(customized, statistic=customized["Statistic"], unit=customized.get("Unit"))
        )
    kind = config["PredefinedMetricSpecification"]["PredefinedMetricType"]
    name, statistic = _PREDEFINED.get(kind, (kind, "Average"))
    _, endpoint, _, variant = resource_id.split("/")
    dimensions = frozenset({("EndpointName", endpoint), ("VariantName", variant)})
    return Source.of(Statistic(namespace=NAMESPACE, name=name, dimensions=dimensions, statistic=statistic))


def _take_over(policy: Any) -> None:
    backend = applicationautoscaling_backends[policy.account_id][policy.region_name]
    before = backend.policies.get(policy_key(policy.resource_id, policy.policy_name))
    if before is not None:
        before.delete_alarms(policy.account_id, policy.region_name)
        policy.policy_arn = before.policy_arn
        policy.creation_time = before.creation_time


def _create_alarms(policy: Any) -> list[Alarm]:
    config = policy.target_tracking_scaling_policy_configuration
    source = tracked_source(policy.resource_id, config)
    customized = config.get("CustomizedMetricSpecification") or {}
    action = f"{policy.policy_arn}:createdBy/{mock_random.uuid4()}"
    cloudwatch = cloudwatch_backends[policy.account_id][policy.region_name]
    alarms = []
    for part, rule in target_tracking_rules(float(config["TargetValue"])).items():
        alarm = cloudwatch.put_metric_alarm(
            name=f"TargetTracking-{policy.resource_id}-{part}-{mock_random.uuid4()}",
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy.policy_arn}.",
            comparison_operator=rule.comparison,
            evaluation_periods=rule.evaluation_periods,
            threshold=rule.threshold,
            alarm_actions=[action],
            **_metric_arguments(source, customized.get("Metrics")),
        )
        alarm.state_value = AlarmState.INSUFFICIENT_DATA.value
        alarms.append(alarm)
    return alarms


def _metric_arguments(source: Source, queries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if queries:
        nothing = dict.fromkeys(("namespace", "metric_name", "period", "statistic"))
        return {**nothing, "dimensions": [], "metric_data_queries": [_moto_query(one) for one in queries]}
    statistic = source.statistics[source.returned]
    return {
        "namespace": statistic.namespace,
        "metric_name": statistic.name,
        "period": MINUTE,
        "statistic": statistic.statistic,
        "unit": statistic.unit,
        "dimensions": [{"Name": name, "Value": value} for name, value in sorted(statistic.dimensions)],
        "metric_data_queries": [],
    }


def _moto_query(query: Mapping[str, Any]) -> Any:
    stat = query.get("MetricStat")
    # moto's own parser passes numbers where its types say text, and nothing where they say text.
    make_query: Any = MetricDataQuery
    make_stat: Any = MetricStat
    return make_query(
        query_id=query["Id"],
        label=query.get("Label"),
        period=None,
        return_data=query.get("ReturnData", True),
        expression=query.get("Expression"),
        metric_stat=stat
        and make_stat(
            metric=Metric(
                metric_name=stat["Metric"]["MetricName"],
                namespace=stat["Metric"]["Namespace"],
                dimensions=[
                    Dimension(pair["Name"], pair["Value"]) for pair in stat["Metric"].get("Dimensions") or ()
                ],
            ),
            period=MINUTE,
            stat=stat["Stat"],
            unit=stat.get("Unit"),
        ),
    )


def stored_alarm(alarm: Alarm, policies: Sequence[str]) -> StoredAlarm:
    """Return an alarm of moto's that triggers these policies."""
    new = alarm.state_reason == _UNCHECKED
    return StoredAlarm(
        name=alarm.name,
        rule=_rule(alarm),
        source=_alarm_source(alarm),
        state=AlarmState.INSUFFICIENT_DATA if new else AlarmState(alarm.state_value),
        shown_state=alarm.state_value,
        policies=policies,
        actions_enabled=alarm.actions_enabled,
        stored=alarm,
    )


def _rule(alarm: Alarm) -> AlarmRule | None:
    if alarm.comparison_operator not in COMPARISONS:
        return None
    periods = [query.metric_stat.period for query in alarm.metric_data_queries if query.metric_stat]
    return AlarmRule(
        comparison=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        period=int(alarm.period or max(map(int, periods), default=MINUTE)),
        evaluation_periods=int(alarm.evaluation_periods),
        datapoints_to_alarm=alarm.datapoints_to_alarm and int(alarm.datapoints_to_alarm),
        missing=Missing(alarm.treat_missing_data or Missing.MISSING),
    )


def _alarm_source(alarm: Alarm) -> Source | None:
    if alarm.metric_data_queries:
        try:
            return Source.parse(_api_query(query) for query in alarm.metric_data_queries)
        except Unsupported:
            return None
    if not alarm.statistic:
        return None
    dimensions = frozenset((str(pair.name), str(pair.value)) for pair in alarm.dimensions)
    return Source.of(
        Statistic(
            namespace=alarm.namespace,
            name=alarm.metric_name,
            dimensions=dimensions,
            statistic=alarm.statistic,
            unit=alarm.unit,
        )
    )


def _api_query(query: MetricDataQuery) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Id": query.id,
        "Expression": query.expression,
        "ReturnData": query.return_data,
    }
    if (stat := query.metric_stat) is not None:
        metric = {
            "Namespace": stat.metric.namespace,
            "MetricName": stat.metric.metric_name,
            "Dimensions": [{"Name": pair.name, "Value": pair.value} for pair in stat.metric.dimensions],
        }
        found["MetricStat"] = {"Metric": metric, "Stat": stat.stat, "Unit": stat.unit}
    return found


def policy_key(resource_id: str, name: str) -> str:
    """Return the key under which moto keeps a variant's policy."""
    key: str = FakeApplicationAutoscalingPolicy.formulate_key(SERVICE, resource_id, DIMENSION, name)
    return key
