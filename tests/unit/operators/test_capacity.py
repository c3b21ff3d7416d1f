"""Capacity: what is asked for, when, and what is waited for, with the hook replaced."""

from __future__ import annotations

import json
from unittest.mock import create_autospec

import pytest

from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.core.outcomes import End, Outcome, Settled
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, ServiceUnavailable, WaitTimedOut
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators.capacity import SageMakerAsyncCapacityOperator


def described(status="InService", *, current=0, desired=0, **more):
    variant = {"VariantName": "Only", "CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    return {
        "EndpointStatus": status,
        "EndpointConfigName": "model-1",
        "ProductionVariants": [variant],
        "AsyncInferenceConfig": {"OutputConfig": {}},
        **more,
    }


@pytest.fixture
def hook(monkeypatch):
    """A hook whose endpoint is in service with three instances, and whose looks succeed."""
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.describe_endpoint.return_value = described(current=3, desired=3)
    hook.look_at_endpoint.return_value = Settled(True)
    for way in ("from_params", "shared"):
        monkeypatch.setattr(SageMakerAsyncHook, way, lambda params: hook)
    return hook


@pytest.fixture
def context():
    class TaskInstance:
        def xcom_push(self, key, value):
            json.dumps(value)

    return {"ti": TaskInstance()}


def operator(instances=2, **changes):
    arguments = {"endpoint_name": "model", "instances": instances, "deferrable": False} | changes
    return SageMakerAsyncCapacityOperator(task_id="warm", **arguments)


def handle(goal="Capacity", **changes):
    return EndpointHandle(
        **({"endpoint_name": "model", "goal": goal, "submitted_at": 1_000.0, "count": 2} | changes)
    )


def resumed(handle, outcome, context=None, **changes):
    event = encode_event(handle, outcome)
    return operator(**changes).execute_complete(context or {}, event=event, handle=handle.to_dict())


class TestAsking:
    @pytest.mark.parametrize("instances", [2, "2", " 2 "])
    def test_the_one_variant_gets_so_many(self, hook, context, instances):
        result = operator(instances).execute(context)
        hook.set_capacity.assert_called_once_with("model", "Only", 2)
        assert result == {"endpoint_name": "model", "instances": 3}

    def test_the_number_may_come_out_of_a_template(self, hook, context):
        op = operator("{{ wanted }}", endpoint_name="{{ where }}")
        op.render_template_fields({"wanted": 4, "where": "other"})
        op.execute(context)
        hook.set_capacity.assert_called_once_with("other", "Only", 4)

    def test_so_many_are_waited_for_or_none_at_all(self, hook, context):
        for count in (2, 0):
            operator(count).execute(context)
            waited_for = hook.look_at_endpoint.call_args.args[0]
            assert (waited_for.goal, waited_for.count) == ("Capacity", count)
        assert hook.look_at_endpoint.call_count == 2

    def test_who_does_not_wait_gets_the_handle(self, hook, context):
        result = operator(wait_for_completion=False).execute(context)
        assert EndpointHandle.from_dict(result).count == 2
        hook.look_at_endpoint.assert_not_called()

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"instances": -1}, "instances is -1; a whole number of at least 0 is needed"),
            ({"instances": "-1"}, "instances is '-1'"),
            ({"instances": "two"}, "instances is 'two'"),
            ({"instances": 1.5}, r"instances is 1\.5"),
            ({"instances": True}, "instances is True"),
            ({"instances": ""}, "instances is None"),
            ({"instances": "None"}, "instances is the text 'None'"),
            ({"instances": 2_147_483_648}, "2,147,483,648 instances; SageMaker accepts 0 to 2,147,483,647"),
            ({"endpoint_name": "a b"}, "endpoint_name is 'a b'"),
            ({"botocore_config": {"retries": object()}}, "botocore_config cannot be stored"),
        ],
    )
    def test_bad_input_is_refused_before_anybody_is_asked(self, hook, context, change, complaint):
        with pytest.raises(RequestRejected, match=complaint):
            operator(**change).execute(context)
        assert hook.method_calls == []


class TestTheEndpoint:
    @pytest.mark.parametrize(
        ("description", "complaint"),
        [
            (None, "'model' does not exist"),
            ({"EndpointStatus": "InService", "ProductionVariants": []}, "is not asynchronous"),
            ({"EndpointStatus": "Updating", "ProductionVariants": []}, "is not asynchronous"),
            (described("Failed", FailureReason="No machine."), "it is Failed.*No machine"),
            (described("OutOfService"), "it is OutOfService"),
            (described("UpdateRollbackFailed"), "it is UpdateRollbackFailed"),
            (described("Deleting"), "it is Deleting"),
        ],
    )
    def test_one_that_can_have_none_is_left_alone(self, hook, context, description, complaint):
        hook.describe_endpoint.return_value = description
        with pytest.raises(RequestRejected, match=f"(?s){complaint}.*Nothing was changed") as refused:
            operator().execute(context)
        assert refused.value.endpoint_name == "model"
        hook.set_capacity.assert_not_called()

    @pytest.mark.parametrize("status", ["Creating", "Updating", "SystemUpdating", "RollingBack"])
    def test_one_in_motion_is_waited_for_first(self, hook, context, status):
        hook.describe_endpoint.side_effect = [described(status), described(), described(current=2)]
        assert operator().execute(context)["instances"] == 2
        goals = [call.args[0].goal for call in hook.look_at_endpoint.call_args_list]
        assert goals == ["Settled", "Capacity"]
        hook.set_capacity.assert_called_once_with("model", "Only", 2)

    def test_both_waits_together_have_the_timeout(self, hook):
        hook.describe_endpoint.return_value = described("Updating")
        op = operator(timeout=60)
        op.__dict__["clock"] = lambda: 1_000.0
        first = op.submit(op.request({}), {})
        hook.describe_endpoint.return_value = described()
        op.__dict__["clock"] = lambda: 1_050.0
        second = op.follow(first, {})
        assert [op.trigger(one).deadline_at for one in (first, second)] == [1_060.0, 1_060.0]

    def test_one_in_motion_is_an_error_for_who_does_not_wait(self, hook, context):
        hook.describe_endpoint.return_value = described("Updating", current=1, desired=3)
        with pytest.raises(EndpointNotReady, match="it is Updating, 1 of 3 instances"):
            operator(wait_for_completion=False).execute(context)
        hook.set_capacity.assert_not_called()

    def test_what_the_service_says_to_the_change_is_the_tasks_error(self, hook, context):
        hook.set_capacity.side_effect = ServiceUnavailable("busy")
        with pytest.raises(ServiceUnavailable, match="busy"):
            operator().execute(context)


class TestEndings:
    def test_success_tells_how_many_there_are(self, hook):
        outcome = Outcome(end=End.SUCCEEDED, seen_at=1_100.0)
        assert resumed(handle(), outcome) == {"endpoint_name": "model", "instances": 3}

    def test_an_endpoint_that_went_in_the_last_moment_has_none(self, hook):
        hook.describe_endpoint.return_value = None
        assert resumed(handle(), Outcome(end=End.SUCCEEDED, seen_at=1_100.0))["instances"] == 0

    def test_after_another_change_the_resumed_task_makes_its_own(self, hook, context):
        outcome = Outcome(end=End.SUCCEEDED, seen_at=1_100.0)
        resumed(handle("Settled", count=0), outcome, context)
        hook.set_capacity.assert_called_once_with("model", "Only", 2)
        assert hook.look_at_endpoint.call_args.args[0].submitted_at == 1_000.0

    def test_instances_that_cannot_come_are_an_error(self, hook):
        outcome = Outcome(end=End.FAILED, seen_at=1_100.0, detail="Failed: no capacity.")
        with pytest.raises(
            EndpointNotReady, match="is not in service with at least 2 instances after 100 s: Failed: no cap"
        ):
            resumed(handle(), outcome)

    def test_instances_that_take_too_long_are_an_error(self, hook):
        with pytest.raises(WaitTimedOut, match="was not in service with at least 2 instances after 100 s"):
            resumed(handle(), Outcome(end=End.TIMED_OUT, seen_at=1_100.0))
