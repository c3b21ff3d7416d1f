"""What can only be seen below the level of boto3."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest


def get(url, **options):
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=10) as answer:
        return json.load(answer)


def error(url, **options):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, **options)
    with caught.value as answer:
        return answer.code, answer.headers["x-amzn-ErrorType"], json.load(answer)


SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/sagemaker/aws4_request, Signature=x",
    "Content-Type": "application/x-amz-json-1.1",
}


def test_requests_can_be_read_as_json(world, echo):
    record = world.ended(world.submit(echo, InferenceId="to-be-seen"))
    listed = get(f"{world.emulator.url}/_emulator/requests")
    assert record.as_json() in listed
    assert {"inference_id": "to-be-seen", "state": "succeeded"}.items() <= listed[-1].items()


def test_endpoints_can_be_read_as_json(world, echo):
    world.ended(world.submit(echo, mode="refuse"))
    found = [e for e in get(f"{world.emulator.url}/_emulator/endpoints") if e["EndpointName"] == echo]
    assert found[0]["Region"] == "us-east-1"
    assert found[0]["EndpointStatus"] == "InService"
    assert found[0]["Requests"]["failed"] >= 1
    assert found[0]["Requests"]["expired"] == 0


def test_other_page_is_not_found(world):
    code, _, body = error(f"{world.emulator.url}/_emulator/other")
    assert (code, "/_emulator/requests" in body["error"]) == (404, True)


def test_unsigned_request_is_refused(world, echo):
    url = f"{world.emulator.url}/endpoints/{echo}/async-invocations"
    code, kind, body = error(url, data=b"x")
    assert (code, kind) == (403, "MissingAuthenticationTokenException")
    assert body["message"] == "Missing Authentication Token"


@pytest.mark.parametrize("body", [b"{not json", b"[]", b""])
def test_request_that_is_no_json_object_is_refused(world, body):
    code, kind, _ = error(
        world.emulator.url, data=body, headers={**SIGNED, "X-Amz-Target": "SageMaker.CreateEndpoint"}
    )
    assert (code, kind) == (400, "ValidationException" if not body else "SerializationException")


def test_name_that_is_no_text_is_refused(world):
    headers = {**SIGNED, "X-Amz-Target": "SageMaker.DescribeEndpoint"}
    code, kind, _ = error(world.emulator.url, data=b'{"EndpointName": 7}', headers=headers)
    assert (code, kind) == (400, "ValidationException")


def test_number_that_is_none_is_refused(world, echo):
    headers = {**SIGNED, "X-Amzn-SageMaker-RequestTTLSeconds": "an hour"}
    url = f"{world.emulator.url}/endpoints/{echo}/async-invocations"
    code, kind, body = error(url, data=b"x", headers=headers)
    assert (code, kind, "must be a whole number" in body["message"]) == (400, "ValidationError", True)


def test_bucket_with_the_name_of_the_runtime_path_is_still_a_bucket(world):
    world.s3.create_bucket(Bucket="endpoints")
    upload = world.s3.create_multipart_upload(Bucket="endpoints", Key="a/invocations")
    assert upload["UploadId"]


@pytest.mark.parametrize(
    ("service", "call", "member"),
    [
        ("sns", "list_topics", "Topics"),
        ("cloudwatch", "describe_alarms", "MetricAlarms"),
        ("sts", "get_caller_identity", "Account"),
    ],
)
def test_other_services_answer(world, service, call, member):
    assert member in getattr(world.emulator.client(service), call)()


def test_notification_reaches_a_queue(world):
    sns, sqs = world.emulator.client("sns"), world.emulator.client("sqs")
    queue = sqs.create_queue(QueueName="results")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="results")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="done")
    message = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"][0]
    assert json.loads(message["Body"])["Message"] == "done"
