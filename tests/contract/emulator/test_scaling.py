"""Autoscaling as the developer guide sets it up, with AWS's clients and a clock that is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_async_sm.emulator.settings.faults import InsufficientCapacity
from tests.lab import NAMESPACE, VARIANT, Lab, make_lab, refusal

INSTANCE_START = 40
TARGET = 5.0
COOLDOWN = 300
OF_THE_ENDPOINT = {
    "ApproximateBacklogSize": "Count",
    "ApproximateBacklogSizePerInstance": "Count",
    "ApproximateAgeOfOldestRequest": "Seconds",
    "HasBacklogWithoutCapacity": "Count",
}
OF_THE_VARIANT = {
    "RequestDownloadFailures": "Count",
    "ResponseUploadFailures": "Count",
    "NotificationFailures": "Count",
    "ExpiredRequests": "Count",
    "InvocationFailures": "Count",
    "InvocationsProcesssed": "Count",
    "RequestDownloadLatency": "Microseconds",
    "ResponseUploadLatency": "Microseconds",
    "ModelLatency": "Microseconds",
    "TimeInBacklog": "Milliseconds",
    "TotalProcessingTime": "Milliseconds",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
}


@pytest.fixture(scope="module")
def shared():
    with make_lab() as emulator:
        emulator.knobs.change(behaviour={"instance_start_seconds": INSTANCE_START})
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.fixture
def lab(shared):
    """The lab at the beginning of a minute."""
    shared.advance(60 - shared.clock.now() % 60)
    yield shared
    shared.emulator.faults.clear()
    for endpoint in shared.control.list_endpoints(StatusEquals="InService", MaxResults=100)["Endpoints"]:
        shared.control.delete_endpoint(EndpointName=endpoint["EndpointName"])
    shared.settle()


def identity(name):
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def register(lab, name, *, least=0, most=5):
    lab.scaling.register_scalable_target(**identity(name), MinCapacity=least, MaxCapacity=most)
    lab.settle()


def track_backlog(lab, name, **more):
    """Put the target tracking policy of the guide, and return the answer."""
    metric = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": NAMESPACE,
        "Dimensions": [{"Name": "EndpointName", "Value": name}],
        "Statistic": "Average",
    }
    return lab.scaling.put_scaling_policy(
        **identity(name),
        PolicyName="backlog",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": TARGET,
            "CustomizedMetricSpecification": metric,
            "ScaleInCooldown": COOLDOWN,
            "ScaleOutCooldown": COOLDOWN,
            **more,
        },
    )


def wake_up(lab, name):
    """Put the step policy and the alarm of the guide, and return the alarm's name."""
    policy = lab.scaling.put_scaling_policy(
        **identity(name),
        PolicyName="HasBacklogWithoutCapacity-ScalingPolicy",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": COOLDOWN,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    lab.cloudwatch.put_metric_alarm(
        AlarmName=f"wake-{name}",
        MetricName="HasBacklogWithoutCapacity",
        Namespace=NAMESPACE,
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        AlarmActions=[policy["PolicyARN"]],
    )
    return f"wake-{name}"


def asleep(lab, *, wakes=True, **configuration):
    """Return an endpoint with the whole set-up that sleeps, since the beginning of a minute."""
    name = lab.deploy(**configuration)
    register(lab, name)
    track_backlog(lab, name)
    if wakes:
        wake_up(lab, name)
    lab.resize(name, 0)
    assert lab.counts(name) == (0, 0)
    lab.advance(60)
    return name


def activities(lab, name):
    return lab.scaling.describe_scaling_activities(**identity(name))["ScalingActivities"]


def alarm_state(lab, alarm):
    [found] = lab.cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    return found["StateValue"]


class TestWakingUp:
    def test_one_request_wakes_an_endpoint_after_two_minutes_and_the_start(self, lab):
        name = asleep(lab)
        response = lab.run(name)
        assert lab.state(response) == "queued"
        lab.advance(119)
        assert lab.counts(name) == (0, 0)
        lab.advance(1)
        assert lab.counts(name) == (0, 1)
        assert alarm_state(lab, f"wake-{name}") == "ALARM"
        lab.advance(INSTANCE_START - 1)
        assert (lab.counts(name), lab.objects(response)) == ((0, 1), set())
        lab.advance(1)
        assert (lab.counts(name), lab.objects(response)) == ((1, 1), {"output"})
        assert lab.status(name) == "InService"
        lab.advance(180)
        assert alarm_state(lab, f"wake-{name}") == "OK"

    def test_status_is_in_service_all_the_time(self, lab):
        name = asleep(lab)
        lab.run(name)
        seen = set()
        for _ in range(20):
            seen.add(lab.status(name))
            lab.advance(10)
        assert seen == {"InService"}

    def test_a_backlog_up_to_the_target_never_wakes_it_without_the_step_policy(self, lab):
        name = asleep(lab, wakes=False)
        responses = lab.submit_many(name, int(TARGET), RequestTTLSeconds=3600)
        lab.advance(30 * 60)
        assert lab.counts(name) == (0, 0)
        assert {lab.state(response) for response in responses} == {"queued"}

    def test_a_backlog_above_the_target_wakes_it_after_three_minutes(self, lab):
        name = asleep(lab, wakes=False)
        responses = lab.submit_many(name, int(TARGET) + 1)
        lab.advance(179)
        assert lab.counts(name) == (0, 0)
        lab.advance(1)
        # Six requests for a target of five: two instances.
        assert lab.counts(name) == (0, 2)
        lab.advance(INSTANCE_START)
        assert {lab.state(response) for response in responses} == {"succeeded"}

    def test_nothing_happens_before_it_is_registered(self, lab):
        name = lab.deploy()
        code, text = refusal(track_backlog, lab, name)[1:]
        assert code == "ObjectNotFoundException"
        assert "No scalable target registered" in text
        assert refusal(register, lab, "nobody")[1] == "ValidationException"

    def test_missing_capacity_is_a_failed_activity_and_the_policy_asks_again(self, lab):
        name = asleep(lab)
        lab.on(InsufficientCapacity(endpoint=name, times=2))
        response = lab.run(name)
        lab.advance(120)
        [failed] = activities(lab, name)
        assert failed["StatusCode"] == "Failed"
        assert "InsufficientInstanceCapacity" in failed["StatusMessage"]
        assert lab.counts(name) == (0, 0)
        lab.advance(120)
        assert lab.counts(name) == (0, 1)
        lab.advance(INSTANCE_START)
        assert lab.objects(response) == {"output"}
        assert [one["StatusCode"] for one in activities(lab, name)] == ["Successful", "Failed", "Failed"]

    def test_request_that_cannot_wait_so_long_expires(self, lab):
        name = asleep(lab)
        response = lab.run(name, RequestTTLSeconds=60)
        lab.advance(60)
        assert lab.state(response) == "expired"
        # Nothing waits any more when the alarm has its two minutes together.
        lab.advance(600)
        assert lab.counts(name) == (0, 0)


class TestScalingOut:
    def test_backlog_per_instance_is_brought_to_the_target(self, lab):
        name = lab.deploy(concurrency=1)
        register(lab, name, least=1)
        track_backlog(lab, name)
        lab.hold(3600)
        lab.submit_many(name, 14)
        lab.advance(180)
        # Fourteen per instance for a target of five.
        assert lab.counts(name) == (1, 3)
        lab.advance(INSTANCE_START)
        assert lab.counts(name) == (3, 3)

    def test_maximum_is_the_limit(self, lab):
        name = lab.deploy(concurrency=1)
        register(lab, name, least=1, most=2)
        track_backlog(lab, name)
        lab.hold(3600)
        lab.submit_many(name, 30)
        lab.advance(600)
        assert lab.counts(name) == (2, 2)


class TestScalingIn:
    def test_quiet_endpoint_goes_to_zero_after_a_quarter_of_an_hour(self, lab):
        name = lab.deploy()
        register(lab, name)
        track_backlog(lab, name)
        lab.advance(14 * 60)
        assert lab.counts(name) == (1, 1)
        lab.advance(2 * 60)
        assert (lab.counts(name), lab.status(name)) == ((0, 0), "InService")

    def test_second_step_waits_for_the_cooldown_of_the_first(self, lab):
        name = lab.deploy(concurrency=1)
        register(lab, name, most=3)
        track_backlog(lab, name)
        lab.hold(7200)
        lab.resize(name, 3)
        lab.advance(INSTANCE_START)
        # Eight for three instances are few, and enough for two; when four of them have expired, for one.
        lives = {"RequestTTLSeconds": 16_000, "InvocationTimeoutSeconds": 3600}
        lab.submit_many(name, 4, **lives)
        lab.settle()
        lab.submit_many(name, 4, **lives | {"RequestTTLSeconds": 18 * 60})
        began, seen = lab.clock.now(), {}
        for _ in range(30):
            lab.advance(60)
            seen.setdefault(lab.counts(name)[1], lab.clock.now() - began)
        assert set(seen) == {3, 2, 1}
        assert 13 * 60 <= seen[2] <= 16 * 60
        assert seen[2] + COOLDOWN <= seen[1] <= seen[2] + COOLDOWN + 120

    def test_woken_endpoint_sleeps_again_when_it_has_been_quiet_for_so_long(self, lab):
        name = asleep(lab)
        # More than nine tenths of the target: the quiet time begins when they are done.
        lab.submit_many(name, int(TARGET))
        lab.advance(120 + INSTANCE_START)
        assert lab.counts(name) == (1, 1)
        woken = lab.clock.now()
        while lab.counts(name)[1] and lab.clock.now() < woken + 3600:
            lab.advance(60)
        assert 14 * 60 <= lab.clock.now() - woken <= 17 * 60
        assert lab.status(name) == "InService"

    def test_disabled_scale_in(self, lab):
        name = lab.deploy()
        register(lab, name)
        track_backlog(lab, name, DisableScaleIn=True)
        lab.advance(40 * 60)
        assert lab.counts(name) == (1, 1)

    def test_running_request_of_an_instance_that_goes_is_requeued_and_wakes_it_again(self, lab):
        name = lab.deploy(concurrency=1)
        register(lab, name)
        track_backlog(lab, name)
        wake_up(lab, name)
        # One request in an hour is a backlog below the target, which does not keep the last instance but
        # for the rounding up.
        fault = lab.hold(1500)
        response = lab.run(name, InvocationTimeoutSeconds=3600, Body=b"long")
        lab.advance(900)
        lab.resize(name, 0)
        assert lab.state(response) == "queued"
        lab.emulator.faults.remove(fault)
        lab.advance(180 + INSTANCE_START)
        assert (lab.objects(response), lab.model_calls(b"long")) == ({"output"}, 2)

    def test_backlog_counts_what_is_worked_on_so_the_last_instance_stays(self, lab):
        name = lab.deploy(concurrency=1)
        register(lab, name)
        track_backlog(lab, name)
        lab.hold(3000)
        response = lab.run(name, InvocationTimeoutSeconds=3600)
        lab.advance(2900)
        assert (lab.counts(name), lab.state(response)) == ((1, 1), "running")


class TestLimits:
    @pytest.mark.parametrize(("least", "most", "count"), [(3, 5, 3), (0, 0, 0), (1, 5, 1)])
    def test_registration_moves_capacity_at_once(self, lab, least, most, count):
        name = lab.deploy()
        register(lab, name, least=least, most=most)
        assert lab.counts(name)[1] == count
        lab.advance(INSTANCE_START)
        assert lab.counts(name) == (count, count)
        assert lab.status(name) == "InService"

    def test_targets_are_described(self, lab):
        name = lab.deploy()
        register(lab, name, least=0, most=7)
        about = {"ServiceNamespace": "sagemaker", "ResourceIds": [identity(name)["ResourceId"]]}
        [target] = lab.scaling.describe_scalable_targets(**about)["ScalableTargets"]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 7)

    def test_suspended_scaling_does_nothing(self, lab):
        name = asleep(lab)
        suspended = {"DynamicScalingOutSuspended": True}
        lab.scaling.register_scalable_target(**identity(name), SuspendedState=suspended)
        response = lab.run(name)
        lab.advance(600)
        assert lab.counts(name) == (0, 0)
        lab.scaling.register_scalable_target(
            **identity(name), SuspendedState={"DynamicScalingOutSuspended": False}
        )
        lab.advance(60 + INSTANCE_START)
        assert lab.objects(response) == {"output"}

    def test_weights_and_capacities_are_updated(self, lab):
        name = lab.deploy()
        update = lab.control.update_endpoint_weights_and_capacities
        wanted = {"VariantName": VARIANT, "DesiredInstanceCount": 3, "DesiredWeight": 2.0}
        assert update(EndpointName=name, DesiredWeightsAndCapacities=[wanted])["EndpointArn"]
        assert (lab.status(name), lab.counts(name)) == ("Updating", (1, 3))
        refused = refusal(update, EndpointName=name, DesiredWeightsAndCapacities=[wanted])
        assert refused[2].startswith("Cannot update in-progress endpoint")
        lab.advance(INSTANCE_START)
        assert (lab.status(name), lab.counts(name)) == ("InService", (3, 3))
        assert lab.describe(name)["ProductionVariants"][0]["CurrentWeight"] == 2.0
        too_many = {"VariantName": VARIANT, "DesiredInstanceCount": 21}
        refused = refusal(update, EndpointName=name, DesiredWeightsAndCapacities=[too_many])
        assert refused[:2] == (400, "ResourceLimitExceeded")
        other = {"VariantName": "Other", "DesiredInstanceCount": 1}
        refused = refusal(update, EndpointName=name, DesiredWeightsAndCapacities=[other])
        assert refused[1] == "ValidationException"


class TestPoliciesAndAlarms:
    def test_target_tracking_has_two_alarms(self, lab):
        name = lab.deploy()
        register(lab, name)
        put = track_backlog(lab, name)
        names = [alarm["AlarmName"] for alarm in put["Alarms"]]
        found = lab.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
        high, low = sorted(found, key=lambda alarm: alarm["AlarmName"])
        assert "-AlarmHigh-" in high["AlarmName"]
        assert "-AlarmLow-" in low["AlarmName"]
        assert (high["Threshold"], high["EvaluationPeriods"]) == (TARGET, 3)
        assert (low["Threshold"], low["EvaluationPeriods"]) == (0.9 * TARGET, 15)
        assert {alarm["MetricName"] for alarm in found} == {"ApproximateBacklogSizePerInstance"}
        about = {key: value for key, value in identity(name).items() if key != "ScalableDimension"}
        [policy] = lab.scaling.describe_scaling_policies(**about)["ScalingPolicies"]
        assert policy["PolicyARN"] == put["PolicyARN"]
        again = track_backlog(lab, name)
        assert again["PolicyARN"] == put["PolicyARN"]

    def test_step_policy_shows_the_users_alarm(self, lab):
        name = asleep(lab)
        paginator = lab.scaling.get_paginator("describe_scaling_policies")
        about = {"ServiceNamespace": "sagemaker", "ResourceId": identity(name)["ResourceId"]}
        pages = paginator.paginate(**about, PaginationConfig={"PageSize": 1})
        shown = {one["PolicyName"]: one["Alarms"] for page in pages for one in page["ScalingPolicies"]}
        assert len(shown.pop("backlog")) == 2
        [[alarm]] = shown.values()
        assert alarm["AlarmName"] == f"wake-{name}"
        shorter = {**about, "ResourceId": about["ResourceId"][:-1]}
        assert lab.scaling.describe_scaling_policies(**shorter)["ScalingPolicies"] == []

    def test_everything_is_undone_in_the_order_of_the_guide(self, lab):
        name = asleep(lab)
        of_endpoint = {"ServiceNamespace": "sagemaker", "ResourceId": identity(name)["ResourceId"]}
        lab.cloudwatch.delete_alarms(AlarmNames=[f"wake-{name}"])
        for policy in ("backlog", "HasBacklogWithoutCapacity-ScalingPolicy"):
            lab.scaling.delete_scaling_policy(**identity(name), PolicyName=policy)
        lab.scaling.deregister_scalable_target(**identity(name))
        assert lab.scaling.describe_scaling_policies(**of_endpoint)["ScalingPolicies"] == []
        assert name not in str(lab.cloudwatch.describe_alarms())
        code = refusal(lab.scaling.deregister_scalable_target, **identity(name))[1]
        assert code == "ObjectNotFoundException"
        lab.run(name)
        lab.advance(600)
        assert lab.counts(name) == (0, 0)
        lab.control.delete_endpoint(EndpointName=name)
        lab.settle()
        lab.control.delete_endpoint_config(EndpointConfigName=name)
        lab.control.delete_model(ModelName=name)

    def test_deregistration_takes_the_policies_along_and_leaves_the_users_alarm(self, lab):
        name = asleep(lab)
        lab.scaling.deregister_scalable_target(**identity(name))
        of_endpoint = {"ServiceNamespace": "sagemaker", "ResourceId": identity(name)["ResourceId"]}
        assert lab.scaling.describe_scaling_policies(**of_endpoint)["ScalingPolicies"] == []
        alarms = lab.cloudwatch.describe_alarms()["MetricAlarms"]
        assert [alarm["AlarmName"] for alarm in alarms if name in str(alarm)] == [f"wake-{name}"]
        lab.run(name)
        lab.advance(600)
        assert lab.counts(name) == (0, 0)

    def test_activities_tell_the_story_newest_first(self, lab):
        name = asleep(lab)
        lab.run(name)
        lab.advance(120)
        [activity] = activities(lab, name)
        assert activity["StatusCode"] == "InProgress"
        assert f"wake-{name}" in activity["Cause"]
        assert "HasBacklogWithoutCapacity-ScalingPolicy" in activity["Cause"]
        assert activity["Description"] == "Setting desired instance count to 1."
        assert activity["ResourceId"] == identity(name)["ResourceId"]
        lab.advance(INSTANCE_START)
        [activity] = activities(lab, name)
        assert activity["StatusCode"] == "Successful"
        assert activity["EndTime"] - activity["StartTime"] == timedelta(seconds=INSTANCE_START)
        lab.advance(25 * 60)
        assert lab.counts(name) == (0, 0)
        down, up = activities(lab, name)
        assert up["ActivityId"] == activity["ActivityId"]
        assert (down["StatusCode"], down["Description"]) == (
            "Successful",
            "Setting desired instance count to 0.",
        )
        assert "AlarmLow" in down["Cause"]

    def test_activities_come_in_pages(self, lab):
        name = lab.deploy()
        for least in (2, 3, 4):
            register(lab, name, least=least)
            lab.advance(INSTANCE_START)
        paginator = lab.scaling.get_paginator("describe_scaling_activities")
        pages = list(paginator.paginate(**identity(name), PaginationConfig={"PageSize": 1}))
        assert len(pages) == 3
        causes = [one["Cause"] for page in pages for one in page["ScalingActivities"]]
        assert causes == [f"minimum capacity was set to {least}" for least in (4, 3, 2)]


class TestMetrics:
    @pytest.fixture
    def busy(self, lab):
        """An endpoint of which every metric of the service has a value."""
        inbox = lab.inbox()
        gone = inbox.config | {"ErrorTopic": inbox.config["ErrorTopic"] + "-gone"}
        inbox.topics = {"success": gone["SuccessTopic"], "error": gone["ErrorTopic"]}
        name = lab.deploy(inbox=inbox, concurrency=1)
        lab.run(name, InputLocation=lab.put(b"x"))
        lab.run(name, mode="refuse")
        lab.run(name, InputLocation="s3://nowhere-at-all/k")
        bad = lab.deploy(output="s3://no-such-bucket-there/out")
        lab.run(bad)
        lab.hold(90)
        lab.submit(name)
        lab.submit(name, RequestTTLSeconds=61)
        lab.advance(180)
        lab.name_of_bad = bad
        return name

    def data_queries(self, name):
        return [
            {
                "Id": metric.removeprefix("Approximate").lower(),
                "MetricStat": {
                    "Metric": {
                        "Namespace": NAMESPACE,
                        "MetricName": metric,
                        "Dimensions": [{"Name": "EndpointName", "Value": name}],
                    },
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
            for metric in OF_THE_ENDPOINT
        ]

    def test_metrics_are_there_under_their_exact_names_and_units(self, lab, busy):
        of_endpoint, of_variant = set(), set()
        for name in (busy, lab.name_of_bad):
            listed = lab.cloudwatch.list_metrics(
                Namespace=NAMESPACE, Dimensions=[{"Name": "EndpointName", "Value": name}]
            )["Metrics"]
            assert len({(metric["MetricName"], str(metric["Dimensions"])) for metric in listed}) == len(
                listed
            )
            for metric in listed:
                names = [dimension["Name"] for dimension in metric["Dimensions"]]
                (of_variant if "VariantName" in names else of_endpoint).add(metric["MetricName"])
        assert of_endpoint == set(OF_THE_ENDPOINT)
        assert of_variant == set(OF_THE_VARIANT)
        for metrics, variant in ((OF_THE_ENDPOINT, None), (OF_THE_VARIANT, VARIANT)):
            for metric, unit in metrics.items():
                found = [
                    point
                    for name in (busy, lab.name_of_bad)
                    for point in lab.metric(name, metric, statistic="Maximum", variant=variant)
                ]
                assert {point["Unit"] for point in found} == {unit}, metric

    def test_numbers_are_right(self, lab, busy):
        def total(metric):
            return sum(point["Sum"] for point in lab.metric(busy, metric, variant=VARIANT))

        assert total("InvocationsProcesssed") == 4
        assert total("InvocationFailures") == 2
        assert total("RequestDownloadFailures") == 1
        assert total("NotificationFailures") == 2
        assert total("ExpiredRequests") == 1
        assert (total("Invocation4XXErrors"), total("Invocation5XXErrors")) == (1, 0)
        slowest = lab.metric(busy, "ModelLatency", statistic="Maximum", variant=VARIANT)
        assert max(point["Maximum"] for point in slowest) == pytest.approx(90_000_000)
        longest = lab.metric(busy, "TotalProcessingTime", statistic="Maximum", variant=VARIANT)
        assert max(point["Maximum"] for point in longest) == pytest.approx(90_000)
        assert [point["Sum"] for point in lab.metric(busy, "ApproximateBacklogSize")][-3:] == [2, 0, 0]

    def test_metric_data_says_the_same(self, lab, busy):
        until = datetime.fromtimestamp(lab.clock.now() + 60, UTC)
        found = lab.cloudwatch.get_metric_data(
            MetricDataQueries=self.data_queries(busy), StartTime=until - timedelta(hours=1), EndTime=until
        )["MetricDataResults"]
        newest_first = {one["Id"]: one["Values"] for one in found}
        assert newest_first == {
            "backlogsize": [0, 0, 2],
            "backlogsizeperinstance": [0, 0, 2],
            "ageofoldestrequest": [60],
            "hasbacklogwithoutcapacity": [0, 0, 0],
        }

    def test_sleeping_endpoint_has_its_four_metrics_every_minute(self, lab):
        name = asleep(lab)
        lab.submit_many(name, 2)
        lab.advance(60)
        newest = {metric: lab.metric(name, metric)[-1]["Sum"] for metric in OF_THE_ENDPOINT}
        assert newest == {
            "ApproximateBacklogSize": 2,
            "ApproximateBacklogSizePerInstance": 2,
            "ApproximateAgeOfOldestRequest": 60,
            "HasBacklogWithoutCapacity": 1,
        }
        assert lab.metric(name, "InvocationsPerInstance", variant=VARIANT) == []
