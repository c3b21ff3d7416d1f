from __future__ import annotations

import zoneinfo

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.scaling import ScalingSpec, ScalingState, WarmHours

MORNING, EVENING = "cron(0 7 ? * MON-FRI *)", "cron(0 19 ? * MON-FRI *)"
ARN = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:1:resource/sagemaker/x:policyName/wake"


def warm(**changes):
    return {"start": MORNING, "end": EVENING, **changes}


class TestSpec:
    def test_an_endpoint_sleeps_by_default(self):
        spec = ScalingSpec(max_instances=5)
        assert spec.sleeps
        assert (spec.min_instances, spec.backlog_per_instance, spec.warm_hours) == (0, 5.0, ())
        assert not ScalingSpec(max_instances=5, min_instances=1).sleeps

    @pytest.mark.parametrize(
        ("timeout", "given", "cooldown"),
        [(900, None, 900), (60, None, 300), (3600, None, 3600), (3600, 0, 0), (60, 1000, 1000)],
    )
    def test_running_work_outlives_the_default_cooldown_of_scaling_in(self, timeout, given, cooldown):
        spec = ScalingSpec(max_instances=1, invocation_timeout=timeout, scale_in_cooldown=given)
        assert spec.scale_in_cooldown == cooldown

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"max_instances": 0}, "max_instances is 0, so no request would ever be worked on"),
            ({"max_instances": -1}, "max_instances is -1 instances"),
            ({"max_instances": "5"}, "max_instances must be a whole number of instances, not '5'"),
            ({"max_instances": True}, "max_instances must be a whole number"),
            ({"max_instances": 2.0}, "max_instances must be a whole number"),
            ({"min_instances": -1}, "min_instances is -1 instances"),
            ({"min_instances": 6}, r"min_instances \(6\) is above max_instances \(5\)"),
            ({"min_instances": None}, "min_instances must be a whole number"),
            ({"backlog_per_instance": 0}, "backlog_per_instance must be a number above 0, not 0"),
            ({"backlog_per_instance": -2.5}, "backlog_per_instance must be a number above 0"),
            ({"backlog_per_instance": "5"}, "backlog_per_instance must be a number above 0, not '5'"),
            ({"backlog_per_instance": True}, "backlog_per_instance must be a number above 0"),
            ({"backlog_per_instance": float("nan")}, "backlog_per_instance must be a number above 0"),
            ({"backlog_per_instance": float("inf")}, "backlog_per_instance must be a number above 0"),
            ({"invocation_timeout": 3601}, "invocation_timeout is 3,601 seconds"),
            ({"invocation_timeout": None}, "invocation_timeout must be a whole number"),
            ({"scale_in_cooldown": -1}, "scale_in_cooldown is -1 seconds"),
            ({"scale_out_cooldown": -1}, "scale_out_cooldown is -1 seconds"),
            ({"scale_out_cooldown": None}, "scale_out_cooldown must be a whole number"),
            ({"warm_hours": MORNING}, "warm_hours must be a list of warm hours"),
            ({"warm_hours": warm()}, "warm_hours must be a list of warm hours"),
            ({"warm_hours": None}, "warm_hours must be a list of warm hours"),
            ({"warm_hours": [MORNING]}, r"warm_hours\[0\] must be a WarmHours or a mapping"),
            ({"warm_hours": [warm(), {"end": EVENING}]}, r"warm_hours\[1\] lacks start\."),
            (
                {"warm_hours": [warm(stop=1)]},
                r"warm_hours\[0\] has unknown arguments: stop\. There are: start",
            ),
            ({"warm_hours": [warm(instances=6)]}, r"warm_hours\[0\]\.instances is 6; give a number from"),
            ({"warm_hours": [warm()], "min_instances": 2}, r"warm_hours\[0\]\.instances is 1; give a number"),
        ],
    )
    def test_bad_input_is_refused(self, changes, text):
        with pytest.raises(InvalidInput, match=text):
            ScalingSpec(**{"max_instances": 5, **changes})

    def test_a_mapping_is_a_spec(self):
        value = {"max_instances": 3, "warm_hours": [warm(instances=2), WarmHours(**warm())]}
        assert ScalingSpec.from_value(value) == ScalingSpec(
            max_instances=3, warm_hours=(WarmHours(**warm(instances=2)), WarmHours(**warm()))
        )

    def test_a_spec_is_itself(self):
        spec = ScalingSpec(max_instances=3)
        assert ScalingSpec.from_value(spec) is spec

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "scaling must be a ScalingSpec or a mapping of its arguments, not None"),
            (5, "scaling must be a ScalingSpec or a mapping of its arguments, not 5"),
            ("max_instances: 5", "scaling must be a ScalingSpec or a mapping"),
            ({}, "scaling lacks max_instances"),
            (
                {"max_instances": 5, "maximum": 5, 7: 1},
                "scaling has unknown arguments: 7, maximum. There are: ",
            ),
            ({"max_instances": 0}, "max_instances is 0"),
        ],
    )
    def test_what_is_no_spec_is_refused(self, value, text):
        with pytest.raises(InvalidInput, match=text):
            ScalingSpec.from_value(value)


class TestWarmHours:
    @pytest.mark.parametrize(
        "schedule",
        [
            MORNING,
            "cron(0 9 * * ? *)",
            "cron(0/10 8,12 1W JAN-MAR ? 2026-2028)",
            "cron(0 8 L * ? *)",
            "cron(0 8 ? * 3#2 *)",
            "rate(1 hour)",
            "rate(12 hours)",
            "rate(5 minutes)",
            "rate(1 day)",
            "at(2030-01-31T07:30:00)",
        ],
    )
    def test_a_schedule_is_accepted(self, schedule):
        assert WarmHours(start=schedule, end="rate(2 days)").start == schedule

    @pytest.mark.parametrize(
        "schedule",
        [
            "",
            "0 7 ? * MON-FRI *",
            "cron(0 7 * * 1)",
            "cron(0 7 ? * MON-FRI * *)",
            "cron(0 7 ? * mon-fri *)",
            "cron()",
            "rate(0 hours)",
            "rate(1 week)",
            "rate(hour)",
            "at(2030-01-31)",
            "at(2030-01-31 07:30:00)",
            "@daily",
            "cron(0 7 ? * MON-FRI *)\n",
            None,
            7,
        ],
    )
    @pytest.mark.parametrize("side", ["start", "end"])
    def test_another_schedule_is_refused(self, schedule, side):
        with pytest.raises(InvalidInput, match=f"{side} is .*; Application Auto Scaling accepts 'cron"):
            WarmHours(**warm(**{side: schedule}))

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"end": MORNING}, "start and end at .* keep nothing"),
            ({"instances": 0}, "instances of warm hours is 0, which keeps nothing"),
            ({"instances": -1}, "instances is -1 instances"),
            ({"instances": "2"}, "instances must be a whole number"),
            ({"timezone": "Europe/Nowhere"}, "timezone is 'Europe/Nowhere'; give an IANA name"),
            ({"timezone": ""}, "timezone is ''; give an IANA name"),
            ({"timezone": "../etc/passwd"}, "timezone is '../etc/passwd'; give an IANA name"),
            ({"timezone": None}, "timezone must be text, not NoneType"),
        ],
    )
    def test_bad_input_is_refused(self, changes, text):
        with pytest.raises(InvalidInput, match=text):
            WarmHours(**warm(**changes))

    def test_a_time_zone_is_accepted(self):
        assert WarmHours(**warm(timezone="Europe/Berlin")).timezone == "Europe/Berlin"

    def test_every_time_zone_is_accepted_where_none_is_known(self, monkeypatch):
        def unknown(name):
            raise zoneinfo.ZoneInfoNotFoundError(name)

        monkeypatch.setattr(zoneinfo, "ZoneInfo", unknown)
        assert WarmHours(**warm(timezone="Europe/Berlin")).timezone == "Europe/Berlin"


class TestState:
    TARGET = {"MinCapacity": 0, "MaxCapacity": 5}
    POLICY = {"PolicyName": "wake", "PolicyType": "StepScaling", "PolicyARN": ARN}
    TRACKING = {"PolicyName": "backlog", "PolicyType": "TargetTrackingScaling", "PolicyARN": "other"}
    ALARM = {"AlarmName": "a", "MetricName": "HasBacklogWithoutCapacity", "AlarmActions": ["sns", ARN]}
    SUSPENDED = {"SuspendedState": {"DynamicScalingOutSuspended": True}}

    def test_nothing_wakes_nothing(self):
        assert not ScalingState().wakes
        assert ScalingState().step_policy_arns == ()

    def test_only_step_policies_are_triggered_by_alarms_of_others(self):
        assert ScalingState(policies=(self.TRACKING, self.POLICY)).step_policy_arns == (ARN,)

    @pytest.mark.parametrize(
        ("target", "policies", "alarms", "wakes"),
        [
            (TARGET, (TRACKING, POLICY), (ALARM,), True),
            (TARGET, (POLICY,), (ALARM | {"AlarmActions": []}, ALARM | {"ActionsEnabled": True}), True),
            ({**TARGET, "SuspendedState": {"DynamicScalingInSuspended": True}}, (POLICY,), (ALARM,), True),
            (None, (POLICY,), (ALARM,), False),
            ({**TARGET, "MaxCapacity": 0}, (POLICY,), (ALARM,), False),
            ({**TARGET, **SUSPENDED}, (POLICY,), (ALARM,), False),
            (TARGET, (TRACKING,), (ALARM,), False),
            (TARGET, (POLICY,), (), False),
            (TARGET, (POLICY,), (ALARM | {"MetricName": "ApproximateBacklogSize"},), False),
            (TARGET, (POLICY,), (ALARM | {"ActionsEnabled": False},), False),
            (TARGET, (POLICY,), (ALARM | {"AlarmActions": ["sns"]},), False),
            (TARGET, (POLICY,), ({"AlarmName": "a", "MetricName": "HasBacklogWithoutCapacity"},), False),
        ],
    )
    def test_what_one_request_needs_to_wake_the_endpoint(self, target, policies, alarms, wakes):
        assert ScalingState(target=target, policies=policies, alarms=alarms).wakes is wakes


def test_numbers_may_come_out_of_a_template():
    spec = ScalingSpec.from_value({"max_instances": "3", "backlog_per_instance": "2.5"})
    assert (spec.max_instances, spec.backlog_per_instance) == (3, 2.5)
    with pytest.raises(InvalidInput, match="max_instances must be a whole number of instances, not 'three'"):
        ScalingSpec.from_value({"max_instances": "three"})
