"""Tests that need an emulator of their own: other waits, images or time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock
from tests.world import PROGRAM


def is_listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_endpoint_is_creating_and_then_in_service(make_world):
    world = make_world(behaviour=Behaviour(creation_seconds=0.8))
    name = world.configure(instances=2)

    created = world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
    before = world.control.describe_endpoint(EndpointName=name)
    world.wait("endpoint_in_service", name)
    after = world.control.describe_endpoint(EndpointName=name)

    assert created["EndpointArn"] == world.arn("endpoint", name)
    assert before["EndpointStatus"] == "Creating"
    assert before["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    assert after["EndpointStatus"] == "InService"
    assert after["EndpointConfigName"] == name
    [variant] = after["ProductionVariants"]
    assert variant.pop("DeployedImages")[0]["SpecifiedImage"] == "program"
    assert variant == (
        {
            "VariantName": "AllTraffic",
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            "CurrentInstanceCount": 2,
            "DesiredInstanceCount": 2,
        }
    )
    assert after["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://contract-bucket/out"
    assert (after["LastModifiedTime"] - after["CreationTime"]).total_seconds() >= 0.8


def test_container_that_is_never_healthy(make_world):
    behaviour = Behaviour(creation_seconds=0, container_start_timeout=0.5)
    world = make_world(behaviour=behaviour)
    reason = world.fail(environment={"MODE": "sick"})["FailureReason"]
    assert "within 0.5 seconds" in reason


def test_server_that_is_not_there(make_world):
    behaviour = Behaviour(creation_seconds=0, container_start_timeout=0.3)
    world = make_world(behaviour=behaviour, images={"remote": "http://127.0.0.1:9/base/"})
    assert "0.3 seconds" in world.fail(image="remote")["FailureReason"]


def test_command_that_cannot_be_started(make_world):
    world = make_world(images={"absent": ["/no/such/program"]})
    assert "cannot be started" in world.fail(image="absent")["FailureReason"]


def test_model_may_take_longer_than_its_connection(make_world):
    world = make_world(behaviour=Behaviour(creation_seconds=0, connect_timeout=0.3))
    name = world.deploy()
    record = world.ended(world.submit(name, mode="slow"))
    assert record.state == "succeeded"
    assert record.finished_at - record.started_at >= 1


def test_endpoint_is_deleting_and_then_gone(make_world, refused):
    # Long enough for the calls that see it Deleting.
    world = make_world(behaviour=Behaviour(creation_seconds=0, deletion_seconds=4))
    name = world.deploy()
    response = world.ended(world.submit(name, mode="environment_back"))
    port = int(json.loads(world.body(response.output_location))["SAGEMAKER_BIND_TO_PORT"])

    world.control.delete_endpoint(EndpointName=name)
    status = world.control.describe_endpoint(EndpointName=name)["EndpointStatus"]
    again = refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=name)
    twice = refused(world.control.delete_endpoint, EndpointName=name)
    world.wait("endpoint_deleted", name)

    assert status == "Deleting"
    assert again[1].startswith("Cannot create already existing endpoint")
    assert twice == (
        "ValidationException",
        f'Cannot update in-progress endpoint "{world.arn("endpoint", name)}".',
    )
    assert refused(world.control.describe_endpoint, EndpointName=name) == (
        "ValidationException",
        f'Could not find endpoint "{world.arn("endpoint", name)}".',
    )
    assert not is_listening(port)


def test_endpoint_that_is_creating_is_refused(make_world, refused):
    world = make_world(behaviour=Behaviour(creation_seconds=600))
    name = world.configure()
    world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert refused(world.control.delete_endpoint, EndpointName=name)[1].startswith(
        "Cannot update in-progress"
    )
    assert "is Creating" in refused(world.submit, name)[1]


def test_request_that_waits_too_long_leaves_nothing(make_world):
    world = make_world(clock=Clock(speed=600))
    name = world.deploy(concurrency=1)
    running = world.submit(name, mode="hang", InvocationTimeoutSeconds=3600)
    waiting = world.submit(name, RequestTTLSeconds=60)

    record = world.ended(waiting)

    assert record.state == "expired"
    assert record.finished_at - record.submitted_at >= 60
    assert (record.started_at, record.invocations) == (None, 0)
    assert not world.exists(waiting["OutputLocation"])
    assert not world.exists(waiting["FailureLocation"])
    assert world.record(running).state == "running"


def test_default_time_limit_is_a_quarter_of_an_hour(make_world):
    world = make_world(clock=Clock(speed=600))
    name = world.deploy()
    record = world.ended(world.submit(name, mode="hang"))
    assert 900 <= record.finished_at - record.started_at < 3_600
    assert record.reason.startswith("Timed out uploading object")


def test_server_that_runs_already_is_used_and_left_alone(make_world, eventually, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", str(port))
    with subprocess.Popen(PROGRAM) as server:
        try:
            eventually(lambda: is_listening(port))
            world = make_world(images={"remote": f"http://127.0.0.1:{port}"})
            name = world.deploy(image="remote")
            assert world.ended(world.submit(name)).state == "succeeded"
            world.control.delete_endpoint(EndpointName=name)
            world.wait("endpoint_deleted", name)
            assert is_listening(port)
        finally:
            server.terminate()


def requests_being_answered():
    return [thread for thread in threading.enumerate() if thread.name == "emulator-http-request"]


FORKED = """
import os, sys, pathlib, tempfile, urllib.request
from airflow_async_sm.emulator import SageMakerAsyncEmulator

emulator = SageMakerAsyncEmulator()
emulator.start()
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
with urllib.request.urlopen(emulator.url + "/_emulator/requests", timeout=10) as answer:
    assert answer.status == 200
print(len(list(pathlib.Path(tempfile.gettempdir()).iterdir())))
"""


def test_end_of_a_forked_child_stops_nothing_and_the_end_of_the_program_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert list(tmp_path.iterdir()) == []


class TestStop:
    def test_nothing_is_left_when_requests_are_running(self, make_world, eventually):
        threads_before = set(threading.enumerate())
        world = make_world()
        name = world.deploy(concurrency=2, instances=2)
        response = world.ended(world.submit(name, mode="environment_back"))
        container = json.loads(world.body(response.output_location))
        running = [world.submit(name, mode="hang") for _ in range(4)]
        queued = [world.submit(name) for _ in range(5)]
        eventually(lambda: all(world.record(response).state == "running" for response in running))
        emulator_port = urlsplit(world.emulator.url).port

        before = time.monotonic()
        world.emulator.stop()

        assert time.monotonic() - before < 20
        # One of an earlier test may have ended meanwhile.
        assert set(threading.enumerate()) <= threads_before
        assert not is_listening(int(container["SAGEMAKER_BIND_TO_PORT"]))
        assert not is_listening(emulator_port)
        assert not Path(container["SM_MODEL_DIR"]).parents[1].exists()
        assert {world.record(response).state for response in (*running, *queued)} == {"dropped"}
        with pytest.raises(RuntimeError, match="not running"):
            _ = world.emulator.url
        with pytest.raises(RuntimeError, match="not running"):
            world.emulator.client("s3")
        world.emulator.stop()

    def test_container_that_ignores_the_request_to_end_is_ended(self, make_world):
        world = make_world(behaviour=Behaviour(creation_seconds=0, container_stop_grace=0.2))
        name = world.deploy(environment={"MODE": "stubborn"})
        response = world.ended(world.submit(name, mode="environment_back"))
        port = int(json.loads(world.body(response.output_location))["SAGEMAKER_BIND_TO_PORT"])
        world.emulator.stop()
        assert not is_listening(port)

    def test_container_that_is_still_starting_is_ended(self, make_world, eventually, tmp_path):
        world = make_world()
        pid_file = tmp_path / "pid"
        name = world.configure(environment={"MODE": "sick", "PID_FILE": str(pid_file)})
        world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        pid = int(eventually(lambda: pid_file.exists() and pid_file.read_text()))
        os.kill(pid, 0)
        before = time.monotonic()
        world.emulator.stop()
        assert time.monotonic() - before < 20
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_long_poll_of_a_queue_does_not_hold_it_up(self, make_world, eventually, monkeypatch):
        # All of this is spent here: the polls last longer.
        monkeypatch.setattr("airflow_async_sm.emulator.web.http_server._JOIN_SECONDS", 0.5)
        world = make_world()
        sqs = world.emulator.client("sqs")
        queue = sqs.create_queue(QueueName="empty")["QueueUrl"]
        scope = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/sqs/aws4_request, Signature=x"
        headers = {"Authorization": scope, "X-Amz-Target": "AmazonSQS.ReceiveMessage"}
        headers["Content-Type"] = "application/x-amz-json-1.0"
        body = json.dumps({"QueueUrl": queue, "WaitTimeSeconds": 6}).encode()

        def poll():
            request = urllib.request.Request(world.emulator.url, data=body, headers=headers)
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(request, timeout=20).close()

        pollers = [threading.Thread(target=poll) for _ in range(3)]
        for poller in pollers:
            poller.start()
        eventually(lambda: len(requests_being_answered()) >= len(pollers))
        # Connections are taken in order: when this is answered, the polls have begun.
        sqs.list_queues()
        before = time.monotonic()
        world.emulator.stop()
        assert time.monotonic() - before < 4.5
        for poller in pollers:
            poller.join(20)
        eventually(lambda: not requests_being_answered())

    def test_endpoint_that_is_being_deleted_does_not_hold_it_up(self, make_world):
        world = make_world(behaviour=Behaviour(creation_seconds=0, deletion_seconds=600))
        name = world.deploy()
        world.control.delete_endpoint(EndpointName=name)
        before = time.monotonic()
        world.emulator.stop()
        assert time.monotonic() - before < 20

    def test_open_connection_does_not_hold_it_up(self, make_world):
        world = make_world()
        address = urlsplit(world.emulator.url)
        with socket.create_connection((address.hostname, address.port)) as idle:
            idle.sendall(b"POST / HTTP/1.1\r\n")
            # Connections are taken in order: when this one is answered, the other has its thread.
            world.s3.list_buckets()
            before = time.monotonic()
            world.emulator.stop()
            assert time.monotonic() - before < 5

    def test_new_work_is_refused_meanwhile(self, make_world, eventually):
        world = make_world(behaviour=Behaviour(creation_seconds=0, container_stop_grace=2))
        name = world.deploy(environment={"MODE": "stubborn"})
        scope = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/sagemaker/aws4_request, Signature=x"
        url = f"{world.emulator.url}/endpoints/{name}/async-invocations"

        def refusal():
            request = urllib.request.Request(url, data=b"x", headers={"Authorization": scope})
            try:
                with urllib.request.urlopen(request, timeout=10):
                    return None
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers["x-amzn-ErrorType"]

        stopping = threading.Thread(target=world.emulator.stop)
        stopping.start()
        assert eventually(refusal) == (503, "ServiceUnavailable")
        stopping.join(10)
        assert not stopping.is_alive()

    def test_next_emulator_begins_empty(self, make_world, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        first = make_world()
        first.deploy()
        assert len(list(tmp_path.iterdir())) == 1
        first.emulator.stop()
        assert list(tmp_path.iterdir()) == []
        second = make_world()
        assert second.control.list_endpoints()["Endpoints"] == []
        assert second.control.list_models()["Models"] == []
        assert [bucket["Name"] for bucket in second.s3.list_buckets()["Buckets"]] == ["contract-bucket"]
        assert second.emulator.requests() == []
        second.emulator.stop()
        assert list(tmp_path.iterdir()) == []

    def test_emulator_can_be_started_again(self):
        emulator = SageMakerAsyncEmulator()
        for _ in range(2):
            with emulator:
                assert emulator.client("sts").get_caller_identity()["Account"] == "123456789012"


class TestOnlyOne:
    def test_second_emulator_is_refused_and_the_first_goes_on(self, make_world):
        world = make_world()
        with pytest.raises(RuntimeError, match="stop it before"), SageMakerAsyncEmulator():
            pass
        assert world.s3.list_buckets()["Buckets"]

    def test_failed_start_leaves_the_way_free(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                SageMakerAsyncEmulator(port=port).start()
        with SageMakerAsyncEmulator(host="0.0.0.0", port=port) as emulator:
            assert emulator.url == f"http://127.0.0.1:{port}"


def test_bug_while_an_endpoint_comes_up_makes_it_fail(make_world, monkeypatch, caplog):
    def broken(*arguments):
        raise ZeroDivisionError("a bug of the emulator")

    monkeypatch.setattr("airflow_async_sm.emulator.account.workshop.unpack_model_data", broken)
    assert make_world().fail()["FailureReason"] == "The emulator itself failed; see its log."
    assert "a bug of the emulator" in caplog.text


def test_bug_in_an_answer_costs_one_request(make_world, monkeypatch, caplog):
    world = make_world()

    def broken(door, environ, call):
        raise ConnectionError("cut off") if environ["PATH_INFO"] == "/cut" else AssertionError("a bug")

    monkeypatch.setattr("airflow_async_sm.emulator.web.responses.FrontDoor._answer", broken)
    with (
        pytest.raises(OSError, match="without response"),
        urllib.request.urlopen(f"{world.emulator.url}/cut", timeout=10),
    ):
        pass
    with (
        pytest.raises(urllib.error.HTTPError) as caught,
        urllib.request.urlopen(f"{world.emulator.url}/bug", timeout=10),
    ):
        pass
    with caught.value as answer:
        assert (answer.code, b"<Code>InternalError</Code>" in answer.read()) == (500, True)
    assert "GET /bug failed" in caplog.text
    assert "GET /cut failed" not in caplog.text
    monkeypatch.undo()
    assert world.s3.list_buckets()["Buckets"]
