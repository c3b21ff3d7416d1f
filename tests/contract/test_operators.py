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

try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowFailException


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
        assert set(result) == {"endpoint_name", "inference_id", "output_location"}
        answer = world.get(result["output_location"])
        assert answer["Body"].read() == received
        assert answer["ContentType"] == content_type

    def test_an_object_in_s3_is_sent(self, run, world, echo):
        location = world.put(b"a,b\n1,2\n", ContentType="text/csv")
        result = run(SageMakerAsyncInvokeOperator, endpoint_name=echo, input_location=location)
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
        with pytest.raises(WaitTimedOut, match="has no answer after 2 s"):
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

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"payload": None}, "neither is given"),
            ({"input_location": "s3://bucket/in"}, "both are given"),
            ({"payload": b""}, "The payload is empty"),
            (
                {"payload": b"x" * 128_001},
                "payload has 128,001 bytes; SageMaker accepts at most 128,000 inline",
            ),
            ({"payload": object()}, "payload of type object cannot be written as JSON"),
            ({"payload": None, "input_location": "bucket/in"}, "input_location is 'bucket/in'"),
            ({"payload": None, "input_location": "s3://bucket/"}, "names no object"),
            ({"request_ttl": 59}, "request_ttl is 59 seconds; SageMaker accepts 60 to 21,600"),
            ({"request_ttl": 21_601}, "request_ttl is 21,601 seconds"),
            ({"invocation_timeout": 0}, "invocation_timeout is 0 seconds; SageMaker accepts 1 to 3,600"),
            ({"invocation_timeout": 3_601}, "invocation_timeout is 3,601 seconds"),
            ({"inference_id": "x" * 65}, "inference_id has 65 characters"),
            ({"endpoint_name": "no-such-endpoint"}, "Endpoint 'no-such-endpoint' does not exist"),
            ({"endpoint_name": "arn:aws:sagemaker:us-east-1:1:endpoint/x"}, "a name, not an ARN"),
        ],
    )
    def test_bad_input_is_refused_before_anything_is_submitted(self, run, world, echo, change, complaint):
        before = len(world.emulator.requests())
        with pytest.raises(RequestRejected) as refused:
            run(SageMakerAsyncInvokeOperator, **({"endpoint_name": echo, "payload": [1]} | change))
        assert complaint in str(refused.value)
        assert "Nothing was submitted" in str(refused.value)
        assert isinstance(refused.value, AirflowFailException)
        assert len(world.emulator.requests()) == before

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
