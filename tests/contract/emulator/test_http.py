"""What can only be seen below the level of boto3."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import boto3
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


def test_faults_and_clock_are_reached_over_http(world):
    url = f"{world.emulator.url}/_emulator"
    slow = json.dumps({"kind": "slow_answer", "seconds": 0.5, "operation": "ListTopics"}).encode()
    added = get(f"{url}/faults", data=slow)["added"]
    assert get(f"{url}/faults/{added[0]}", method="DELETE")["faults"] == []
    assert get(f"{url}/clock")["kind"] == "running"
    assert error(f"{url}/clock", data=b'{"advance": 1}')[0] == 409


def test_page_is_for_people_and_buckets_are_for_clients(world, echo):
    page = urllib.request.Request(world.emulator.url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        text = answer.read().decode()
    assert echo in text
    with urllib.request.urlopen(world.emulator.url, timeout=10) as answer:
        assert b"ListAllMyBucketsResult" in answer.read()


def test_unsigned_request_is_refused(world, echo):
    url = f"{world.emulator.url}/endpoints/{echo}/async-invocations"
    code, kind, body = error(url, data=b"x")
    assert (code, kind) == (403, "MissingAuthenticationTokenException")
    assert body["message"] == "Missing Authentication Token"


class TestWebPages:
    """A page in a browser can make it send requests to a local server, and must get nowhere with them."""

    @pytest.mark.parametrize("path", ["/", "/_emulator/requests", "/endpoints/e/async-invocations", "/b/k"])
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_request_of_another_site_is_refused(self, world, path, method):
        headers = {**SIGNED, "Origin": "https://attacker.example", "Access-Control-Request-Method": "PUT"}
        code, kind, _ = error(world.emulator.url + path, method=method, headers=headers)
        assert (code, kind) == (403, "AccessDeniedException")

    def test_refusal_does_not_open_the_way_for_other_sites(self, world):
        headers = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "PUT"}
        request = urllib.request.Request(world.emulator.url, method="OPTIONS", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request, timeout=10):
            pass
        with caught.value as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers

    def test_foreign_name_of_this_machine_is_refused(self, world):
        code, kind, _ = error(world.emulator.url, headers={**SIGNED, "Host": "attacker.example"})
        assert (code, kind) == (403, "AccessDeniedException")

    def test_link_of_another_site_reaches_the_pages_and_nothing_else(self, world):
        headers = {"Sec-Fetch-Site": "cross-site"}
        assert isinstance(get(f"{world.emulator.url}/_emulator/requests", headers=headers), list)
        page = urllib.request.Request(world.emulator.url, headers={"Accept": "text/html", **headers})
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert answer.status == 200
        unsigned = f"{world.emulator.url}/sqs_us-east-1/?Action=ListQueues"
        with (
            pytest.raises(urllib.error.HTTPError) as caught,
            urllib.request.urlopen(urllib.request.Request(unsigned, headers=headers), timeout=10),
        ):
            pass
        with caught.value as answer:
            assert answer.code == 403

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "reset"), ("DELETE", "faults"), ("PATCH", "settings")]
    )
    @pytest.mark.parametrize(
        "headers",
        [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://attacker.example"}, {"Origin": "null"}],
    )
    def test_nothing_is_changed_for_another_site(self, world, method, path, headers):
        code, kind, _ = error(f"{world.emulator.url}/_emulator/{path}", method=method, headers=headers)
        assert (code, kind) == (403, "AccessDeniedException")

    def test_own_page_may_use_it(self, world):
        page = f"{world.emulator.url}/_emulator/requests"
        assert isinstance(get(page, headers={"Origin": world.emulator.url}), list)

    @pytest.mark.parametrize("host", ["contract-bucket.localhost", "contract-bucket.s3.localhost"])
    def test_bucket_in_the_name_of_the_host_is_let_through(self, world, host):
        address = urlsplit(world.emulator.url)
        with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port)) as connection:
            connection.request("GET", "/absent", headers={"Host": f"{host}:{address.port}"})
            # It is S3 that answers.
            assert connection.getresponse().status == 404


def test_assumed_role_is_in_the_same_account(world, echo):
    role = world.emulator.client("sts").assume_role(
        RoleArn="arn:aws:iam::210987654321:role/other", RoleSessionName="session"
    )["Credentials"]
    session = boto3.Session(role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"], "us-east-1")
    clients = [session.client(name, endpoint_url=world.emulator.url) for name in ("sts", "s3", "sagemaker")]
    sts, s3, control = clients
    assert sts.get_caller_identity()["Account"] == "123456789012"
    assert "contract-bucket" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert control.describe_model(ModelName=echo)["ModelName"] == echo
    for client in clients:
        client.close()


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
