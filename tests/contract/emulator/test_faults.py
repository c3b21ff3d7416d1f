"""Every kind of fault in a running emulator: switched on in each of the three ways, and seen from outside."""

from __future__ import annotations

import argparse

import pytest
import yaml
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_async_sm.emulator.command import add_arguments, make_emulator
from airflow_async_sm.emulator.settings.faults import (
    fault_kinds,
)
from tests.lab import AT_ONCE, VARIANT, Lab, make_lab, refusal
from tests.world import BUCKET

# By kind: what looks at it, and the fault as data, made from the name of the endpoint or bucket that it hits.
CASES = {}


def seen(kind, **data):
    """Register a look at a kind. It gets the lab and the name of what the fault is about."""

    def register(look):
        CASES[kind] = (
            look,
            lambda name: {
                "kind": kind,
                **{key: value(name) if callable(value) else value for key, value in data.items()},
            },
        )
        return look

    return register


def own(name):
    return name


@seen("model_latency", endpoint=own, seconds=100)
def answer_is_held_back(lab, name):
    response = lab.run(lab.deploy(name))
    lab.advance(99)
    assert (lab.state(response), lab.objects(response)) == ("running", set())
    lab.advance(1)
    assert lab.objects(response) == {"output"}


@seen("model_error", endpoint=own, status=503, body="busy", content_type="text/x-busy")
def container_answers_an_error(lab, name):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(name, inbox=inbox))
    assert lab.body(response["FailureLocation"]) == b"busy"
    assert lab.head(response["FailureLocation"]) == ("text/x-busy", {})
    assert "Received server error (503) from model" in inbox.one(response)["failureReason"]
    assert lab.objects(response) == {"failure"}


@seen("model_crash", endpoint=own, times=1)
def container_dies(lab, name):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(name, inbox=inbox))
    text = f"Connection reset by peer for the {name} endpoint. Please retry."
    assert lab.body(response["FailureLocation"]).decode() == text
    assert inbox.one(response)["invocationStatus"] == "Failed"
    # The container is started again.
    assert lab.objects(lab.run(name)) == {"output"}


@seen("instance_lost", endpoint=own, times=1)
def instance_vanishes(lab, name):
    body = name.encode()
    response = lab.run(lab.deploy(name), Body=body)
    assert (lab.objects(response), lab.model_calls(body)) == ({"output"}, 2)
    assert lab.counts(name) == (1, 1)


@seen("insufficient_capacity", endpoint=own)
def endpoint_does_not_come_up(lab, name):
    described = lab.describe(lab.create(name))
    assert described["EndpointStatus"] == "Failed"
    assert "InsufficientInstanceCapacity" in described["FailureReason"]


@seen("config_late", endpoint=own, seconds=30)
def configuration_is_not_seen_yet(lab, name):
    config = lab.configure()
    wanted = {"EndpointName": name, "EndpointConfigName": config}
    # It can be described, as in an account where reads and writes meet different copies.
    assert lab.control.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigName"] == config
    arn = lab.arn("endpoint-config", config)
    said = (400, "ValidationException", f'Could not find endpoint configuration "{arn}".')
    assert refusal(lab.control.create_endpoint, **wanted) == said
    lab.advance(29)
    assert refusal(lab.control.create_endpoint, **wanted) == said
    lab.advance(1)
    lab.control.create_endpoint(**wanted)
    lab.settle()
    assert lab.status(name) == "InService"


@seen("endpoint_impaired", endpoint=own, status="OutOfService")
def endpoint_shows_another_status(lab, name):
    assert lab.status(lab.create(name)) == "OutOfService"
    status, code, text = refusal(lab.runtime.invoke_endpoint_async, EndpointName=name, Body=b"x")
    assert (status, code) == (400, "ValidationError")
    assert "OutOfService" in text


@seen("rollback_failed", endpoint=own)
def way_back_fails(lab, name):
    lab.deploy(name)
    lab.control.update_endpoint(EndpointName=name, EndpointConfigName=lab.configure(image="unheard-of"))
    lab.settle()
    described = lab.describe(name)
    assert described["EndpointStatus"] == "UpdateRollbackFailed"
    assert "unheard-of" in described["FailureReason"]
    # It still serves, and a second update can mend it.
    assert lab.objects(lab.run(name)) == {"output"}
    lab.control.update_endpoint(EndpointName=name, EndpointConfigName=lab.configure())
    lab.settle()
    assert lab.status(name) == "InService"


@seen("throttled", endpoint=own, operation="InvokeEndpointAsync")
def submission_is_throttled(lab, name):
    lab.deploy(name)
    submit = lab.own("sagemaker-runtime").invoke_endpoint_async
    before = lab.emulator.counters()["submissions"]["total"]
    assert refusal(submit, EndpointName=name, Body=b"x") == (400, "ThrottlingException", "Rate exceeded")
    assert lab.emulator.counters()["submissions"]["total"] == before


@seen("service_failed", endpoint=own, operation="InvokeEndpointAsync", status=503)
def service_is_unavailable(lab, name):
    lab.deploy(name)
    submit = lab.own("sagemaker-runtime").invoke_endpoint_async
    assert refusal(submit, EndpointName=name, Body=b"x")[:2] == (503, "ServiceUnavailable")
    assert all(record.endpoint != name for record in lab.emulator.requests())


@seen("reply_lost", endpoint=own, times=1)
def reply_never_comes(lab, name):
    lab.deploy(name)
    submit = lab.own("sagemaker-runtime").invoke_endpoint_async
    with pytest.raises(ConnectionClosedError):
        submit(EndpointName=name, Body=name.encode(), InferenceId=name)
    lab.settle()
    # The request is there although its caller saw an error: once, and it is processed.
    assert lab.emulator.counters()["submissions"]["by_inference_id"][name] == 1
    [record] = [record for record in lab.emulator.requests() if record.inference_id == name]
    assert lab.body(record.output_location) == name.encode()


@seen("slow_answer", endpoint=own, operation="DescribeEndpoint", seconds=50)
def answer_takes_its_time(lab, name):
    config = lab.configure()
    lab.control.create_endpoint(EndpointName=name, EndpointConfigName=config)
    taken, came = lab.during(lab.describe, name)
    assert came.answer["EndpointName"] == name
    assert taken >= 50


@seen("s3_slow_down", bucket=own, operation="HeadObject")
def s3_asks_for_fewer_requests(lab, name):
    place = {"Bucket": name, "Key": "k"}
    lab.s3.create_bucket(Bucket=name)
    lab.s3.put_object(**place, Body=b"x")
    assert refusal(lab.own("s3").head_object, **place)[:2] == (503, "503")
    assert lab.s3.get_object(**place)["Body"].read() == b"x"


@seen("list_denied", bucket=own)
def missing_key_looks_denied(lab, name):
    lab.s3.create_bucket(Bucket=name)
    lab.s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert refusal(lab.s3.list_objects_v2, Bucket=name)[:2] == (403, "AccessDenied")
    assert refusal(lab.s3.head_object, Bucket=name, Key="missing")[:2] == (403, "403")
    assert refusal(lab.s3.get_object, Bucket=name, Key="missing")[:2] == (403, "AccessDenied")
    assert lab.s3.head_object(Bucket=name, Key="k")["ContentLength"] == 1


@seen("s3_denied", bucket=own, operation="GetObject", kms=True)
def key_may_not_be_used(lab, name):
    lab.s3.create_bucket(Bucket=name)
    endpoint = lab.deploy(output=f"s3://{name}/out")
    place = lab.run(endpoint)["OutputLocation"]
    # The service wrote it, and who may not use the key cannot read it.
    status, code, text = refusal(lab.get, place)
    assert (status, code) == (403, "AccessDenied")
    assert "kms:Decrypt" in text
    assert lab.exists(place)


@seen("role_denied", endpoint=own, operation="PutObject")
def role_may_not_write(lab, name):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(name, inbox=inbox))
    # Not even a failure object can be written; only the notification says what happened.
    assert (lab.state(response), lab.objects(response)) == ("failed", set())
    message = inbox.one(response)
    assert message["invocationStatus"] == "Failed"
    assert "upload" in message["failureReason"]
    lab.advance(61)
    assert lab.metric(name, "ResponseUploadFailures", variant=VARIANT)[-1]["Sum"] == 1


@seen("expired_credentials", access_key_id=own)
def credentials_have_expired(lab, name):
    calls = {
        "sagemaker-runtime": ("invoke_endpoint_async", {"EndpointName": "e", "Body": b"x"}),
        "sagemaker": ("describe_endpoint", {"EndpointName": "e"}),
        "s3": ("list_objects_v2", {"Bucket": BUCKET}),
    }
    found = {
        service: refusal(getattr(lab.own(service, key=name), call), **members)[:2]
        for service, (call, members) in calls.items()
    }
    assert found == {
        "sagemaker-runtime": (403, "ExpiredTokenException"),
        "sagemaker": (403, "ExpiredTokenException"),
        "s3": (400, "ExpiredToken"),
    }
    assert lab.own("s3", key=f"new-{name}").list_objects_v2(Bucket=BUCKET)["Name"] == BUCKET


@seen("notification_lost", endpoint=own, times=1)
def notification_never_comes(lab, name):
    inbox = lab.inbox()
    lost, told = lab.run(lab.deploy(name, inbox=inbox)), lab.run(name)
    lab.advance(3600)
    assert (inbox.messages(lost), len(inbox.messages(told))) == ([], 1)
    assert lab.objects(lost) == {"output"}


@seen("notification_late", endpoint=own, seconds=300)
def notification_comes_late(lab, name):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(name, inbox=inbox))
    lab.advance(299)
    assert (inbox.messages(response), lab.objects(response)) == ([], {"output"})
    lab.advance(1)
    assert len(inbox.messages(response)) == 1


@seen("notification_doubled", endpoint=own)
def notification_comes_twice(lab, name):
    inbox = lab.inbox()
    messages = inbox.messages(lab.run(lab.deploy(name, inbox=inbox)))
    assert len(messages) == 2
    assert messages[0] == messages[1]


@seen("notification_early", endpoint=own, seconds=20)
def notification_comes_first(lab, name):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(name, inbox=inbox))
    assert inbox.one(response)["invocationStatus"] == "Completed"
    lab.advance(19)
    assert lab.objects(response) == set()
    lab.advance(1)
    assert lab.objects(response) == {"output"}
    assert len(inbox.messages(response)) == 1


def name_of(kind):
    return kind.replace("_", "-")


def every_fault():
    """Return all faults as data, each about something else."""
    return [data(name_of(kind)) for kind, (_, data) in CASES.items()]


def from_python(_folder):
    given = [{name: value for name, value in data.items() if name != "kind"} for data in every_fault()]
    return make_lab(faults=[fault_kinds()[kind](**own) for kind, own in zip(CASES, given, strict=True)])


def from_a_file(folder):
    """Return what the command starts."""
    file = folder / "settings.yaml"
    settings = {
        "behaviour": {name: value for name, value in vars(AT_ONCE).items() if name.endswith("_seconds")},
        "faults": every_fault(),
        "images": {"model": "tests.lab:model"},
    }
    file.write_text(yaml.safe_dump(settings))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return make_emulator(parser.parse_args(["--settings", str(file), "--stepped"]))


def over_http(_folder):
    """Return an emulator without a fault; each one is switched on when it is looked at."""
    return make_lab()


WAYS = {way.__name__: way for way in (from_python, from_a_file, over_http)}


@pytest.fixture(scope="module")
def lab(request, tmp_path_factory):
    with WAYS[request.param](tmp_path_factory.mktemp("settings")) as emulator:
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("lab", ["from_python", "from_a_file"], indirect=True)
def test_fault_of_the_start(lab, kind):
    look, _ = CASES[kind]
    look(lab, name_of(kind))
    [fault_id] = [fault_id for fault_id, fault in lab.emulator.faults.all().items() if fault.kind == kind]
    assert lab.emulator.faults.hits()[fault_id] > 0


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("lab", ["over_http"], indirect=True)
def test_fault_that_is_switched_on_over_http(lab, kind):
    look, data = CASES[kind]
    with pytest.raises((AssertionError, ClientError, pytest.fail.Exception)):
        look(lab, f"before-{name_of(kind)}")
    [fault_id] = lab.control_address("POST", "faults", data(name_of(kind)))["added"]
    look(lab, name_of(kind))
    [told] = [fault for fault in lab.control_address("GET", "faults")["faults"] if fault["id"] == fault_id]
    assert told["hits"] > 0
    lab.control_address("DELETE", f"faults/{fault_id}")


def test_every_kind_has_a_look():
    assert set(CASES) == set(fault_kinds())
