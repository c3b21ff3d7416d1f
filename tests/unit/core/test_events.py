"""What crosses from the triggerer to the worker: every handle and outcome survives, all else is refused."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.events import decode_event, encode_event
from airflow_async_sm.core.handles import DELETED, IN_SERVICE, EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome

moments = st.floats(min_value=0, max_value=1e11)
texts = st.text(min_size=1)
invocations = st.builds(
    InvocationHandle,
    endpoint_name=texts,
    inference_id=texts,
    output_location=texts,
    failure_location=st.none() | texts,
    submitted_at=moments,
    expires_at=moments,
)
endpoints = st.builds(
    EndpointHandle,
    endpoint_name=st.from_regex(r"[a-z]{1,63}", fullmatch=True),
    goal=st.sampled_from([IN_SERVICE, DELETED]),
    submitted_at=moments,
    endpoint_config_name=st.none() | texts,
)
outcomes = st.builds(Outcome, end=st.sampled_from(End), seen_at=moments, detail=st.text())

HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out",
    submitted_at=1.0,
    expires_at=2.0,
)
EVENT = encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=3.0))


@given(handle=invocations | endpoints, outcome=outcomes)
def test_an_event_survives_json(handle, outcome):
    event = json.loads(json.dumps(encode_event(handle, outcome)))
    assert decode_event(event, type(handle)) == (handle, outcome)


def test_an_event_holds_plain_json_types_only():
    assert EVENT == {
        "version": 1,
        "handle": {
            "endpoint_name": "model",
            "inference_id": "id-1",
            "output_location": "s3://bucket/out",
            "failure_location": None,
            "submitted_at": 1.0,
            "expires_at": 2.0,
            "input_location": None,
            "uploaded": False,
            "endpoint_region": None,
        },
        "outcome": {"end": "Succeeded", "seen_at": 3.0, "detail": "", "location": ""},
    }
    assert type(EVENT["outcome"]["end"]) is str


def test_keys_of_a_later_version_are_passed_over():
    event = {**EVENT, "handle": {**EVENT["handle"], "item": 7}, "new": True}
    assert decode_event(event, InvocationHandle)[0] == HANDLE


def test_a_key_with_a_default_may_be_missing_as_from_an_earlier_version():
    handle = {key: value for key, value in EVENT["handle"].items() if key != "failure_location"}
    assert decode_event({**EVENT, "handle": handle}, InvocationHandle)[0] == HANDLE


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (None, "the event is NoneType"),
        ("success", "the event is str"),
        ({}, "version None"),
        ({**EVENT, "version": 2}, "version 2, not 1"),
        ({"version": 1}, "InvocationHandle cannot be read from NoneType"),
        (
            {**EVENT, "handle": {"endpoint_name": "model"}},
            "lacks output_location, submitted_at",
        ),
        ({**EVENT, "handle": {**EVENT["handle"], "inference_id": 7}}, "inference_id is 7"),
        ({**EVENT, "handle": {**EVENT["handle"], "output_location": ""}}, "output_location is ''"),
        ({**EVENT, "handle": {**EVENT["handle"], "submitted_at": "now"}}, "submitted_at is 'now'"),
        ({**EVENT, "handle": {**EVENT["handle"], "expires_at": float("nan")}}, "expires_at is nan"),
        ({**EVENT, "outcome": {"end": "Succeeded", "seen_at": True}}, "seen_at is True"),
        ({**EVENT, "outcome": {"end": "Great", "seen_at": 1}}, "end is 'Great'; expected one of Succeeded"),
        ({**EVENT, "outcome": {"end": "Failed", "seen_at": 1, "detail": 5}}, "detail is 5"),
    ],
)
def test_a_foreign_or_damaged_event_is_refused(event, complaint):
    with pytest.raises(InvalidInput) as caught:
        decode_event(event, InvocationHandle)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"goal": "Asleep"}, "goal is 'Asleep'"), ({"endpoint_name": "no_such name"}, "endpoint_name is")],
)
def test_an_endpoint_handle_that_makes_no_sense_is_refused(change, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        EndpointHandle(**({"endpoint_name": "model", "goal": IN_SERVICE, "submitted_at": 1.0} | change))


def test_handles_say_what_they_are_about():
    assert HANDLE.subject == "Request id-1 to endpoint model"
    assert EndpointHandle(endpoint_name="m", goal=DELETED, submitted_at=1.0).subject == "Endpoint m"


@pytest.mark.parametrize("config", [object(), {"read_timeout": object()}, [1], {"retries": float}])
def test_a_botocore_config_that_cannot_be_stored_is_refused(config):
    with pytest.raises(InvalidInput, match="botocore_config cannot be stored while the task is deferred"):
        AwsParams(botocore_config=config)


def test_a_botocore_config_with_a_password_is_refused():
    with pytest.raises(InvalidInput, match="holds a password"):
        AwsParams(botocore_config={"proxies": {"https": "http://user:secret@proxy:8080"}})


def test_aws_params_survive_storage():
    params = AwsParams(
        botocore_config=MappingProxyType({"read_timeout": 5, "proxies": {"https": "http://proxy"}})
    )
    assert params.botocore_config == {"read_timeout": 5, "proxies": {"https": "http://proxy"}}
    assert AwsParams.from_dict(json.loads(json.dumps(params.to_dict()))) == params
