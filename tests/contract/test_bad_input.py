"""Bad input of a request: what is wrong, which value, what to do; and nothing is submitted or uploaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from airflow_async_sm.exceptions import RequestRejected
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from tests.world import BUCKET

try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowFailException

NONE = {"payload": None}
WORK = f"s3://{BUCKET}/work"


def broken(_):
    raise ZeroDivisionError("no such row: " + 300 * "x" + "patient")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        # Which payload
        (NONE, "Give exactly one of payload, payload_path and input_location; there is none"),
        ({"input_location": "s3://b/in"}, "there is payload, input_location"),
        ({"payload_path": "/in.csv"}, "there is payload, payload_path"),
        (NONE | {"payload_path": "/in.csv", "input_location": "s3://b/in"}, "payload_path, input_location"),
        # What it is
        ({"payload": b""}, "The payload is empty: it has 0 bytes"),
        ({"payload": ""}, "there is none"),
        ({"payload": "None"}, "payload is the text 'None'"),
        ({"payload": object()}, "object"),
        ({"payload": {"score": math.nan}}, "Out of range float values"),
        ({"payload": "\ud800"}, "UTF-8"),
        ({"payload": {"a": 1}, "content_type": "application/octet-stream"}, "serializer"),
        ({"payload": 5, "content_type": "text/csv"}, "CSV"),
        ({"payload": 5, "content_type": "application/jsonlines"}, "JSON Lines"),
        ({"payload": [object()], "content_type": "application/x-npy"}, "can only hold as a pickle"),
        ({"serializer": broken}, "no such row"),
        ({"serializer": lambda value: {"a": 1}}, "dict"),
        ({"serializer": "json"}, "serializer is 'json'"),
        (NONE | {"payload_path": "/no/such/file.csv"}, "/no/such/file.csv"),
        (NONE | {"payload_path": "/"}, "'/' is a directory; give the path of one file"),
        (NONE | {"payload_path": Path("/no/such")}, "/no/such"),
        (NONE | {"payload_path": "nosuchstore://bucket/in"}, "nosuchstore"),
        (NONE | {"payload_path": "None"}, "payload_path is the text 'None'"),
        (NONE | {"payload_path": "s3://bucket"}, "names no object"),
        # Where it is
        (NONE | {"input_location": "bucket/in"}, "input_location is 'bucket/in'; "),
        (NONE | {"input_location": "s3://bucket/"}, "it names no object, expected s3://bucket/key"),
        (NONE | {"input_location": "s3://bucket/ä.csv"}, "an S3 URI of visible ASCII characters"),
        (NONE | {"input_location": "s3://b/" + "x" * 1_024}, "input_location has 1,031 characters"),
        # How it is sent
        ({"payload_transport": "http"}, "payload_transport is 'http'; give one of 'auto', 'inline', 's3'"),
        ({"payload_transport": "s3"}, "there is no work_prefix to put it under"),
        ({"payload": b"x" * 128_001}, "128,001 bytes and a request may have at most 128,000"),
        ({"payload": b"x" * 128_001, "payload_transport": "inline"}, "payload_transport is 'inline', but"),
        ({"payload_transport": "s3", "work_prefix": "work"}, "work_prefix is 'work'; expected s3://"),
        ({"work_prefix": "None"}, "work_prefix is the text 'None'"),
        ({"delete_input": True, "wait_for_completion": False}, "delete_input is given with"),
        (NONE | {"input_location": "s3://b/in", "serializer": str}, "serializer is given with 's3://b/in'"),
        # Members of the request
        ({"request_ttl": 59}, "request_ttl is 59 seconds; SageMaker accepts 60 to 21,600"),
        ({"request_ttl": 21_601}, "request_ttl is 21,601 seconds"),
        ({"request_ttl": "soon"}, "request_ttl is 'soon'; a whole number"),
        ({"request_ttl": True}, "request_ttl is True; a whole number"),
        ({"invocation_timeout": 0}, "invocation_timeout is 0 seconds; SageMaker accepts 1 to 3,600"),
        ({"invocation_timeout": 3_601}, "invocation_timeout is 3,601 seconds"),
        ({"inference_id": "x" * 65}, "inference_id has 65 characters"),
        ({"inference_id": " id"}, "visible ASCII text that does not begin with a space"),
        ({"content_type": "text/plain\nX: y"}, "content_type"),
        ({"accept": "ä"}, "accept is 'ä'; SageMaker accepts visible ASCII text on one line"),
        ({"custom_attributes": "x" * 1_025}, "custom_attributes has 1,025 characters"),
        ({"filename": "a.b.c"}, "filename is 'a.b.c'"),
        ({"filename": "x" * 33}, "filename has 33 characters"),
        ({"s3_output_path_extension": "s3://other/folder"}, "(no bucket)"),
        ({"s3_output_path_extension": "x" * 513}, "s3_output_path_extension has 513 characters"),
        (
            {"filename": "a", "s3_output_path_extension": "b"},
            "s3_output_path_extension and filename together",
        ),
        ({"accept": b"text/csv"}, "accept must be text, not bytes"),
        ({"sse_kms_key_id": "no key!"}, "sse_kms_key_id is 'no key!'; SageMaker accepts a KMS key id"),
        # What comes of it
        ({"result": "yaml"}, "yaml"),
        ({"result": "json", "result_schema": "object"}, "result_schema"),
        ({"result_schema": {"type": "object"}}, "result_schema needs a value to check"),
        ({"result": "json", "result_schema": {"type": "no such type"}}, "no such type"),
        ({"max_result_bytes": 0}, "max_result_bytes is 0"),
        ({"on_large_result": "cut"}, "on_large_result is 'cut'; expected 'fail' or 'location'"),
        ({"copy_to": "s3://"}, "copy_to"),
        ({"copy_to": "nosuchstore://bucket/out"}, "nosuchstore"),
        # What to do when
        ({"on_clear": "again"}, "on_clear is 'again'; expected one of reattach, fresh"),
        ({"on_403": "ignore"}, "on_403 is 'ignore'; expected one of fail, wait"),
        ({"botocore_config": {"proxies": "http://proxy"}}, "botocore_config['proxies'] is no dictionary"),
        # Which endpoint
        ({"endpoint_name": "no-such-endpoint"}, "Endpoint 'no-such-endpoint' does not exist"),
        ({"endpoint_name": "arn:aws:sagemaker:us-east-1:1:endpoint/x"}, "a name, not an ARN"),
        ({"endpoint_name": "x" * 64}, "endpoint_name has 64 characters"),
        ({"endpoint_name": ""}, "endpoint_name is empty"),
    ],
)
def test_it_is_refused_before_anything_is_submitted(run, world, echo, change, complaint):
    before = len(world.emulator.requests())
    with pytest.raises(RequestRejected) as refused:
        run(SageMakerAsyncInvokeOperator, **({"endpoint_name": echo, "payload": [1]} | change))
    assert complaint in str(refused.value)
    assert "Nothing was submitted" in str(refused.value)
    assert "patient" not in str(refused.value)
    assert isinstance(refused.value, AirflowFailException)
    assert len(world.emulator.requests()) == before
    assert world.s3.list_objects_v2(Bucket=BUCKET, Prefix="work/")["KeyCount"] == 0
