"""Autoscaling of an asynchronous endpoint with the AWS CLI, as the developer guide says."""

from __future__ import annotations

import json

CALLS = "application-autoscaling"


def let_scale(aws, endpoint, variant):
    """
    Let an endpoint scale between no and one instance.

    :param aws: The AWS CLI.
    """
    target = _target(endpoint, variant)
    aws(CALLS, "register-scalable-target", *target, "--min-capacity", "0", "--max-capacity", "1")
    metric = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
    }
    tracking = {
        "TargetValue": 5.0,
        "CustomizedMetricSpecification": metric,
        "ScaleInCooldown": 60,
        "ScaleOutCooldown": 60,
    }
    aws(
        *(CALLS, "put-scaling-policy", *target, "--policy-name", "backlog"),
        *("--policy-type", "TargetTrackingScaling"),
        *("--target-tracking-scaling-policy-configuration", json.dumps(tracking)),
    )
    step = {
        "AdjustmentType": "ChangeInCapacity",
        "MetricAggregationType": "Average",
        "Cooldown": 60,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    policy = aws(
        *(CALLS, "put-scaling-policy", *target, "--policy-name", "wake", "--policy-type", "StepScaling"),
        *("--step-scaling-policy-configuration", json.dumps(step)),
    )
    aws(
        *("cloudwatch", "put-metric-alarm", "--alarm-name", "wake", "--namespace", "AWS/SageMaker"),
        *("--metric-name", "HasBacklogWithoutCapacity", "--statistic", "Average", "--period", "60"),
        *("--evaluation-periods", "2", "--datapoints-to-alarm", "2", "--threshold", "1"),
        *("--comparison-operator", "GreaterThanOrEqualToThreshold"),
        *("--treat-missing-data", "missing", "--alarm-actions", policy["PolicyARN"]),
        *("--dimensions", f"Name=EndpointName,Value={endpoint}"),
    )


def stop_scaling(aws, endpoint, variant):
    """Undo :func:`let_scale`, in the order of the guide."""
    target = _target(endpoint, variant)
    aws("cloudwatch", "delete-alarms", "--alarm-names", "wake")
    for name in ("backlog", "wake"):
        aws(CALLS, "delete-scaling-policy", "--policy-name", name, *target)
    aws(CALLS, "deregister-scalable-target", *target)


def _target(endpoint, variant):
    return (
        *("--service-namespace", "sagemaker", "--resource-id", f"endpoint/{endpoint}/variant/{variant}"),
        *("--scalable-dimension", "sagemaker:variant:DesiredInstanceCount"),
    )
