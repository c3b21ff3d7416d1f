from __future__ import annotations

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.requests import InvocationRequest


def test_only_what_was_given_is_sent():
    request = InvocationRequest(endpoint_name="model", body=b"1")
    assert request.to_api() == {"EndpointName": "model", "Body": b"1"}


def test_every_member_gets_its_aws_name():
    request = InvocationRequest(
        endpoint_name="model",
        input_location="s3://bucket/in.csv",
        content_type="text/csv",
        accept="application/json",
        custom_attributes="run=7",
        inference_id="id-1",
        request_ttl=60,
        invocation_timeout=3600,
        s3_output_path_extension="run-7",
        filename="out.json",
    )
    assert request.to_api() == {
        "EndpointName": "model",
        "InputLocation": "s3://bucket/in.csv",
        "ContentType": "text/csv",
        "Accept": "application/json",
        "CustomAttributes": "run=7",
        "InferenceId": "id-1",
        "RequestTTLSeconds": 60,
        "InvocationTimeoutSeconds": 3600,
        "S3OutputPathExtension": "run-7",
        "Filename": "out.json",
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "neither is given"),
        ({"body": b"", "input_location": "s3://bucket/in"}, "both are given"),
        ({"body": b""}, "The payload is empty"),
        ({"endpoint_name": "", "body": b"1"}, "endpoint_name is empty"),
        ({"endpoint_name": None, "body": b"1"}, "endpoint_name must be text"),
        ({"body": b"x" * 128_001}, "body is 128,001 bytes; SageMaker accepts 0 to 128,000"),
        ({"input_location": "/data/in.csv"}, "SageMaker accepts an S3 URI"),
        ({"input_location": "s3://bucket/"}, "names no object"),
        ({"input_location": "s3://bucket/später"}, "others break the request's signature"),
        ({"input_location": "s3://bucket/" + "k" * 1024}, "at most 1,024"),
        ({"body": b"1", "request_ttl": 59}, "request_ttl is 59 seconds"),
        ({"body": b"1", "invocation_timeout": 0}, "invocation_timeout is 0 seconds"),
        ({"body": b"1", "invocation_timeout": 3601}, "invocation_timeout is 3,601 seconds"),
        ({"body": b"1", "inference_id": "x" * 65}, "inference_id has 65 characters"),
        ({"body": b"1", "custom_attributes": "\n"}, "custom_attributes is"),
        ({"body": b"1", "content_type": "ü"}, "content_type is 'ü'"),
    ],
)
def test_bad_input_is_refused(arguments, complaint):
    with pytest.raises(InvalidInput) as caught:
        InvocationRequest(**({"endpoint_name": "model"} | arguments))
    assert complaint in str(caught.value)


def test_a_request_expires_after_its_queue_time_its_run_time_and_some_slack():
    given = InvocationRequest(endpoint_name="model", body=b"1", request_ttl=60, invocation_timeout=10)
    assert given.expires_at(1_000) == 1_000 + 60 + 10 + 300
    default = InvocationRequest(endpoint_name="model", body=b"1")
    assert default.expires_at(1_000) == 1_000 + 21_600 + 900 + 300


def test_the_payload_is_not_in_the_representation():
    assert "secret" not in repr(InvocationRequest(endpoint_name="model", body=b"secret"))
