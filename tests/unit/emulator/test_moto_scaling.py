"""What is changed in moto, and relied on in it, for autoscaling; and the calls that moto alone gets wrong."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from typing import ClassVar

import boto3
import pytest
from moto import mock_aws
from moto.applicationautoscaling.models import (
    ApplicationAutoscalingBackend,
    FakeApplicationAutoscalingPolicy,
    FakeScalableTarget,
    FakeScheduledAction,
)
from moto.applicationautoscaling.responses import _build_alarms
from moto.cloudwatch.models import (
    Alarm,
    CloudWatchBackend,
    Dimension,
    Metric,
    MetricAggregatedDatum,
    MetricDataQuery,
    MetricDatum,
    MetricDatumBase,
    MetricStat,
)
from moto.core.base_backend import AccountSpecificBackend

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.scaling.moto_alarms import target_tracking_alarms
from airflow_async_sm.emulator.scaling.moto_scaling import metrics_listed_once
from tests.unit.emulator.scaling_world import ENDPOINT, IDENTITY, REGION, Queue, scaling_world

READ = {
    FakeApplicationAutoscalingPolicy.create_alarms: "14cead945c0a3ea7adf13c78e3df5da9",
    FakeApplicationAutoscalingPolicy.__init__: "d69d82d89333e85e007cdc8fa960a2d8",
    FakeApplicationAutoscalingPolicy.delete_alarms: "3d66bbf5e44254c0c09bb63496f0b79d",
    FakeApplicationAutoscalingPolicy.formulate_key: "d4244bb18ea69e31061e59dbbaa131bc",
    ApplicationAutoscalingBackend.__init__: "c7ce84be3c206fa3eb39b07463cf312e",
    ApplicationAutoscalingBackend.put_scaling_policy: "4916422a6f4db751f0c9d5ef6eaf30b7",
    ApplicationAutoscalingBackend.delete_scaling_policy: "89433e569a4ce3292bebc5995d6c4aca",
    ApplicationAutoscalingBackend.delete_scheduled_action: "96c6993f592b456159bc0ba0cf2c2e9f",
    FakeScalableTarget.__init__: "7d103518e86b6c365536610f969927ca",
    FakeScalableTarget.update: "8c7f967506466767624a18a7ce236fe3",
    FakeScheduledAction.__init__: "2b43b2e1d2bc34818ceb951c33375f97",
    _build_alarms: "a821aacfc9ec74e5bfb30ecbba0409ec",
    Alarm.__init__: "4eee3068ea5fe5fc5a91a70f57cc8617",
    Alarm.update_state: "9308fec8c5cd8039de8afdef01bd4105",
    CloudWatchBackend.__init__: "5e4ce1344c08c8275da531911c0385ae",
    CloudWatchBackend.get_filtered_metrics: "63270f556ea9d022145cce1ee6485631",
    CloudWatchBackend.put_metric_alarm: "aff786ddccbc9f135373cec565c38ac5",
    CloudWatchBackend.put_metric_data: "300dda002442b818cba5f1296fd0f270",
    CloudWatchBackend.delete_alarms: "3602fd647ddca19d8d2ab9b757aa105d",
    Dimension.__init__: "bc1b32b41c2b0f47a5e3b3a280f35c35",
    Metric.__init__: "6ec5b6c0b0fc790e74ab14ff4fb4f86c",
    MetricStat.__init__: "e0504197ef3fc12d1a3fc95ee30c94eb",
    MetricDataQuery.__init__: "a077bf981f767c66f12cc16f6c681536",
    MetricDatumBase.filter: "0b48c98ba8611e71f6f7c3e04e709466",
    MetricDatumBase.__init__: "4472012d39e379ae3d381123548e7241",
    MetricDatum.__init__: "4fa67982bb2cf67529ee6113c8b481c2",
    MetricAggregatedDatum.__init__: "3f7d194e8ef2bfd874e9942118d0dd3e",
    AccountSpecificBackend.__getitem__: "b10167294fc003765361319e492a3fd3",
}


@pytest.mark.parametrize("function", READ, ids=lambda function: function.__qualname__)
def test_function_is_the_one_that_was_read(function):
    source = inspect.getsource(function)
    assert hashlib.sha256(source.encode()).hexdigest()[:32] == READ[function], (
        "moto changed it: see whether autoscaling can still rely on it, then note its hash"
    )


def test_replacements_are_undone():
    for replaced, owner, name in (
        (target_tracking_alarms, FakeApplicationAutoscalingPolicy, "create_alarms"),
        (metrics_listed_once, CloudWatchBackend, "get_filtered_metrics"),
    ):
        original = getattr(owner, name)
        with replaced():
            assert getattr(owner, name) is not original
        assert getattr(owner, name) is original


class TestListMetrics:
    @pytest.fixture
    def cloudwatch(self):
        with mock_aws(), metrics_listed_once():
            yield boto3.client("cloudwatch", REGION)

    @staticmethod
    def put(cloudwatch, name="M", namespace="N", **dimensions):
        named = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        cloudwatch.put_metric_data(
            Namespace=namespace, MetricData=[{"MetricName": name, "Value": 1, "Dimensions": named}]
        )

    @pytest.mark.parametrize(
        "dimensions", [{}, {"a": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2", "c": "3"}]
    )
    def test_every_metric_is_there_once(self, cloudwatch, dimensions):
        for _ in range(3):
            self.put(cloudwatch, **dimensions)
        (found,) = cloudwatch.list_metrics()["Metrics"]
        assert {one["Name"]: one["Value"] for one in found["Dimensions"]} == dimensions

    def test_different_ones_are_all_there(self, cloudwatch):
        self.put(cloudwatch, a="1", b="2")
        self.put(cloudwatch, a="2", b="1")
        self.put(cloudwatch, a="1")
        self.put(cloudwatch, name="O", a="1")
        self.put(cloudwatch, namespace="P", a="1")
        assert len(cloudwatch.list_metrics()["Metrics"]) == 5
        assert len(cloudwatch.list_metrics(Namespace="N", MetricName="M")["Metrics"]) == 3
        of_one = cloudwatch.list_metrics(Dimensions=[{"Name": "a", "Value": "1"}])["Metrics"]
        assert len(of_one) == 4


@pytest.fixture
def world():
    with scaling_world() as made:
        yield made


class TestDescribedPolicies:
    ABOUT: ClassVar = {"ServiceNamespace": "sagemaker"}

    def described(self, world, **members):
        return world.call("DescribeScalingPolicies", **self.ABOUT, **members)

    def names(self, world, **members):
        return [one["PolicyName"] for one in self.described(world, **members)["ScalingPolicies"]]

    def alarms(self, world, name="wake"):
        [policy] = self.described(world, PolicyNames=[name])["ScalingPolicies"]
        return [alarm["AlarmName"] for alarm in policy["Alarms"]]

    def test_alarms_are_those_that_name_the_policy(self, world):
        world.register()
        arn = world.step()
        assert self.alarms(world) == []
        world.alarm(arn, name="mine")
        world.alarm("arn:aws:sns:us-east-1:123456789012:t", name="other")
        world.alarm(name="when ok", OKActions=[arn])
        assert self.alarms(world) == ["mine", "when ok"]
        [shown] = self.described(world)["ScalingPolicies"]
        [stored] = world.cloudwatch.describe_alarms(AlarmNames=["mine"])["MetricAlarms"]
        assert shown["Alarms"][0] == {"AlarmName": "mine", "AlarmARN": stored["AlarmArn"]}
        assert world.step() == arn
        assert [one["AlarmName"] for one in world.last["Alarms"]] == ["mine", "when ok"]
        world.cloudwatch.delete_alarms(AlarmNames=["mine", "when ok"])
        assert self.alarms(world) == []

    def test_alarms_of_target_tracking_stay_as_they_are(self, world):
        world.register()
        made = [alarm["AlarmName"] for alarm in world.track()["Alarms"]]
        assert len(made) == 2
        assert self.alarms(world, "tracking") == made

    def test_resource_is_the_whole_one(self, world):
        world.endpoints += [Queue(world.clock, name=name) for name in ("e", "other-ep")]
        for name in ("ep", "e", "other-ep"):
            identity = {**IDENTITY, "ResourceId": f"endpoint/{name}/variant/main"}
            world.call("RegisterScalableTarget", **identity, MinCapacity=0, MaxCapacity=1)
            world.step(f"of {name}", identity=identity)
        assert self.names(world, ResourceId="endpoint/ep/variant/main") == ["of ep"]
        assert self.names(world, ResourceId="endpoint/ep/variant/main-2") == []
        assert self.names(world) == ["of ep", "of e", "of other-ep"]

    def test_what_is_described_is_what_moto_describes_beside_the_alarms(self, world):
        world.register()
        world.step()
        world.track()
        ours = self.described(world)["ScalingPolicies"]
        motos = world.autoscaling.describe_scaling_policies(**self.ABOUT)["ScalingPolicies"]
        assert len(ours) == 2
        for own, stored in zip(ours, motos, strict=True):
            assert {**own, "CreationTime": 0} == {**stored, "CreationTime": 0}

    def test_names_and_pages(self, world):
        world.register()
        for number in range(12):
            world.step(f"p{number}")
        assert self.names(world, PolicyNames=["p3", "p5"]) == ["p3", "p5"]
        first = self.described(world)
        assert len(first["ScalingPolicies"]) == 10
        assert self.names(world, NextToken=first["NextToken"]) == ["p10", "p11"]
        assert "NextToken" not in self.described(world, NextToken=first["NextToken"])
        assert refused(world, "DescribeScalingPolicies", **self.ABOUT, MaxResults=11).code == (
            "ValidationException"
        )
        for token in ("x", "-1"):
            refusal = refused(world, "DescribeScalingPolicies", **self.ABOUT, NextToken=token)
            assert refusal.code == "InvalidNextTokenException"

    def test_other_services_are_motos(self, world):
        assert world.calls.answer(REGION, "DescribeScalingPolicies", {"ServiceNamespace": "ecs"}) is None


def refused(world, name, **members):
    with pytest.raises(AwsError) as refusal:
        world.call(name, **members)
    return refusal.value


class TestAlarmsOfTargetTracking:
    def test_they_are_answered_shown_and_deleted(self, world):
        world.register()
        answer = world.track(5.0)
        high, low = (alarm["AlarmName"] for alarm in answer["Alarms"])
        assert high.startswith("TargetTracking-endpoint/ep/variant/main-AlarmHigh-")
        assert low.startswith("TargetTracking-endpoint/ep/variant/main-AlarmLow-")
        shown = world.cloudwatch.describe_alarms(AlarmNames=[high, low])["MetricAlarms"]
        assert [
            (one["ComparisonOperator"], one["Threshold"], one["EvaluationPeriods"], one["Period"])
            for one in shown
        ] == [("GreaterThanThreshold", 5.0, 3, 60), ("LessThanThreshold", 4.5, 15, 60)]
        for one in shown:
            assert one["StateValue"] == "INSUFFICIENT_DATA"
            assert one["MetricName"] == "ApproximateBacklogSizePerInstance"
            assert one["Namespace"] == "AWS/SageMaker"
            assert one["Dimensions"] == ENDPOINT
            assert one["AlarmActions"][0].startswith(answer["PolicyARN"])
        world.call("DeleteScalingPolicy", **IDENTITY, PolicyName="tracking")
        assert world.cloudwatch.describe_alarms()["MetricAlarms"] == []

    def test_putting_a_policy_again(self, world):
        world.register()
        before, after = world.track(5.0), world.track(8.0)
        assert before["PolicyARN"] == after["PolicyARN"]
        shown = world.cloudwatch.describe_alarms()["MetricAlarms"]
        assert sorted(one["Threshold"] for one in shown) == [7.2, 8.0]
        assert {one["AlarmName"] for one in shown} == {one["AlarmName"] for one in after["Alarms"]}

    def test_a_step_policy_has_none(self, world):
        world.register()
        world.step()
        assert world.cloudwatch.describe_alarms()["MetricAlarms"] == []
        (policy,) = world.autoscaling.describe_scaling_policies(ServiceNamespace="sagemaker")[
            "ScalingPolicies"
        ]
        assert policy["Alarms"] == []

    def test_metric_math_is_shown(self, world):
        world.register()
        metric = {"Namespace": "Own", "MetricName": "InFlight", "Dimensions": ENDPOINT}
        queries = [
            {"Id": "m", "ReturnData": False, "MetricStat": {"Metric": metric, "Stat": "Sum"}},
            {"Id": "e", "Expression": "m * 2", "Label": "twice"},
        ]
        put_math(world, queries)
        for alarm in world.cloudwatch.describe_alarms()["MetricAlarms"]:
            stat, expression = alarm["Metrics"]
            assert stat["MetricStat"]["Metric"] == metric
            assert (stat["MetricStat"]["Stat"], stat["MetricStat"]["Period"]) == ("Sum", 60)
            assert (expression["Expression"], expression["ReturnData"]) == ("m * 2", True)

    def test_other_services_are_as_before(self):
        with mock_aws(), target_tracking_alarms():
            client = boto3.client("application-autoscaling", REGION)
            identity = {
                "ServiceNamespace": "dynamodb",
                "ResourceId": "table/t",
                "ScalableDimension": "dynamodb:table:ReadCapacityUnits",
            }
            client.register_scalable_target(**identity, MinCapacity=1, MaxCapacity=2)
            answer = client.put_scaling_policy(
                **identity,
                PolicyName="p",
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration={"TargetValue": 5.0},
            )
            assert len(answer["Alarms"]) == 4


def put_math(world, queries, **more):
    return world.call(
        "PutScalingPolicy",
        **IDENTITY,
        PolicyName="math",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1.0,
            "CustomizedMetricSpecification": {"Metrics": queries},
            **more,
        },
    )


class TestTargets:
    def test_a_variant_that_is_not_there(self, world):
        identity = {**IDENTITY, "ResourceId": "endpoint/ep/variant/other"}
        refusal = refused(world, "RegisterScalableTarget", **identity, MinCapacity=0, MaxCapacity=1)
        assert refusal.code == "ValidationException"
        assert refusal.message.startswith("No variant in service is found")

    def test_names_without_regard_to_case(self, world):
        world.call(
            "RegisterScalableTarget",
            **IDENTITY | {"ResourceId": "endpoint/EP/variant/main"},
            MinCapacity=2,
            MaxCapacity=3,
        )
        assert world.queue.asked == [2]

    @pytest.mark.parametrize("resource_id", ["endpoint/ep", "ep", "endpoint//variant/", "a/b/c/d/e"])
    def test_a_malformed_resource(self, world, resource_id):
        identity = {**IDENTITY, "ResourceId": resource_id}
        assert refused(world, "RegisterScalableTarget", **identity).code == "ValidationException"

    @pytest.mark.parametrize(
        "limits",
        [
            {},
            {"MinCapacity": 1},
            {"MinCapacity": -1, "MaxCapacity": 1},
            {"MinCapacity": 3, "MaxCapacity": 2},
        ],
    )
    def test_bad_limits(self, world, limits):
        assert refused(world, "RegisterScalableTarget", **IDENTITY, **limits).code == "ValidationException"

    def test_changing_one_limit(self, world):
        world.register(minimum=1, maximum=4)
        world.call("RegisterScalableTarget", **IDENTITY, MinCapacity=2)
        assert world.queue.asked == [2]
        refusal = refused(world, "RegisterScalableTarget", **IDENTITY, MaxCapacity=1)
        assert refusal.message == "MinCapacity (2) must not be above MaxCapacity (1)."

    def test_deregistration_takes_everything_with_it(self, world):
        world.register()
        world.track(5.0)
        world.wake_policy()
        world.call("PutScheduledAction", **IDENTITY, ScheduledActionName="a", Schedule="rate(1 day)")
        world.queue.backlog = 20
        world.minutes(3)
        world.endpoints.append(Queue(world.clock, name="other"))
        other = {**IDENTITY, "ResourceId": "endpoint/other/variant/main"}
        world.call("RegisterScalableTarget", **other, MinCapacity=0, MaxCapacity=1)
        world.step("of another", identity=other)
        world.call("DeregisterScalableTarget", **IDENTITY)
        shown = world.cloudwatch.describe_alarms()["MetricAlarms"]
        # The alarm that the user made stays, as in the service.
        assert [one["AlarmName"] for one in shown] == ["backlog without capacity"]
        describe = world.autoscaling
        left = describe.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        assert [policy["PolicyName"] for policy in left] == ["of another"]
        assert describe.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"] == []
        asked = list(world.queue.asked)
        world.minutes(10)
        assert world.queue.asked == asked

    def test_deregistering_what_is_not_registered(self, world):
        refusal = refused(world, "DeregisterScalableTarget", **IDENTITY)
        assert (refusal.code, refusal.message) == (
            "ObjectNotFoundException",
            "No scalable target found for service namespace: sagemaker, "
            "resource ID: endpoint/ep/variant/main, "
            "scalable dimension: sagemaker:variant:DesiredInstanceCount",
        )

    def test_other_services_are_not_looked_at(self, world):
        world.call(
            "RegisterScalableTarget",
            ServiceNamespace="dynamodb",
            ResourceId="table/t",
            ScalableDimension="dynamodb:table:ReadCapacityUnits",
            MinCapacity=1,
            MaxCapacity=2,
        )
        assert world.queue.asked == []


STEP = {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}


class TestPolicies:
    def tracking(self, world, **config):
        return refused(
            world,
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="p",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=config,
        )

    def test_without_target(self, world):
        with pytest.raises(AwsError) as refusal:
            world.track(5.0)
        assert refusal.value.code == "ObjectNotFoundException"
        assert refusal.value.message.startswith(
            "No scalable target registered for service namespace: sagemaker"
        )

    def test_deleting_what_is_not_there(self, world):
        world.register()
        refusal = refused(world, "DeleteScalingPolicy", **IDENTITY, PolicyName="p")
        assert refusal.code == "ObjectNotFoundException"
        assert refusal.message.endswith("DesiredInstanceCount, policy name: p")

    @pytest.mark.parametrize("kind", ["TargetTrackingScaling", "StepScaling"])
    def test_a_new_one_needs_its_configuration(self, world, kind):
        world.register()
        refusal = refused(world, "PutScalingPolicy", **IDENTITY, PolicyName="p", PolicyType=kind)
        assert refusal.code == "ValidationException"

    def test_putting_one_again_without_configuration(self, world):
        world.register()
        world.track(5.0)
        again = world.call(
            "PutScalingPolicy", **IDENTITY, PolicyName="tracking", PolicyType="TargetTrackingScaling"
        )
        assert len(again["Alarms"]) == 2

    def test_the_type_stays(self, world):
        world.register()
        world.track(5.0)
        steps = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [STEP]}
        for more in ({"PolicyType": "StepScaling"}, {}):
            refusal = refused(
                world,
                "PutScalingPolicy",
                **IDENTITY,
                PolicyName="tracking",
                StepScalingPolicyConfiguration=steps,
                **more,
            )
            assert refusal.code == "ValidationException"

    def test_a_new_one_needs_a_type(self, world):
        world.register()
        refusal = refused(world, "PutScalingPolicy", **IDENTITY, PolicyName="p")
        assert refusal.message == "A policy of type None cannot be put here."

    def test_predictive_scaling(self, world):
        world.register()
        refusal = refused(
            world, "PutScalingPolicy", **IDENTITY, PolicyName="p", PolicyType="PredictiveScaling"
        )
        assert (refusal.code, refusal.status) == ("NotImplementedException", 501)

    @pytest.mark.parametrize("target", [0.0, -1.0])
    def test_a_target_that_is_not_above_zero(self, world, target):
        world.register()
        metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
        refusal = self.tracking(world, TargetValue=target, PredefinedMetricSpecification=metric)
        assert refusal.code == "ValidationException"

    def test_one_kind_of_metric(self, world):
        world.register()
        assert self.tracking(world, TargetValue=1.0).message.startswith("Exactly one of")

    def test_an_incomplete_metric(self, world):
        world.register()
        half = {"MetricName": "ApproximateBacklogSize", "Namespace": "AWS/SageMaker"}
        refusal = self.tracking(world, TargetValue=1.0, CustomizedMetricSpecification=half)
        assert refusal.message.endswith("Statistic of the metric is missing.")

    def test_metric_math_beyond_what_is_imitated(self, world):
        world.register()
        with pytest.raises(AwsError) as refusal:
            put_math(world, [{"Id": "e", "Expression": "ANOMALY_DETECTION_BAND(m, 2)"}])
        assert refusal.value.code == "NotImplementedException"
        assert "ANOMALY_DETECTION_BAND" in refusal.value.message

    @pytest.mark.parametrize(
        "changes",
        [
            {"AdjustmentType": "Double"},
            {"StepAdjustments": []},
            {"StepAdjustments": [{**STEP, "MetricIntervalUpperBound": 0}]},
            {"StepAdjustments": [STEP, {**STEP, "MetricIntervalLowerBound": 5}]},
            {"AdjustmentType": "ExactCapacity", "StepAdjustments": [{**STEP, "ScalingAdjustment": -1}]},
        ],
    )
    def test_bad_steps(self, world, changes):
        world.register()
        config = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [STEP], **changes}
        refusal = refused(
            world,
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="p",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration=config,
        )
        assert refusal.code == "ValidationException"

    def test_a_policy_whose_target_moto_lost(self, world):
        """After a reset of moto from outside there may be alarms without policies, and nothing breaks."""
        world.queue.instances = world.queue.desired = 0
        world.register()
        world.wake_policy()
        world.queue.backlog = 1
        world.autoscaling.deregister_scalable_target(**IDENTITY)
        world.minutes(3)
        assert world.queue.asked == []


class TestAlarmsThatAreNotImitated:
    def test_metric_math_of_a_user(self, world):
        world.register()
        world.cloudwatch.put_metric_alarm(
            AlarmName="math",
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            AlarmActions=[world.step()],
            Metrics=[{"Id": "e", "Expression": "SEARCH('x', 'Sum')", "ReturnData": True}],
        )
        world.minutes()
        assert world.queue.asked == []


class TestScheduledActions:
    def put(self, world, **members):
        return refused(world, "PutScheduledAction", **IDENTITY, ScheduledActionName="a", **members)

    def test_without_target(self, world):
        refusal = self.put(world, Schedule="rate(1 day)")
        assert refusal.code == "ObjectNotFoundException"

    def test_a_bad_schedule(self, world):
        world.register()
        assert self.put(world, Schedule="every day").code == "ValidationException"

    def test_a_new_one_needs_a_schedule(self, world):
        world.register()
        assert self.put(world).message == "A new scheduled action needs Schedule."
        world.call("PutScheduledAction", **IDENTITY, ScheduledActionName="a", Schedule="rate(1 day)")
        world.call(
            "PutScheduledAction", **IDENTITY, ScheduledActionName="a", ScalableTargetAction={"MinCapacity": 1}
        )

    def test_cron_without_its_package(self, world, monkeypatch):
        world.register()
        real = importlib.import_module

        def without(name):
            if name == "croniter":
                raise ImportError(name)
            return real(name)

        monkeypatch.setattr(importlib, "import_module", without)
        refusal = self.put(world, Schedule="cron(0 8 * * ? *)")
        assert refusal.message == "cron(...) needs the package croniter, which is not installed."

    def test_deleting(self, world):
        world.register()
        refusal = refused(world, "DeleteScheduledAction", **IDENTITY, ScheduledActionName="a")
        assert refusal.code == "ObjectNotFoundException"
        world.call("PutScheduledAction", **IDENTITY, ScheduledActionName="a", Schedule="rate(1 day)")
        world.call("DeleteScheduledAction", **IDENTITY, ScheduledActionName="a")

    def test_an_action_counts_by_the_emulators_clock(self, world):
        world.register()
        world.minutes(60)
        world.call("PutScheduledAction", **IDENTITY, ScheduledActionName="a", Schedule="rate(1 day)")
        (action,) = world.autoscaling.describe_scheduled_actions(ServiceNamespace="sagemaker")[
            "ScheduledActions"
        ]
        assert action["CreationTime"].timestamp() == pytest.approx(world.clock.now(), abs=1)

    def test_one_that_moto_did_not_keep(self, world):
        world.calls.accepted(REGION, "PutScheduledAction", {**IDENTITY, "ScheduledActionName": "unknown"})


def test_activities_of_other_services(world):
    world.register(minimum=2)
    assert len(world.activities()) == 1
    assert world.calls.describe_scaling_activities(REGION, {"ServiceNamespace": "ecs"}) == {
        "ScalingActivities": []
    }
