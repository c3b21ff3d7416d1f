"""
The errors that a task can end with.

::

    SageMakerAsyncError (AirflowException)      says what happened, to which request, what a retry will do
    ├── InferenceFailed                         the failure object is there; its text is in the message
    ├── InferenceExpired                        nothing can arrive any more
    ├── WaitTimedOut                            our deadline passed first; the work may still finish
    ├── LookFailed                              looking failed too often; what became of the work is unknown
    ├── ResultUnreadable                        the object is there, but not for us
    ├── EndpointNotReady                        the endpoint did not reach, or is not in, the needed state
    ├── ServiceUnavailable                      AWS could not be reached or is busy: worth a retry
    ├── SubmissionUnconfirmed (*)               the reply to a submission was lost: it may have been accepted
    ├── RequestRejected (*)                     refused, by the service or before it was asked
    └── BadTriggerEvent (*)                     resumed with an event that cannot be read

    (*) also an AirflowFailException: Airflow does not retry the task
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_async_sm._compat import AirflowException, AirflowFailException
from airflow_async_sm.core.endpoint_states import log_group
from airflow_async_sm.core.handles import EndpointHandle, Handle, InvocationHandle
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.texts import sentence

__all__ = [
    "BadTriggerEvent",
    "EndpointNotReady",
    "InferenceExpired",
    "InferenceFailed",
    "LookFailed",
    "RequestRejected",
    "ResultUnreadable",
    "SageMakerAsyncError",
    "ServiceUnavailable",
    "SubmissionUnconfirmed",
    "WaitTimedOut",
    "outcome_error",
]


class SageMakerAsyncError(AirflowException):
    """
    The root of all errors of this package.

    :param message: What happened, to which request or endpoint, and what a retry will do.
    :param endpoint_name: The endpoint it is about, where there is one.
    :param inference_id: The request it is about, where there is one.
    :param location: S3 URI of the object that tells more, where there is one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        endpoint_name: str | None = None,
        inference_id: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(message)
        self.endpoint_name = endpoint_name
        self.inference_id = inference_id
        self.location = location


class InferenceFailed(SageMakerAsyncError):
    """The service wrote a failure object for the request."""


class InferenceExpired(SageMakerAsyncError):
    """Neither output nor failure object came while either still could."""


class WaitTimedOut(SageMakerAsyncError):
    """The task's own deadline passed first."""


class LookFailed(SageMakerAsyncError):
    """Too many looks failed in a row, or the last one before the deadline did."""


class ResultUnreadable(SageMakerAsyncError):
    """The object cannot be read: it is not there, or rights or a key are missing."""


class EndpointNotReady(SageMakerAsyncError):
    """The endpoint is not in the state that is needed."""


class ServiceUnavailable(SageMakerAsyncError):
    """AWS could not be reached, is busy, or a quota is used up."""


class SubmissionUnconfirmed(SageMakerAsyncError, AirflowFailException):
    """
    The request was sent and the reply was lost.

    Not retried: the first request may have been accepted, and a second one would be a second inference.
    """


class RequestRejected(SageMakerAsyncError, AirflowFailException):
    """The service, or a check before it, refused the request. Not retried: it would be refused again."""


class BadTriggerEvent(SageMakerAsyncError, AirflowFailException):
    """The task was resumed with an event that is not its own, or is damaged."""


def outcome_error(handle: Handle, outcome: Outcome, *, failure: str = "") -> SageMakerAsyncError:
    """
    Return the error for a wait that did not succeed.

    :param handle: What was waited for.
    :param outcome: How the wait ended.
    :param failure: For a failed inference the text of the failure object; for an endpoint what was done
        about it.
    """
    if isinstance(handle, InvocationHandle):
        return _inference_error(handle, outcome, failure)
    return _endpoint_error(handle, outcome, failure)


def _inference_error(handle: InvocationHandle, outcome: Outcome, failure: str) -> SageMakerAsyncError:
    kind: type[SageMakerAsyncError]
    location: str | None = handle.output_location
    waited = f"after {outcome.seen_at - handle.submitted_at:,.0f} s"
    again = "A retry of the task submits a new request."
    match outcome.end:
        case End.FAILED:
            kind, location = InferenceFailed, handle.failure_location
            text = f"failed {waited}. {again} The failure object {location} says:\n{failure}"
        case End.EXPIRED:
            kind = InferenceExpired
            text = (
                f"expired: nothing came to {handle.output_location} by {_moment(handle.expires_at)}, "
                f"and nothing can come any more.{_no_trace(handle)} {again}"
            )
        case End.TIMED_OUT:
            kind = WaitTimedOut
            text = (
                f"has no answer {waited}, when the task's timeout ended the wait. The work may still finish; "
                f"its answer would be {handle.output_location}.{_no_trace(handle)} {again}"
            )
        case _:
            kind = LookFailed
            text = (
                f"could not be watched any more {waited}: {sentence(outcome.detail)} Whether it finished is "
                f"not known; look at {handle.output_location}. Looking needs s3:GetObject there and "
                f"s3:ListBucket on the bucket. {again}"
            )
    return kind(
        f"{handle.subject} {text}",
        endpoint_name=handle.endpoint_name,
        inference_id=handle.inference_id,
        location=location,
    )


def _no_trace(handle: InvocationHandle) -> str:
    if handle.failure_location is not None or handle.endpoint_name is None:
        return ""
    return (
        " The endpoint has no failure path, so a failure leaves no trace in S3: see the log group "
        f"{log_group(handle.endpoint_name)}."
    )


def _endpoint_error(handle: EndpointHandle, outcome: Outcome, failure: str) -> SageMakerAsyncError:
    waited = f"after {outcome.seen_at - handle.submitted_at:,.0f} s"
    again = "A retry of the task takes the endpoint as it finds it."
    kind: type[SageMakerAsyncError]
    match outcome.end:
        case End.FAILED:
            kind = EndpointNotReady
            text = (
                f"is not {handle.aim} {waited}: {sentence(outcome.detail)} Its containers' log group is "
                f"{log_group(handle.endpoint_name)}. {failure}".rstrip()
            )
        case End.LOOK_FAILED:
            kind = LookFailed
            text = (
                f"could not be watched any more {waited}: {sentence(outcome.detail)} Its state is not known."
            )
        case _:
            kind = WaitTimedOut
            text = (
                f"was not {handle.aim} {waited}, when the task's timeout ended the wait. "
                "What goes on there goes on without the task."
            )
    return kind(f"{handle.subject} {text} {again}", endpoint_name=handle.endpoint_name)


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, tz=UTC).isoformat(timespec="seconds")
