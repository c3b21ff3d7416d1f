"""
The errors that a task can end with.

::

    SageMakerAsyncError (AirflowException)      says what happened, to which request, what a retry will do
    ├── InferenceFailed                         the failure object is there; its text is in the message
    │   ├── ModelRejected (*)                   the model says that the request is bad
    │   ├── ModelBroke                          the model failed, gave no answer or ran out of memory
    │   ├── BadContainerAnswer (*)              the container answers in a way that the service does not take
    │   ├── InputUnreadable (*)                 the service could not read the input
    │   ├── OutputUnwritable (*)                the service could not write the output
    │   └── InvocationTimedOut                  download, model and upload took longer than they may
    ├── InferenceExpired                        nothing can arrive any more
    ├── EndpointLost                            the endpoint is gone: nothing can arrive any more
    ├── WaitTimedOut                            our deadline passed first; the work may still finish
    ├── LookFailed                              looking failed too often; what became of the work is unknown
    │   └── LookForbidden                       rights to look are missing
    ├── ResultUnreadable                        the object is there, but not for us
    ├── ResultTooLarge (*)                      the answer is larger than the task may return
    ├── ResultInvalid (*)                       the answer is not what the task was told to expect
    ├── BatchFailed                             too many inputs of a batch have no answer
    │   └── BatchRejected (*)                   as many would fail in the same way again
    ├── BatchTakenOver                          another process of the task goes on with its batch
    ├── RecordUnreadable                        what an earlier try submitted cannot be read or written down
    ├── EndpointNotReady                        the endpoint did not reach, or is not in, the needed state
    ├── ServiceUnavailable                      AWS could not be reached or is busy: worth a retry
    │   └── Throttled                           AWS turned the call away for now, without beginning it
    ├── SubmissionUnconfirmed (*)               the reply to a submission was lost: it may have been accepted
    ├── RequestRejected (*)                     refused, by the service or before it was asked
    └── BadTriggerEvent (*)                     resumed with an event that cannot be read

    (*) also an AirflowFailException: Airflow does not retry the task
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final

from airflow_async_sm._compat import AirflowException, AirflowFailException
from airflow_async_sm.core.endpoint_states import log_group
from airflow_async_sm.core.failures import LOOK_REFUSED, Failure, FailureKind, classify
from airflow_async_sm.core.handles import BatchHandle, EndpointHandle, Handle, InvocationHandle
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.texts import sentence

__all__ = [
    "BadContainerAnswer",
    "BadTriggerEvent",
    "BatchFailed",
    "BatchRejected",
    "BatchTakenOver",
    "EndpointLost",
    "EndpointNotReady",
    "InferenceExpired",
    "InferenceFailed",
    "InputUnreadable",
    "InvocationTimedOut",
    "LookFailed",
    "LookForbidden",
    "ModelBroke",
    "ModelRejected",
    "OutputUnwritable",
    "RecordUnreadable",
    "RequestRejected",
    "ResultInvalid",
    "ResultTooLarge",
    "ResultUnreadable",
    "SageMakerAsyncError",
    "ServiceUnavailable",
    "SubmissionUnconfirmed",
    "Throttled",
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

    kind: ClassVar[FailureKind | None] = None
    """What kind of failure the service or the model told of; ``None``: it is none of theirs."""

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
    """The service wrote a failure object for the request. What it says fits none of the kinds below."""

    kind = FailureKind.UNKNOWN


class ModelRejected(InferenceFailed, AirflowFailException):
    """The model says that the request is bad (4xx). Not retried: it would say so again."""

    kind = FailureKind.MODEL_REJECTED


class ModelBroke(InferenceFailed):
    """The model failed (5xx), gave no answer, or ran out of memory. A retry may help."""

    kind = FailureKind.MODEL_BROKE


class BadContainerAnswer(InferenceFailed, AirflowFailException):
    """The container answers in a way that the service does not take. Not retried: it would do so again."""

    kind = FailureKind.BAD_ANSWER


class InputUnreadable(InferenceFailed, AirflowFailException):
    """The service could not read the input. Not retried: the location or a right has to change first."""

    kind = FailureKind.INPUT_UNREADABLE


class OutputUnwritable(InferenceFailed, AirflowFailException):
    """The service could not write the output. Not retried: the bucket or a right has to change first."""

    kind = FailureKind.OUTPUT_UNWRITABLE


class InvocationTimedOut(InferenceFailed):
    """Download, model and upload took longer than ``invocation_timeout``."""

    kind = FailureKind.INVOCATION_TIMED_OUT


class InferenceExpired(SageMakerAsyncError):
    """Nothing came while it still could, or the service says that the request was in the queue too long."""

    kind = FailureKind.EXPIRED


class EndpointLost(SageMakerAsyncError):
    """The endpoint is gone, broken or another one, so nothing can come any more. A retry submits anew."""


class WaitTimedOut(SageMakerAsyncError):
    """The task's own deadline passed first."""


class LookFailed(SageMakerAsyncError):
    """Too many looks failed in a row, or the last one before the deadline did."""


class LookForbidden(LookFailed):
    """S3 refuses the looks (403), and does not say whether the objects are there."""


class ResultUnreadable(SageMakerAsyncError):
    """The object cannot be read: it is not there, or rights or a key are missing."""


class ResultTooLarge(SageMakerAsyncError, AirflowFailException):
    """The answer is there, and larger than the task may return. Not retried: it stays as large as it is."""


class ResultInvalid(SageMakerAsyncError, AirflowFailException):
    """The answer is there, and not what the task was told to expect. Not retried: it stays as it is."""


class EndpointNotReady(SageMakerAsyncError):
    """The endpoint is not in the state that is needed."""


class ServiceUnavailable(SageMakerAsyncError):
    """AWS could not be reached, is busy, or a quota is used up."""


class Throttled(ServiceUnavailable):
    """AWS turned the call away, before it began with it, because there are too many."""


class BatchFailed(SageMakerAsyncError):
    """Too many inputs of a batch have no answer. A retry sends those again that it may help."""


class BatchRejected(BatchFailed, AirflowFailException):
    """More inputs of a batch than may have no answer would fail in the same way again."""


class BatchTakenOver(SageMakerAsyncError):
    """Another process of the task goes on with its batch; this one has to leave it alone."""


class RecordUnreadable(SageMakerAsyncError):
    """The record of an earlier request may be there, but cannot be read; or a new one cannot be written."""


class SubmissionUnconfirmed(SageMakerAsyncError, AirflowFailException):
    """
    The request was sent and the reply was lost.

    Not retried: the first request may have been accepted, and a second one would be a second inference.
    """


class RequestRejected(SageMakerAsyncError, AirflowFailException):
    """The service, or a check before it, refused the request. Not retried: it would be refused again."""


class BadTriggerEvent(SageMakerAsyncError, AirflowFailException):
    """The task was resumed with an event that cannot be read."""


_FAILURES: Final[Mapping[FailureKind, tuple[type[SageMakerAsyncError], str]]] = {
    FailureKind.MODEL_REJECTED: (ModelRejected, ": the model rejected it"),
    FailureKind.MODEL_BROKE: (ModelBroke, ": the model failed or gave no answer"),
    FailureKind.BAD_ANSWER: (BadContainerAnswer, ": the service does not take the container's answer"),
    FailureKind.INPUT_UNREADABLE: (InputUnreadable, ": the service could not read its input{input}"),
    FailureKind.OUTPUT_UNWRITABLE: (OutputUnwritable, ": the service could not write {output}"),
    FailureKind.INVOCATION_TIMED_OUT: (InvocationTimedOut, ": it took longer than its invocation timeout"),
    FailureKind.EXPIRED: (InferenceExpired, ": it expired in the endpoint's queue"),
    FailureKind.UNKNOWN: (InferenceFailed, ""),
}


def outcome_error(
    handle: Handle, outcome: Outcome, *, failure: str = "", again: str | None = None
) -> SageMakerAsyncError:
    """
    Return the error for a wait that did not succeed.

    :param handle: What was waited for.
    :param outcome: How the wait ended.
    :param failure: For a failed inference the text of the failure object; for an endpoint what was done
        about it.
    :param again: What a retry of the task does, as a sentence. Default: it submits a new request where
        nothing can come of this one, and otherwise waits for this one. It is not said of a failure that is
        not retried.
    """
    if isinstance(handle, InvocationHandle):
        return _inference_error(handle, outcome, failure, again)
    if isinstance(handle, BatchHandle):
        return _batch_error(handle, outcome)
    return _endpoint_error(handle, outcome, failure, again)


def _inference_error(
    handle: InvocationHandle, outcome: Outcome, failure: str, again: str | None
) -> SageMakerAsyncError:
    kind: type[SageMakerAsyncError]
    location: str | None = handle.output_location
    waited = f"after {outcome.seen_at - handle.submitted_at:,.0f} s"
    anew = again or "A retry of the task submits a new request."
    same = again or "A retry of the task waits for the same request and submits nothing."
    match outcome.end:
        # A failure object needs no detail; without one there is no such object.
        case End.FAILED if not outcome.detail:
            found = classify(failure)
            kind, what = _FAILURES[found.kind]
            location = handle.failure_location
            what = what.format(input=_from(handle), output=handle.output_location)
            text = _failed(found, f"failed {waited}{what}.", anew, f"{location} says:\n{failure}")
        case End.FAILED:
            kind = EndpointLost
            text = (
                f"is lost {waited}: {sentence(outcome.detail)} Nothing came to {handle.output_location}, and "
                f"nothing can come any more. {anew}"
            )
        case End.EXPIRED:
            kind = InferenceExpired
            text = (
                f"expired: nothing came to {handle.output_location} by {_moment(handle.expires_at)}, "
                f"and nothing can come any more.{_no_trace(handle)} {anew}"
            )
        case End.TIMED_OUT:
            kind = WaitTimedOut
            text = (
                f"has no answer {waited}, when the task's timeout ended the wait. The work may still finish; "
                f"its answer would be {handle.output_location}.{_no_trace(handle)} {same}"
            )
        case _:
            refused = outcome.detail.startswith(LOOK_REFUSED)
            kind = LookForbidden if refused else LookFailed
            rights = "" if refused else " Looking needs s3:GetObject there and s3:ListBucket on the bucket."
            text = (
                f"could not be watched any more {waited}: {sentence(outcome.detail)} Whether it finished is "
                f"not known; look at {handle.output_location}.{rights} {same}"
            )
    return kind(
        f"{handle.subject} {text}",
        endpoint_name=handle.endpoint_name,
        inference_id=handle.inference_id,
        location=location,
    )


def _failed(failure: Failure, what: str, again: str, said: str) -> str:
    if failure.permanent:
        again = "It is not retried: the same request would fail again until this is mended."
    parts = (what, again, failure.advice, f"The failure object {said}")
    return " ".join(part for part in parts if part)


def _from(handle: InvocationHandle) -> str:
    return "" if handle.input_location is None else f" {handle.input_location}"


def _no_trace(handle: InvocationHandle) -> str:
    if handle.failure_location is not None or handle.endpoint_name is None:
        return ""
    return (
        " The endpoint has no failure path, so a failure leaves no trace in S3: see the log group "
        f"{log_group(handle.endpoint_name)}."
    )


def _endpoint_error(
    handle: EndpointHandle, outcome: Outcome, failure: str, again: str | None
) -> SageMakerAsyncError:
    waited = f"after {outcome.seen_at - handle.submitted_at:,.0f} s"
    again = again or "A retry of the task takes the endpoint as it finds it."
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


def _batch_error(handle: BatchHandle, outcome: Outcome) -> SageMakerAsyncError:
    waited = f"after {outcome.seen_at - handle.submitted_at:,.0f} s"
    if outcome.end is End.TIMED_OUT:
        kind: type[SageMakerAsyncError] = WaitTimedOut
        text = f"is not finished {waited}, when the task's timeout ended the wait."
    elif outcome.end is End.FAILED:
        kind = EndpointLost
        text = f"is lost {waited}: {sentence(outcome.detail)} What was answered stays where it is."
    else:
        kind = LookFailed
        text = (
            f"could not be watched any more {waited}: {sentence(outcome.detail)} Looking needs s3:ListBucket "
            "on the bucket of the answers."
        )
    return kind(
        f"{handle.subject} {text} A retry of the task goes on with the batch where it is, and "
        f"repeats nothing that may still be answered. Its ledger is in {handle.location}.",
        endpoint_name=handle.endpoint_name,
        location=handle.location,
    )


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, tz=UTC).isoformat(timespec="seconds")
