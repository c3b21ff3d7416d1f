"""What each end of a wait becomes, and what its message says."""

from __future__ import annotations

import pytest

from airflow_async_sm._compat import AirflowFailException
from airflow_async_sm.core.failures import LOOK_REFUSED, Failure, FailureKind
from airflow_async_sm.core.handles import IN_SERVICE, EndpointHandle, InvocationHandle
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.emulator.work.conclusions import EXPIRED
from airflow_async_sm.exceptions import (
    BadContainerAnswer,
    EndpointLost,
    InferenceExpired,
    InferenceFailed,
    InputUnreadable,
    InvocationTimedOut,
    LookFailed,
    LookForbidden,
    ModelBroke,
    ModelRejected,
    OutputUnwritable,
    WaitTimedOut,
    outcome_error,
)

OUTPUT, FAILURE = "s3://bucket/out/{1}.out", "s3://bucket/failures/1-error.out"
HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location=OUTPUT,
    failure_location=FAILURE,
    submitted_at=1_000.0,
    expires_at=2_000.0,
    input_location="s3://bucket/in/{1}.json",
)
ANEW = "A retry of the task submits a new request."
SAME = "A retry of the task waits for the same request and submits nothing."
NEVER = "It is not retried: the same request would fail again until this is mended."

SAID = [
    ("bad row", InferenceFailed, "failed after 10 s. "),
    ('{"code": 400}', ModelRejected, "failed after 10 s: the model rejected it."),
    ('{"code": 500}', ModelBroke, "failed after 10 s: the model failed or gave no answer."),
    (
        "The response from container primary did not specify the required Content-Length header",
        BadContainerAnswer,
        "failed after 10 s: the service does not take the container's answer.",
    ),
    (
        "Failed to download object (bucket: bucket, key: in/{1}.json)",
        InputUnreadable,
        "failed after 10 s: the service could not read its input s3://bucket/in/{1}.json.",
    ),
    (
        "Failed to upload object (bucket: bucket, key: out/{1}.out)",
        OutputUnwritable,
        f"failed after 10 s: the service could not write {OUTPUT}.",
    ),
    (
        "Timed out uploading object (bucket: bucket, key: out/{1}.out)",
        InvocationTimedOut,
        "failed after 10 s: it took longer than its invocation timeout.",
    ),
    (EXPIRED, InferenceExpired, "failed after 10 s: it expired in the endpoint's queue."),
]


def end(kind, detail="", seen_at=1_010.0):
    return Outcome(end=kind, seen_at=seen_at, detail=detail)


@pytest.mark.parametrize(("said", "kind", "text"), SAID, ids=[kind.__name__ for _, kind, _ in SAID])
def test_each_kind_of_failure_has_its_error(said, kind, text):
    error = outcome_error(HANDLE, end(End.FAILED), failure=said)
    assert type(error) is kind
    assert str(error).startswith(f"Request id-1 to endpoint model {text}")
    assert str(error).endswith(f" The failure object {FAILURE} says:\n{said}")
    assert (error.endpoint_name, error.inference_id, error.location) == ("model", "id-1", FAILURE)


@pytest.mark.parametrize(("said", "kind", "text"), SAID, ids=[kind.__name__ for _, kind, _ in SAID])
def test_airflow_retries_what_a_retry_may_help(said, kind, text):
    error = outcome_error(HANDLE, end(End.FAILED), failure=said)
    permanent = Failure(error.kind).permanent
    assert isinstance(error, AirflowFailException) is permanent
    assert (NEVER in str(error)) is permanent
    assert (ANEW in str(error)) is not permanent


def test_every_kind_has_an_error_of_its_own():
    kinds = [kind.kind for _, kind, _ in SAID]
    assert sorted(kinds) == sorted(FailureKind)
    assert outcome_error(HANDLE, end(End.TIMED_OUT)).kind is None


def test_a_payload_that_was_sent_inline_has_no_location():
    handle = InvocationHandle.from_dict(HANDLE.to_dict() | {"input_location": None})
    error = outcome_error(handle, end(End.FAILED), failure="Failed to download object (bucket: b, key: k)")
    assert "could not read its input. " in str(error)


def test_a_request_that_is_lost_says_why_and_where_nothing_came():
    error = outcome_error(HANDLE, end(End.FAILED, "Endpoint model does not exist any more."))
    assert type(error) is EndpointLost
    assert str(error) == (
        "Request id-1 to endpoint model is lost after 10 s: Endpoint model does not exist any more. Nothing "
        f"came to {OUTPUT}, and nothing can come any more. {ANEW}"
    )
    assert error.location == OUTPUT


def test_a_look_that_was_refused_is_told_from_one_that_failed():
    refused = outcome_error(HANDLE, end(End.LOOK_FAILED, f"{LOOK_REFUSED} it is there. Grant both."))
    failed = outcome_error(HANDLE, end(End.LOOK_FAILED, "OSError: no route"))
    assert (type(refused), type(failed)) == (LookForbidden, LookFailed)
    assert "s3:GetObject" in str(failed)
    assert "s3:GetObject" not in str(refused)


@pytest.mark.parametrize(
    ("outcome", "kind", "default"),
    [
        (end(End.FAILED), InferenceFailed, ANEW),
        (end(End.FAILED, "It is gone."), EndpointLost, ANEW),
        (end(End.EXPIRED), InferenceExpired, ANEW),
        (end(End.TIMED_OUT), WaitTimedOut, SAME),
        (end(End.LOOK_FAILED, "OSError: no route"), LookFailed, SAME),
        (end(End.LOOK_FAILED, LOOK_REFUSED), LookForbidden, SAME),
    ],
)
def test_what_a_retry_does_can_be_said_otherwise(outcome, kind, default):
    usual = outcome_error(HANDLE, outcome, failure="bad row")
    assert type(usual) is kind
    assert str(usual).count(default) == 1
    told = outcome_error(HANDLE, outcome, failure="bad row", again="A retry dances.")
    assert str(told) == str(usual).replace(default, "A retry dances.")


def test_of_what_is_not_retried_nothing_is_said_about_a_retry():
    error = outcome_error(HANDLE, end(End.FAILED), failure='{"code": 400}', again="A retry dances.")
    assert "dances" not in str(error)


def test_an_endpoints_error_can_say_otherwise_too():
    handle = EndpointHandle(endpoint_name="model", goal=IN_SERVICE, submitted_at=1_000.0)
    usual = str(outcome_error(handle, end(End.TIMED_OUT)))
    told = outcome_error(handle, end(End.TIMED_OUT), again="A retry dances.")
    assert usual.endswith(" A retry of the task takes the endpoint as it finds it.")
    assert str(told).endswith(" A retry dances.")
