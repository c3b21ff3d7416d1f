"""What real clients make of the faults at the front door."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from airflow_async_sm.emulator.settings.faults import (
    ExpiredCredentials,
    ListDenied,
    ReplyLost,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    Throttled,
)
from tests.door import Door
from tests.world import eventually


@pytest.fixture(scope="module")
def shared():
    with Door() as door:
        s3 = door.client("s3")
        s3.create_bucket(Bucket="near")
        s3.put_object(Bucket="near", Key="there", Body=b"content")
        door.client("s3", "eu-west-1").create_bucket(
            Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        door.own_clients.get("s3").put_object(Bucket="far", Key="there", Body=b"content")
        yield door


@pytest.fixture
def door(shared):
    shared.counters.reset()
    yield shared
    shared.board.clear()


@pytest.fixture
def connect(door):
    """Return a function that makes a client with a configuration and credentials of its own."""
    clients = []

    def make(service, *, access_key_id="testing", region="us-east-1", attempts=1, **config):
        config = {"retries": {"total_max_attempts": attempts}, "proxies": {}, **config}
        session = boto3.Session(access_key_id, "secret", region_name=region)
        clients.append(session.client(service, endpoint_url=door.url, config=Config(**config)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def refusal(call, *arguments, **members):
    """Return status, code, message and the number of retries of a call that is refused."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    answer = caught.value.response
    metadata = answer["ResponseMetadata"]
    return (
        metadata["HTTPStatusCode"],
        answer["Error"]["Code"],
        answer["Error"].get("Message", ""),
        metadata["RetryAttempts"],
    )


CALLS = {
    "sagemaker-runtime": lambda client: client.invoke_endpoint_async(EndpointName="e", Body=b"x"),
    "sagemaker": lambda client: client.describe_endpoint(EndpointName="e"),
    "application-autoscaling": lambda client: client.describe_scalable_targets(ServiceNamespace="sagemaker"),
    "cloudwatch": lambda client: client.describe_alarms(),
    "sqs": lambda client: client.list_queues(),
    "sns": lambda client: client.list_topics(),
    "sts": lambda client: client.get_caller_identity(),
    "s3": lambda client: client.get_object(Bucket="near", Key="there"),
}
HEAD = {"Bucket": "near", "Key": "there"}


class TestServiceFailed:
    @pytest.mark.parametrize("service", CALLS)
    @pytest.mark.parametrize("status", [500, 503])
    def test_every_service_says_it_in_its_own_way(self, door, connect, service, status):
        door.board.add(ServiceFailed(service=service, status=status))
        codes = {500: "InternalError" if service == "s3" else "InternalFailure", 503: "ServiceUnavailable"}
        assert refusal(CALLS[service], connect(service))[:2] == (status, codes[status])
        assert door.counters.as_data()["errors"] == {codes[status]: 1}

    def test_other_services_go_on(self, door):
        door.board.add(ServiceFailed(service="s3"))
        assert door.client("sns").list_topics()["Topics"] == []

    def test_clients_try_again(self, door, connect):
        door.board.add(ServiceFailed(status=503, operation="InvokeEndpointAsync", times=2))
        answer = CALLS["sagemaker-runtime"](connect("sagemaker-runtime", attempts=3))
        assert answer["ResponseMetadata"]["RetryAttempts"] == 2
        data = door.counters.as_data()
        assert data["calls"]["sagemaker-runtime"] == {"InvokeEndpointAsync": 3}
        # What was refused was not queued.
        assert data["submissions"]["total"] == 1

    def test_head_of_s3_has_a_bare_status(self, door, connect):
        door.board.add(ServiceFailed(operation="HeadObject"))
        assert refusal(connect("s3").head_object, **HEAD)[:2] == (500, "500")

    def test_cbor(self, door):
        door.board.add(ServiceFailed(service="cloudwatch"))
        request = urllib.request.Request(
            f"{door.url}/service/GraniteServiceVersion20100801/operation/PutMetricData", data=b"\xa0"
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        with caught.value as answer:
            assert (answer.code, answer.headers["smithy-protocol"]) == (500, "rpc-v2-cbor")
            assert answer.read().startswith(b"\xa2\x66__type\x6fInternalFailure\x67message\x79\x00\x33We ")
        assert door.counters.as_data()["errors"] == {"InternalFailure": 1}


class TestThrottled:
    @pytest.mark.parametrize("service", ["sagemaker", "sagemaker-runtime"])
    @pytest.mark.parametrize(
        ("position", "status"), [("bad_request", 400), ("too_many_requests", 429)], ids=["400", "429"]
    )
    def test_status_is_a_setting(self, door, connect, service, position, status):
        door.board.add(Throttled())
        door.knobs.change(unknowns={"throttling_status": position})
        try:
            assert refusal(CALLS[service], connect(service))[:2] == (status, "ThrottlingException")
        finally:
            door.knobs.change(unknowns={"throttling_status": "bad_request"})

    def test_clients_know_that_it_is_throttling(self, door, connect):
        door.board.add(Throttled(times=1))
        answer = CALLS["sagemaker-runtime"](connect("sagemaker-runtime", attempts=2))
        assert answer["ResponseMetadata"]["RetryAttempts"] == 1

    def test_one_operation_of_one_endpoint(self, door, connect):
        door.board.add(Throttled(operation="DescribeEndpoint", endpoint="Mine"))
        client = connect("sagemaker")
        assert refusal(client.describe_endpoint, EndpointName="mine")[1] == "ThrottlingException"
        client.describe_endpoint(EndpointName="other")
        client.delete_endpoint(EndpointName="mine")

    def test_other_services_are_not_throttled(self, door):
        door.board.add(Throttled())
        for service in ("s3", "sns", "sts"):
            CALLS[service](door.client(service))


class TestExpiredCredentials:
    @pytest.mark.parametrize("service", CALLS)
    def test_every_service_says_it_in_its_own_way(self, door, connect, service):
        door.board.add(ExpiredCredentials())
        code = "ExpiredToken" if service in ("s3", "sns", "sts") else "ExpiredTokenException"
        status, found, _, retries = refusal(CALLS[service], connect(service, attempts=3))
        assert (status, found, retries) == (400 if service == "s3" else 403, code, 0)

    def test_head_of_s3_makes_the_client_look_for_the_region(self, door, connect):
        door.board.add(ExpiredCredentials())
        assert refusal(connect("s3", attempts=3).head_object, **HEAD)[:2] == (400, "400")
        assert door.counters.as_data()["calls"]["s3"] == {"HeadBucket": 1, "HeadObject": 1}

    def test_one_key_of_several(self, door, connect):
        door.board.add(ExpiredCredentials(access_key_id="OLD"))
        assert refusal(CALLS["sts"], connect("sts", access_key_id="OLD"))[1] == "ExpiredToken"
        CALLS["sts"](connect("sts", access_key_id="NEW"))

    def test_presigned_address(self, door, connect):
        client = connect("s3", access_key_id="OLD")
        url = client.generate_presigned_url("get_object", Params=HEAD)
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"content"
        door.board.add(ExpiredCredentials(access_key_id="OLD"))
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=10)
        with caught.value as answer:
            assert (answer.code, b"<Code>ExpiredToken</Code>" in answer.read()) == (400, True)


class TestS3:
    def test_slow_down(self, door, connect):
        door.board.add(S3SlowDown())
        assert refusal(CALLS["s3"], connect("s3", attempts=3))[:2] == (503, "SlowDown")
        assert refusal(connect("s3").head_object, **HEAD)[:2] == (503, "503")
        assert door.counters.as_data()["calls"]["s3"] == {"GetObject": 3, "HeadObject": 1}

    def test_slow_down_of_one_bucket_and_call(self, door, connect):
        door.board.add(S3SlowDown(bucket="near", operation="HeadObject"))
        CALLS["s3"](door.client("s3"))
        assert refusal(connect("s3").head_object, **HEAD)[1] == "503"
        assert refusal(connect("s3").head_object, Bucket="absent", Key="k")[1] == "404"

    def test_denied(self, door, connect):
        door.board.add(S3Denied(operation="GetObject"))
        assert refusal(CALLS["s3"], connect("s3", attempts=3)) == (403, "AccessDenied", "Access Denied", 0)
        assert connect("s3").head_object(**HEAD)["ContentLength"] == 7

    @pytest.mark.parametrize(
        ("call", "action"), [("get_object", "Decrypt"), ("put_object", "GenerateDataKey")]
    )
    def test_key_that_may_not_be_used(self, door, connect, call, action):
        door.board.add(S3Denied(kms=True))
        status, code, message, _ = refusal(getattr(connect("s3"), call), **HEAD)
        assert (status, code) == (403, "AccessDenied")
        assert f"not authorized to perform: kms:{action}" in message

    def test_denied_head_has_a_bare_status(self, door, connect):
        door.board.add(S3Denied())
        assert refusal(connect("s3").head_object, **HEAD)[:2] == (403, "403")


class TestListDenied:
    @pytest.mark.parametrize(
        ("call", "code"),
        [("list_objects", "AccessDenied"), ("list_objects_v2", "AccessDenied"), ("head_bucket", "403")],
    )
    def test_listing_is_denied(self, door, connect, call, code):
        door.board.add(ListDenied(bucket="near"))
        assert refusal(getattr(connect("s3"), call), Bucket="near")[:2] == (403, code)

    @pytest.mark.parametrize(("call", "code"), [("head_object", "403"), ("get_object", "AccessDenied")])
    def test_missing_key_looks_denied(self, door, connect, call, code):
        door.board.add(ListDenied())
        client = connect("s3", attempts=3)
        found = refusal(getattr(client, call), Bucket="near", Key="absent")
        assert (found[0], found[1], found[3]) == (403, code, 0)
        assert getattr(client, call)(**HEAD)["ContentLength"] == 7

    def test_only_cases_that_it_changes_use_it_up(self, door, connect):
        door.board.add(ListDenied(times=1))
        client = connect("s3")
        client.get_object(**HEAD)
        assert set(door.board.hits().values()) == {0}
        assert refusal(client.get_object, Bucket="near", Key="absent")[1] == "AccessDenied"
        assert refusal(client.get_object, Bucket="near", Key="absent")[1] == "NoSuchKey"

    def test_missing_bucket_is_still_missing(self, door, connect):
        door.board.add(ListDenied())
        assert refusal(connect("s3").get_object, Bucket="nowhere", Key="k")[1] == "NoSuchBucket"
        assert refusal(connect("s3").get_object, Bucket="absent-bucket", Key="k")[:2] == (404, "NoSuchBucket")


class TestReplyLost:
    def test_work_is_done_and_the_connection_is_closed(self, door, connect):
        door.board.add(ReplyLost(times=1))
        with pytest.raises(ConnectionClosedError):
            CALLS["sagemaker-runtime"](connect("sagemaker-runtime"))
        assert door.counters.as_data()["submissions"]["total"] == 1
        CALLS["sagemaker-runtime"](connect("sagemaker-runtime"))

    def test_client_that_tries_again_submits_twice(self, door, connect):
        door.board.add(ReplyLost(times=1))
        client = connect("sagemaker-runtime", attempts=2)
        client.invoke_endpoint_async(EndpointName="e", Body=b"x", InferenceId="same")
        submissions = door.counters.as_data()["submissions"]
        assert submissions["by_inference_id"] == {"same": 2}
        assert submissions["more_than_once"] == {"inference_id": 1, "payload": 1}

    def test_reply_that_is_late_is_a_timeout(self, door, connect):
        door.board.add(ReplyLost(seconds=3600.0))
        with pytest.raises(ReadTimeoutError):
            CALLS["sagemaker-runtime"](connect("sagemaker-runtime", read_timeout=0.3))
        # The client may have given up before it was counted.
        eventually(lambda: door.counters.as_data()["submissions"]["total"] == 1)

    def test_any_call_of_one_endpoint(self, door, connect):
        door.board.add(ReplyLost(operation=None, endpoint="mine"))
        with pytest.raises(ConnectionClosedError):
            connect("sagemaker").create_endpoint(EndpointName="mine", EndpointConfigName="c")
        assert ("create_endpoint", "us-east-1") in [asked[:2] for asked in door.behind.asked]
        CALLS["s3"](connect("s3"))

    def test_connection_goes_on_after_other_answers(self, door):
        client = door.client("sagemaker-runtime")
        for _ in range(3):
            CALLS["sagemaker-runtime"](client)


class TestWrongRegion:
    @pytest.mark.parametrize("region", ["us-east-1", "ap-south-1"])
    def test_clients_find_the_bucket_and_remember(self, door, connect, region):
        client = connect("s3", region=region)
        assert client.get_object(Bucket="far", Key="there")["Body"].read() == b"content"
        assert client.head_object(Bucket="far", Key="there")["ContentLength"] == 7
        assert "there" in [found["Key"] for found in client.list_objects_v2(Bucket="far")["Contents"]]
        client.put_object(Bucket="far", Key="new", Body=b"x" * 100_000)
        data = door.counters.as_data()
        assert data["calls"]["s3"] == {"GetObject": 2, "HeadObject": 1, "ListObjectsV2": 1, "PutObject": 1}
        assert data["errors"] == {"PermanentRedirect": 1}

    def test_first_head_is_followed_too(self, door, connect):
        client = connect("s3")
        assert client.head_object(Bucket="far", Key="there")["ContentLength"] == 7
        assert refusal(connect("s3").head_object, Bucket="far", Key="absent")[1] == "404"

    def test_head_of_the_bucket_is_followed(self, door, connect):
        assert connect("s3").head_bucket(Bucket="far")["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert door.counters.as_data()["errors"] == {"301": 1}

    def test_answer_has_the_region(self, door, connect):
        client = connect("s3", signature_version="s3v4")
        url = client.generate_presigned_url("get_object", Params={"Bucket": "far", "Key": "there"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=10)
        with caught.value as answer:
            assert (answer.code, answer.headers["x-amz-bucket-region"]) == (301, "eu-west-1")
            assert b"<Code>PermanentRedirect</Code>" in answer.read()

    def test_what_works_everywhere(self, door, connect):
        client = connect("s3")
        assert client.get_bucket_location(Bucket="far")["LocationConstraint"] == "eu-west-1"
        assert {"near", "far"} <= {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        assert "PermanentRedirect" not in door.counters.as_data()["errors"]

    def test_emulator_reaches_every_bucket_at_once(self, door):
        assert door.own_clients.get("s3").head_object(Bucket="far", Key="there")["ContentLength"] == 7


class TestOwnCalls:
    def test_they_are_not_counted_and_no_fault_hits_them(self, door):
        for fault in (
            ServiceFailed(),
            ExpiredCredentials(),
            S3Denied(),
            ListDenied(),
            ReplyLost(operation=None),
        ):
            door.board.add(fault)
        own = door.own_clients
        assert own.get("s3").list_objects_v2(Bucket="near")["KeyCount"] == 1
        own.get("sns").list_topics()
        assert set(door.board.hits().values()) == {0}
        data = door.counters.as_data()
        assert (data["calls"], data["errors"]) == ({}, {})

    def test_control_address_and_page_are_neither_counted_nor_refused(self, door):
        door.board.add(ServiceFailed())
        with urllib.request.urlopen(f"{door.url}/_emulator/counters", timeout=10) as answer:
            assert json.load(answer)["calls"] == {}
        page = urllib.request.Request(door.url, headers={"Accept": "text/html"})
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert b"service_failed" in answer.read()
