"""The endpoint sensor with the hook and Airflow's clock replaced, everything else real."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from airflow_async_sm._compat import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)
from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome, Pending, Settled
from airflow_async_sm.exceptions import (
    BadTriggerEvent,
    EndpointNotReady,
    LookFailed,
    RequestRejected,
    ServiceUnavailable,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.sensors.endpoint import SageMakerAsyncEndpointSensor
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

try:
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred
except ImportError:
    from airflow.exceptions import AirflowRescheduleException, TaskDeferred

AIRFLOW_2 = BaseSensorOperator.__module__ == "airflow.sensors.base"
HANDLE = EndpointHandle(endpoint_name="model", goal="InService", submitted_at=1_000.0)
DONE = Settled(True, "InService")
BROKEN = Settled(False, "Failed: no machine.")
GONE_WRONG = [
    (Outcome(end=End.FAILED, seen_at=1_060.0, detail="Failed: no machine."), EndpointNotReady),
    (Outcome(end=End.LOOK_FAILED, seen_at=1_060.0, detail="OSError: no route"), LookFailed),
    (Outcome(end=End.TIMED_OUT, seen_at=1_060.0), AirflowSensorTimeout),
]


@pytest.fixture
def hook(monkeypatch):
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.look_at_endpoint.return_value = DONE
    monkeypatch.setattr(SageMakerAsyncHook, "shared", lambda params: hook)
    return hook


@pytest.fixture
def time(monkeypatch):
    """A clock that Airflow's loop, the sensor and the trigger read, and that goes on by what is slept."""
    time = SimpleNamespace(now=1_000.0)

    def sleep(seconds):
        time.now += seconds

    airflows = SimpleNamespace(monotonic=lambda: time.now, sleep=sleep)
    monkeypatch.setattr(import_module(BaseSensorOperator.__module__), "time", airflows)
    for kind in (SageMakerAsyncBaseSensor, SageMakerAsyncBaseTrigger):
        monkeypatch.setattr(kind, "clock", lambda self: time.now)
    return time


def sensor(**changes):
    arguments = {"endpoint_name": "model", "deferrable": False} | changes
    return SageMakerAsyncEndpointSensor(task_id="wait", **arguments)


def looked_for(hook):
    return [call.args[0] for call in hook.look_at_endpoint.call_args_list]


class TestPoking:
    def test_it_looks_until_the_endpoint_is_there(self, hook, time):
        hook.look_at_endpoint.side_effect = [Pending("Creating"), Pending("Creating"), DONE]
        assert sensor(poke_interval=20).execute({}) == {"endpoint_name": "model"}
        assert time.now == 1_040.0
        assert set(looked_for(hook)) == {HANDLE}

    @pytest.mark.parametrize(
        ("arguments", "goal", "count"),
        [
            ({}, "InService", 0),
            ({"min_instances": 2}, "Capacity", 2),
            ({"min_instances": " 2 "}, "Capacity", 2),
            ({"max_backlog": 0}, "Drained", 0),
            ({"max_backlog": "10"}, "Drained", 10),
            ({"min_instances": ""}, "InService", 0),
        ],
    )
    def test_what_it_looks_for_is_what_was_asked_for(self, hook, time, arguments, goal, count):
        sensor(**arguments).execute({})
        (handle,) = looked_for(hook)
        assert (handle.goal, handle.count, handle.submitted_at) == (goal, count, 1_000.0)

    def test_arguments_may_come_out_of_templates(self, hook, time):
        op = sensor(endpoint_name="{{ where }}", min_instances="{{ wanted }}")
        op.render_template_fields({"where": "other", "wanted": 3})
        op.execute({})
        (handle,) = looked_for(hook)
        assert (handle.endpoint_name, handle.count) == ("other", 3)

    def test_a_goal_that_cannot_be_reached_ends_it(self, hook, time):
        hook.look_at_endpoint.side_effect = [Pending("Creating"), BROKEN]
        with pytest.raises(EndpointNotReady, match="is not in service after 30 s: Failed: no machine"):
            sensor().execute({})

    def test_the_time_out_is_airflows(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(AirflowSensorTimeout, match="was not in service after 60 s"):
            sensor(timeout=60).execute({})

    def test_a_timeout_of_nothing_looks_once(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(AirflowSensorTimeout):
            sensor(timeout=0).execute({})
        assert hook.look_at_endpoint.call_count == 1

    def test_looks_that_fail_are_borne_for_a_while(self, hook, time):
        hook.look_at_endpoint.side_effect = [ServiceUnavailable("busy")] * 20 + [DONE]
        assert sensor().execute({}) == {"endpoint_name": "model"}

    def test_looks_that_keep_failing_end_it(self, hook, time):
        hook.look_at_endpoint.side_effect = OSError("no route")
        with pytest.raises(LookFailed, match="OSError: no route"):
            sensor().execute({})
        assert hook.look_at_endpoint.call_count == 21

    def test_a_second_try_has_a_time_of_its_own(self, hook, time):
        op = sensor(timeout=60)
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(AirflowSensorTimeout):
            op.execute({})
        hook.look_at_endpoint.side_effect = [Pending("Creating"), DONE]
        assert op.execute({}) == {"endpoint_name": "model"}

    def test_where_errors_are_silent_it_begins_anew_after_each(self, hook, time):
        hook.look_at_endpoint.side_effect = [BROKEN, BROKEN, DONE]
        assert sensor(silent_fail=True).execute({}) == {"endpoint_name": "model"}

    def test_a_single_poke_says_whether_it_is_there(self, hook, time):
        hook.look_at_endpoint.side_effect = [Pending("Creating"), DONE]
        op = sensor()
        assert not op.poke({})
        assert op.poke({}).xcom_value == {"endpoint_name": "model"}


class TestRescheduling:
    @pytest.fixture
    def context(self, monkeypatch):
        first = datetime.fromtimestamp(400.0, UTC)
        names = {"dag_id": "dag", "task_id": "wait", "run_id": "run", "map_index": -1, "max_tries": 2}
        if not AIRFLOW_2:
            return {"ti": SimpleNamespace(**names, get_first_reschedule_date=lambda context: first)}

        def asked(**which):
            assert which == {name: names[name] for name in list(names)[:4]} | {"try_number": 2}
            return first

        monkeypatch.setattr("airflow.sensors.base._orig_start_date", asked)
        return {"ti": SimpleNamespace(**names)}

    def test_it_gives_the_worker_back_between_its_looks(self, hook, time, context):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(AirflowRescheduleException):
            # Airflow's own arithmetic reads the real clock.
            sensor(mode="reschedule", retries=1, timeout=timedelta(days=40_000)).execute(context)
        assert hook.look_at_endpoint.call_count == 1

    def test_the_first_of_its_looks_is_where_it_began(self, hook, time, context):
        sensor(mode="reschedule", retries=1).execute(context)
        (handle,) = looked_for(hook)
        assert handle.submitted_at == 400.0

    def test_the_time_of_all_its_looks_counts(self, hook, time, context):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(AirflowSensorTimeout, match="after 600 s"):
            sensor(mode="reschedule", retries=1, timeout=600).execute(context)

    def test_a_deferred_sensor_was_never_rescheduled(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(TaskDeferred) as deferred:
            sensor(mode="reschedule", deferrable=True).execute({})
        assert deferred.value.trigger.handle.submitted_at == 1_000.0


class TestDeferring:
    def test_what_is_there_already_needs_no_deferral(self, hook, time):
        assert sensor(deferrable=True).execute({}) == {"endpoint_name": "model"}

    def test_what_is_broken_already_needs_none_either(self, hook, time):
        hook.look_at_endpoint.return_value = BROKEN
        with pytest.raises(EndpointNotReady):
            sensor(deferrable=True).execute({})
        with pytest.raises(AirflowSkipException, match="no machine"):
            sensor(deferrable=True, soft_fail=True).execute({})

    def test_a_deferred_wait_carries_its_deadline_and_airflow_is_told_a_later_one(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=600, poke_interval=timedelta(minutes=1)).execute({})
        wait = deferred.value.trigger
        assert (wait.deadline_at, wait.poll_interval, wait.handle) == (1_600.0, 60.0, HANDLE)
        assert deferred.value.timeout == timedelta(minutes=15)
        assert (deferred.value.method_name, deferred.value.kwargs) == (
            "execute_complete",
            {"handle": HANDLE.to_dict(), "try_number": None},
        )

    def test_the_worker_and_the_triggerer_reach_aws_the_same_way(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        aws = {
            "aws_conn_id": "other",
            "region_name": "eu-west-1",
            "verify": False,
            "botocore_config": {"read_timeout": 3},
        }
        op = sensor(deferrable=True, **aws)
        with pytest.raises(TaskDeferred) as deferred:
            op.execute({})
        assert deferred.value.trigger.params.to_dict() == aws

    def test_deferring_is_airflows_default_unless_said_otherwise(self, monkeypatch):
        monkeypatch.setattr(conf, "getboolean", lambda *args, **kwargs: True)
        assert sensor(deferrable=None).deferrable
        assert not sensor(deferrable=False).deferrable


class TestResuming:
    def resumed(self, outcome, handle=HANDLE, **changes):
        arguments = {"event": encode_event(handle, outcome), "handle": handle.to_dict()}
        return sensor(**changes).resume_execution("execute_complete", arguments, {})

    def test_success_names_the_endpoint(self):
        outcome = Outcome(end=End.SUCCEEDED, seen_at=1_060.0)
        assert self.resumed(outcome) == {"endpoint_name": "model"}

    @pytest.mark.parametrize(("outcome", "error"), GONE_WRONG)
    def test_each_bad_end_has_its_error(self, outcome, error):
        with pytest.raises(error, match="Endpoint model .* after 60 s") as raised:
            self.resumed(outcome)
        assert type(raised.value) is error

    @pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
    @pytest.mark.parametrize(("outcome", "error"), GONE_WRONG)
    def test_each_bad_end_skips_a_soft_task(self, outcome, error, softly):
        with pytest.raises(AirflowSkipException):
            self.resumed(outcome, **{softly: True})

    def test_a_retry_that_is_resumed_with_the_failure_of_the_try_before_looks_anew(self, hook, time):
        """So does Airflow 3.0."""
        context = {"ti": SimpleNamespace(task_id="wait", map_index=-1, try_number=1, max_tries=1)}
        context["ti"].xcom_push = lambda key, value: None
        hook.look_at_endpoint.return_value = Pending("Creating")
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True).execute(context)
        event = encode_event(HANDLE, Outcome(end=End.FAILED, seen_at=1_060.0))
        context["ti"].try_number = 2
        with pytest.raises(TaskDeferred) as again:
            sensor(deferrable=True).resume_execution(
                "execute_complete", {**deferred.value.kwargs, "event": event}, context
            )
        assert again.value.kwargs == {"handle": HANDLE.to_dict(), "try_number": 2}

    @pytest.mark.parametrize("event", [None, {}, "success", {"version": 1, "handle": {}, "outcome": {}}])
    def test_an_event_that_cannot_be_read_is_refused(self, event):
        with pytest.raises(BadTriggerEvent, match="cannot be read"):
            sensor().execute_complete({}, event=event)

    def test_after_an_event_about_another_endpoint_the_task_waits_on(self, hook, time):
        hook.look_at_endpoint.return_value = Pending("Creating")
        event = encode_event(replace(HANDLE, endpoint_name="other"), Outcome(end=End.SUCCEEDED, seen_at=1.0))
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True).execute_complete({}, event=event, handle=HANDLE.to_dict())
        assert deferred.value.trigger.handle == HANDLE

    def test_an_event_alone_is_enough_to_go_on(self):
        event = encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1.0))
        assert sensor().execute_complete({}, event=event) == {"endpoint_name": "model"}

    def test_a_triggerer_that_broke_fails_the_task_as_in_airflow(self):
        with pytest.raises(AirflowException, match="Trigger failure"):
            sensor().resume_execution("__fail__", {"error": "Trigger failure"}, {})


class TestSoftness:
    @pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
    @pytest.mark.parametrize("seen", [BROKEN, Pending("Creating"), OSError("no route")])
    def test_a_bad_end_skips_the_task(self, hook, time, seen, softly):
        hook.look_at_endpoint.side_effect = [seen] * 40
        with pytest.raises(AirflowSkipException, match="Endpoint model|due to"):
            sensor(timeout=900, **{softly: True}).execute({})

    @pytest.mark.parametrize("deferrable", [False, True])
    def test_bad_input_fails_it_all_the_same(self, hook, deferrable):
        with pytest.raises(RequestRejected, match="min_instances is 'two'.*A retry would be refused as well"):
            sensor(min_instances="two", soft_fail=True, deferrable=deferrable).execute({})
        assert hook.method_calls == []


class TestArguments:
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"endpoint_name": "a b"}, "endpoint_name is 'a b'"),
            ({"endpoint_name": ""}, "endpoint_name is empty"),
            ({"min_instances": -1}, "min_instances is -1; a whole number of at least 0 is needed"),
            ({"min_instances": "None"}, "min_instances is the text 'None'"),
            ({"min_instances": 2_147_483_648}, "SageMaker accepts 0 to 2,147,483,647"),
            ({"max_backlog": 1.5}, r"max_backlog is 1\.5"),
            ({"region_name": "None"}, "region_name is the text 'None'"),
            ({"botocore_config": {"signature": object()}}, "botocore_config cannot be stored"),
        ],
    )
    def test_bad_input_is_refused_before_anybody_is_asked(self, hook, change, complaint):
        with pytest.raises(RequestRejected, match=complaint):
            sensor(**change).execute({})
        assert hook.method_calls == []

    def test_an_option_that_botocore_does_not_know_is_bad_input(self):
        with pytest.raises(RequestRejected, match="botocore_config cannot be used"):
            sensor(botocore_config={"no_such_option": 1}).execute({})

    def test_two_goals_are_refused_when_the_dag_is_parsed(self):
        with pytest.raises(InvalidInput, match="min_instances and max_backlog are both given"):
            sensor(min_instances=0, max_backlog=0)

    @pytest.mark.parametrize("interval", [0, 0.5, timedelta(milliseconds=999)])
    def test_a_poke_interval_below_a_second_is_refused_when_the_dag_is_parsed(self, interval):
        with pytest.raises(InvalidInput, match="poke_interval is 0.* s; at least 1 s is needed"):
            sensor(poke_interval=interval)

    def test_airflows_defaults_are_in_force(self):
        op = sensor()
        assert (op.poke_interval, op.mode, op.soft_fail) == (30.0, "poke", False)
        assert op.timeout == conf.getfloat("sensors", "default_timeout")
