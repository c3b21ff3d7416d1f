"""Submit, wait, collect: one road, with the hook replaced and everything else real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from unittest.mock import create_autospec

import pytest

from airflow_async_sm._compat import conf
from airflow_async_sm.core.answers import ObjectFacts
from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome, Pending, Settled
from airflow_async_sm.exceptions import (
    BadTriggerEvent,
    InferenceExpired,
    InferenceFailed,
    LookFailed,
    RequestRejected,
    ResultUnreadable,
    WaitTimedOut,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/1.out",
    failure_location="s3://bucket/fail/1-error.out",
    submitted_at=1_000.0,
    expires_at=23_800.0,
)
OTHER = replace(HANDLE, inference_id="id-2", output_location="s3://bucket/out/2.out")
FACTS = ObjectFacts(size=3, content_type="application/json", last_modified=1_003.0, etag="e")
RESULT = {
    "endpoint_name": "model",
    "inference_id": "id-1",
    "output_location": "s3://bucket/out/1.out",
    "content_type": "application/json",
    "size": 3,
    "submitted_at": 1_000.0,
    "answered_at": 1_003.0,
    "seconds": 3.0,
}


class TaskInstance:
    dag_id, run_id, task_id, map_index, max_tries = "dag", "run", "invoke", -1, 0
    try_number = 1

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, *, task_ids, key, map_indexes):
        assert (task_ids, map_indexes) == ("invoke", self.map_index)
        return self.pushed[key]


@pytest.fixture
def context():
    return {"ti": TaskInstance()}


@pytest.fixture
def hook(monkeypatch):
    """A hook that accepts one request and looks as the test says; operator and trigger share it."""
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.invoke_endpoint_async.return_value = HANDLE
    hook.check_endpoint.return_value = {}
    hook.invoke_members = frozenset({"Body", "S3OutputPathExtension", "Filename"})
    hook.work_prefix = hook.expected_bucket_owner = None
    hook.region = "us-east-1"
    hook.describe_result.return_value = FACTS
    hook.read_failure.return_value = '{"error": "bad row"}'
    for way in ("from_params", "shared"):
        monkeypatch.setattr(SageMakerAsyncHook, way, lambda params: hook)
    return hook


def operator(**changes):
    """An operator whose clock goes on by what it sleeps."""
    op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1], **changes)
    clock = {"now": 1_000.0}
    op.__dict__["clock"] = lambda: clock["now"]
    op.__dict__["sleep"] = lambda seconds: clock.update(now=clock["now"] + seconds)
    original = op.trigger

    def trigger(handle):
        made = original(handle)
        made.clock = op.clock
        return made

    op.__dict__["trigger"] = trigger
    return op


def resumed(outcome, handle=HANDLE, **changes):
    op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1], **changes)
    return op.execute_complete(
        {"ti": TaskInstance()}, event=encode_event(handle, outcome), handle=handle.to_dict()
    )


class TestWaiting:
    def test_an_answer_that_is_there_at_once_needs_no_deferral(self, hook, context):
        hook.look_at_result.return_value = Settled(True)
        assert operator(deferrable=True).execute(context) == RESULT

    def test_the_handle_is_in_xcom_before_the_wait_ends(self, hook, context):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred):
            operator(deferrable=True).execute(context)
        assert context["ti"].pushed == {"handle": HANDLE.to_dict()}

    def test_an_xcom_that_cannot_be_written_does_not_cost_the_inference(self, hook, context, monkeypatch):
        hook.look_at_result.return_value = Settled(True)
        monkeypatch.setattr(context["ti"], "xcom_push", lambda **kwargs: 1 / 0)
        assert operator().execute(context) == RESULT

    def test_a_deferred_wait_carries_its_deadline_and_airflow_is_told_a_later_one(self, hook, context):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            operator(deferrable=True, timeout=600).execute(context)
        assert deferred.value.trigger.deadline_at == 1_600.0
        assert deferred.value.timeout == timedelta(seconds=600) + timedelta(minutes=5)
        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.kwargs == {"handle": HANDLE.to_dict(), "try_number": 1}

    def test_without_a_timeout_it_waits_as_long_as_an_answer_can_come(self, hook, context):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            operator(deferrable=True).execute(context)
        assert deferred.value.trigger.deadline_at == HANDLE.expires_at

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_airflows_own_limit_does_not_end_the_task_before_it_can_say_why(self, hook, context, deferrable):
        hook.look_at_result.return_value = Pending()
        op = operator(deferrable=deferrable, execution_timeout=timedelta(seconds=100))
        if deferrable:
            with pytest.raises(TaskDeferred) as deferred:
                op.execute(context)
            assert deferred.value.trigger.deadline_at == 1_090.0
        else:
            with pytest.raises(WaitTimedOut, match="has no answer after 90 s"):
                op.execute(context)

    def test_a_blocking_wait_sleeps_between_looks(self, hook, context):
        hook.look_at_result.side_effect = [Pending(), Pending(), Settled(True)]
        op = operator(deferrable=False)
        assert op.execute(context) == RESULT
        assert 1_001.0 < op.clock() <= 1_002.0

    def test_a_blocking_wait_ends_at_the_deadline(self, hook, context):
        hook.look_at_result.return_value = Pending()
        op = operator(deferrable=False, timeout=60)
        with pytest.raises(WaitTimedOut, match="has no answer after 60 s"):
            op.execute(context)
        assert op.clock() == 1_060.0

    def test_not_waiting_wins_over_deferring(self, hook, context):
        result = operator(deferrable=True, wait_for_completion=False).execute(context)
        assert result == HANDLE.to_dict()
        hook.look_at_result.assert_not_called()

    def test_deferring_is_airflows_default_unless_said_otherwise(self, monkeypatch):
        monkeypatch.setattr(conf, "getboolean", lambda *args, **kwargs: True)
        assert operator().deferrable
        assert not operator(deferrable=False).deferrable

    def test_killing_the_task_takes_nothing_back(self, hook):
        operator().on_kill()
        assert hook.method_calls == []


class TestEndings:
    def test_success_returns_the_pointer(self, hook):
        assert resumed(Outcome(end=End.SUCCEEDED, seen_at=1_010.0)) == RESULT

    def test_failure_shows_the_failure_objects_text(self, hook):
        with pytest.raises(InferenceFailed) as failed:
            resumed(Outcome(end=End.FAILED, seen_at=1_010.0))
        assert str(failed.value) == (
            "Request id-1 to endpoint model failed after 10 s. A retry of the task submits a new request. "
            'The failure object s3://bucket/fail/1-error.out says:\n{"error": "bad row"}'
        )
        assert failed.value.inference_id == "id-1"
        assert failed.value.location == "s3://bucket/fail/1-error.out"

    def test_a_failure_object_that_cannot_be_read_is_still_a_failed_inference(self, hook):
        hook.read_failure.side_effect = ResultUnreadable("no right to read it")
        with pytest.raises(InferenceFailed, match="could not be read: no right to read it"):
            resumed(Outcome(end=End.FAILED, seen_at=1_010.0))

    def test_an_expired_request_says_when_and_where(self, hook):
        with pytest.raises(
            InferenceExpired, match="nothing came to s3://bucket/out/1.out by 1970-01-01T06:36:40"
        ):
            resumed(Outcome(end=End.EXPIRED, seen_at=23_800.0))

    def test_a_time_out_says_that_the_work_may_still_finish(self, hook):
        with pytest.raises(WaitTimedOut, match="may still finish; its answer would be s3://bucket/out/1.out"):
            resumed(Outcome(end=End.TIMED_OUT, seen_at=1_600.0))

    def test_without_a_failure_path_the_log_group_is_named(self, hook):
        silent = InvocationHandle.from_dict(HANDLE.to_dict() | {"failure_location": None})
        with pytest.raises(
            WaitTimedOut, match="leaves no trace in S3: see the log group /aws/sagemaker/Endpoints/"
        ):
            resumed(Outcome(end=End.TIMED_OUT, seen_at=1_600.0), handle=silent)

    def test_looks_that_failed_are_no_statement_about_the_request(self, hook):
        with pytest.raises(
            LookFailed, match=r"OSError: no route\. Whether it finished is not known.*s3:ListBucket"
        ):
            resumed(Outcome(end=End.LOOK_FAILED, seen_at=1_600.0, detail="OSError: no route"))

    @pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger failure"])
    def test_a_triggerer_that_broke_or_is_gone_is_no_statement_about_the_request(self, hook, context, reason):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred):
            operator(deferrable=True).execute(context)
        with pytest.raises(
            LookFailed, match=f"Request id-1 .*triggerer did not see .*{reason}.*look at s3://bucket"
        ):
            operator(deferrable=True).resume_execution("__fail__", {"error": reason}, context)

    def test_a_resumed_task_goes_on_with_its_event(self, hook, context):
        kwargs = {
            "event": encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1.0)),
            "handle": HANDLE.to_dict(),
        }
        assert operator().resume_execution("execute_complete", kwargs, context) == RESULT

    @pytest.mark.parametrize(
        "outcome",
        [
            Outcome(end=End.FAILED, seen_at=1_060.0),
            Outcome(end=End.TIMED_OUT, seen_at=1_060.0),
            Outcome(end=End.LOOK_FAILED, seen_at=1_060.0, detail="OSError"),
            None,
        ],
    )
    def test_a_retry_that_is_resumed_with_the_failure_of_the_try_before_begins_anew(
        self, hook, context, outcome
    ):
        """So does Airflow 3.0. The wait of the second try is told which try it belongs to as well."""
        hook.look_at_result.return_value = Pending()
        op = operator(deferrable=True, retries=1)
        told = {**self.deferral(op, context), "event": outcome and encode_event(HANDLE, outcome)}
        context["ti"].try_number, context["ti"].max_tries = 2, 1
        with pytest.raises(TaskDeferred) as again:
            operator(deferrable=True, retries=1).resume_execution("execute_complete", told, context)
        assert hook.invoke_endpoint_async.call_count == 2
        assert again.value.kwargs == {"handle": HANDLE.to_dict(), "try_number": 2}

    def test_a_success_is_collected_by_whichever_try_is_resumed_with_it(self, hook, context):
        hook.look_at_result.return_value = Pending()
        told = self.deferral(operator(deferrable=True, retries=1), context)
        told["event"] = encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1.0))
        context["ti"].try_number, context["ti"].max_tries = 2, 1
        assert operator(retries=1).resume_execution("execute_complete", told, context) == RESULT
        assert hook.invoke_endpoint_async.call_count == 1

    @pytest.mark.parametrize(("try_number", "max_tries"), [(1, 1), (2, 0), (2, None)])
    def test_a_failure_is_raised_in_its_own_try_and_where_no_try_is_left(
        self, hook, context, try_number, max_tries
    ):
        """A scheduler that is replaced makes Airflow count a try more."""
        hook.look_at_result.return_value = Pending()
        told = self.deferral(operator(deferrable=True), context)
        told["event"] = encode_event(HANDLE, Outcome(end=End.FAILED, seen_at=1_060.0))
        context["ti"].try_number, context["ti"].max_tries = try_number, max_tries
        with pytest.raises(InferenceFailed):
            operator().resume_execution("execute_complete", told, context)
        assert hook.invoke_endpoint_async.call_count == 1

    def deferral(self, op, context):
        """Return what the task is to be resumed with, next to the event."""
        with pytest.raises(TaskDeferred) as deferred:
            op.execute(context)
        return dict(deferred.value.kwargs)

    @pytest.mark.parametrize("event", [None, {}, "success", {"version": 1, "handle": {}, "outcome": {}}])
    def test_an_event_that_cannot_be_read_is_refused(self, hook, event):
        op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1])
        with pytest.raises(BadTriggerEvent, match="cannot be read"):
            op.execute_complete({"ti": TaskInstance()}, event=event)

    def test_also_where_the_deferral_says_what_was_waited_for(self, hook):
        """Versions that differ would let a wait begin anew for ever."""
        with pytest.raises(BadTriggerEvent, match="cannot be read"):
            operator().execute_complete({"ti": TaskInstance()}, event={"version": 0}, handle=HANDLE.to_dict())

    @pytest.fixture(params=["about another", "none"])
    def not_its_own(self, request):
        """
        What a task is resumed with whose trigger got the number of one that was deleted and still runs, or
        that is run once more after it has deferred.
        """
        told = {
            "about another": {"event": encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1_001.0))},
            "none": {},
        }
        return {"handle": OTHER.to_dict(), **told[request.param]}

    def test_after_an_event_that_is_not_its_own_the_task_waits_on(self, hook, context, not_its_own):
        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            operator(deferrable=True).resume_execution("execute_complete", not_its_own, context)
        assert deferred.value.trigger.handle == OTHER
        assert deferred.value.kwargs == {"handle": OTHER.to_dict(), "try_number": 1}

    def test_it_does_not_wait_for_what_is_there_by_then(self, hook, context, not_its_own):
        hook.look_at_result.return_value = Settled(True)
        result = operator(deferrable=True).resume_execution("execute_complete", not_its_own, context)
        assert result["inference_id"] == OTHER.inference_id
        hook.invoke_endpoint_async.assert_not_called()

    def test_a_task_deferred_under_an_earlier_version_goes_on(self, hook):
        """An earlier version knew fewer fields; those it did not know have their defaults."""
        silent = InvocationHandle.from_dict(HANDLE.to_dict() | {"failure_location": None})
        earlier = {key: value for key, value in silent.to_dict().items() if key != "failure_location"}
        op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1])
        event = encode_event(silent, Outcome(end=End.SUCCEEDED, seen_at=1.0))
        assert op.execute_complete({"ti": TaskInstance()}, event=event, handle=earlier) == RESULT

    def test_a_broken_deferral_without_a_stored_handle_keeps_its_own_error(self, hook, context):
        context["ti"].pushed["handle"] = None
        with pytest.raises(Exception, match="Trigger failure") as raised:
            operator().resume_execution("__fail__", {"error": "Trigger failure"}, context)
        assert not isinstance(raised.value, LookFailed)

    def test_an_error_of_the_resumed_task_is_not_blamed_on_the_triggerer(self, hook, context):
        with pytest.raises(BadTriggerEvent):
            operator().resume_execution("execute_complete", {"event": None}, context)

    def test_an_event_alone_is_enough_to_go_on(self, hook):
        """``dag.test()`` does not keep the arguments of a deferral."""
        op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1])
        assert (
            op.execute_complete(
                {"ti": TaskInstance()}, event=encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1.0))
            )
            == RESULT
        )


class TestArguments:
    @pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
    def test_a_timeout_that_is_none_is_refused_when_the_dag_is_parsed(self, timeout):
        with pytest.raises(InvalidInput, match="timeout is"):
            operator(timeout=timeout)

    def test_a_poll_interval_below_a_second_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(InvalidInput, match="poll_interval is 0.1 s"):
            operator(poll_interval=0.1)

    def test_bad_input_found_on_the_worker_is_not_retried_and_nothing_is_submitted(self, hook, context):
        with pytest.raises(RequestRejected, match=r"request_ttl is 5 seconds.*Nothing was submitted"):
            operator(request_ttl=5).execute(context)
        assert hook.method_calls == []

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"payload": "None"}, "payload is the text 'None'"),
            ({"inference_id": "None"}, "inference_id is the text 'None'"),
            ({"region_name": "None"}, "region_name is the text 'None'"),
            ({"botocore_config": {"no_such_option": 1}}, "botocore_config cannot be used"),
            ({"botocore_config": {"signature": object()}}, "botocore_config cannot be stored"),
        ],
    )
    def test_a_template_that_came_to_none_is_refused(self, context, change, complaint):
        arguments = {"task_id": "invoke", "endpoint_name": "model", "payload": [1]} | change
        with pytest.raises(RequestRejected, match=complaint):
            SageMakerAsyncInvokeOperator(**arguments).execute(context)

    def test_a_template_that_came_to_nothing_is_as_if_not_given(self, hook, context):
        hook.look_at_result.return_value = Settled(True)
        nothing = dict.fromkeys(
            ["input_location", "content_type", "accept", "custom_attributes", "inference_id"], ""
        )
        op = operator(**nothing, verify="", region_name="")
        op.execute(context)
        request = hook.invoke_endpoint_async.call_args.args[0]
        sent = request.to_api()
        assert (sent.pop("InferenceId"), sent.pop("S3OutputPathExtension")) == (
            request.inference_id,
            request.s3_output_path_extension,
        )
        assert sent == {
            "EndpointName": "model",
            "Body": b"[1]",
            "ContentType": "application/json",
            "CustomAttributes": "dag_id=dag;run_id=run;task_id=invoke",
        }
        assert op.aws_params.to_dict() == {
            "aws_conn_id": "aws_default",
            "region_name": None,
            "verify": None,
            "botocore_config": None,
        }

    def test_the_worker_and_the_triggerer_reach_aws_the_same_way(self, hook, context):
        hook.look_at_result.return_value = Pending()
        aws = {
            "aws_conn_id": "other",
            "region_name": "eu-west-1",
            "verify": False,
            "botocore_config": {"read_timeout": 3},
        }
        op = operator(deferrable=True, **aws)
        with pytest.raises(TaskDeferred) as deferred:
            op.execute(context)
        assert deferred.value.trigger.params == op.aws_params
        assert op.aws_params.to_dict() == aws


class TestEndpointEndings:
    HANDLE = EndpointHandle(endpoint_name="model", goal="Deleted", submitted_at=1_000.0)

    def resumed(self, outcome):
        op = SageMakerAsyncDeleteOperator(task_id="delete", endpoint_name="model", model_name="model-1")
        return op.execute_complete({"ti": TaskInstance()}, event=encode_event(self.HANDLE, outcome))

    def test_success_names_what_is_gone(self):
        assert self.resumed(Outcome(end=End.SUCCEEDED, seen_at=1_001.0)) == {"endpoint_name": "model"}

    def test_the_wait_for_an_endpoint_ends_after_the_timeout(self):
        op = SageMakerAsyncDeleteOperator(task_id="delete", endpoint_name="model", timeout=60)
        assert op.trigger(self.HANDLE).deadline_at == 1_060.0

    @pytest.mark.parametrize(
        ("outcome", "error", "text"),
        [
            (
                Outcome(end=End.FAILED, seen_at=1_009.0, detail="Failed: in use."),
                "EndpointNotReady",
                "Failed: in use.",
            ),
            (Outcome(end=End.TIMED_OUT, seen_at=1_009.0), "WaitTimedOut", "was not gone after 9 s"),
            (
                Outcome(end=End.LOOK_FAILED, seen_at=1_009.0, detail="No."),
                "LookFailed",
                "Its state is not known",
            ),
        ],
    )
    def test_each_bad_end_has_its_error(self, outcome, error, text):
        with pytest.raises(Exception, match=text) as raised:
            self.resumed(outcome)
        assert type(raised.value).__name__ == error
        assert raised.value.endpoint_name == "model"
