"""What the emulator writes where the model or the service fails, and the error that each becomes."""

from __future__ import annotations

import time

import pytest

from airflow_async_sm.core.outcomes import End, Outcome, Settled
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.emulator.settings.faults import InstanceLost, ModelError, RoleDenied
from airflow_async_sm.exceptions import (
    BadContainerAnswer,
    InferenceFailed,
    InputUnreadable,
    InvocationTimedOut,
    ModelBroke,
    ModelRejected,
    OutputUnwritable,
    outcome_error,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.world import eventually

# Hook and emulator: Airflow gives the connection, which other tests look at on each of its versions.
pytestmark = pytest.mark.default_airflow


@pytest.fixture
def hook(world, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    return SageMakerAsyncHook()


@pytest.fixture
def faults(world):
    yield world.emulator.faults
    world.emulator.faults.clear()


@pytest.fixture
def turn(world):
    """Return a function that changes settings of the emulator for one test."""
    yield world.emulator.knobs.change
    world.emulator.knobs.change(unknowns={"lost_instance": "requeued"})


@pytest.fixture
def failed(hook):
    """Return a function that submits a request, waits for its failure, and returns the error."""

    def failed(name, mode="echo", **arguments):
        payload = {} if "input_location" in arguments else {"body": b"payload"}
        handle = hook.invoke_endpoint_async(
            InvocationRequest(endpoint_name=name, custom_attributes=mode, **payload, **arguments)
        )
        eventually(lambda: hook.look_at_result(handle) == Settled(False))
        text = hook.read_failure(handle.failure_location)
        error = outcome_error(handle, Outcome(end=End.FAILED, seen_at=time.time()), failure=text)
        assert str(error).endswith(f"The failure object {handle.failure_location} says:\n{text}")
        return error

    return failed


@pytest.mark.parametrize(
    ("mode", "kind", "advice"),
    [
        # Its body has no status, and its words are its own.
        ("refuse", InferenceFailed, ""),
        ("fail", InferenceFailed, ""),
        ("chunked", BadContainerAnswer, "send a Content-Length"),
        ("large_headers", BadContainerAnswer, "shorter headers"),
        ("crash", ModelBroke, "closed the connection"),
    ],
)
def test_what_the_container_does(failed, echo, mode, kind, advice):
    error = failed(echo, mode)
    assert type(error) is kind
    assert advice in str(error)


def test_an_invocation_that_takes_too_long(failed, echo):
    error = failed(echo, "hang", invocation_timeout=1)
    assert type(error) is InvocationTimedOut
    assert "raise invocation_timeout" in str(error)


def test_an_input_that_is_not_there(failed, echo):
    error = failed(echo, input_location="s3://no-such-bucket/in.json")
    assert type(error) is InputUnreadable
    assert "s3:GetObject" in str(error)


def test_an_input_that_the_role_may_not_read(world, failed, echo, faults):
    location = world.put(b"payload")
    faults.add(RoleDenied(endpoint=echo, operation="GetObject"))
    assert type(failed(echo, input_location=location)) is InputUnreadable


def test_an_output_that_the_role_may_not_write(world, failed, faults):
    world.s3.create_bucket(Bucket="bucket-of-others")
    name = world.deploy(output="s3://bucket-of-others/out")
    faults.add(RoleDenied(bucket="bucket-of-others", operation="PutObject"))
    error = failed(name)
    assert type(error) is OutputUnwritable
    assert "could not write s3://bucket-of-others/out/" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, '{"code": 400, "type": "BadRequestException", "message": "no"}', ModelRejected),
        (422, '{"detail": [{"loc": ["body"], "msg": "Field required"}]}', ModelRejected),
        (500, '{"code": 500, "type": "InternalServerException", "message": "Worker died."}', ModelBroke),
        (500, "Internal Server Error", ModelBroke),
        (400, '{"code": 400, "message": "CUDA out of memory."}', ModelBroke),
        (500, "the model failed", InferenceFailed),
    ],
)
def test_what_the_model_answers(failed, echo, faults, status, body, kind):
    faults.add(ModelError(endpoint=echo, status=status, body=body))
    assert type(failed(echo)) is kind


def test_an_instance_that_is_lost(world, failed, faults, turn):
    name = world.deploy()
    turn(unknowns={"lost_instance": "failed"})
    faults.add(InstanceLost(endpoint=name, times=1))
    error = failed(name)
    assert type(error) is ModelBroke
    assert "did not answer in time" in str(error)
