from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.arguments import given as without_nothing
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.scaling import ScalingSpec, ScalingState, WarmHours
from airflow_async_sm.core.scaling_parts import BACKLOG_POLICY, WAKE_POLICY, ScalableVariant
from airflow_async_sm.core.scaling_plans import plan_instances, plan_minimum, plan_removal, plan_scaling

VARIANT = ScalableVariant("churn", "AllTraffic")
RESOURCE = "endpoint/churn/variant/AllTraffic"
IDENTITY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": RESOURCE,
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
ALARM = "airflow-async-sm-wake-churn-AllTraffic"
MORNING, EVENING = "cron(0 7 ? * MON-FRI *)", "cron(0 19 ? * MON-FRI *)"
WARM = WarmHours(start=MORNING, end=EVENING, instances=2, timezone="Europe/Berlin")
ASLEEP = ScalingSpec(max_instances=5)


def arn(name, resource=RESOURCE, made=1):
    place = f"resource/sagemaker/{resource}"
    return f"arn:aws:autoscaling:us-east-1:1:scalingPolicy:{made}:{place}:policyName/{name}"


class Account:
    """What the calls of a plan leave behind, described as the services do."""

    def __init__(self, policies=(), actions=(), alarms=()):
        self.target = None
        self.policies = {one["PolicyName"]: one for one in policies}
        self.actions = {one["ScheduledActionName"]: one for one in actions}
        self.alarms = {one["AlarmName"]: one for one in alarms}
        self.policies_made = 0

    @property
    def state(self):
        return ScalingState(
            target=self.target,
            policies=tuple(self.policies.values()),
            scheduled_actions=tuple(self.actions.values()),
            alarms=tuple(self.alarms.values()),
        )

    def make(self, changes):
        for change in changes:
            arguments = without_nothing(change.arguments)
            if change.triggers:
                arguments["AlarmActions"] = [self.policies[change.triggers]["PolicyARN"]]
            getattr(self, change.operation)(**arguments)

    def register_scalable_target(self, **arguments):
        self.target = {**(self.target or {"CreationTime": 1}), **arguments}
        assert 0 <= self.target["MinCapacity"] <= self.target["MaxCapacity"]

    def put_scaling_policy(self, **arguments):
        assert self.target
        name = arguments["PolicyName"]
        if name not in self.policies:
            self.policies_made += 1
        found = self.policies.get(name, {"PolicyARN": arn(name, made=self.policies_made)})
        self.policies[name] = {**found, **arguments, "Alarms": []}

    def put_scheduled_action(self, **arguments):
        assert self.target
        self.actions[arguments["ScheduledActionName"]] = arguments

    def put_metric_alarm(self, **arguments):
        self.alarms[arguments["AlarmName"]] = {**arguments, "StateValue": "OK"}

    def delete_alarms(self, AlarmNames):  # noqa: N803 - the service's name
        for name in AlarmNames:
            del self.alarms[name]

    def delete_scaling_policy(self, PolicyName, **_):  # noqa: N803
        del self.policies[PolicyName]

    def delete_scheduled_action(self, ScheduledActionName, **_):  # noqa: N803
        del self.actions[ScheduledActionName]

    def deregister_scalable_target(self, **_):
        self.target = None


def account_with(spec):
    account = Account()
    account.make(plan_scaling(spec, account.state, VARIANT))
    return account


def operations(changes):
    return [change.operation for change in changes]


def telling(changes):
    """Return operation and name, or what is set, of each change."""
    names = ("PolicyName", "ScheduledActionName", "AlarmName", "AlarmNames")
    return [
        (
            change.operation,
            next((change.arguments[name] for name in names if name in change.arguments), None)
            or {name: change.arguments[name] for name in change.arguments if name.endswith("Capacity")},
        )
        for change in changes
    ]


class TestMaking:
    def test_an_endpoint_that_sleeps_gets_both_policies_and_the_alarm(self):
        target, backlog, wake, alarm = plan_scaling(ASLEEP, ScalingState(), VARIANT)
        assert target.arguments == {**IDENTITY, "MinCapacity": 0, "MaxCapacity": 5}
        dimensions = [{"Name": "EndpointName", "Value": "churn"}]
        assert without_nothing(backlog.arguments) == {
            **IDENTITY,
            "PolicyName": BACKLOG_POLICY,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 5.0,
                "CustomizedMetricSpecification": {
                    "MetricName": "ApproximateBacklogSizePerInstance",
                    "Namespace": "AWS/SageMaker",
                    "Dimensions": dimensions,
                    "Statistic": "Average",
                },
                "ScaleInCooldown": 900,
                "ScaleOutCooldown": 300,
            },
        }
        assert wake.arguments == {
            **IDENTITY,
            "PolicyName": WAKE_POLICY,
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": "ChangeInCapacity",
                "MetricAggregationType": "Average",
                "Cooldown": 300,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            },
        }
        described = alarm.arguments
        assert (alarm.service, alarm.triggers, described["AlarmName"]) == ("cloudwatch", WAKE_POLICY, ALARM)
        assert (described["MetricName"], described["Namespace"], described["Dimensions"]) == (
            "HasBacklogWithoutCapacity",
            "AWS/SageMaker",
            dimensions,
        )
        periods = ("Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold")
        assert [described[name] for name in periods] == [60, 2, 2, 1]
        assert described["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert (described["Statistic"], described["TreatMissingData"]) == ("Average", "missing")

    def test_an_endpoint_that_never_sleeps_needs_no_waking(self):
        plan = plan_scaling(ScalingSpec(min_instances=1, max_instances=5), ScalingState(), VARIANT)
        assert telling(plan) == [
            ("register_scalable_target", {"MinCapacity": 1, "MaxCapacity": 5}),
            ("put_scaling_policy", BACKLOG_POLICY),
        ]

    def test_the_end_of_warm_hours_is_made_before_their_start(self):
        plan = plan_scaling(ScalingSpec(max_instances=5, warm_hours=[WARM]), ScalingState(), VARIANT)
        end, start = [change.arguments for change in plan if change.operation == "put_scheduled_action"]
        assert end == {
            **IDENTITY,
            "ScheduledActionName": "airflow-async-sm-warm-0-end",
            "Schedule": EVENING,
            "Timezone": "Europe/Berlin",
            "ScalableTargetAction": {"MinCapacity": 0},
        }
        assert start["ScheduledActionName"] == "airflow-async-sm-warm-0-start"
        assert (start["Schedule"], start["ScalableTargetAction"]) == (MORNING, {"MinCapacity": 2})

    def test_each_change_says_what_it_was(self):
        plan = plan_scaling(ScalingSpec(max_instances=5, warm_hours=[WARM]), ScalingState(), VARIANT)
        assert [change.text for change in plan] == [
            "Registered variant AllTraffic of endpoint churn to have 0 to 5 instances.",
            "Made scaling policy airflow-async-sm-backlog of variant AllTraffic of endpoint churn.",
            "Made scaling policy airflow-async-sm-wake of variant AllTraffic of endpoint churn.",
            f"Made alarm {ALARM}, so that one request wakes variant AllTraffic of endpoint churn.",
            "Made scheduled action airflow-async-sm-warm-0-end of variant AllTraffic of endpoint churn: "
            f"{EVENING}.",
            "Made scheduled action airflow-async-sm-warm-0-start of variant AllTraffic of endpoint churn: "
            f"{MORNING}.",
        ]


class TestChanging:
    @pytest.mark.parametrize(
        ("before", "after", "changes"),
        [
            ({}, {"max_instances": 7}, [("register_scalable_target", {"MaxCapacity": 7})]),
            ({}, {"backlog_per_instance": 2}, [("put_scaling_policy", BACKLOG_POLICY)]),
            ({}, {"invocation_timeout": 3600}, [("put_scaling_policy", BACKLOG_POLICY)]),
            ({}, {"invocation_timeout": 3600, "scale_in_cooldown": 900}, []),
            ({}, {"scale_out_cooldown": 60}, [("put_scaling_policy", BACKLOG_POLICY)]),
            (
                {},
                {"min_instances": 1},
                [
                    ("register_scalable_target", {"MinCapacity": 1}),
                    ("delete_alarms", [ALARM]),
                    ("delete_scaling_policy", WAKE_POLICY),
                ],
            ),
            (
                {"min_instances": 1},
                {},
                [
                    ("register_scalable_target", {"MinCapacity": 0}),
                    ("put_scaling_policy", WAKE_POLICY),
                    ("put_metric_alarm", ALARM),
                ],
            ),
            (
                {"warm_hours": [WARM, WARM]},
                {"warm_hours": [WARM]},
                [
                    ("delete_scheduled_action", "airflow-async-sm-warm-1-start"),
                    ("delete_scheduled_action", "airflow-async-sm-warm-1-end"),
                ],
            ),
            (
                {"warm_hours": [WARM]},
                {"warm_hours": [WarmHours(start=MORNING, end="cron(0 20 ? * * *)", instances=2)]},
                [
                    ("put_scheduled_action", "airflow-async-sm-warm-0-end"),
                    ("put_scheduled_action", "airflow-async-sm-warm-0-start"),
                ],
            ),
        ],
    )
    def test_only_what_differs_is_changed(self, before, after, changes):
        account = account_with(ScalingSpec(**{"max_instances": 5, **before}))
        spec = ScalingSpec(**{"max_instances": 5, **after})
        assert telling(plan_scaling(spec, account.state, VARIANT)) == changes

    @pytest.mark.parametrize(
        ("name", "member", "value"),
        [
            ("alarms", "ActionsEnabled", False),
            ("alarms", "AlarmActions", [arn(WAKE_POLICY, made=9)]),
            ("alarms", "Threshold", 2.0),
            ("policies", "StepScalingPolicyConfiguration", {"AdjustmentType": "ExactCapacity"}),
        ],
    )
    def test_what_somebody_changed_is_changed_back(self, name, member, value):
        account = account_with(ASLEEP)
        getattr(account, name)[ALARM if name == "alarms" else WAKE_POLICY][member] = value
        operation = "put_metric_alarm" if name == "alarms" else "put_scaling_policy"
        [change] = plan_scaling(ASLEEP, account.state, VARIANT)
        assert change.operation == operation
        assert change.text.startswith("Changed ")

    def test_scaling_in_that_somebody_switched_off_is_switched_on(self):
        account = account_with(ASLEEP)
        tracking = account.policies[BACKLOG_POLICY]["TargetTrackingScalingPolicyConfiguration"]
        tracking["DisableScaleIn"] = False
        assert plan_scaling(ASLEEP, account.state, VARIANT) == ()
        tracking["DisableScaleIn"] = True
        assert telling(plan_scaling(ASLEEP, account.state, VARIANT)) == [
            ("put_scaling_policy", BACKLOG_POLICY)
        ]

    @pytest.mark.parametrize("actions", [[], [arn(WAKE_POLICY, made=9)]])
    def test_the_alarm_follows_a_policy_that_is_made_again(self, actions):
        account = account_with(ASLEEP)
        account.delete_scaling_policy(WAKE_POLICY)
        account.alarms[ALARM]["AlarmActions"] = actions
        plan = plan_scaling(ASLEEP, account.state, VARIANT)
        assert operations(plan) == ["put_scaling_policy", "put_metric_alarm"]
        account.make(plan)
        assert account.state.wakes

    def test_the_default_time_zone_need_not_be_told(self):
        spec = ScalingSpec(max_instances=5, warm_hours=[WarmHours(start=MORNING, end=EVENING)])
        account = account_with(spec)
        for action in account.actions.values():
            del action["Timezone"]
        assert plan_scaling(spec, account.state, VARIANT) == ()


class TestWarmHours:
    SPEC = ScalingSpec(max_instances=5, warm_hours=[WARM])

    def test_their_minimum_is_left_alone_while_they_last(self):
        account = account_with(self.SPEC)
        account.target["MinCapacity"] = 2
        assert plan_scaling(self.SPEC, account.state, VARIANT) == ()
        wider = ScalingSpec(max_instances=7, warm_hours=[WARM])
        assert telling(plan_scaling(wider, account.state, VARIANT)) == [
            ("register_scalable_target", {"MaxCapacity": 7})
        ]

    @pytest.mark.parametrize("minimum", [1, 3])
    def test_another_minimum_is_not_theirs(self, minimum):
        account = account_with(self.SPEC)
        account.target["MinCapacity"] = minimum
        [change] = plan_scaling(self.SPEC, account.state, VARIANT)
        assert change.arguments == {**IDENTITY, "MinCapacity": 0}

    def test_a_minimum_from_before_they_were_scheduled_is_not_theirs(self):
        account = account_with(ScalingSpec(min_instances=2, max_instances=5))
        account.make(plan_scaling(self.SPEC, account.state, VARIANT))
        assert account.target["MinCapacity"] == 0

    def test_what_they_kept_goes_with_them(self):
        account = account_with(self.SPEC)
        account.target["MinCapacity"] = 2
        account.make(plan_scaling(ASLEEP, account.state, VARIANT))
        assert account.target["MinCapacity"] == 0
        assert account.actions == {}


THEIR_POLICY = {"PolicyName": "theirs", "PolicyType": "StepScaling", "PolicyARN": arn("theirs")}
THEIR_ACTION = {"ScheduledActionName": "airflow-async-sm-warm-up", "Schedule": MORNING}
THEIR_ALARM = {"AlarmName": "their alarm", "AlarmActions": ["arn:aws:sns:x:1:topic", arn("theirs")]}
SHARED_ALARM = {
    "AlarmName": "shared",
    "AlarmActions": [arn("theirs"), arn("theirs", resource="endpoint/other/variant/AllTraffic")],
}


class TestWhatOthersMade:
    def test_it_stays_when_scaling_is_applied(self):
        account = Account([THEIR_POLICY], [THEIR_ACTION], [THEIR_ALARM])
        for minimum in (0, 1):
            spec = ScalingSpec(min_instances=minimum, max_instances=5)
            account.make(plan_scaling(spec, account.state, VARIANT))
            assert account.policies["theirs"] == THEIR_POLICY
            assert account.actions == {"airflow-async-sm-warm-up": THEIR_ACTION}
            assert account.alarms["their alarm"] == THEIR_ALARM

    def test_their_alarm_for_our_policy_goes_with_the_policy(self):
        account = account_with(ASLEEP)
        account.alarms["mine too"] = {
            "AlarmName": "mine too",
            "AlarmActions": [account.policies[WAKE_POLICY]["PolicyARN"]],
        }
        account.make(plan_scaling(ScalingSpec(min_instances=1, max_instances=5), account.state, VARIANT))
        assert account.alarms == {}


class TestRemoval:
    def test_nothing_is_removed_where_nothing_is(self):
        assert plan_removal(ScalingState(), VARIANT) == ()

    def test_everything_of_the_target_goes_whoever_made_it_and_alarms_go_first(self):
        account = account_with(ScalingSpec(max_instances=5, warm_hours=[WARM]))
        account.policies["theirs"], account.alarms["their alarm"] = THEIR_POLICY, THEIR_ALARM
        account.actions["airflow-async-sm-warm-up"] = THEIR_ACTION
        plan = plan_removal(account.state, VARIANT)
        assert operations(plan) == [
            *["delete_alarms"] * 2,
            *["delete_scaling_policy"] * 3,
            *["delete_scheduled_action"] * 3,
            "deregister_scalable_target",
        ]
        assert plan[-1].arguments == IDENTITY
        account.make(plan)
        assert account.state == ScalingState()

    def test_an_alarm_that_another_target_needs_stays(self):
        account = account_with(ASLEEP)
        account.policies["theirs"], account.alarms["shared"] = THEIR_POLICY, SHARED_ALARM
        account.make(plan_removal(account.state, VARIANT))
        assert account.state == ScalingState(alarms=(SHARED_ALARM,))

    def test_our_alarm_goes_if_nothing_else_is_left(self):
        account = account_with(ASLEEP)
        account.target, account.policies = None, {}
        assert telling(plan_removal(account.state, VARIANT)) == [("delete_alarms", [ALARM])]

    def test_each_change_says_what_it_was(self):
        account = account_with(ScalingSpec(max_instances=5, warm_hours=[WARM]))
        texts = " ".join(change.text for change in plan_removal(account.state, VARIANT))
        for what in (
            f"Deleted alarm {ALARM} of variant AllTraffic of endpoint churn.",
            "Deleted scaling policy airflow-async-sm-backlog of variant AllTraffic of endpoint churn.",
            "Deleted scheduled action airflow-async-sm-warm-0-start of variant AllTraffic of endpoint churn.",
            "Deregistered the scalable target of variant AllTraffic of endpoint churn.",
        ):
            assert what in texts


class TestCapacity:
    @pytest.mark.parametrize(
        ("least", "most", "count", "sent"),
        [
            (0, 5, 3, {"MinCapacity": 3}),
            (3, 5, 0, {"MinCapacity": 0}),
            (0, 2, 3, {"MinCapacity": 3, "MaxCapacity": 3}),
            (3, 5, 3, None),
            (0, 0, 0, None),
        ],
    )
    def test_a_target_keeps_at_least_so_many(self, least, most, count, sent):
        change = plan_minimum({"MinCapacity": least, "MaxCapacity": most}, count, VARIANT)
        assert (change and change.arguments) == (sent and {**IDENTITY, **sent})

    def test_a_change_of_the_target_says_what_it_was(self):
        change = plan_minimum({"MinCapacity": 0, "MaxCapacity": 2}, 3, VARIANT)
        assert change.text == (
            "Changed the scaling of variant AllTraffic of endpoint churn: MinCapacity from 0 to 3, "
            "MaxCapacity from 2 to 3."
        )

    @pytest.mark.parametrize(("found", "count"), [(1, 3), (3, 0), (None, 1)])
    def test_a_variant_without_target_gets_so_many(self, found, count):
        description = {} if found is None else {"DesiredInstanceCount": found}
        change = plan_instances(description, count, VARIANT)
        assert change.service == "sagemaker"
        assert change.operation == "update_endpoint_weights_and_capacities"
        assert change.arguments == {
            "EndpointName": "churn",
            "DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
        }
        assert change.text.endswith(f"from {found} to {count}.")

    def test_a_variant_that_has_so_many_is_left_alone(self):
        assert plan_instances({"DesiredInstanceCount": 3, "CurrentInstanceCount": 0}, 3, VARIANT) is None


class TestVariant:
    def test_the_longest_names_make_an_alarm_name_that_fits(self):
        assert len(ScalableVariant("e" * 63, "v" * 63).wake_alarm) <= 255

    @pytest.mark.parametrize(
        ("endpoint", "variant", "text"),
        [
            ("", "AllTraffic", "endpoint_name is empty"),
            ("e" * 64, "AllTraffic", "endpoint_name has 64 characters"),
            ("arn:aws:sagemaker:us-east-1:1:endpoint/x", "AllTraffic", r"a name, not an ARN"),
            ("churn", "", "variant_name is empty"),
            ("churn", "all traffic", "variant_name is 'all traffic'"),
            ("churn", None, "variant_name must be text"),
        ],
    )
    def test_bad_names_are_refused(self, endpoint, variant, text):
        with pytest.raises(InvalidInput, match=text):
            ScalableVariant(endpoint, variant)


spans = st.builds(
    WarmHours,
    start=st.sampled_from([MORNING, "rate(2 hours)"]),
    end=st.sampled_from([EVENING, "cron(0 20 * * ? *)"]),
    instances=st.integers(3, 5),
    timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
)
specs = st.builds(
    ScalingSpec,
    max_instances=st.integers(5, 8),
    min_instances=st.integers(0, 2),
    backlog_per_instance=st.sampled_from([1, 2.5]),
    invocation_timeout=st.sampled_from([60, 3600]),
    scale_out_cooldown=st.sampled_from([0, 300]),
    warm_hours=st.lists(spans, max_size=3),
)
accounts = st.sampled_from([(), ([THEIR_POLICY], [THEIR_ACTION], [THEIR_ALARM])]).map(
    lambda theirs: Account(*theirs)
)


class TestAlways:
    @given(account=accounts, history=st.lists(specs, min_size=1, max_size=4))
    def test_what_has_been_applied_needs_nothing_more(self, account, history):
        for spec in history:
            account.make(plan_scaling(spec, account.state, VARIANT))
            assert plan_scaling(spec, account.state, VARIANT) == ()
            assert len(account.policies.keys() - {"theirs"}) == 1 + spec.sleeps
            assert len(account.actions.keys() - {"airflow-async-sm-warm-up"}) == 2 * len(spec.warm_hours)
            assert account.state.wakes is spec.sleeps

    @given(account=accounts, before=specs, after=specs, calls=st.integers(0, 20))
    def test_who_is_interrupted_after_any_call_gets_there_in_the_next_attempt(
        self, account, before, after, calls
    ):
        account.make(plan_scaling(before, account.state, VARIANT))
        account.make(plan_scaling(after, account.state, VARIANT)[:calls])
        account.make(plan_scaling(after, account.state, VARIANT))
        assert plan_scaling(after, account.state, VARIANT) == ()
        assert account.target["MinCapacity"] in {after.min_instances} | {
            span.instances for span in after.warm_hours
        }

    @given(account=accounts, spec=specs, calls=st.integers(0, 20))
    def test_nothing_is_left_after_a_removal_that_was_interrupted(self, account, spec, calls):
        account.make(plan_scaling(spec, account.state, VARIANT))
        account.make(plan_removal(account.state, VARIANT)[:calls])
        account.make(plan_removal(account.state, VARIANT))
        assert account.state == ScalingState()
