"""Whatever goes wrong, a caller hears of it in the protocol of its own call, and never gets a page."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.settings.faults import SlowAnswer
from tests.door import Door
from tests.world import eventually

SIGNATURE = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/{}/aws4_request, Signature=x"


@pytest.fixture(scope="module")
def shared():
    with Door() as door:
        yield door


@pytest.fixture
def door(shared):
    """A door in which nothing is left of other tests, also of those that only made clients for it."""
    shared.counters.reset()
    return shared


@pytest.fixture(scope="module")
def connect(shared):
    """Return a function that makes clients which try once, closed with the module."""
    session = boto3.Session("key", "secret", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    with contextlib.ExitStack() as open_clients:

        def make(service):
            client = session.client(service, endpoint_url=shared.url, config=config)
            open_clients.callback(client.close)
            return client

        yield make


def ask(door, path="/", *, method="GET", body=None, service=None, **headers):
    """Return status, headers and body of the answer to a request that no client would send."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if service is not None:
        named["Authorization"] = SIGNATURE.format(service)
    with contextlib.closing(http.client.HTTPConnection(urlsplit(door.url).netloc, timeout=30)) as connection:
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def no_page(headers, content):
    return "html" not in headers["Content-Type"] and b"<html" not in content.lower()


class TestMistakes:
    """A bug of the emulator's or of moto's."""

    @pytest.fixture(autouse=True)
    def _broken(self, shared, monkeypatch):
        def broken(environ, start_response):
            raise ZeroDivisionError("a bug of moto's")

        monkeypatch.setattr(shared.application._services, "_moto", broken)

    @pytest.mark.parametrize(
        ("service", "operation"),
        [
            ("sagemaker", "list_training_jobs"),
            ("application-autoscaling", "describe_scaling_policies"),
            ("cloudwatch", "list_metrics"),
            ("sqs", "list_queues"),
            ("sns", "list_topics"),
            ("sts", "get_caller_identity"),
            ("route53", "list_hosted_zones"),
            ("lambda", "list_functions"),
            ("s3", "list_buckets"),
        ],
    )
    def test_it_is_an_internal_failure_in_every_protocol(self, door, connect, caplog, service, operation):
        members = {"ServiceNamespace": "sagemaker"} if service == "application-autoscaling" else {}
        status, code, message = refused(getattr(connect(service), operation), **members)
        expected = "InternalError" if service == "s3" else "InternalFailure"
        assert (status, code) == (500, expected)
        assert message == "We encountered an internal error. Please try again."
        assert "a bug of moto's" in caplog.text
        assert door.counters.as_data()["errors"] == {expected: 1}

    def test_it_is_told_by_the_control_address_too(self, door, monkeypatch):
        monkeypatch.setattr(door.counters, "as_data", lambda **_: 1 / 0)
        status, headers, content = ask(door, "/_emulator/counters")
        assert (status, headers["Content-Type"]) == (500, "application/json")
        assert json.loads(content) == {"error": "The emulator itself failed; see its log."}


class TestAbsentServices:
    @pytest.mark.parametrize(
        ("service", "operation", "name"),
        [
            ("translate", "list_languages", "ListLanguages"),
            ("gamelift", "list_fleets", "ListFleets"),
            ("frauddetector", "get_models", "GetModels"),
            ("sagemaker-geospatial", "list_earth_observation_jobs", "POST /list-earth-observation-jobs of"),
            ("amplify", "list_apps", "GET /apps of amplify"),
        ],
    )
    def test_call_is_refused_by_its_name(self, connect, service, operation, name):
        status, _, message = refused(getattr(connect(service), operation))
        assert (status, message.startswith(name)) == (501, True), message
        assert message.endswith("is not imitated by the emulator.")

    def test_call_that_a_service_of_motos_lacks_is_refused_by_its_name(self, connect):
        status, _, message = refused(connect("sagemaker").list_hubs)
        assert (status, message) == (501, "ListHubs is not imitated by the emulator.")


class TestMalformed:
    @pytest.mark.parametrize(
        "service", ["s3", "sns", "sts", "sqs", "sagemaker", "monitoring", "lambda", None]
    )
    @pytest.mark.parametrize("length", ["abc", "-1"])
    def test_length_that_is_none_is_refused_at_once(self, door, service, length):
        status, headers, content = ask(door, "/x", method="POST", service=service, Content_Length=length)
        assert (status, no_page(headers, content)) == (400, True)
        assert b"MalformedRequest" in content

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'{"a": [1', b"\xff\xfe", b"<html>", b"a=%zz&Action="]
    )
    @pytest.mark.parametrize(
        ("service", "target", "kind"),
        [
            ("sagemaker", "SageMaker.CreateModel", "application/x-amz-json-1.1"),
            ("sagemaker", None, "application/x-amz-json-1.1"),
            ("application-autoscaling", "AnyScaleFrontendService.PutScalingPolicy", "application/json"),
            ("sqs", "AmazonSQS.SendMessage", "application/x-amz-json-1.0"),
            ("sns", None, "application/x-www-form-urlencoded"),
            ("sts", None, "application/x-www-form-urlencoded"),
            ("translate", None, "application/x-www-form-urlencoded"),
            ("s3", None, "application/xml"),
            (None, None, "application/x-www-form-urlencoded"),
        ],
    )
    def test_body_that_cannot_be_read_is_answered_without_a_page(self, door, body, service, target, kind):
        headers = {"Content_Type": kind, **({"X_Amz_Target": target} if target else {})}
        status, found, content = ask(door, method="POST", body=body, service=service, **headers)
        # Where moto takes it for a call without members, there is an answer.
        assert status == 200 or no_page(found, content), (status, content[:200])
        assert b"<html" not in content.lower()

    @pytest.mark.parametrize(
        "request_line", [b"GET / HTTP/9.9", b"nonsense", b"GET /" + b"a" * 70_000 + b" HTTP/1.1"]
    )
    def test_what_is_no_http_is_answered_in_plain_text(self, door, request_line):
        address = urlsplit(door.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(request_line + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                content = answer.read()
        assert b"<html" not in content.lower()
        assert b"<!doctype" not in content.lower()


class TestForeignPages:
    @pytest.mark.parametrize(
        ("service", "start", "code"),
        [
            ("s3", b"<?xml", b"<Code>AccessDenied</Code>"),
            (None, b"<?xml", b"<Code>AccessDenied</Code>"),
            ("sns", b"<ErrorResponse>", b"<Code>AccessDenied</Code>"),
            ("sagemaker", b"{", b'"__type": "AccessDeniedException"'),
        ],
    )
    def test_refusal_is_in_the_protocol_of_the_call(self, door, service, start, code):
        for headers in ({"Origin": "https://attacker.example"}, {"Host": "attacker.example"}):
            status, _, content = ask(door, "/bucket/key", service=service, **headers)
            assert (status, content.startswith(start), code in content) == (403, True, True), content

    def test_form_of_another_site_is_refused_in_xml(self, door):
        form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": "https://attacker.example"}
        status, headers, content = ask(
            door, method="POST", body=b"Action=ListTopics&Version=2010-03-31", service="sns", **form
        )
        assert (status, headers["Content-Type"]) == (403, "text/xml")
        assert b"<Code>AccessDenied</Code>" in content


class TestStoredPages:
    @pytest.mark.parametrize("presigned", [True, False])
    def test_page_among_the_objects_cannot_act_as_the_emulators(self, door, connect, presigned):
        s3 = connect("s3")
        s3.create_bucket(Bucket="pages")
        page = {"Bucket": "pages", "Key": "e.html"}
        s3.put_object(**page, Body=b"<script>1</script>", ContentType="text/html", ACL="public-read")
        url = (
            s3.generate_presigned_url("get_object", Params=page) if presigned else f"{door.url}/pages/e.html"
        )
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"<script>1</script>"
            assert answer.headers["Content-Type"] == "text/html"
            assert answer.headers["Content-Security-Policy"] == "sandbox"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_object_that_is_not_public_is_refused_in_xml(self, door, connect):
        connect("s3").create_bucket(Bucket="private")
        connect("s3").put_object(Bucket="private", Key="k", Body=b"x")
        status, headers, content = ask(door, "/private/k")
        assert (status, headers["Content-Type"]) == (403, "application/xml")
        assert b"<Code>AccessDenied</Code>" in content


class TestMotosControlAddress:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "reset"),
            ("POST", "reset-auth"),
            ("GET", "seed?a=42"),
            ("POST", "state-manager/set-transition"),
            ("POST", "static/sagemaker/async-endpoint-results"),
            ("POST", "recorder/start-recording"),
            ("GET", "recorder/start-recording"),
            ("POST", "config"),
        ],
    )
    def test_changes_are_refused_with_the_way_to_go(self, door, connect, method, path):
        connect("sns").create_topic(Name="kept")
        status, headers, content = ask(door, f"/moto-api/{path}", method=method)
        assert (status, headers["Content-Type"]) == (405, "application/json")
        assert "POST /_emulator/reset" in json.loads(content)["error"]
        assert connect("sns").list_topics()["Topics"]

    def test_it_can_be_looked_at(self, door):
        status, _, content = ask(door, "/moto-api/data.json")
        assert status == 200
        assert isinstance(json.loads(content), dict)
        assert ask(door, "/moto-api/")[0] == 200


class TestNoMore:
    """A door that has been shut."""

    @pytest.fixture
    def own(self):
        with Door() as door:
            yield door

    @pytest.fixture
    def once(self, own):
        """Return a function that makes clients which try once."""
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        with contextlib.ExitStack() as open_clients:

            def make(service):
                session = boto3.Session("key", "secret", region_name="us-east-1")
                client = session.client(service, endpoint_url=own.url, config=config)
                open_clients.callback(client.close)
                return client

            yield make

    def test_everybody_outside_hears_so_in_his_own_protocol(self, own, once):
        own.application.shut()
        for service, call, members in (
            ("s3", "get_object", {"Bucket": "bucket", "Key": "key"}),
            ("sns", "list_topics", {}),
            ("sqs", "list_queues", {}),
            ("cloudwatch", "list_metrics", {}),
            ("sagemaker", "list_endpoints", {}),
            ("sagemaker-runtime", "invoke_endpoint_async", {"EndpointName": "e", "Body": b"x"}),
        ):
            found = refused(getattr(once(service), call), **members)
            assert found == (503, "ServiceUnavailable", "The emulator is stopping."), service
        assert own.behind.asked == []

    def test_nothing_is_changed_or_shown_to_people_either(self, own):
        own.application.shut()
        status, _, content = ask(own, "/_emulator/reset", method="POST")
        assert (status, json.loads(content)) == (503, {"error": "The emulator is stopping."})
        assert ask(own, "/", Accept="text/html")[0] == 503
        assert own.resets == 0

    def test_the_emulators_own_calls_go_on(self, own):
        own.application.shut()
        assert own.own_clients.get("sns").list_topics()["Topics"] == []

    def test_what_is_being_served_is_waited_for(self, own, monkeypatch):
        began, go_on = threading.Event(), threading.Event()

        def slowly(region, request):
            began.set()
            go_on.wait(30)
            return {"EndpointArn": "arn"}

        answers = own.application._services._answers
        monkeypatch.setitem(answers, "CreateEndpoint", slowly)
        client, answered = own.client("sagemaker"), []
        caller = threading.Thread(
            target=lambda: answered.append(client.create_endpoint(EndpointName="e", EndpointConfigName="c"))
        )
        caller.start()
        assert began.wait(10)
        closer = threading.Thread(target=lambda: own.application.shut(30))
        closer.start()
        eventually(lambda: ask(own, "/_emulator/clock")[0] == 503)
        assert closer.is_alive()
        go_on.set()
        closer.join(10)
        caller.join(10)
        assert not closer.is_alive()
        assert answered[0]["EndpointArn"] == "arn"

    def test_what_does_not_end_is_left_to_itself(self, own, once, monkeypatch, caplog):
        began, go_on = threading.Event(), threading.Event()

        def slowly(region, request):
            began.set()
            go_on.wait(30)
            return {}

        monkeypatch.setitem(own.application._services._answers, "DescribeEndpoint", slowly)
        caller = threading.Thread(target=lambda: once("sagemaker").describe_endpoint(EndpointName="e"))
        caller.start()
        assert began.wait(10)
        own.application.shut(0.1)
        assert "1 requests were still being served after 0.1 seconds" in caplog.text
        go_on.set()
        caller.join(10)

    def test_what_is_held_back_is_served_at_once(self):
        with Door(clock=SteppedClock()) as door:
            door.board.add(SlowAnswer(seconds=3600.0, operation="GetCallerIdentity"))
            answers = []
            client = door.client("sts")
            caller = threading.Thread(target=lambda: answers.append(client.get_caller_identity()["Account"]))
            caller.start()
            eventually(lambda: door.board.hits()["fault-1"] == 1)
            door.application.shut(30)
            caller.join(10)
            assert answers == ["123456789012"]

    def test_answer_under_way_is_sent_to_its_end(self, own, once):
        """The last call has its answer when the door is shut; nothing is cut off by the end of the server."""
        s3 = once("s3")
        s3.create_bucket(Bucket="large")
        content = b"x" * 20_000_000
        s3.put_object(Bucket="large", Key="k", Body=content)
        body = s3.get_object(Bucket="large", Key="k")["Body"]
        closer = threading.Thread(target=lambda: own.application.shut(30))
        closer.start()
        eventually(lambda: ask(own, "/_emulator/clock")[0] == 503)
        assert closer.is_alive()
        assert body.read() == content
        closer.join(10)
        assert not closer.is_alive()
