from __future__ import annotations

import json
import random
import types
import typing
from dataclasses import MISSING, fields
from typing import Annotated, Literal, get_args, get_origin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_async_sm.emulator.settings import faults
from airflow_async_sm.emulator.settings.faults import (
    SELECTORS,
    EndpointImpaired,
    ExpiredCredentials,
    Fault,
    ListDenied,
    ModelCrash,
    ModelError,
    ModelLatency,
    ReplyLost,
    RoleDenied,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    SlowAnswer,
    fault_from_data,
    fault_kinds,
)
from airflow_async_sm.emulator.settings.values import Range, SettingError

KINDS = {
    "config_late": faults.ConfigLate,
    "endpoint_impaired": EndpointImpaired,
    "expired_credentials": ExpiredCredentials,
    "instance_lost": faults.InstanceLost,
    "insufficient_capacity": faults.InsufficientCapacity,
    "list_denied": ListDenied,
    "model_crash": ModelCrash,
    "model_error": ModelError,
    "model_latency": ModelLatency,
    "notification_doubled": faults.NotificationDoubled,
    "notification_early": faults.NotificationEarly,
    "notification_late": faults.NotificationLate,
    "notification_lost": faults.NotificationLost,
    "reply_lost": ReplyLost,
    "role_denied": RoleDenied,
    "rollback_failed": faults.RollbackFailed,
    "s3_denied": S3Denied,
    "s3_slow_down": S3SlowDown,
    "service_failed": ServiceFailed,
    "slow_answer": SlowAnswer,
    "throttled": faults.Throttled,
}


def values_of(kind):
    """Return a strategy for the values that an annotation allows."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values_of(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is Annotated:
        inner, mark = arguments
        if not isinstance(mark, Range):
            return st.text(min_size=1, max_size=20)
        most = min(mark.most, 10**6)
        if inner is int:
            return st.integers(int(mark.least), int(most))
        return st.floats(mark.least, most, exclude_min=mark.above)
    return st.from_type(kind)


@st.composite
def some_fault(draw, cls):
    kinds = typing.get_type_hints(cls, include_extras=True)
    given = {}
    for field in fields(cls):
        needed = field.default is MISSING
        if (needed or draw(st.booleans())) and not (field.name == "endpoint" and not cls.has_endpoint):
            given[field.name] = draw(values_of(kinds[field.name]))
    try:
        return cls(**given)
    except SettingError:
        # Only a latency has values that fit on their own and not together.
        assume(cls is not ModelLatency)
        raise


def test_kinds_are_called_as_in_the_documentation():
    assert fault_kinds() == KINDS
    assert list(fault_kinds()) == sorted(KINDS)


@pytest.mark.parametrize("cls", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_data_of_a_fault_make_it_again(cls, data):
    fault = data.draw(some_fault(cls))
    written = json.loads(json.dumps(fault.as_data()))
    assert written["kind"] == fault.kind
    assert fault_from_data(written) == fault


def test_data_are_short():
    assert ModelCrash().as_data() == {"kind": "model_crash"}
    assert ModelLatency(3, endpoint="a").as_data() == {
        "kind": "model_latency",
        "seconds": 3.0,
        "endpoint": "a",
    }
    assert ReplyLost(operation=None).as_data() == {"kind": "reply_lost", "operation": None}


@pytest.mark.parametrize("cls", KINDS.values(), ids=KINDS)
def test_docstring_names_every_field_and_selector(cls):
    own = {field.name for field in fields(cls)} - {field.name for field in fields(Fault)}
    assert all(f":param {name}:" in cls.__doc__ for name in own)
    selectors = {field.name for field in fields(cls)} & set(SELECTORS)
    if not cls.has_endpoint:
        selectors.remove("endpoint")
    summary = " ".join(cls.__doc__.partition(":param")[0].split())
    _, heading, listed = summary.partition("Selector")
    assert heading
    assert {name for name in SELECTORS if f"``{name}``" in listed} == selectors


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("model_crash", "What was given is 'model_crash'; it must be a mapping of names to values."),
        ({}, "kind is missing; every fault needs it."),
        (
            {"kind": "model_latncy"},
            "kind is 'model_latncy', which is no kind of fault. Did you mean model_latency?",
        ),
        ({"kind": ["x"]}, "kind is ['x'], which is no kind of fault. There are: config_late,"),
        ({"kind": "fault"}, "kind is 'fault', which is no kind of fault."),
        ({"kind": "model_latency"}, "seconds is missing; model_latency needs it."),
        (
            {"kind": "model_crash", "rat": 1},
            "rat is not known: model_crash has no such name. Did you mean rate?",
        ),
        ({"kind": "model_crash", "rate": 2}, "rate is 2.0; it must be a number from 0 to 1."),
        ({"kind": "model_crash", "times": 0}, "times is 0; it must be a number of at least 1."),
        ({"kind": "model_error", "status": 200}, "status is 200; it must be a number from 400 to 599."),
        ({"kind": "s3_denied", "endpoint": "e"}, "endpoint is 'e'; s3_denied is about no endpoint."),
        ({"kind": "service_failed", "status": 502}, "status is 502; it must be one of 500, 503."),
        (
            {"kind": "role_denied", "operation": "ListObjects"},
            "operation is 'ListObjects'; it must be one of",
        ),
        ({"kind": "endpoint_impaired", "status": "Failed"}, "status is 'Failed'; it must be one of"),
    ],
)
def test_data_that_are_no_fault_are_refused(data, text):
    with pytest.raises(SettingError) as refused:
        fault_from_data(data)
    assert str(refused.value).startswith(text)


def test_fault_without_a_kind_is_refused():
    with pytest.raises(TypeError, match="make one of a subclass"):
        Fault(rate=0.5)


def test_data_are_left_as_they_are():
    data = {"kind": "model_crash", "rate": 0.5}
    fault_from_data(data)
    assert data == {"kind": "model_crash", "rate": 0.5}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"seconds": 1, "up_to": 2}, "up_to is 2.0; a fixed latency has no other end."),
        ({"seconds": 1, "distribution": "uniform"}, "up_to is missing; a uniform latency needs it."),
        ({"seconds": 0, "distribution": "exponential"}, "seconds is 0.0; the mean of"),
        (
            {"seconds": 2, "up_to": 1, "distribution": "uniform"},
            "up_to is 1.0; it must be at least seconds, 2.0.",
        ),
        (
            {"seconds": 2, "up_to": 1, "distribution": "exponential"},
            "up_to is 1.0; it must be at least seconds",
        ),
        ({"seconds": 2, "distribution": "normal"}, "distribution is 'normal'; it must be one of 'fixed',"),
    ],
)
def test_latency_that_makes_no_sense_is_refused(values, text):
    with pytest.raises(SettingError) as refused:
        ModelLatency(**values)
    assert str(refused.value).startswith(text)


def drawn(fault, count=4000):
    source = random.Random(1)
    return [fault.seconds_for(source) for _ in range(count)]


def test_fixed_latency_is_always_the_same():
    assert set(drawn(ModelLatency(seconds=1.5))) == {1.5}


def test_uniform_latency_is_anywhere_between_its_ends():
    times = drawn(ModelLatency(seconds=1, up_to=3, distribution="uniform"))
    assert 1 <= min(times) < 1.1
    assert 2.9 < max(times) <= 3
    assert sum(times) / len(times) == pytest.approx(2, abs=0.1)


def test_exponential_latency_has_its_mean():
    times = drawn(ModelLatency(seconds=2, distribution="exponential"))
    assert sum(times) / len(times) == pytest.approx(2, rel=0.1)
    assert max(times) > 6


def test_exponential_latency_has_a_limit():
    times = drawn(ModelLatency(seconds=2, up_to=6, distribution="exponential"))
    assert max(times) == 6
    assert min(times) < 0.1


@pytest.mark.parametrize(
    ("fault", "about", "selected"),
    [
        (ModelCrash(), {}, True),
        (ModelCrash(), {"endpoint": "a"}, True),
        (ModelCrash(endpoint="a"), {"endpoint": "a"}, True),
        (ModelCrash(endpoint="My-Endpoint"), {"endpoint": "my-endpoinT"}, True),
        (ModelCrash(endpoint="a"), {"endpoint": "b"}, False),
        (ModelCrash(endpoint="a"), {"endpoint": None}, False),
        (ModelCrash(endpoint="a"), {}, False),
        (S3Denied(bucket="a"), {"bucket": "A"}, False),
        (S3Denied(bucket="a", operation="GetObject"), {"bucket": "a", "operation": "GetObject"}, True),
        (S3Denied(bucket="a", operation="GetObject"), {"bucket": "a", "operation": "PutObject"}, False),
        (S3Denied(bucket="a", operation="GetObject"), {"bucket": "a"}, False),
        (ReplyLost(), {"operation": "CreateModel"}, False),
        (ReplyLost(operation=None), {"operation": "CreateModel"}, True),
        (RoleDenied(operation="PutObject"), {"operation": "GetObject", "bucket": "b"}, False),
        (ServiceFailed(service="s3"), {"service": "s3", "operation": "GetObject"}, True),
        (SlowAnswer(1, service="s3"), {"service": "sagemaker"}, False),
        (ExpiredCredentials(access_key_id="AKIA"), {"access_key_id": "AKIA"}, True),
        (ExpiredCredentials(access_key_id="AKIA"), {"access_key_id": "AKIB"}, False),
    ],
)
def test_whom_a_fault_is_about(fault, about, selected):
    assert fault.selects(about) is selected
