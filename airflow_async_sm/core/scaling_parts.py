"""What an endpoint's scaling is made of, as the API arguments it becomes; ``None`` is what it has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.scaling import WAKE_METRIC, ScalingSpec

__all__ = [
    "BACKLOG_POLICY",
    "WAKE_POLICY",
    "ScalableVariant",
    "backlog_policy",
    "wake_alarm",
    "wake_policy",
    "warm_actions",
]

BACKLOG_POLICY: Final = "airflow-async-sm-backlog"
WAKE_POLICY: Final = "airflow-async-sm-wake"

_WAKE_COOLDOWN: Final = 300


@dataclass(frozen=True, slots=True)
class ScalableVariant:
    """
    The variant of an endpoint, as the thing whose instances are counted.

    :param endpoint_name: Name of the endpoint, at most 63 characters.
    :param variant_name: Name of the variant, at most 63 characters.
    :raises InvalidInput: a name is outside its limits.
    """

    endpoint_name: str
    variant_name: str

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        limits.VARIANT_NAME.check("variant_name", self.variant_name)

    def __str__(self) -> str:
        return f"variant {self.variant_name} of endpoint {self.endpoint_name}"

    @property
    def identity(self) -> dict[str, Any]:
        """The arguments that name it in calls of Application Auto Scaling."""
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{self.endpoint_name}/variant/{self.variant_name}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }

    @property
    def wake_alarm(self) -> str:
        """Name of the alarm that wakes it: at most 149 of the 255 characters that it may have."""
        return f"{WAKE_POLICY}-{self.endpoint_name}-{self.variant_name}"


def backlog_policy(spec: ScalingSpec, variant: ScalableVariant) -> dict[str, Any]:
    """Return the policy that brings the backlog of each instance to the target."""
    return {
        "PolicyName": BACKLOG_POLICY,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": float(spec.backlog_per_instance),
            "CustomizedMetricSpecification": {
                **_metric("ApproximateBacklogSizePerInstance", variant),
                "Statistic": "Average",
            },
            "ScaleInCooldown": spec.scale_in_cooldown,
            "ScaleOutCooldown": spec.scale_out_cooldown,
            "DisableScaleIn": None,
        },
    }


def wake_policy() -> dict[str, Any]:
    """
    Return the policy that brings the first instance.

    The other one alone leaves an endpoint asleep until its backlog is above the target.
    """
    return {
        "PolicyName": WAKE_POLICY,
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": _WAKE_COOLDOWN,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }


def wake_alarm(variant: ScalableVariant) -> dict[str, Any]:
    """Return the alarm that triggers :func:`wake_policy`, without the policy's ARN."""
    return {
        "AlarmName": variant.wake_alarm,
        "AlarmDescription": f"Wakes endpoint {variant.endpoint_name} when a request waits at no instance.",
        "ActionsEnabled": True,
        **_metric(WAKE_METRIC, variant),
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
    }


def warm_actions(spec: ScalingSpec) -> list[dict[str, Any]]:
    """
    Return the scheduled actions of all warm hours.

    The end of a span comes before its start: whoever is interrupted between them leaves nothing that would
    stay warm for ever.
    """
    return [
        {
            "ScheduledActionName": f"airflow-async-sm-warm-{number}-{side}",
            "Schedule": schedule,
            "Timezone": span.timezone,
            "ScalableTargetAction": {"MinCapacity": instances},
        }
        for number, span in enumerate(spec.warm_hours)
        for side, schedule, instances in (
            ("end", span.end, spec.min_instances),
            ("start", span.start, span.instances),
        )
    ]


def _metric(name: str, variant: ScalableVariant) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": variant.endpoint_name}],
    }
