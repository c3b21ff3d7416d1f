"""Autoscaling as a whole: a queue, moto's alarms and policies, and time that moves step by step."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.errors import control_refusal
from airflow_async_sm.emulator.scaling.metrics import Metrics
from airflow_async_sm.emulator.scaling.scalable import CapacityUnavailable
from airflow_async_sm.emulator.scaling.scaler import Scaler
from tests.unit.emulator.scaling_world import ACCOUNT, ENDPOINT, IDENTITY, REGION, Queue, scaling_world
from tests.world import eventually


@pytest.fixture
def world():
    with scaling_world() as made:
        yield made


def asleep(world):
    world.queue.instances = world.queue.desired = 0


class TestWaking:
    def test_a_small_backlog_alone_wakes_nobody(self, world):
        asleep(world)
        world.register()
        world.track(5.0)
        world.queue.backlog = 5
        world.minutes(30)
        assert world.queue.asked == []
        assert world.state("AlarmHigh") == "OK"

    def test_a_backlog_above_the_target_does_after_three_minutes(self, world):
        asleep(world)
        world.register()
        world.track(5.0)
        world.queue.backlog = 12
        world.minutes(2)
        assert world.queue.asked == []
        world.minutes()
        assert world.queue.asked == [3]
        assert world.state("AlarmHigh") == "ALARM"

    def test_with_the_step_policy_one_request_does_after_two_minutes(self, world):
        asleep(world)
        world.register()
        world.track(5.0)
        world.wake_policy()
        world.minutes(20)
        assert world.queue.asked == []
        world.queue.backlog = 1
        world.minutes()
        assert world.queue.asked == []
        world.minutes()
        assert world.queue.asked == [1]

    def test_a_slow_start_does_not_bring_up_more(self, world):
        asleep(world)
        world.queue.start_seconds = 720
        world.register()
        world.wake_policy(cooldown=60)
        world.queue.backlog = 1
        world.minutes(13)
        assert world.queue.asked == [1]
        assert world.state("without") == "ALARM"
        world.minutes()
        assert world.queue.instances == 1
        world.minutes(5)
        assert world.state("without") == "OK"
        assert world.queue.asked == [1]


class TestScaleIn:
    def test_after_fifteen_quiet_minutes(self, world):
        world.register()
        world.track(5.0)
        world.queue.backlog = 5
        world.minutes(20)
        world.queue.backlog = 0
        world.minutes(14)
        assert world.queue.asked == []
        assert world.state("AlarmLow") == "OK"
        world.minutes()
        assert world.queue.asked == [0]
        assert world.state("AlarmLow") == "ALARM"

    def test_cooldown(self, world):
        world.queue.instances = world.queue.desired = 4
        world.register()
        world.track(4.0, ScaleInCooldown=600, metric="ApproximateBacklogSize")
        world.queue.backlog = 2
        world.minutes(15)
        assert world.queue.asked == [2]
        world.queue.backlog = 1
        world.minutes(10)
        assert world.queue.asked == [2]
        world.minutes()
        assert world.queue.asked == [2, 1]

    def test_disabled(self, world):
        world.register()
        world.track(5.0, DisableScaleIn=True)
        world.minutes(40)
        assert world.state("AlarmLow") == "ALARM"
        assert world.queue.asked == []

    def test_a_policy_that_is_not_ready_holds_the_others(self, world):
        world.register()
        world.track(5.0)
        world.track(100.0, name="on age", metric="ApproximateAgeOfOldestRequest")
        world.minutes(30)
        # There is no oldest request, so nothing is known of the second policy.
        assert world.queue.asked == []

    def test_a_step_policy_does_not_wait_for_target_tracking(self, world):
        world.register()
        world.track(100.0, name="on age", metric="ApproximateAgeOfOldestRequest")
        arn = world.call(
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="down",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": -1}],
            },
        )["PolicyARN"]
        world.alarm(
            arn, name="idle", MetricName="ApproximateBacklogSize", ComparisonOperator="LessThanThreshold"
        )
        world.minutes(2)
        assert world.queue.asked == [0]


class TestSeveralPolicies:
    def test_the_largest_capacity_wins(self, world):
        asleep(world)
        world.register(maximum=20)
        world.track(5.0)
        world.track(2.0, name="finer")
        world.queue.backlog = 20
        world.minutes(3)
        assert world.queue.asked == [10]
        assert world.activities()[0]["Cause"].endswith("triggered policy finer")

    def test_a_scale_in_after_a_scale_out_is_that_of_the_larger(self, world):
        world.queue.instances = world.queue.desired = 10
        world.register(maximum=20)
        world.track(20.0, metric="ApproximateBacklogSize")
        world.track(8.0, name="finer", metric="ApproximateBacklogSize")
        world.queue.backlog = 4
        world.minutes(15)
        assert world.queue.asked == [5]


class TestScaleOutCooldown:
    def test_only_a_larger_backlog_adds_more(self, world):
        asleep(world)
        world.queue.start_seconds = 120
        world.register(maximum=20)
        world.track(5.0)
        world.queue.backlog = 15
        world.minutes(4)
        assert world.queue.asked == [3]
        world.queue.backlog = 25
        world.minutes()
        assert world.queue.asked == [3, 5]

    def test_a_step_policy_adds_again_when_its_cooldown_is_over(self, world):
        asleep(world)
        world.register()
        arn = world.step(cooldown=120)
        world.alarm(arn, MetricName="ApproximateBacklogSize", Threshold=10)
        world.queue.backlog = 10
        world.minutes(2)
        assert world.queue.asked == [1]
        # Complete after a minute, and then two minutes of cooldown.
        world.minutes(2)
        assert world.queue.asked == [1]
        world.minutes()
        assert world.queue.asked == [1, 2]

    def test_a_scale_out_ends_the_cooldown_of_a_scale_in(self, world):
        world.queue.instances = world.queue.desired = 4
        world.register()
        world.track(4.0, ScaleInCooldown=86_400, metric="ApproximateBacklogSize")
        world.queue.backlog = 2
        world.minutes(15)
        assert world.queue.asked == [2]
        world.queue.backlog = 6
        world.minutes(3)
        assert world.queue.asked == [2, 3]
        world.queue.backlog = 1
        world.minutes(15)
        assert world.queue.asked == [2, 3, 1]

    def test_of_another_policy_too(self, world):
        world.queue.instances = world.queue.desired = 4
        world.register()
        world.track(4.0, ScaleInCooldown=86_400, metric="ApproximateBacklogSize")
        world.alarm(world.step(), MetricName="ApproximateBacklogSize", Threshold=4)
        world.queue.backlog = 2
        world.minutes(15)
        # Four is enough for the step policy, and neither too much nor too little for the other.
        world.queue.backlog = 4
        world.minutes(2)
        assert world.queue.asked == [2, 3]
        world.queue.backlog = 1
        world.minutes(15)
        assert world.queue.asked == [2, 3, 1]

    def test_larger_steps_are_counted_from_the_first(self, world):
        asleep(world)
        world.queue.start_seconds = 3_600
        world.register(maximum=20)
        steps = [(0, 10, 1), (10, 20, 2), (20, None, 4)]
        adjustments = [
            {"MetricIntervalLowerBound": lower, "ScalingAdjustment": more}
            | ({} if upper is None else {"MetricIntervalUpperBound": upper})
            for lower, upper, more in steps
        ]
        arn = world.call(
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="steps",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": adjustments,
            },
        )["PolicyARN"]
        world.alarm(arn, MetricName="ApproximateBacklogSize", Threshold=10)
        for backlog, minutes in ((10, 2), (20, 3), (30, 3), (20, 3)):
            world.queue.backlog = backlog
            world.minutes(minutes)
        assert world.queue.asked == [1, 2, 4]

    def test_a_change_that_failed_has_none(self, world):
        world.queue.instances = world.queue.desired = 4
        world.register()
        world.track(4.0, ScaleInCooldown=86_400, metric="ApproximateBacklogSize")
        world.queue.backlog = 2
        world.minutes(15)
        assert world.queue.asked == [2]
        world.endpoints.clear()
        world.minutes()
        world.endpoints.append(world.queue)
        world.queue.instances = world.queue.desired = 4
        world.minutes()
        assert world.queue.asked == [2, 2]


class TestLimits:
    def test_policies_stay_inside(self, world):
        world.register(minimum=1, maximum=2)
        world.track(5.0)
        world.queue.backlog = 100
        world.minutes(3)
        assert world.queue.asked == [2]
        world.queue.backlog = 0
        world.minutes(40)
        assert world.queue.asked == [2, 1]

    def test_registration_moves_capacity_at_once(self, world):
        world.register(minimum=2, maximum=4)
        assert world.queue.asked == [2]
        world.register(minimum=0, maximum=1)
        assert world.queue.asked == [2, 1]
        causes = [activity["Cause"] for activity in world.activities()]
        assert causes == ["maximum capacity was set to 1", "minimum capacity was set to 2"]

    def test_registration_means_the_endpoint_of_its_region(self, world):
        world.endpoints.insert(0, Queue(world.clock, region="eu-west-1"))
        world.register(minimum=2)
        assert world.queue.asked == [2]
        assert world.endpoints[0].asked == []

    def test_registration_inside_changes_nothing(self, world):
        world.register(minimum=0, maximum=4)
        assert world.queue.asked == []
        assert world.activities() == []

    @pytest.mark.parametrize("part", ["In", "Out"])
    def test_suspended(self, world, part):
        world.register(SuspendedState={f"DynamicScaling{part}Suspended": True})
        world.track(5.0)
        world.queue.backlog = 50
        world.minutes(3)
        assert world.queue.asked == ([5] if part == "In" else [])
        world.queue.backlog = 0
        world.minutes(20)
        assert world.queue.asked == ([5] if part == "In" else [0])


class TestAlarms:
    def test_without_data_it_is_insufficient(self, world):
        world.register()
        world.track(5.0, metric="NobodyPublishesThis")
        world.alarm(world.step(), MetricName="NorThis")
        world.minutes()
        assert world.state("AlarmLow") == world.state("AlarmHigh") == "INSUFFICIENT_DATA"
        assert world.state("without") == "INSUFFICIENT_DATA"
        world.minutes(30)
        assert world.queue.asked == []

    def test_a_new_alarm_that_ignores_missing_data_begins_with_insufficient_data(self, world):
        world.register()
        world.alarm(world.step(), MetricName="NobodyPublishesThis", TreatMissingData="ignore")
        world.minutes(3)
        assert world.state("without") == "INSUFFICIENT_DATA"

    def test_a_predefined_metric_never_has_data(self, world):
        world.register()
        world.call(
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="invocations",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 1.0,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
            },
        )
        world.queue.backlog = 100
        world.minutes(20)
        assert world.state("AlarmHigh") == "INSUFFICIENT_DATA"
        assert world.queue.asked == []

    def test_data_that_ends(self, world):
        world.register()
        world.track(5.0)
        world.minutes(3)
        assert world.state("AlarmHigh") == "OK"
        world.endpoints.clear()
        world.minutes(5)
        assert world.state("AlarmHigh") == "INSUFFICIENT_DATA"

    def test_breaching_without_any_value_triggers_nothing(self, world):
        world.register()
        world.alarm(world.step(), MetricName="NobodyPublishesThis", TreatMissingData="breaching")
        world.minutes()
        assert world.state("without") == "ALARM"
        assert world.queue.asked == []

    def test_actions_can_be_switched_off(self, world):
        asleep(world)
        world.register()
        world.wake_policy()
        world.cloudwatch.disable_alarm_actions(AlarmNames=["backlog without capacity"])
        world.queue.backlog = 1
        world.minutes(3)
        assert world.state("without") == "ALARM"
        assert world.queue.asked == []

    def test_alarms_that_trigger_no_policy_are_left_alone(self, world):
        world.register()
        world.alarm("arn:aws:sns:us-east-1:123456789012:topic", name="theirs")
        world.cloudwatch.set_alarm_state(AlarmName="theirs", StateValue="ALARM", StateReason="a test")
        world.minutes(3)
        assert world.state("theirs") == "ALARM"

    @pytest.mark.parametrize(
        "changes",
        [
            {"Statistic": None, "ExtendedStatistic": "p90"},
            {"ComparisonOperator": "GreaterThanUpperThreshold"},
        ],
    )
    def test_what_is_not_imitated_is_said_once(self, world, caplog, changes):
        world.register()
        world.alarm(world.step(), **changes)
        with caplog.at_level(logging.WARNING):
            world.minutes(3)
        assert [record.getMessage() for record in caplog.records] == [
            "Alarm backlog without capacity is of a kind that is not imitated; it keeps its state"
        ]

    def test_times_of_a_state_are_emulated(self, world):
        asleep(world)
        world.register()
        world.wake_policy()
        world.queue.backlog = 1
        world.minutes(60)
        (alarm,) = world.cloudwatch.describe_alarms()["MetricAlarms"]
        # The state changed in the second minute, when the instance came.
        since = world.clock.now() - alarm["StateUpdatedTimestamp"].timestamp()
        assert 55 * 60 <= since <= 59 * 60
        assert alarm["StateReason"].startswith("Threshold Crossed: ")
        assert '"statistic": "Average"' in alarm["StateReasonData"]

    def test_metric_math(self, world):
        """Their own metric of work in flight, added to the backlog."""
        asleep(world)
        world.register()
        own = {"Namespace": "Own", "MetricName": "InFlight", "Dimensions": ENDPOINT}
        backlog = {
            "Namespace": "AWS/SageMaker", "MetricName": "ApproximateBacklogSize", "Dimensions": ENDPOINT,
        }  # fmt: skip
        queries = [
            {"Id": "b", "ReturnData": False, "MetricStat": {"Metric": backlog, "Stat": "Average"}},
            {"Id": "f", "ReturnData": False, "MetricStat": {"Metric": own, "Stat": "Maximum"}},
            {"Id": "all", "ReturnData": True, "Expression": "b + FILL(f, 0)"},
        ]
        world.call(
            "PutScalingPolicy",
            **IDENTITY,
            PolicyName="math",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 2.0,
                "CustomizedMetricSpecification": {"Metrics": queries},
            },
        )
        world.queue.backlog = 2
        world.minutes(5)
        assert world.queue.asked == []
        start = world.clock.now() // 60 * 60
        for minute in range(3):
            world.cloudwatch.put_metric_data(
                Namespace="Own",
                MetricData=[
                    {
                        "MetricName": "InFlight",
                        "Dimensions": ENDPOINT,
                        "Value": 2,
                        "Timestamp": start + 60 * minute,
                    }
                ],
            )
        world.minutes(3)
        assert world.queue.asked == [2]


class TestMetrics:
    def statistics(self, world, name, statistic, dimensions=ENDPOINT):
        now = world.clock.now()
        answer = world.cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=60,
            Statistics=[statistic],
            Dimensions=dimensions,
        )
        return answer["Datapoints"]

    def test_clients_can_read_the_queue(self, world):
        world.queue.backlog = 7
        world.minutes(2)
        for name, value, unit in (
            ("ApproximateBacklogSize", 7, "Count"),
            ("ApproximateBacklogSizePerInstance", 7, "Count"),
            ("ApproximateAgeOfOldestRequest", 30, "Seconds"),
            ("HasBacklogWithoutCapacity", 0, "Count"),
        ):
            points = self.statistics(world, name, "Average")
            assert [(point["Average"], point["Unit"]) for point in points] == [(value, unit)] * 2
            last = points[-1]["Timestamp"].timestamp()
            # A value carries the beginning of its minute, and its minute is over.
            assert last % 60 == 0
            assert 60 <= world.clock.now() - last < 120

    def test_clients_can_read_what_was_counted(self, world):
        for _ in range(3):
            world.metrics.count(REGION, "ep", "main", "InvocationsProcesssed")
        world.metrics.observe(REGION, "ep", "main", "ModelLatency", 0.25)
        world.minutes(3)
        variant = [*ENDPOINT, {"Name": "VariantName", "Value": "main"}]
        (processed,) = self.statistics(world, "InvocationsProcesssed", "Sum", variant)
        assert processed["Sum"] == 3
        (latency,) = self.statistics(world, "ModelLatency", "Maximum", variant)
        assert (latency["Maximum"], latency["Unit"]) == (250_000, "Microseconds")

    def test_get_metric_data(self, world):
        world.queue.backlog = 2
        world.minutes(2)
        metric = {
            "Namespace": "AWS/SageMaker", "MetricName": "ApproximateBacklogSize", "Dimensions": ENDPOINT,
        }  # fmt: skip
        answer = world.cloudwatch.get_metric_data(
            MetricDataQueries=[
                {"Id": "b", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
            ],
            StartTime=world.clock.now() // 60 * 60 - 600,
            EndTime=world.clock.now() + 60,
        )
        assert answer["MetricDataResults"][0]["Values"] == [2, 2]

    def test_regions_are_apart(self, world):
        world.endpoints.append(Queue(world.clock, region="eu-west-1"))
        world.endpoints[1].backlog = 9
        world.minutes()
        (point,) = self.statistics(world, "ApproximateBacklogSize", "Sum")
        assert point["Sum"] == 0

    def test_old_data_is_dropped(self, world):
        world.minutes()
        backend = world.scaler.moto._cloudwatch(REGION)
        before = len(backend.metric_data)
        world.scaler.moto.forget_before(REGION, world.clock.now() + 14 * 86_400)
        assert len(backend.metric_data) == before
        world.scaler.moto.forget_before(REGION, world.clock.now() + 16 * 86_400)
        assert backend.metric_data == []


class TestActivities:
    def test_of_a_policy(self, world):
        asleep(world)
        world.queue.start_seconds = 150
        world.register()
        world.wake_policy()
        world.queue.backlog = 1
        began = world.clock.now()
        world.minutes(2)
        (activity,) = world.activities()
        assert activity | {"ActivityId": "", "StartTime": 0} == {
            "ActivityId": "",
            "ServiceNamespace": "sagemaker",
            "ResourceId": "endpoint/ep/variant/main",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "Description": "Setting desired instance count to 1.",
            "Cause": "monitor alarm backlog without capacity in state ALARM triggered policy wake",
            "StartTime": 0,
            "StatusCode": "InProgress",
            "StatusMessage": "Successfully set desired instance count to 1. "
            "Waiting for change to be fulfilled by sagemaker.",
        }
        assert began + 60 <= activity["StartTime"] <= began + 120
        world.minutes(3)
        (activity,) = world.activities()
        assert activity["StatusCode"] == "Successful"
        assert activity["StatusMessage"] == (
            "Successfully set desired instance count to 1. Change successfully fulfilled by sagemaker."
        )
        assert 150 <= activity["EndTime"] - activity["StartTime"] <= 210

    @pytest.mark.parametrize(
        "refusal",
        [
            ValueError("The account-level service limit is 20 Instances."),
            CapacityUnavailable("The account-level service limit is 20 Instances."),
            control_refusal("The account-level service limit is 20 Instances."),
        ],
    )
    def test_a_refusal_is_a_failed_activity_and_tried_again(self, world, refusal):
        asleep(world)
        world.register()
        world.wake_policy()
        world.queue.backlog, world.queue.refusal = 1, refusal
        world.minutes(3)
        assert world.queue.asked == [1, 1]
        for activity in world.activities():
            assert activity["StatusCode"] == "Failed"
            assert activity["StatusMessage"] == (
                "Failed to set desired instance count to 1. "
                "Reason: The account-level service limit is 20 Instances."
            )
            assert activity["EndTime"] == activity["StartTime"]
        world.queue.refusal = None
        world.minutes()
        assert world.queue.instances == 1

    def test_changed_by_somebody_else(self, world):
        world.queue.start_seconds = 600
        world.register(minimum=2)
        world.queue.desired = 4
        (activity,) = world.activities()
        assert (activity["StatusCode"], activity["StatusMessage"]) == (
            "Overridden",
            "Successfully set desired instance count to 2. Found it was later changed to 4.",
        )

    def test_overridden_by_the_next_one(self, world):
        world.queue.start_seconds = 600
        world.register(minimum=2)
        world.register(minimum=3)
        assert [activity["StatusCode"] for activity in world.activities()] == ["InProgress", "Overridden"]

    def test_the_endpoint_goes(self, world):
        world.queue.start_seconds = 600
        world.register(minimum=2)
        world.endpoints.clear()
        world.minutes()
        (activity,) = world.activities()
        assert activity["StatusMessage"].endswith("Reason: The endpoint is gone.")


class TestScheduledActions:
    def put(self, world, schedule, **more):
        members = {"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 4}, **more}
        world.call("PutScheduledAction", **IDENTITY, ScheduledActionName="day", Schedule=schedule, **members)

    def test_a_rate(self, world):
        world.register()
        self.put(world, "rate(5 minutes)")
        world.minutes(4)
        assert world.queue.asked == []
        world.minutes(2)
        assert world.queue.asked == [3]
        done, limits = world.activities()
        assert done["Cause"] == "minimum capacity was set to 3"
        assert limits["Cause"] == "scheduled action name day was triggered"
        assert limits["Description"] == "Setting min capacity to 3 and max capacity to 4"
        assert limits["StatusMessage"] == "Successfully set min capacity to 3 and max capacity to 4"
        (target,) = world.autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")[
            "ScalableTargets"
        ]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 4)
        world.minutes(5)
        assert [activity["Cause"] for activity in world.activities()].count(limits["Cause"]) == 2

    def test_suspended(self, world):
        world.register(SuspendedState={"ScheduledScalingSuspended": True})
        self.put(world, "rate(1 minute)")
        world.minutes(5)
        assert world.queue.asked == []

    def test_one_that_cannot_run_is_told(self, world, caplog):
        world.register()
        self.put(world, "rate(1 minute)")
        (action,) = world.scaler.moto.scheduled_actions(REGION)
        action.schedule = "never"
        with caplog.at_level(logging.WARNING):
            world.minutes()
        assert "Scheduled action day cannot run" in caplog.text


class TestTheLoop:
    def test_a_bad_minute_is_not_the_last(self, world, caplog):
        def broken():
            raise ZeroDivisionError("a bug of the emulator")

        world.register()
        world.track(5.0)
        world.queue.load, load = broken, world.queue.load
        world.minutes()
        assert "Autoscaling failed for a minute" in caplog.text
        world.queue.load, world.queue.backlog = load, 50
        world.minutes(3)
        assert world.queue.asked == [5]

    def test_nothing_happens_after_stop(self, world):
        world.register()
        world.track(5.0)
        world.queue.backlog = 50
        world.minutes(2)
        world.scaler.stop()
        world.scaler.stop()
        world.minutes(5)
        assert world.queue.asked == []
        assert not [thread for thread in threading.enumerate() if thread.name == "emulator-scaler"]

    def test_reset(self, world):
        asleep(world)
        world.register()
        world.wake_policy(cooldown=86_400)
        world.queue.backlog = 1
        world.minutes(2)
        world.metrics.count(REGION, "ep", "main", "InvocationsProcesssed")
        world.scaler.reset()
        assert world.activities() == []
        assert list(world.metrics.take()) == []
        # Nothing is known of the cooldown either.
        asleep(world)
        world.minutes(3)
        assert world.queue.asked == [1, 1]

    def test_one_that_was_never_started_can_be_stopped(self, world):
        Scaler(world.clock, Metrics(), ACCOUNT, list).stop()

    def test_it_can_be_started_again(self, world):
        world.register()
        world.track(5.0)
        world.scaler.stop()
        world.queue.backlog = 50
        world.minutes(5)
        world.scaler.start()
        world.minutes(3)
        assert world.queue.asked == [5]

    def test_a_minute_that_comes_due_while_it_stops(self, world):
        begin = world.scaler._begin
        world.scaler.stop()
        begin(world.clock.now())
        world.scaler._arm(world.clock.now())
        world.minutes()
        assert world.scaler._thread is None or not world.scaler._thread.is_alive()

    def test_a_target_without_its_endpoint_is_left_alone(self, world):
        asleep(world)
        world.register()
        world.wake_policy()
        world.queue.backlog = 1
        world.minutes()
        gone = world.endpoints.pop()
        # The values of the last minutes still make an alarm.
        world.metrics.count(REGION, "ep", None, "HasBacklogWithoutCapacity")
        world.minutes()
        assert world.state("without") == "ALARM"
        assert gone.asked == []
        world.scaler.into_bounds(REGION, IDENTITY["ResourceId"])
        world.scaler.into_bounds(REGION, "endpoint/never/variant/registered")

    def test_in_real_time_at_high_speed(self, world):
        """Sixty emulated minutes pass in a second, and what takes too long leaves minutes out."""
        world.scaler.stop()
        clock = Clock(speed=3_600.0)
        slow = Queue(clock)
        looked = []
        inner = slow.load

        def load():
            looked.append(clock.now())
            if len(looked) == 1:
                # Several minutes pass in the middle of the first one.
                eventually(lambda: clock.now() > looked[0] + 300)
            return inner()

        slow.load = load
        scaler = Scaler(clock, Metrics(), ACCOUNT, lambda: [slow])
        clock.start()
        scaler.start()
        try:
            eventually(lambda: len(looked) > 10)
        finally:
            scaler.stop()
            clock.stop()
        moments = [
            datum.timestamp
            for datum in world.scaler.moto._cloudwatch(REGION).metric_data
            if datum.name == "ApproximateBacklogSize"
        ]
        gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(moments)]
        assert min(gaps) >= 60
        assert max(gaps) >= 240
        assert all(gap % 60 == 0 for gap in gaps)
