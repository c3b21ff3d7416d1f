"""Scaling through the hook, against the emulator with a clock that is moved."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.awsrequest import AWSResponse

from airflow_async_sm.core.scaling import ScalingSpec, ScalingState, WarmHours
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from airflow_async_sm.hooks._scaling import ScalingCalls
from tests.lab import VARIANT, Lab, make_lab

INSTANCE_START = 40
pytestmark = pytest.mark.default_airflow

ASLEEP = ScalingSpec(max_instances=5)
AWAKE = ScalingSpec(min_instances=1, max_instances=5)
LOOKS = ("Describe", "List", "Get", "Head")


class Hook(ScalingCalls):
    """The part of the hook that is tested here."""


@pytest.fixture(scope="module")
def shared():
    with make_lab() as emulator:
        emulator.knobs.change(behaviour={"instance_start_seconds": INSTANCE_START})
        lab = Lab(emulator)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(emulator.url))
            lab.hook = Hook()
            clients = (lab.hook._autoscaling, lab.hook._cloudwatch, lab.hook._sagemaker)
        yield lab
        for client in clients:
            client.close()
        lab.close()


@pytest.fixture
def lab(shared):
    """The lab at the beginning of a minute."""
    shared.advance(60 - shared.clock.now() % 60)
    yield shared
    for endpoint in shared.control.list_endpoints(StatusEquals="InService", MaxResults=100)["Endpoints"]:
        shared.control.delete_endpoint(EndpointName=endpoint["EndpointName"])
    shared.settle()


@pytest.fixture
def hook(lab):
    return lab.hook


@pytest.fixture
def name(lab):
    """An endpoint with one instance and without scaling."""
    return lab.deploy()


@pytest.fixture
def changes(lab):
    """Return a function that says which calls changed something since it was last asked, and how often."""
    seen = {}

    def since():
        calls = lab.emulator.counters()["calls"]
        counted = {call: number for service in calls.values() for call, number in service.items()}
        new = {call: number - seen.get(call, 0) for call, number in counted.items()}
        seen.update(counted)
        return {call: number for call, number in new.items() if number and not call.startswith(LOOKS)}

    since()
    return since


def identity(name):
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def limits(hook, name):
    target = hook.describe_scaling(name, VARIANT).target
    return target["MinCapacity"], target["MaxCapacity"]


def daily(moment, timezone=UTC):
    at = datetime.fromtimestamp(moment, timezone)
    return f"cron({at.minute} {at.hour} * * ? *)"


class TestApplying:
    def test_what_is_made_scales_from_zero_to_the_maximum(self, hook, name, changes):
        assert len(hook.apply_scaling(name, VARIANT, ASLEEP)) == 4
        assert changes() == {"RegisterScalableTarget": 1, "PutScalingPolicy": 2, "PutMetricAlarm": 1}
        state = hook.describe_scaling(name, VARIANT)
        assert limits(hook, name) == (0, 5)
        assert {policy["PolicyName"] for policy in state.policies} == {
            "airflow-async-sm-backlog",
            "airflow-async-sm-wake",
        }
        [alarm] = state.alarms
        assert alarm["AlarmName"] == f"airflow-async-sm-wake-{name}-{VARIANT}"
        assert tuple(alarm["AlarmActions"]) == state.step_policy_arns
        assert state.wakes

    @pytest.mark.parametrize("spec", [ASLEEP, AWAKE, "warm"], ids=["asleep", "awake", "warm"])
    def test_the_second_time_nothing_is_changed(self, lab, hook, name, changes, spec):
        if spec == "warm":
            later = lab.clock.now() + 7200
            span = WarmHours(start=daily(later), end=daily(later + 3600), timezone="Europe/Berlin")
            spec = ScalingSpec(
                max_instances=5, warm_hours=[span, WarmHours(start="rate(5 days)", end="rate(6 days)")]
            )
        assert hook.apply_scaling(name, VARIANT, spec)
        changes()
        assert hook.apply_scaling(name, VARIANT, spec) == []
        assert changes() == {}

    @pytest.mark.parametrize(
        ("before", "after", "calls"),
        [
            ({}, {"max_instances": 7}, {"RegisterScalableTarget": 1}),
            ({}, {"backlog_per_instance": 2}, {"PutScalingPolicy": 1}),
            ({}, {"scale_in_cooldown": 1800}, {"PutScalingPolicy": 1}),
            (
                {},
                {"min_instances": 1},
                {"RegisterScalableTarget": 1, "DeleteScalingPolicy": 1, "DeleteAlarms": 1},
            ),
            (
                {"min_instances": 1},
                {},
                {"RegisterScalableTarget": 1, "PutScalingPolicy": 1, "PutMetricAlarm": 1},
            ),
        ],
    )
    def test_a_changed_spec_changes_what_differs(self, hook, name, changes, before, after, calls):
        hook.apply_scaling(name, VARIANT, ScalingSpec(**{"max_instances": 5, **before}))
        changes()
        spec = ScalingSpec(**{"max_instances": 5, **after})
        told = hook.apply_scaling(name, VARIANT, spec)
        assert changes() == calls
        assert len(told) == sum(calls.values())
        assert limits(hook, name) == (spec.min_instances, spec.max_instances)
        assert hook.describe_scaling(name, VARIANT).wakes is spec.sleeps

    def test_what_others_made_stays(self, lab, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        arn = put_their_policy(lab, name)
        put_their_alarm(lab, name, arn)
        schedule_theirs(lab, name)
        hook.apply_scaling(name, VARIANT, AWAKE)
        state = hook.describe_scaling(name, VARIANT)
        assert {one["PolicyName"] for one in state.policies} == {"airflow-async-sm-backlog", "theirs"}
        assert [one["ScheduledActionName"] for one in state.scheduled_actions] == ["theirs"]
        assert [one["AlarmName"] for one in state.alarms] == [f"theirs-{name}"]

    def test_what_does_not_exist_cannot_scale(self, hook, name):
        with pytest.raises(
            RequestRejected, match="Could not register scalable target for variant AllTraffic"
        ):
            hook.apply_scaling("nobody", VARIANT, ASLEEP)
        with pytest.raises(RequestRejected, match="for variant Other of endpoint"):
            hook.apply_scaling(name, "Other", ASLEEP)

    def test_the_call_is_made_again_while_others_change_the_target(self, hook, name, monkeypatch):
        slept, asked = [], []
        monkeypatch.setattr(hook, "_sleep", slept.append)
        events = hook._autoscaling.meta.events

        def busy(**_):
            asked.append(1)
            if len(asked) > 2:
                return None
            told = {"Code": "ConcurrentUpdateException", "Message": "Another update is in progress"}
            reply = {"Error": told, "ResponseMetadata": {"HTTPStatusCode": 400}}
            return AWSResponse("http://nowhere", 400, {}, None), reply

        event = "before-call.application-auto-scaling.RegisterScalableTarget"
        events.register(event, busy)
        try:
            assert hook.apply_scaling(name, VARIANT, ASLEEP)
        finally:
            events.unregister(event, busy)
        assert (slept, len(asked)) == ([0.5, 1.0], 3)
        assert limits(hook, name) == (0, 5)


class TestWaking:
    def test_one_request_wakes_the_endpoint(self, lab, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        lab.resize(name, 0)
        lab.advance(60)
        response = lab.run(name)
        lab.advance(119)
        assert (lab.counts(name), lab.state(response)) == ((0, 0), "queued")
        lab.advance(1 + INSTANCE_START)
        assert (lab.counts(name), lab.objects(response)) == ((1, 1), {"output"})

    def test_it_goes_to_sleep_again_by_itself(self, lab, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        lab.run(name)
        lab.advance(20 * 60)
        assert (lab.counts(name), lab.status(name)) == ((0, 0), "InService")

    def test_a_backlog_brings_more_instances_up_to_the_maximum(self, lab, hook):
        name = lab.deploy(concurrency=1)
        hook.apply_scaling(name, VARIANT, ScalingSpec(max_instances=3, backlog_per_instance=2))
        fault = lab.hold(3600)
        lab.submit_many(name, 20)
        lab.advance(180 + INSTANCE_START)
        assert lab.counts(name) == (3, 3)
        lab.emulator.faults.remove(fault)


class TestWarmHours:
    def test_instances_are_kept_while_they_last(self, lab, hook, name, changes):
        start = lab.clock.now() + 30 * 60
        span = WarmHours(start=daily(start), end=daily(start + 3600), instances=2)
        spec = ScalingSpec(max_instances=5, warm_hours=[span])
        hook.apply_scaling(name, VARIANT, spec)
        lab.advance(25 * 60)
        assert lab.counts(name) == (0, 0)
        lab.advance(5 * 60 + INSTANCE_START)
        assert (lab.counts(name), limits(hook, name)) == ((2, 2), (2, 5))
        changes()
        # A deployment in the middle of the day does not send them home.
        assert hook.apply_scaling(name, VARIANT, spec) == []
        assert changes() == {}
        lab.advance(40 * 60)
        assert lab.counts(name) == (2, 2)
        lab.advance(40 * 60)
        assert (lab.counts(name), limits(hook, name)) == ((0, 0), (0, 5))

    def test_those_that_are_no_more_end_at_once(self, lab, hook, name, changes):
        start = lab.clock.now() + 120
        span = WarmHours(start=daily(start), end=daily(start + 3600), instances=2)
        hook.apply_scaling(name, VARIANT, ScalingSpec(max_instances=5, warm_hours=[span]))
        lab.advance(120 + INSTANCE_START)
        assert limits(hook, name) == (2, 5)
        changes()
        hook.apply_scaling(name, VARIANT, ASLEEP)
        assert changes() == {"RegisterScalableTarget": 1, "DeleteScheduledAction": 2}
        assert limits(hook, name) == (0, 5)


class TestRemoving:
    def test_nothing_is_left_whoever_made_it(self, lab, hook, name, changes):
        span = WarmHours(start="rate(5 days)", end="rate(6 days)")
        hook.apply_scaling(name, VARIANT, ScalingSpec(max_instances=5, warm_hours=[span]))
        put_their_alarm(lab, name, put_their_policy(lab, name))
        schedule_theirs(lab, name)
        changes()
        assert len(hook.remove_scaling(name, VARIANT)) == 9
        assert changes() == {
            "DeleteAlarms": 2,
            "DeleteScalingPolicy": 3,
            "DeleteScheduledAction": 3,
            "DeregisterScalableTarget": 1,
        }
        assert hook.describe_scaling(name, VARIANT) == ScalingState()
        assert name not in str(lab.cloudwatch.describe_alarms())
        assert lab.counts(name) == (1, 1)

    def test_nothing_to_remove_is_fine(self, hook, name, changes):
        assert hook.remove_scaling(name, VARIANT) == []
        assert hook.remove_scaling("nobody", VARIANT) == []
        assert changes() == {}

    def test_scaling_of_an_endpoint_that_is_gone_is_removed(self, lab, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        lab.control.delete_endpoint(EndpointName=name)
        lab.settle()
        hook.remove_scaling(name, VARIANT)
        assert name not in str(lab.cloudwatch.describe_alarms())
        assert hook.describe_scaling(name, VARIANT) == ScalingState()

    def test_an_alarm_that_is_left_of_a_target_that_is_gone_is_removed(self, lab, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        lab.scaling.deregister_scalable_target(**identity(name))
        assert len(hook.remove_scaling(name, VARIANT)) == 1
        assert name not in str(lab.cloudwatch.describe_alarms())

    def test_the_neighbours_scaling_stays(self, lab, hook, name):
        neighbour = lab.deploy(f"{name}-2")
        for endpoint in (name, neighbour):
            hook.apply_scaling(endpoint, VARIANT, ASLEEP)
        hook.remove_scaling(name, VARIANT)
        state = hook.describe_scaling(neighbour, VARIANT)
        assert (state.wakes, len(state.policies)) == (True, 2)


class TestCapacity:
    def test_a_target_keeps_at_least_so_many_until_they_are_let_go(self, lab, hook, name, changes):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        changes()
        assert "MinCapacity from 0 to 3" in hook.set_capacity(name, VARIANT, 3)
        lab.settle()
        lab.advance(INSTANCE_START)
        assert lab.counts(name) == (3, 3)
        assert changes() == {"RegisterScalableTarget": 1}
        assert hook.set_capacity(name, VARIANT, 3).startswith("Nothing was to change")
        assert changes() == {}
        lab.advance(40 * 60)
        assert lab.counts(name) == (3, 3)
        hook.set_capacity(name, VARIANT, 0)
        lab.advance(40 * 60)
        assert lab.counts(name) == (0, 0)

    def test_a_maximum_that_is_in_the_way_is_raised(self, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        hook.set_capacity(name, VARIANT, 8)
        assert limits(hook, name) == (8, 8)

    def test_the_spec_lets_them_go_as_well(self, hook, name):
        hook.apply_scaling(name, VARIANT, ASLEEP)
        hook.set_capacity(name, VARIANT, 8)
        hook.apply_scaling(name, VARIANT, ASLEEP)
        assert limits(hook, name) == (0, 5)

    def test_without_a_target_the_variant_gets_so_many(self, lab, hook, name, changes):
        assert hook.set_capacity(name, VARIANT, 2).endswith("from 1 to 2.")
        # They are on their way, and nobody else may ask for others until they are there.
        assert hook.set_capacity(name, VARIANT, 2).startswith("Nothing was to change")
        with pytest.raises(EndpointNotReady, match="is Updating"):
            hook.set_capacity(name, VARIANT, 3)
        lab.advance(INSTANCE_START)
        assert (lab.counts(name), lab.status(name)) == ((2, 2), "InService")
        assert changes()["UpdateEndpointWeightsAndCapacities"] == 2
        hook.set_capacity(name, VARIANT, 0)
        lab.settle()
        assert lab.counts(name) == (0, 0)

    def test_what_does_not_exist_has_no_capacity(self, hook, name):
        with pytest.raises(RequestRejected, match="Could not describe endpoint nobody"):
            hook.set_capacity("nobody", VARIANT, 1)
        with pytest.raises(RequestRejected, match=f"no variant Other; it has: {VARIANT}"):
            hook.set_capacity(name, "Other", 1)


def put_their_policy(lab, name):
    """Put a step policy as the developer guide does, and return its ARN."""
    return lab.scaling.put_scaling_policy(
        **identity(name),
        PolicyName="theirs",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]


def put_their_alarm(lab, name, arn):
    lab.cloudwatch.put_metric_alarm(
        AlarmName=f"theirs-{name}",
        MetricName="ApproximateAgeOfOldestRequest",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=600,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        AlarmActions=[arn],
    )


def schedule_theirs(lab, name):
    lab.scaling.put_scheduled_action(
        **identity(name),
        ScheduledActionName="theirs",
        Schedule="rate(9 days)",
        ScalableTargetAction={"MaxCapacity": 9},
    )
