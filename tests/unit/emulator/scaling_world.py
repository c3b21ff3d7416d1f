"""An endpoint that is only a queue, and an account with moto behind it, for tests of autoscaling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import boto3
from moto import mock_aws

from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.scaling.calls import ScalingCalls
from airflow_async_sm.emulator.scaling.metrics import Load, Metrics
from airflow_async_sm.emulator.scaling.moto_alarms import target_tracking_alarms
from airflow_async_sm.emulator.scaling.scaler import Scaler

ACCOUNT = "123456789012"
REGION = "us-east-1"
IDENTITY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/ep/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
ENDPOINT = [{"Name": "EndpointName", "Value": "ep"}]


class Queue:
    """A variant whose requests and instances a test sets. Instances take time to start, and none to stop."""

    def __init__(self, clock, *, name="ep", region=REGION, instances=1, start_seconds=0.0):
        self.name = name
        self.region = region
        self.variant_name = "main"
        self.backlog = 0
        self.instances = self.desired = instances
        self.start_seconds = start_seconds
        self.refusal = None
        self.asked = []
        self._clock = clock

    def load(self):
        return Load(
            queued=self.backlog,
            running=0,
            oldest_age=30.0 if self.backlog else None,
            instances=self.instances,
            desired=self.desired,
        )

    def set_desired(self, count):
        self.asked.append(count)
        if self.refusal is not None:
            raise self.refusal
        self.desired = count
        if count <= self.instances:
            self.instances = count
        elif self.start_seconds < float("inf"):
            self._clock.at(self._clock.now() + self.start_seconds, self._arrive)

    def _arrive(self):
        self.instances = max(self.instances, self.desired)


@cache
def client(service):
    """Return a client of moto. It can be used again in every test, and it is slow to make."""
    return boto3.client(service, REGION)


class World:
    def __init__(self, clock):
        self.clock = clock
        self.metrics = Metrics()
        self.queue = Queue(clock)
        self.endpoints = [self.queue]
        self.scaler = Scaler(clock, self.metrics, ACCOUNT, lambda: self.endpoints)
        self.calls = ScalingCalls(self.scaler)
        self.autoscaling = client("application-autoscaling")
        self.cloudwatch = client("cloudwatch")

    def call(self, name, **members):
        """Do what the front door does with a call: check it, let moto answer, and tell the scaler."""
        own = self.calls.answer(REGION, name, members)
        if own is not None:
            return own
        operation = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
        self.calls.check(REGION, name, members)
        answer = getattr(self.autoscaling, operation)(**members)
        self.last = self.calls.accepted(REGION, name, members) or answer
        return self.last

    def register(self, minimum=0, maximum=5, **more):
        return self.call(
            "RegisterScalableTarget", **IDENTITY, MinCapacity=minimum, MaxCapacity=maximum, **more
        )

    def track(self, target=5.0, name="tracking", metric="ApproximateBacklogSizePerInstance", **more):
        specification = {
            "MetricName": metric,
            "Namespace": "AWS/SageMaker",
            "Dimensions": ENDPOINT,
            "Statistic": "Average",
        }
        config = {"TargetValue": target, "CustomizedMetricSpecification": specification, **more}
        return self.call(
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName=name,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=config,
        )

    def step(self, name="wake", *, adjustment=1, cooldown=300, kind="ChangeInCapacity", identity=IDENTITY):
        config = {
            "AdjustmentType": kind,
            "MetricAggregationType": "Average",
            "Cooldown": cooldown,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": adjustment}],
        }
        return self.call(
            "PutScalingPolicy",
            **identity,
            PolicyName=name,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration=config,
        )["PolicyARN"]

    def alarm(self, *actions, name="backlog without capacity", **changes):
        members = {
            "AlarmName": name,
            "MetricName": "HasBacklogWithoutCapacity",
            "Namespace": "AWS/SageMaker",
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 2,
            "DatapointsToAlarm": 2,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "missing",
            "Dimensions": ENDPOINT,
            "AlarmActions": list(actions),
            **changes,
        }
        self.cloudwatch.put_metric_alarm(
            **{key: value for key, value in members.items() if value is not None}
        )

    def wake_policy(self, **more):
        """The two calls with which AWS's documentation lets an endpoint wake."""
        self.alarm(self.step(**more))

    def minutes(self, count=1):
        self.clock.advance(60 * count)

    def state(self, part):
        """Return the state of the alarm that has this in its name."""
        (found,) = [
            one for one in self.cloudwatch.describe_alarms()["MetricAlarms"] if part in one["AlarmName"]
        ]
        return found["StateValue"]

    def activities(self, **members):
        answer = self.calls.describe_scaling_activities(REGION, {"ServiceNamespace": "sagemaker", **members})
        return answer["ScalingActivities"]


@contextmanager
def scaling_world() -> Iterator[World]:
    """An account in which the scaler runs, with one endpoint of one idle instance."""
    clock = SteppedClock()
    with mock_aws(), target_tracking_alarms():
        clock.start()
        world = World(clock)
        world.scaler.start()
        try:
            yield world
        finally:
            world.scaler.stop()
            clock.stop()
