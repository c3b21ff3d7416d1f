"""What the hook relies on, against the emulator, with boto3 in between."""

from __future__ import annotations

import gc
import json
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.endpoints import AsyncEndpointSpec
from airflow_async_sm.core.handles import DELETED, IN_SERVICE, EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import LookError, Pending, Settled
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import (
    EndpointNotReady,
    RequestRejected,
    ResultUnreadable,
    ServiceUnavailable,
    SubmissionUnconfirmed,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.tls import breaking_server, certificate
from tests.world import BUCKET, ROLE, eventually


@pytest.fixture
def connect(monkeypatch):
    """Return a function that makes a hook for the server at an address."""

    def hook_for(url, **arguments):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(url))
        return SageMakerAsyncHook(**arguments)

    return hook_for


@pytest.fixture
def hook(world, connect):
    return connect(world.emulator.url)


def request(endpoint_name, *, mode="echo", **arguments):
    payload = {} if "input_location" in arguments else {"body": b"payload"}
    return InvocationRequest(endpoint_name=endpoint_name, custom_attributes=mode, **(payload | arguments))


def spec(name, **changes):
    arguments = {
        "endpoint_name": name,
        "image": "program",
        "execution_role_arn": ROLE,
        "output_path": f"s3://{BUCKET}/spec",
        "instance_type": "ml.m5.large",
        "max_concurrent_invocations_per_instance": 2,
    }
    return AsyncEndpointSpec(**(arguments | changes))


class TestEndpoints:
    def test_an_endpoint_is_created_looked_at_and_deleted(self, hook, slowly):
        wanted = spec("from-spec", model_name="from-spec", endpoint_config_name="from-spec")
        slowly(creation_seconds=4)
        hook.create_parts(wanted)
        hook.create_endpoint(wanted)
        up = EndpointHandle(
            endpoint_name="from-spec", goal=IN_SERVICE, submitted_at=1.0, endpoint_config_name="from-spec"
        )
        assert hook.look_at_endpoint(up) == Pending("Creating")
        with pytest.raises(EndpointNotReady, match="it is Creating.*Nothing was submitted"):
            hook.check_endpoint("from-spec")
        with pytest.raises(EndpointNotReady, match="which is Creating.*A retry can succeed"):
            hook.delete_endpoint("from-spec")
        eventually(lambda: hook.look_at_endpoint(up) == Settled(True, "InService"))
        hook.check_endpoint("from-spec")

        config = hook.describe_endpoint_config("from-spec")
        assert (
            config["AsyncInferenceConfig"]["OutputConfig"]["S3FailurePath"] == f"s3://{BUCKET}/spec-failures"
        )
        assert config["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 2}

        hook.delete_endpoint("from-spec")
        hook.delete_endpoint_config("from-spec")
        hook.delete_model("from-spec")
        down = EndpointHandle(endpoint_name="from-spec", goal=DELETED, submitted_at=1.0)
        eventually(lambda: hook.look_at_endpoint(down) == Settled(True, "Deleted"))
        assert hook.describe_endpoint_config("from-spec") is None
        assert hook.describe_model("from-spec") is None

    def test_deleting_what_is_not_there_is_fine(self, hook):
        hook.delete_endpoint("never-was")
        hook.delete_endpoint_config("never-was")
        hook.delete_model("never-was")

    def test_what_an_earlier_attempt_made_is_taken_as_it_is(self, hook):
        wanted = spec("again", environment={"A": "1"})
        for _ in range(2):
            hook.create_parts(wanted)
            hook.create_endpoint(wanted)
        eventually(lambda: hook.describe_endpoint("again")["EndpointStatus"] == "InService")
        for _ in range(2):
            hook.delete_endpoint("again")
        eventually(lambda: hook.describe_endpoint("again") is None)

    @pytest.mark.parametrize("part", ["model", "endpoint_config", "endpoint"])
    def test_anything_else_under_the_name_is_refused(self, hook, part):
        name = f"taken-{part.replace('_', '-')}"
        mine = spec(name, model_name=name, endpoint_config_name=f"{name}-1")
        other = spec(
            name,
            model_name=name,
            image="other" if part == "model" else "program",
            output_path=f"s3://{BUCKET}/other",
            endpoint_config_name=f"{name}-2" if part == "endpoint" else f"{name}-1",
        )
        hook.create_parts(mine)
        hook.create_endpoint(mine)
        if part == "endpoint":
            hook.create_parts(other)
        with pytest.raises(RequestRejected, match=f"There is another .* {name}.* already.*another name"):
            (hook.create_endpoint if part == "endpoint" else hook.create_parts)(other)

    def test_a_deletion_that_is_not_allowed_is_refused(self, connect):
        with server(answer(400, {"__type": "AccessDeniedException", "message": "no"})) as (url, requests):
            with pytest.raises(RequestRejected, match="Could not delete model mine.*AccessDenied"):
                connect(url).delete_model("mine")
            assert len(requests) == 1

    def test_a_configuration_that_is_not_known_yet_is_worth_a_retry(self, hook):
        with pytest.raises(EndpointNotReady, match="Could not create endpoint early.*A retry may succeed"):
            hook.create_endpoint(spec("early"))

    def test_an_endpoint_that_fails_says_why(self, hook):
        broken = spec("broken", image="unknown/image:1")
        hook.create_parts(broken)
        hook.create_endpoint(broken)
        up = EndpointHandle(endpoint_name="broken", goal=IN_SERVICE, submitted_at=1.0)
        seen = eventually(lambda: (seen := hook.look_at_endpoint(up)) != Pending("Creating") and seen)
        assert seen.succeeded is False
        assert seen.detail.startswith("Failed, 0 of 1 instances: ")
        with pytest.raises(RequestRejected, match="takes no requests: it is Failed, 0 of 1 instances: "):
            hook.check_endpoint("broken")


class TestCheckEndpoint:
    def test_an_unknown_endpoint_is_refused(self, hook):
        with pytest.raises(RequestRejected, match="Endpoint 'nowhere' does not exist.*Nothing was submitted"):
            hook.check_endpoint("nowhere")

    def test_a_real_time_endpoint_is_refused(self, world, hook):
        name = world.deploy(asynchronous=False)
        with pytest.raises(RequestRejected, match="is not asynchronous"):
            hook.check_endpoint(name)

    def test_an_endpoint_without_failure_path_is_warned_about(self, world, hook, monkeypatch):
        warnings = []
        monkeypatch.setattr(hook.log, "warning", lambda text, *values: warnings.append(text % values))
        name = world.deploy(failure=None)
        hook.check_endpoint(name)
        assert [f"Endpoint {name} has no failure path" in warning for warning in warnings] == [True]

    def test_who_may_not_describe_an_endpoint_may_still_submit(self, connect, monkeypatch):
        with server(answer(400, {"__type": "AccessDeniedException", "message": "no"})) as (url, requests):
            hook = connect(url)
            lines = []
            monkeypatch.setattr(hook.log, "info", lambda text, *values: lines.append(text % values))
            hook.check_endpoint("model")
            assert len(requests) == 1
        assert [
            "The endpoint is not checked before submission" in line for line in lines if "submission" in line
        ] == [True]


class TestRequests:
    def test_a_request_is_answered(self, world, echo, hook):
        handle = hook.invoke_endpoint_async(request(echo, content_type="text/plain"))
        record = world.record({"OutputLocation": handle.output_location})
        assert record.inference_id == handle.inference_id
        assert handle.expires_at - handle.submitted_at == 21_600 + 900 + 300
        eventually(lambda: hook.look_at_result(handle) == Settled(True))
        assert hook.read_result(handle.output_location) == b"payload"

    def test_the_given_inference_id_is_kept(self, echo, hook):
        assert hook.invoke_endpoint_async(request(echo, inference_id="mine")).inference_id == "mine"

    def test_an_object_in_s3_is_answered(self, world, echo, hook):
        handle = hook.invoke_endpoint_async(request(echo, input_location=world.put(b"from s3")))
        eventually(lambda: hook.look_at_result(handle) == Settled(True))
        assert hook.read_result(handle.output_location) == b"from s3"

    def test_a_request_that_is_not_done_is_pending(self, echo, hook):
        handle = hook.invoke_endpoint_async(request(echo, mode="hang", invocation_timeout=1))
        assert hook.look_at_result(handle) == Pending()
        eventually(lambda: hook.look_at_result(handle) == Settled(False))

    def test_a_models_own_error_text_is_read(self, echo, hook):
        handle = hook.invoke_endpoint_async(request(echo, mode="refuse"))
        eventually(lambda: hook.look_at_result(handle) == Settled(False))
        assert hook.read_failure(handle.failure_location) == '{"message": "Unknown task", "status":  "error"}'

    def test_without_a_failure_path_a_failure_cannot_be_seen(self, world, hook):
        name = world.deploy(failure=None)
        handle = hook.invoke_endpoint_async(request(name, mode="refuse"))
        assert handle.failure_location is None
        world.ended({"OutputLocation": handle.output_location})
        assert hook.look_at_result(handle) == Pending()

    def test_an_unknown_endpoint_is_refused_by_the_service_too(self, hook):
        with pytest.raises(RequestRejected, match=r"Could not submit request \S+ to endpoint nowhere"):
            hook.invoke_endpoint_async(request("nowhere"))

    def test_an_old_boto3_is_named_with_what_to_do(self, hook, monkeypatch):
        shape = hook._runtime.meta.service_model.operation_model("InvokeEndpointAsync").input_shape
        monkeypatch.delitem(shape.members, "Body")
        with pytest.raises(RequestRejected, match=r"cannot send Body. .* 1\.43\.29.*give input_location"):
            hook.invoke_endpoint_async(request("model"))
        monkeypatch.delitem(shape.members, "Filename")
        with pytest.raises(
            RequestRejected, match=r"cannot send Filename. .*Update boto3\. Nothing was submitted"
        ):
            hook.invoke_endpoint_async(request("model", input_location="s3://bucket/in", filename="a.out"))


class TestReading:
    def test_of_a_large_failure_object_the_end_is_read(self, world, hook):
        location = world.put(b"x" * 10_000 + b"the cause")
        text = hook.read_failure(location)
        assert text.startswith("(the last 4,096 of 10,009 bytes) …xxx")
        assert text.endswith("the cause")

    def test_an_https_address_is_read_like_any_other(self, world, hook):
        key = world.put(b"content").removeprefix(f"s3://{BUCKET}/")
        assert hook.read_result(f"https://{BUCKET}.s3.us-east-1.amazonaws.com/{key}") == b"content"

    def test_what_is_not_there_is_unreadable_and_says_which_rights_to_check(self, hook):
        with pytest.raises(ResultUnreadable, match="NoSuchKey.*s3:GetObject.*kms:Decrypt") as unreadable:
            hook.read_result(f"s3://{BUCKET}/nothing-here")
        assert unreadable.value.location == f"s3://{BUCKET}/nothing-here"


def answer(status, content, headers=None):
    """Return a handler that gives one answer to everything."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST

        def log_message(self, *args):
            pass

    return Answering


def torn():
    """Return a handler that breaks off in the middle of an object."""

    class Torn(answer(200, {})):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True

    return Torn


def silence():
    """Return a handler that takes a request and never answers it, until the test lets go."""

    class Silent(answer(200, {})):
        release = threading.Event()

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.release.wait(30)

    return Silent


@contextmanager
def server(handler):
    """Serve on a free port; yield the address and the list of requests so far."""
    requests = []

    class Counting(handler):
        def parse_request(self):
            parsed = super().parse_request()
            if parsed:
                requests.append(f"{self.command} {self.path}")
            return parsed

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    serving.daemon_threads = True
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}", requests
    finally:
        getattr(handler, "release", threading.Event()).set()
        serving.shutdown()
        thread.join()
        serving.server_close()


class TestSubmissionIsMadeOnce:
    """The service cannot tell a repeated request from a new one."""

    def test_a_lost_reply_is_not_asked_for_again(self, connect):
        with server(silence()) as (url, requests):
            hook = connect(url, botocore_config={"read_timeout": 0.3, "retries": {"total_max_attempts": 4}})
            with pytest.raises(
                SubmissionUnconfirmed, match="may have been accepted.*is not retried.*clear it"
            ):
                hook.invoke_endpoint_async(request("model"))
            assert requests == ["POST /endpoints/model/async-invocations"]

    def test_an_internal_failure_may_have_been_accepted(self, connect):
        with server(answer(500, {"message": "oops"})) as (url, requests):
            with pytest.raises(SubmissionUnconfirmed):
                connect(url).invoke_endpoint_async(request("model"))
            assert len(requests) == 1

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (503, "ServiceUnavailable"),
            (400, "ThrottlingException"),
            (500, "ThrottlingException"),
            (503, "Throttling"),
            (429, "Throttling"),
        ],
    )
    def test_a_busy_service_accepted_nothing(self, connect, status, code):
        with server(answer(status, {"code": code, "message": "later"})) as (url, requests):
            with pytest.raises(ServiceUnavailable, match="A retry may succeed"):
                connect(url).invoke_endpoint_async(request("model"))
            assert len(requests) == 1

    @pytest.mark.parametrize("location", [None, ""])
    def test_a_reply_that_cannot_be_read_is_no_refusal(self, connect, location):
        headers = {} if location is None else {"X-Amzn-SageMaker-OutputLocation": location}
        with server(answer(202, {"InferenceId": "id-1"}, headers)) as (url, requests):
            with pytest.raises(
                SubmissionUnconfirmed, match="the reply cannot be read.*may have been accepted"
            ):
                connect(url).invoke_endpoint_async(request("model"))
            assert len(requests) == 1

    def test_an_address_nobody_listens_on_accepted_nothing(self, connect):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            hook = connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(ServiceUnavailable):
                hook.invoke_endpoint_async(request("model"))


class TestTlsThatBreaks:
    @pytest.fixture
    def made(self, tmp_path):
        return certificate(tmp_path)

    @pytest.fixture
    def submit(self, monkeypatch):
        def to(url, verify):
            extra = {"region_name": "us-east-1", "endpoint_url": url, "verify": verify}
            connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
            monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
            SageMakerAsyncHook().invoke_endpoint_async(request("model"))

        return to

    def test_after_the_request_was_sent_leaves_open_whether_it_was_accepted(self, made, submit):
        with breaking_server(*made) as (url, requests):
            with pytest.raises(SubmissionUnconfirmed, match="the reply was lost"):
                submit(url, str(made[0]))
            assert requests == [b"payload"]

    def test_before_anything_was_sent_is_no_submission(self, made, submit):
        with breaking_server(*made) as (url, requests):
            with pytest.raises(ServiceUnavailable, match="certificate"):
                submit(url, True)
            assert requests == []

    def test_a_server_without_tls_got_nothing_either(self, submit):
        with server(answer(200, {})) as (url, requests):
            with pytest.raises(ServiceUnavailable):
                submit(url.replace("http:", "https:"), True)
            assert requests == []


class TestLooksThatFail:
    HANDLE = InvocationHandle(
        endpoint_name="model",
        inference_id="id-1",
        output_location="s3://bucket-of-others/out",
        submitted_at=1.0,
        expires_at=2.0,
    )

    def test_a_refused_look_is_no_pending_answer(self, connect):
        with server(answer(403, {})) as (url, _):
            seen = connect(url).look_at_result(self.HANDLE)
        assert isinstance(seen, LookError)
        assert seen.fatal
        assert "bucket-of-others" in seen.detail

    def test_a_busy_bucket_is_no_pending_answer(self, connect):
        with server(answer(503, {})) as (url, _):
            hook = connect(url, botocore_config={"retries": {"total_max_attempts": 1}})
            with pytest.raises(ServiceUnavailable):
                hook.look_at_result(self.HANDLE)


class TestExtrasOfTheConnection:
    @pytest.fixture
    def with_extra(self, world, monkeypatch):
        def hook_for(**extra):
            connection = json.loads(airflow_connection(world.emulator.url))
            connection["extra"] |= extra
            monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
            return SageMakerAsyncHook()

        return hook_for

    def test_s3_is_told_who_has_to_own_the_buckets(self, with_extra, world):
        hook = with_extra(expected_bucket_owner="123456789012")
        sent = []
        for client in (hook._s3, hook._s3_looking):
            client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
        hook.read_result(world.put(b"1"))
        hook.write_record(f"s3://{BUCKET}/work/r.json", {})
        hook.look_at_result(TestLooksThatFail.HANDLE)
        assert len(sent) >= 3
        assert {headers["x-amz-expected-bucket-owner"] for headers in sent} == {b"123456789012"}

    def test_an_owner_that_is_none_is_refused(self, with_extra):
        with pytest.raises(InvalidInput, match="expected_bucket_owner of connection 'aws_default' is 'me'"):
            _ = with_extra(expected_bucket_owner="me").expected_bucket_owner

    def test_the_work_prefix_is_taken_from_it(self, with_extra):
        assert with_extra(work_prefix="s3://bucket/work").work_prefix == "s3://bucket/work"
        assert with_extra().work_prefix is None

    def test_a_work_prefix_that_is_none_is_refused(self, with_extra):
        with pytest.raises(InvalidInput, match="work_prefix of connection 'aws_default' is 'work'"):
            _ = with_extra(work_prefix="work").work_prefix


class TestReadingThatFails:
    @pytest.mark.parametrize("read", ["read_result", "read_failure"])
    def test_a_connection_that_breaks_is_worth_a_retry(self, connect, read):
        with server(torn()) as (url, _):
            with pytest.raises(ServiceUnavailable, match="Could not read s3://bucket/out"):
                getattr(connect(url), read)("s3://bucket/out")

    def test_a_refusal_names_the_rights(self, connect):
        with server(answer(403, {})) as (url, _):
            with pytest.raises(ResultUnreadable, match="s3:GetObject"):
                connect(url).read_result("s3://bucket/out")


class TestClients:
    def test_there_is_one_client_a_service_and_one_session(self, hook, monkeypatch):
        sessions = []
        made = hook.get_session
        monkeypatch.setattr(
            hook, "get_session", lambda **kwargs: sessions.append(made(**kwargs)) or sessions[-1]
        )
        assert hook._s3 is hook._s3
        assert hook._sagemaker.meta.region_name == hook._runtime.meta.region_name == "us-east-1"
        assert len(sessions) == 1

    def test_settings_reach_every_client(self, connect):
        hook = connect(
            "http://127.0.0.1:1", region_name="eu-west-1", verify=False, botocore_config={"read_timeout": 7}
        )
        for client in (hook._s3, hook._sagemaker, hook._runtime):
            assert client.meta.region_name == "eu-west-1"
            assert client.meta.config.read_timeout == 7
            assert client._endpoint.http_session._verify is False
            assert "airflow-async-sm/" in client.meta.config.user_agent_extra

    def test_a_missing_region_is_said_before_anything_is_sent(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws", "login": "a", "password": "b"}')
        with pytest.raises(RequestRejected, match="Could not make a client.*region"):
            SageMakerAsyncHook().check_endpoint("model")

    def test_missing_credentials_are_said(self, connect, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv(
            "AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws", "extra": {"region_name": "us-east-1"}}'
        )
        with pytest.raises(ServiceUnavailable, match="credentials"):
            SageMakerAsyncHook().describe_endpoint("model")

    def test_waits_with_the_same_settings_share_a_hook_and_others_do_not(self, connect):
        connect("http://127.0.0.1:1")
        one, same, other = (
            SageMakerAsyncHook.shared(AwsParams(region_name=region))
            for region in ("us-east-1", "us-east-1", "eu-west-1")
        )
        assert one is same
        assert one is not other

    def test_a_shared_hook_goes_with_the_last_who_has_it(self, connect):
        connect("http://127.0.0.1:1")
        kept = weakref.ref(SageMakerAsyncHook.shared(AwsParams(region_name="eu-north-1")))
        gc.collect()
        assert kept() is None

    def test_many_threads_that_begin_together_get_working_clients(self, world, connect):
        hook = connect(world.emulator.url)
        begin = threading.Barrier(8)

        def look(number):
            begin.wait()
            return hook.describe_endpoint(f"nowhere-{number}")

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(look, range(8))) == [None] * 8
