"""The operators against the emulator: waiting on the worker and in the triggerer come to the same."""

from __future__ import annotations

import pytest

from airflow_async_sm.exceptions import (
    InferenceExpired,
    InferenceFailed,
    RequestRejected,
    WaitTimedOut,
)
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator


class TestInvoke:
    @pytest.mark.parametrize(
        ("payload", "received", "content_type"),
        [
            ({"instances": [[1, 2]]}, b'{"instances":[[1,2]]}', "application/json"),
            ("1,2\n", b"1,2\n", "text/plain; charset=utf-8"),
            (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
        ],
    )
    def test_the_model_gets_the_payload_and_its_answer_is_pointed_to(
        self, run, world, echo, payload, received, content_type
    ):
        result = run(
            SageMakerAsyncInvokeOperator, endpoint_name=echo, payload=payload, custom_attributes="echo"
        )
        assert (result["content_type"], result["size"]) == (content_type, len(received))
        assert world.body(result["output_location"]) == received

    def test_an_object_in_s3_is_sent(self, run, world, echo):
        location = world.put(b"a,b\n1,2\n", ContentType="text/csv")
        result = run(
            SageMakerAsyncInvokeOperator,
            endpoint_name=echo,
            input_location=location,
            custom_attributes="echo",
        )
        assert result["input_location"] == location
        assert world.body(result["output_location"]) == b"a,b\n1,2\n"

    def test_a_model_that_answers_400_fails_the_task_with_its_words(self, run, echo):
        with pytest.raises(InferenceFailed) as failed:
            run(SageMakerAsyncInvokeOperator, endpoint_name=echo, payload=[1], custom_attributes="refuse")
        assert '{"message": "Unknown task", "status":  "error"}' in str(failed.value)
        assert failed.value.endpoint_name == echo
        assert failed.value.location.endswith("-error.out")

    def test_a_model_that_hangs_beyond_its_invocation_timeout_fails_the_task(self, run, echo):
        with pytest.raises(InferenceFailed, match="Timed out"):
            run(
                SageMakerAsyncInvokeOperator,
                endpoint_name=echo,
                payload=[1],
                custom_attributes="hang",
                invocation_timeout=1,
            )

    def test_the_tasks_own_deadline_ends_the_wait(self, run, echo):
        # It may have taken longer until that was seen, but not less.
        with pytest.raises(WaitTimedOut, match=r"has no answer after ([2-9]|\d\d+) s"):
            run(
                SageMakerAsyncInvokeOperator,
                endpoint_name=echo,
                payload=[1],
                custom_attributes="hang",
                invocation_timeout=30,
                timeout=2,
            )

    def test_a_failure_that_leaves_no_trace_ends_as_expired(self, run, world, monkeypatch):
        monkeypatch.setattr("airflow_async_sm.core.limits.EXPIRY_SLACK", -58)
        name = world.deploy(failure=None)
        with pytest.raises(InferenceExpired, match="has no failure path.*/aws/sagemaker/Endpoints/"):
            run(
                SageMakerAsyncInvokeOperator,
                endpoint_name=name,
                payload=[1],
                custom_attributes="refuse",
                request_ttl=60,
                invocation_timeout=1,
            )

    def test_an_endpoint_that_is_not_asynchronous_is_refused(self, run, world):
        name = world.deploy(asynchronous=False)
        with pytest.raises(RequestRejected, match="is not asynchronous.*Nothing was submitted"):
            run(SageMakerAsyncInvokeOperator, endpoint_name=name, payload=[1])

    def test_a_handle_comes_back_at_once_where_nobody_waits(self, run, world, echo):
        result = run(
            SageMakerAsyncInvokeOperator,
            endpoint_name=echo,
            payload=[1],
            custom_attributes="hang",
            invocation_timeout=1,
            wait_for_completion=False,
        )
        assert set(result) >= {"inference_id", "output_location", "failure_location", "expires_at"}
        assert world.record({"OutputLocation": result["output_location"]}).state in {"queued", "running"}
