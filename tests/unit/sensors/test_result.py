"""The result sensor with the hook and Airflow's clock replaced, everything else real."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from airflow_async_sm._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)
from airflow_async_sm.core.answers import ObjectFacts
from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import NEVER, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome, Pending, Settled
from airflow_async_sm.exceptions import (
    EndpointLost,
    InferenceExpired,
    InferenceFailed,
    LookFailed,
    ModelRejected,
    RequestRejected,
    ResultInvalid,
    ResultTooLarge,
    ResultUnreadable,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.sensors.result import SageMakerAsyncResultSensor
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/1.out",
    failure_location="s3://bucket/fail/1-error.out",
    submitted_at=900.0,
    expires_at=23_700.0,
    input_location="s3://bucket/in/1",
)
ANSWER = {
    "endpoint_name": "model",
    "inference_id": "id-1",
    "output_location": "s3://bucket/out/1.out",
    "content_type": "application/json",
    "size": 3,
    "submitted_at": 900.0,
    "answered_at": 1_003.0,
    "seconds": 103.0,
    "input_location": "s3://bucket/in/1",
}
FOREIGN = {
    "endpoint_name": None,
    "inference_id": None,
    "output_location": "s3://bucket/out/1.out",
    "content_type": "application/json",
    "size": 3,
    "submitted_at": None,
    "answered_at": 1_003.0,
    "seconds": None,
}


@pytest.fixture
def hook(monkeypatch):
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.expected_bucket_owner = None
    hook.look_at_result.return_value = Settled(True)
    hook.describe_result.return_value = ObjectFacts(
        size=3, content_type="application/json", last_modified=1_003.0, etag="e"
    )
    hook.read_result.return_value = b"[1]"
    hook.read_failure.return_value = "it broke"
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


@pytest.fixture
def context():
    pushed = {}
    return {"ti": SimpleNamespace(pushed=pushed, xcom_push=lambda key, value: pushed.update({key: value}))}


@pytest.fixture
def run(hook, time, context):
    """Return a function that renders and runs a sensor."""

    def to_its_end(**changes):
        op = sensor(**changes)
        op.render_template_fields(context)
        return op.execute(context)

    return to_its_end


def sensor(**changes):
    arguments = {"handle": HANDLE.to_dict()} if "output_location" not in changes else {}
    return SageMakerAsyncResultSensor(task_id="wait", **({"deferrable": False} | arguments | changes))


def looked_for(hook):
    return [call.args[0] for call in hook.look_at_result.call_args_list]


class TestWhatIsKnown:
    def test_the_handle_of_another_task_says_all(self, run, hook):
        assert run() == ANSWER
        assert looked_for(hook) == [HANDLE]

    def test_a_text_that_is_json_says_as_much(self, run, hook, context):
        context["told"] = HANDLE.to_dict()
        assert run(handle="{{ told | tojson }}") == ANSWER
        assert looked_for(hook) == [HANDLE]

    def test_a_reply_of_boto3_says_where(self, run, hook):
        reply = {
            "InferenceId": "id-1",
            "OutputLocation": "s3://bucket/out/1.out",
            "FailureLocation": "s3://bucket/fail/1-error.out",
            "ResponseMetadata": {"HTTPStatusCode": 202},
        }
        assert run(handle=reply, endpoint_name="model") == FOREIGN | {
            "inference_id": "id-1",
            "endpoint_name": "model",
        }
        (handle,) = looked_for(hook)
        assert handle.to_dict() == HANDLE.to_dict() | {
            "submitted_at": 1_000.0,
            "expires_at": NEVER,
            "input_location": None,
        }

    def test_a_location_is_enough(self, run, hook):
        assert run(output_location="s3://bucket/out/1.out") == FOREIGN
        (handle,) = looked_for(hook)
        assert (handle.endpoint_name, handle.inference_id, handle.failure_location) == (None, None, None)

    def test_what_the_invoke_operator_returned_of_an_answer_is_a_handle_too(self, run):
        assert run(handle=ANSWER) == ANSWER

    def test_what_is_given_besides_the_handle_counts(self, run, hook):
        run(handle={"output_location": "s3://bucket/out/1.out"}, inference_id="mine", endpoint_name="")
        (handle,) = looked_for(hook)
        assert (handle.inference_id, handle.endpoint_name) == ("mine", None)

    def test_locations_may_come_out_of_templates(self, run, hook, context):
        context["run"] = "7"
        run(output_location="s3://bucket/{{ run }}.out", failure_location="s3://bucket/{{ run }}.err")
        (handle,) = looked_for(hook)
        assert (handle.output_location, handle.failure_location) == ("s3://bucket/7.out", "s3://bucket/7.err")

    def test_folders_are_a_requests_own_if_a_task_of_ours_says_so(self, run, hook):
        folders = HANDLE.to_dict() | {
            "output_location": "s3://bucket/out/own/",
            "failure_location": "s3://bucket/fail/own/",
        }
        hook.look_at_result.return_value = Settled(True, location="s3://bucket/out/own/1.out")
        assert run(handle=folders)["output_location"] == "s3://bucket/out/own/1.out"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"handle": {}}, "handle has no output_location; it has nothing"),
            ({"handle": {"a": 1, "b": 2}}, "handle has no output_location; it has a, b"),
            ({"handle": "{'output_location': 's3://b/k'}"}, "handle is a text that is not JSON.*tojson"),
            ({"handle": "[1]"}, "handle is of type list; a dictionary is needed"),
            ({"handle": [1]}, "handle is of type list"),
            ({"handle": "None"}, "handle is the text 'None'"),
            ({"handle": ""}, "Either handle or output_location is needed; neither is given"),
            ({"output_location": ""}, "neither is given"),
            ({"output_location": "bucket/key"}, "output_location is 'bucket/key'; expected s3://bucket/key"),
            ({"output_location": "s3://bucket/folder/"}, "output_location .* names no object"),
            ({"handle": {"output_location": "s3://bucket/folder/"}}, "names no object"),
            ({"failure_location": "nowhere"}, "failure_location is 'nowhere'"),
            ({"endpoint_name": "a b"}, "endpoint_name is 'a b'"),
            ({"handle": HANDLE.to_dict() | {"inference_id": 7}}, "inference_id is 7"),
            ({"handle": HANDLE.to_dict() | {"submitted_at": "now"}}, "submitted_at is 'now'"),
            ({"on_403": "hope"}, "on_403 is 'hope'; expected one of fail, wait"),
            ({"result": "xml"}, "result is 'xml'"),
            ({"result_schema": {"type": "object"}}, "result_schema needs a value to check"),
            ({"max_result_bytes": 0}, "max_result_bytes is 0"),
            ({"on_large_result": "cut"}, "on_large_result is 'cut'"),
            ({"copy_to": "copy"}, "copy_to is 'copy'"),
            ({"region_name": "None"}, "region_name is the text 'None'"),
        ],
    )
    @pytest.mark.parametrize("way", [{}, {"deferrable": True}, {"soft_fail": True}])
    def test_bad_input_is_refused_before_anybody_is_asked(self, run, hook, way, change, complaint):
        with pytest.raises(RequestRejected, match=complaint):
            run(**change, **way)
        assert hook.method_calls == []

    def test_a_handle_that_came_to_nothing_is_refused(self, run, hook):
        op = sensor()
        op.handle = None
        with pytest.raises(RequestRejected, match="neither is given"):
            op.execute({})

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ({}, "Either handle or output_location is needed; neither is given"),
            ({"handle": {}, "output_location": "s3://b/k"}, "both are given"),
        ],
    )
    def test_no_place_or_two_are_refused_when_the_dag_is_parsed(self, given, complaint):
        with pytest.raises(InvalidInput, match=complaint):
            SageMakerAsyncResultSensor(task_id="wait", **given)


class TestWaiting:
    def test_it_looks_until_the_answer_is_there(self, run, hook, time):
        hook.look_at_result.side_effect = [Pending(), Pending(), Settled(True)]
        assert run(poke_interval=20) == ANSWER
        assert time.now == 1_040.0

    def test_how_to_take_a_refusal_is_handed_on(self, run, hook):
        run(on_403="wait")
        assert hook.look_at_result.call_args.kwargs == {"on_403": "wait"}

    def test_what_somebody_else_sent_does_not_expire(self, run, hook, time):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(AirflowSensorTimeout, match="has no answer after 100,020 s"):
            run(output_location="s3://bucket/out/1.out", timeout=100_000)

    def test_what_a_task_of_ours_sent_does(self, run, hook, time):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(InferenceExpired, match=r"finds the same; nothing is submitted"):
            run(timeout=100_000)
        assert 23_700.0 <= time.now < 23_760.0

    def test_a_deferred_wait_carries_all_that_is_known(self, run, hook):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            run(deferrable=True, timeout=600, poke_interval=timedelta(minutes=1), on_403="wait")
        wait = deferred.value.trigger
        assert (wait.handle, wait.deadline_at, wait.poll_interval) == (HANDLE, 1_600.0, 60.0)
        assert wait.on_403 == "wait"
        assert deferred.value.timeout == timedelta(minutes=15)

    def test_a_deferred_wait_for_what_somebody_else_sent_ends_with_the_timeout_only(self, run, hook):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            run(output_location="s3://bucket/out/1.out", deferrable=True, timeout=100_000)
        _, stored = deferred.value.trigger.serialize()
        assert json.loads(json.dumps(stored)) == stored
        assert deferred.value.trigger.engine.ends_at == 101_000.0


class TestAnswer:
    def test_the_answer_itself_is_returned_and_where_it_is_told(self, run, context):
        assert run(result="json") == [1]
        assert context["ti"].pushed == {"answer": ANSWER}

    def test_nothing_is_told_where_xcom_is_off(self, run, context):
        assert run(result="json", do_xcom_push=False) == [1]
        assert context["ti"].pushed == {}

    def test_the_end_of_a_deferred_wait_is_the_same(self, run, hook, context):
        event = encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1_060.0))
        op = sensor(result="json", deferrable=True)
        assert op.execute_complete(context, event=event, handle=HANDLE.to_dict()) == [1]
        assert context["ti"].pushed == {"answer": ANSWER}

    def test_what_is_not_known_of_the_request_is_not_told_after_a_deferral_either(self, run, hook, context):
        handle = InvocationHandle(
            output_location="s3://bucket/out/1.out", submitted_at=1_000.0, expires_at=NEVER
        )
        event = encode_event(handle, Outcome(end=End.SUCCEEDED, seen_at=1_060.0))
        op = sensor(output_location="s3://bucket/out/1.out")
        assert op.execute_complete(context, event=event) == FOREIGN


def read_in_vain():
    raise ResultUnreadable("no right to read it")


class TestBadEnds:
    ENDS = (
        (Outcome(end=End.FAILED, seen_at=1_060.0), InferenceFailed, "says:\nit broke"),
        (Outcome(end=End.FAILED, seen_at=1_060.0, detail="It is gone."), EndpointLost, "finds the same"),
        (Outcome(end=End.EXPIRED, seen_at=23_700.0), InferenceExpired, "finds the same"),
        (Outcome(end=End.TIMED_OUT, seen_at=1_060.0), AirflowSensorTimeout, "looks again; nothing is sub"),
        (Outcome(end=End.LOOK_FAILED, seen_at=1_060.0, detail="No."), LookFailed, "looks again; nothing is"),
    )

    def resumed(self, outcome, **changes):
        arguments = {"event": encode_event(HANDLE, outcome), "handle": HANDLE.to_dict()}
        return sensor(**changes).resume_execution("execute_complete", arguments, {})

    @pytest.mark.parametrize(("outcome", "error", "text"), ENDS)
    def test_each_has_its_error_and_says_what_a_retry_does(self, hook, outcome, error, text):
        with pytest.raises(error, match=text) as raised:
            self.resumed(outcome)
        assert type(raised.value) is error
        assert "submits a new request" not in str(raised.value)

    @pytest.mark.parametrize("softly", ["soft_fail", "never_fail"])
    @pytest.mark.parametrize(("outcome", "error", "text"), ENDS)
    def test_each_skips_a_soft_task(self, hook, outcome, error, text, softly):
        with pytest.raises(AirflowSkipException):
            self.resumed(outcome, **{softly: True})

    def test_a_failure_says_of_which_kind_it_is(self, run, hook):
        hook.look_at_result.return_value = Settled(False)
        hook.read_failure.return_value = '{"code": 400, "message": "no such column"}'
        with pytest.raises(ModelRejected, match="no such column"):
            run()

    def test_a_failure_that_cannot_be_read_is_still_one(self, run, hook):
        hook.look_at_result.return_value = Settled(False)
        hook.read_failure.side_effect = ResultUnreadable("no right to read it")
        with pytest.raises(InferenceFailed, match="could not be read: no right to read it"):
            run()

    @pytest.mark.parametrize("way", ["poke", "first look", "resumed"])
    @pytest.mark.parametrize("soft", [False, True])
    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"result": "json", "max_result_bytes": 2}, ResultTooLarge),
            ({"result": "json", "result_schema": {"type": "object"}}, ResultInvalid),
            ({"result": lambda data: read_in_vain()}, ResultUnreadable),
        ],
    )
    def test_an_answer_that_cannot_be_taken_over_is_the_same_however_it_was_waited_for(
        self, run, hook, context, way, soft, change, error
    ):
        if way == "resumed":
            run = partial(self.resumed, Outcome(end=End.SUCCEEDED, seen_at=1_060.0))
        with pytest.raises(AirflowSkipException if soft else error) as raised:
            run(deferrable=way != "poke", soft_fail=soft, **change)
        causes = [raised.value]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        assert error in map(type, causes)
