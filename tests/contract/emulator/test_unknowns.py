"""Every position on what nobody knows about the service, as somebody sees it who has AWS's clients only."""

from __future__ import annotations

import dataclasses
import json
import re
from enum import StrEnum
from typing import get_args, get_type_hints

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator import Behaviour, Unknowns
from airflow_async_sm.emulator.settings.faults import InstanceLost, ModelLatency, Throttled
from airflow_async_sm.emulator.settings.values import Range
from tests.lab import (
    ANSWER_TYPE,
    ERROR_TYPE,
    VARIANT,
    Lab,
    make_lab,
    refusal,
    response_body,
)
from tests.world import BUCKET

BOTH_TOPICS = ("SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC")
# The one unknown that is with the waits and limits.
CONCURRENCY = "default_concurrency"
GENERATED = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# What looks at a field, and what it is to see: by field, position and the name of the look.
CASES = {}


def seen(field, expected):
    """Register a look at a field, with what it is to see in each position."""

    def register(look):
        CASES.update(
            {(field, position, look.__name__): (look, sight) for position, sight in expected.items()}
        )
        return look

    return register


@pytest.fixture(scope="module")
def lab():
    with make_lab() as emulator:
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.fixture
def turn(lab):
    """Return a function that turns switches; they are turned back after the test."""

    def change(**positions):
        behaviour = {CONCURRENCY: positions.pop(CONCURRENCY)} if CONCURRENCY in positions else {}
        lab.emulator.knobs.change(unknowns=positions, behaviour=behaviour)

    yield change
    lab.emulator.knobs.reset()
    lab.emulator.faults.clear()


# Keys.


@seen("filename_suffix", {"absent": "", "out": ".out"})
def output_key_with_a_filename(lab, suffix):
    endpoint, filename = lab.deploy(), lab.name("f")[:32]
    response = lab.run(endpoint, Filename=filename, S3OutputPathExtension="some/where", Body=b"b")
    assert response["OutputLocation"] == f"s3://{BUCKET}/out/some/where/{filename}{suffix}"
    assert lab.body(response["OutputLocation"]) == b"b"


@seen("filename_suffix", {"absent": "", "out": ""})
def generated_output_key(lab, _):
    response = lab.run(lab.deploy(), S3OutputPathExtension="some/where")
    assert re.fullmatch(rf"s3://{BUCKET}/out/some/where/{GENERATED}\.out", response["OutputLocation"])
    assert lab.objects(response) == {"output"}


@seen("failure_extension", {"kept": "/some/where", "ignored": ""})
def failure_key_with_an_extension(lab, folder):
    response = lab.run(lab.deploy(), mode="refuse", S3OutputPathExtension="some/where", Filename="name")
    assert response["FailureLocation"] == f"s3://{BUCKET}/failures{folder}/name-error.out"
    assert lab.body(response["FailureLocation"]) == b'{"no":1}'


@seen("failure_filename", {"kept": "name", "ignored": GENERATED})
def failure_key_with_a_filename(lab, name):
    response = lab.run(lab.deploy(), mode="refuse", S3OutputPathExtension="some", Filename="name")
    place = rf"s3://{BUCKET}/failures/some/{name}-error\.out"
    assert re.fullmatch(place, response["FailureLocation"])
    assert lab.objects(response) == {"failure"}


@seen("filename_reuse", {"overwrites": b"second", "rejected": b"first"})
def filename_whose_object_is_there(lab, content):
    endpoint, name = lab.deploy(), lab.name("f")[:32]
    first = lab.run(endpoint, Filename=name, Body=b"first")
    again = {"EndpointName": endpoint, "Filename": name, "Body": b"second"}
    if content == b"second":
        assert lab.runtime.invoke_endpoint_async(**again)["OutputLocation"] == first["OutputLocation"]
    else:
        assert refusal(lab.runtime.invoke_endpoint_async, **again)[:2] == (400, "ValidationError")
    lab.settle()
    assert lab.body(first["OutputLocation"]) == content


@seen("filename_reuse", {"overwrites": True, "rejected": False})
def filename_whose_request_is_still_open(lab, accepted):
    endpoint, name = lab.deploy_asleep(), lab.name("f")[:32]
    lab.submit(endpoint, Filename=name)
    again = {"EndpointName": endpoint, "Filename": name, "Body": b"second"}
    if accepted:
        lab.runtime.invoke_endpoint_async(**again)
    else:
        assert refusal(lab.runtime.invoke_endpoint_async, **again)[:2] == (400, "ValidationError")


@seen("failure_location_always", {False: None, True: "-error.out"})
def failure_location_without_a_failure_path(lab, ending):
    response = lab.run(lab.deploy(failure=False), mode="refuse")
    if ending is None:
        assert "FailureLocation" not in response
    else:
        assert response["FailureLocation"].endswith(ending)
    assert (lab.state(response), lab.objects(response)) == ("failed", set())


# Objects.


@seen("object_content_type", {"container": ANSWER_TYPE, "binary": "binary/octet-stream"})
def description_of_an_output(lab, content_type):
    response = lab.run(lab.deploy())
    assert lab.head(response["OutputLocation"]) == (content_type, {})


@seen("object_content_type", {"container": ERROR_TYPE, "binary": "binary/octet-stream"})
def description_of_a_models_error(lab, content_type):
    response = lab.run(lab.deploy(), mode="refuse")
    assert lab.head(response["FailureLocation"]) == (content_type, {})


@seen(
    "both_objects",
    {
        "never": [{"output"}, {"output"}],
        "output_after_failure": [{"failure"}, {"output", "failure"}],
        "failure_after_output": [{"output"}, {"output", "failure"}],
    },
)
def objects_of_a_success(lab, expected):
    response = lab.run(lab.deploy(), Body=b"b")
    found = [lab.objects(response)]
    lab.advance(2)
    assert [*found, lab.objects(response)] == expected
    assert (lab.body(response["OutputLocation"]), lab.state(response)) == (b"b", "succeeded")


# Requests that are not processed.


@seen("expiry_object", {"absent": None, "text": b"expired"})
def object_of_an_expired_request(lab, word):
    endpoint = lab.deploy_asleep()
    response = lab.run(endpoint, RequestTTLSeconds=60)
    lab.advance(59)
    assert (lab.state(response), lab.objects(response)) == ("queued", set())
    lab.advance(1)
    assert lab.state(response) == "expired"
    if word is None:
        assert lab.objects(response) == set()
    else:
        assert lab.objects(response) == {"failure"}
        assert word in lab.body(response["FailureLocation"])
    lab.advance(61)
    counted = lab.metric(endpoint, "ExpiredRequests", variant=VARIANT)
    assert sum(point["Sum"] for point in counted) == 1


@seen("expiry_notification", {"silent": [], "failed": ["Failed"], "expired": ["Expired"]})
def notification_of_an_expired_request(lab, statuses):
    inbox = lab.inbox()
    response = lab.submit(lab.deploy_asleep(inbox=inbox), RequestTTLSeconds=60)
    lab.advance(60)
    messages = inbox.messages(response)
    assert [side for side, _ in messages] == ["error"] * len(statuses)
    assert [message["invocationStatus"] for _, message in messages] == statuses
    assert all(message["failureReason"] for _, message in messages)


@seen("deleted_queue", {"dropped": ("dropped", set()), "failed": ("failed", {"failure"})})
def open_requests_of_a_deleted_endpoint(lab, expected):
    lab.hold(3600)
    endpoint = lab.deploy(concurrency=1)
    running, queued = lab.submit_many(endpoint, 2)
    lab.settle()
    assert [lab.state(running), lab.state(queued)] == ["running", "queued"]
    lab.control.delete_endpoint(EndpointName=endpoint)
    lab.settle()
    assert refusal(lab.control.describe_endpoint, EndpointName=endpoint)[1] == "ValidationException"
    for response in (running, queued):
        assert (lab.state(response), lab.objects(response)) == expected


@seen("deleted_queue", {"dropped": [], "failed": ["Failed"]})
def notification_of_a_request_whose_endpoint_is_deleted(lab, statuses):
    inbox = lab.inbox()
    endpoint = lab.deploy_asleep(inbox=inbox)
    response = lab.submit(endpoint)
    lab.control.delete_endpoint(EndpointName=endpoint)
    assert [message["invocationStatus"] for _, message in inbox.messages(response)] == statuses


LOST = {
    "requeued": ("succeeded", {"output"}, 2, ["Completed"]),
    "failed": ("failed", {"failure"}, 1, ["Failed"]),
    "lost": ("dropped", set(), 1, []),
}


@seen("lost_instance", LOST)
def request_whose_instance_vanishes(lab, expected):
    inbox, body = lab.inbox(), lab.name().encode()
    endpoint = lab.deploy(inbox=inbox)
    lab.emulator.faults.add(InstanceLost(times=1, endpoint=endpoint))
    response = lab.run(endpoint, Body=body)
    assert lab.counts(endpoint) == (1, 1)
    messages = [message["invocationStatus"] for _, message in inbox.messages(response)]
    assert (lab.state(response), lab.objects(response), lab.model_calls(body), messages) == expected


@seen("lost_instance", LOST)
def request_whose_instance_is_scaled_in(lab, expected):
    inbox, body = lab.inbox(), lab.name().encode()
    endpoint = lab.deploy(inbox=inbox)
    lab.hold(3600, times=1)
    response = lab.run(endpoint, Body=body)
    assert lab.state(response) == "running"
    lab.resize(endpoint, 0)
    lab.resize(endpoint, 1)
    messages = [message["invocationStatus"] for _, message in inbox.messages(response)]
    assert (lab.state(response), lab.objects(response), lab.model_calls(body), messages) == expected


@seen("lost_instance_requeues", {0: 1, 1: 2, 3: 4})
def request_whose_instances_vanish_again_and_again(lab, calls):
    body = lab.name().encode()
    endpoint = lab.deploy()
    lab.emulator.faults.add(InstanceLost(endpoint=endpoint))
    response = lab.run(endpoint, Body=body)
    assert (lab.state(response), lab.model_calls(body)) == ("failed", calls)
    assert b"could not get a response" in lab.body(response["FailureLocation"])


@seen("update_in_flight", {"finishes": 1, "requeued": 2})
def running_request_during_an_update(lab, calls):
    endpoint, body = lab.deploy(concurrency=1), lab.name().encode()
    lab.hold(300, times=1)
    running, queued = lab.submit(endpoint, Body=body), lab.submit(endpoint, Body=b"queued")
    lab.settle()
    config = lab.configure(output=f"s3://{BUCKET}/new")
    lab.control.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    lab.settle()
    assert (lab.status(endpoint), lab.describe(endpoint)["EndpointConfigName"]) == ("InService", config)
    # What waited is processed by the new instances, and its keys are those that its caller was told.
    assert lab.body(queued["OutputLocation"]) == b"queued"
    assert lab.state(running) == ("running" if calls == 1 else "succeeded")
    lab.advance(300)
    assert lab.body(running["OutputLocation"]) == body
    assert lab.model_calls(body) == calls


# Notifications.


@seen("failed_response_parameters", {False: None, True: ERROR_TYPE})
def response_parameters_of_a_failure(lab, content_type):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(inbox=inbox), mode="refuse")
    expected = content_type and {"contentType": content_type, "outputLocation": response["OutputLocation"]}
    assert inbox.one(response).get("responseParameters") == expected


@seen(
    "failed_location",
    {
        "absent": (False, False),
        "top_level": (True, False),
        "response_parameters": (False, True),
    },
)
def location_in_a_failed_notification(lab, expected):
    inbox = lab.inbox()
    response = lab.run(lab.deploy(inbox=inbox), mode="refuse")
    message, place = inbox.one(response), response["FailureLocation"]
    assert message["invocationStatus"] == "Failed"
    found = message.get("failureLocation"), message.get("responseParameters", {}).get("failureLocation")
    assert found == tuple(place if there else None for there in expected)


@seen("failed_response_body", {False: None, True: b'{"no":1}'})
def response_in_a_failed_notification(lab, content):
    inbox = lab.inbox()
    endpoint = lab.deploy(inbox=inbox, include=BOTH_TOPICS)
    failed, succeeded = lab.submit(endpoint, mode="refuse"), lab.submit(endpoint, Body=b"b")
    lab.settle()
    assert response_body(inbox.one(failed)) == content
    assert response_body(inbox.one(succeeded)) == b"b"


@seen("inline_input_location", {"absent": None, "empty": ""})
def input_location_of_an_inline_payload(lab, location):
    inbox = lab.inbox()
    endpoint, place = lab.deploy(inbox=inbox), lab.put(b"x")
    for mode in ("echo", "refuse"):
        inline, stored = lab.run(endpoint, mode=mode), lab.run(endpoint, mode=mode, InputLocation=place)
        assert inbox.one(inline)["requestParameters"].get("inputLocation") == location
        assert inbox.one(stored)["requestParameters"]["inputLocation"] == place


@seen("notification_lead_seconds", {0: 0, 0.5: 0.5, 1: 1})
def object_at_the_time_of_its_notification(lab, lead):
    inbox = lab.inbox()
    endpoint = lab.deploy(inbox=inbox)
    for mode, side in (("echo", "output"), ("refuse", "failure")):
        response = lab.run(endpoint, mode=mode)
        assert inbox.one(response)["invocationStatus"] == ("Completed" if mode == "echo" else "Failed")
        if lead:
            assert lab.objects(response) == set()
            lab.advance(lead - 0.1)
            assert lab.objects(response) == set()
            lab.advance(0.1)
        assert lab.objects(response) == {side}
        assert len(inbox.messages(response)) == 1


# Calls.


@seen("throttling_status", {"bad_request": 400, "too_many_requests": 429})
def throttled_call(lab, status):
    endpoint = lab.deploy()
    lab.emulator.faults.add(Throttled(endpoint=endpoint))
    calls = {
        "sagemaker-runtime": ("invoke_endpoint_async", {"Body": b"x"}),
        "sagemaker": ("describe_endpoint", {}),
    }
    for service, (call, members) in calls.items():
        refused = refusal(getattr(lab.own(service), call), EndpointName=endpoint, **members)
        assert refused[:2] == (status, "ThrottlingException")


@seen("refusal_texts", {"constraint": True, "sentence": False})
def text_of_a_refusal(lab, constraint):
    endpoint, submit = lab.deploy(), lab.runtime.invoke_endpoint_async
    bad = [
        {},
        {"Body": b"x", "InputLocation": "s3://b/k"},
        {"Body": b"x" * 128_001},
        {"Body": b"x", "Filename": "a.b.c"},
        {"Body": b"x", "RequestTTLSeconds": 21_601},
    ]
    for members in bad:
        status, code, text = refusal(submit, EndpointName=endpoint, **members)
        assert (status, code) == (400, "ValidationError")
        assert text.startswith("1 validation error detected: ") is constraint
    # This text is known, so it is the same in every position.
    _, code, text = refusal(submit, EndpointName="nobody", Body=b"x")
    assert (code, text) == ("ValidationError", "Endpoint nobody of account 123456789012 not found.")


@seen("container_inference_id", {False: False, True: True})
def inference_id_in_the_container(lab, there):
    response = lab.run(lab.deploy(), mode="headers_back", InferenceId="mine")
    headers = json.loads(lab.body(response["OutputLocation"]))
    assert headers.get("x-amzn-sagemaker-inference-id") == ("mine" if there else None)


@seen("zero_initial_instances", {False: False, True: True})
def endpoint_that_begins_with_no_instance(lab, accepted):
    if not accepted:
        with pytest.raises(ClientError, match="initialInstanceCount") as refused:
            lab.configure(instances=0)
        assert refused.value.response["Error"]["Code"] == "ValidationException"
        return
    endpoint = lab.deploy(instances=0)
    assert lab.counts(endpoint) == (0, 0)
    response = lab.run(endpoint)
    assert lab.state(response) == "queued"
    lab.resize(endpoint, 1)
    assert lab.objects(response) == {"output"}


@seen(CONCURRENCY, {1: 1, 4: 4, 6: 6})
def invocations_at_a_time(lab, most):
    lab.hold(60)
    endpoint = lab.deploy()
    responses = lab.submit_many(endpoint, 7)
    lab.settle()
    states = [lab.state(response) for response in responses]
    assert (states.count("running"), states.count("queued")) == (most, 7 - most)
    lab.advance(60)
    assert [lab.state(response) for response in responses].count("succeeded") == most


@pytest.mark.parametrize(("field", "position", "look"), CASES)
def test_position_is_seen_from_outside(lab, turn, field, position, look):
    turn(**{field: position})
    looked, expected = CASES[field, position, look]
    looked(lab, expected)


def positions(cls, name):
    """Return the positions of a field that need a case: all, or of a number the ends of its range."""
    kind, default = get_type_hints(cls, include_extras=True)[name], getattr(cls(), name)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {member.value for member in kind}
    if kind is bool:
        return {False, True}
    [limits] = [mark for mark in get_args(kind) if isinstance(mark, Range)]
    return {default, limits.least} | ({limits.most} if limits.most < float("inf") else set())


FIELDS = [*((Unknowns, field.name) for field in dataclasses.fields(Unknowns)), (Behaviour, CONCURRENCY)]


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=[name for _, name in FIELDS])
def test_every_position_has_a_case(cls, name):
    there = {}
    for field, position, look in CASES:
        if field == name:
            there.setdefault(look, set()).add(position)
    needed = positions(cls, name)
    assert there, f"nothing looks at {name}"
    for look, found in there.items():
        assert needed <= found, f"{look} does not look at {needed - found} of {name}"


def test_every_case_is_about_a_field():
    assert {field for field, _, _ in CASES} == {name for _, name in FIELDS}


def test_looks_differ_between_positions():
    """A look that sees the same in all positions proves nothing; one of each field's sees a difference."""
    for _, name in FIELDS:
        sights = {}
        for (field, _, look), (_, sight) in CASES.items():
            if field == name:
                sights.setdefault(look, []).append(repr(sight))
        assert any(len(set(found)) == len(found) for found in sights.values()), name


# What is not one position of one field.


def test_without_extension_and_filename_the_failure_key_is_the_plain_one(lab, turn):
    turn(failure_extension="ignored", failure_filename="ignored")
    response = lab.run(lab.deploy(), mode="refuse", S3OutputPathExtension="some", Filename="name")
    assert re.fullmatch(rf"s3://{BUCKET}/failures/{GENERATED}-error\.out", response["FailureLocation"])


def test_generated_keys_of_a_request_have_one_id_that_is_not_the_inference_id(lab):
    response = lab.run(lab.deploy(), InferenceId="mine")
    stem = response["OutputLocation"].rpartition("/")[2].removesuffix(".out")
    assert response["FailureLocation"] == f"s3://{BUCKET}/failures/{stem}-error.out"
    assert stem != response["InferenceId"] == "mine"


def test_platform_texts_are_plain_text(lab):
    response = lab.run(lab.deploy(), InputLocation=f"s3://{BUCKET}/nothing-here")
    assert lab.head(response["FailureLocation"]) == ("text/plain", {})


def test_late_lead_is_no_reason_for_a_second_message(lab, turn):
    turn(notification_lead_seconds=1, both_objects="failure_after_output")
    inbox = lab.inbox()
    response = lab.run(lab.deploy(inbox=inbox))
    lab.advance(10)
    assert lab.objects(response) == {"output", "failure"}
    assert len(inbox.messages(response)) == 1


def test_update_requeues_and_does_not_count_as_a_loss(lab, turn):
    turn(update_in_flight="requeued", lost_instance_requeues=0)
    lab.emulator.faults.add(ModelLatency(seconds=300, times=1))
    endpoint = lab.deploy()
    response = lab.run(endpoint)
    lab.control.update_endpoint(EndpointName=endpoint, EndpointConfigName=lab.configure())
    lab.settle()
    assert lab.state(response) == "succeeded"


def test_switches_are_turned_over_http_too(lab, turn):
    turned = lab.control_address("PATCH", "settings", {"unknowns": {"filename_suffix": "out"}})
    assert turned["unknowns"]["filename_suffix"] == "out"
    response = lab.run(lab.deploy(), Filename=lab.name("f")[:32])
    assert response["OutputLocation"].endswith(".out")
