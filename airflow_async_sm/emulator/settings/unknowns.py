"""What nobody outside AWS knows about the service, as switches: one position each that the emulator takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from airflow_async_sm.emulator.errors import constraint
from airflow_async_sm.emulator.settings.values import Range, check_fields


class FilenameSuffix(StrEnum):
    """What is added to a caller's ``Filename`` in the output key."""

    ABSENT = "absent"
    OUT = "out"


class FailureExtension(StrEnum):
    """What becomes of ``S3OutputPathExtension`` in the failure key."""

    KEPT = "kept"
    IGNORED = "ignored"


class FailureFilename(StrEnum):
    """What becomes of ``Filename`` in the failure key."""

    KEPT = "kept"
    IGNORED = "ignored"


class FilenameReuse(StrEnum):
    """What a request gets whose ``Filename`` leads to an output key that an earlier request has."""

    OVERWRITES = "overwrites"
    REJECTED = "rejected"


class ExpiryObject(StrEnum):
    """What a request leaves in S3 whose time in the queue ran out."""

    ABSENT = "absent"
    TEXT = "text"


class ExpiryNotification(StrEnum):
    """What the error topic gets about a request whose time in the queue ran out."""

    SILENT = "silent"
    FAILED = "failed"
    EXPIRED = "expired"


class FailedLocation(StrEnum):
    """Where a Failed notification names the failure object."""

    ABSENT = "absent"
    TOP_LEVEL = "top_level"
    RESPONSE_PARAMETERS = "response_parameters"


class InlineInputLocation(StrEnum):
    """What ``inputLocation`` is in a notification about a request that came with its payload."""

    ABSENT = "absent"
    EMPTY = "empty"


class ObjectContentType(StrEnum):
    """Which content type the objects have that hold a model's answer."""

    CONTAINER = "container"
    BINARY = "binary"


class LostInstance(StrEnum):
    """What becomes of a request whose instance vanishes while it works on it."""

    REQUEUED = "requeued"
    FAILED = "failed"
    LOST = "lost"


class DeletedQueue(StrEnum):
    """What becomes of open requests when their endpoint is deleted."""

    DROPPED = "dropped"
    FAILED = "failed"


class UpdateInFlight(StrEnum):
    """What becomes of running requests when an update takes their instances away."""

    FINISHES = "finishes"
    REQUEUED = "requeued"


class ThrottlingStatus(StrEnum):
    """The HTTP status of a throttled call."""

    BAD_REQUEST = "bad_request"
    TOO_MANY_REQUESTS = "too_many_requests"


class RefusalTexts(StrEnum):
    """How the texts of the runtime's refusals begin."""

    CONSTRAINT = "constraint"
    SENTENCE = "sentence"


class BothObjects(StrEnum):
    """Whether a request that succeeds leaves a failure object too, and in which order."""

    NEVER = "never"
    OUTPUT_AFTER_FAILURE = "output_after_failure"
    FAILURE_AFTER_OUTPUT = "failure_after_output"


@dataclass(frozen=True, kw_only=True)
class Unknowns:
    """
    The position of the emulator on every point that the service's documentation leaves open.

    Something that works in one position only relies on what nobody has promised: test it in the others.
    How many invocations an instance runs at a time by default is unknown too; that one is
    ``Behaviour.default_concurrency``.

    :param filename_suffix: What is added to ``Filename`` in the output key: nothing (``absent``), or ``.out``
        as to generated names (``out``). Default ``absent``, our inference: the documentation says that the
        name replaces the generated one, and no more.
    :param failure_extension: Whether the failure key gets the ``S3OutputPathExtension``: ``kept``, or
        ``ignored``. Default ``kept``, our inference: the documentation speaks of the output path only, and
        both keys are otherwise made in the same way.
    :param failure_filename: Whether the failure key gets the ``Filename``: ``kept``, which makes
        ``<name>-error.out``, or ``ignored``, which makes ``<generated id>-error.out``. Default ``kept``, our
        inference: generated names are the same on both sides. With ``failure_extension`` ignored too, the
        failure key is the plain one of a request without either.
    :param filename_reuse: What a request gets whose ``Filename`` leads to the output key of an earlier one:
        its object ``overwrites`` the other, or the request is ``rejected`` with a ``ValidationError``.
        Default ``overwrites``, our inference: that is how S3 behaves when nobody looks first.
    :param expiry_object: What a request leaves whose ``RequestTTLSeconds`` ran out: no object (``absent``),
        or a failure object with a sentence (``text``). Default ``absent``, our inference: only the metric
        ``ExpiredRequests`` is documented, and it counts in every position.
    :param expiry_notification: What the error topic gets about a request whose ``RequestTTLSeconds`` ran out:
        nothing (``silent``), or a message with the ``invocationStatus`` Failed (``failed``) or Expired
        (``expired``). Default ``silent``, our inference:
        no such message has ever been reported.
    :param failed_response_parameters: Whether a Failed notification has ``responseParameters`` with the
        content type of the model's answer and the output location. Default false, as in the one message that
        a user reported in 2023, when the service did not write failure objects yet.
    :param failed_location: Where a Failed notification names the failure object: nowhere (``absent``), in a
        key ``failureLocation`` of the message (``top_level``), or of its ``responseParameters``
        (``response_parameters``). Default ``absent``, as in the message reported in 2023.
    :param failed_response_body: Whether a Failed notification has a ``responseBody`` where the endpoint
        includes responses in error notifications. Default false, as in the message reported in 2023. The API
        model says that responses can be included, and nothing of the form.
    :param inline_input_location: What ``inputLocation`` is in the notification about a request with an inline
        payload: the key is ``absent``, or the text is ``empty``. Default ``absent``, our inference: other
        parameters that were not sent are absent, as users reported.
    :param object_content_type: The content type of objects with a model's answer: what the ``container``
        said, or ``binary/octet-stream`` (``binary``). No metadata in both. Default ``container``, our
        inference: notifications report the container's, and nobody has shown an object's.
    :param lost_instance: What becomes of a request whose instance is lost or scaled in while it works on it:
        it is ``requeued`` and runs again with the same keys, is ``failed`` with a failure object, or is
        ``lost`` without any sign. Default ``requeued``, our inference: the documentation describes a queue
        like that of SQS, which delivers at least once. Users reported jobs that ended at scale-in, and not
        what came of them.
    :param lost_instance_requeues: How often one request is requeued because its instance was lost; it fails
        the next time. A whole number of at least 0. Default 1, our choice.
    :param deleted_queue: What becomes of queued and running requests when their endpoint is deleted: they are
        ``dropped`` without objects, or ``failed`` with failure objects. Default ``dropped``, our inference:
        there is nothing left that could write. The other position is ours, for tests.
    :param update_in_flight: What becomes of running requests when an update replaces their instances: each
        ``finishes`` on the old one, or is ``requeued`` for the new ones. The queue is kept in both, because
        it is the endpoint's. Default ``finishes``, our inference: the documented way of an update is to
        remove the old instances last.
    :param throttling_status: HTTP status of a throttled call: 400 (``bad_request``) or 429
        (``too_many_requests``), with the code ``ThrottlingException``. Default ``bad_request``, our inference
        from other services of AWS: the API model has no such error. Nothing is throttled unless a fault
        says so.
    :param refusal_texts: How refusals of ``InvokeEndpointAsync`` read, but for that of an unknown endpoint,
        whose text is known: with the beginning ``1 validation error detected:`` (``constraint``), or as
        another sentence (``sentence``). Default ``constraint``, reported for a body where none was allowed;
        that the others begin so is our inference. The second position shows who matches on texts instead of
        codes.
    :param container_inference_id: Whether the container gets the header ``X-Amzn-SageMaker-Inference-Id``.
        Default false, our inference: the documented headers do not include it, though some servers read it.
    :param both_objects: Whether a request that succeeds leaves a failure object too: ``never``, or it is
        there before the output (``output_after_failure``) or comes after it (``failure_after_output``), as a
        second run of the same request might do. Default ``never``, our inference: nobody has reported both.
        Without a failure path there is no second object in any position.
    :param failure_location_always: Whether the answer to a submission names a failure location where the
        endpoint has no ``S3FailurePath``; it is beside the output, and nothing is written there. Default
        false, as users reported.
    :param zero_initial_instances: Whether an ``InitialInstanceCount`` of 0 is accepted. Default false, the
        documented minimum of 1 in the API model. A public template has 0, and nobody has said whether the
        service took it; AWS's Python client refuses to send it.
    :param notification_lead_seconds: How long before its object a notification is published, in seconds from
        0 to 1. Default 0, which is never before the object: our inference from the order of the documented
        steps.
    """

    filename_suffix: FilenameSuffix = FilenameSuffix.ABSENT
    failure_extension: FailureExtension = FailureExtension.KEPT
    failure_filename: FailureFilename = FailureFilename.KEPT
    filename_reuse: FilenameReuse = FilenameReuse.OVERWRITES
    expiry_object: ExpiryObject = ExpiryObject.ABSENT
    expiry_notification: ExpiryNotification = ExpiryNotification.SILENT
    failed_response_parameters: bool = False
    failed_location: FailedLocation = FailedLocation.ABSENT
    failed_response_body: bool = False
    inline_input_location: InlineInputLocation = InlineInputLocation.ABSENT
    object_content_type: ObjectContentType = ObjectContentType.CONTAINER
    lost_instance: LostInstance = LostInstance.REQUEUED
    lost_instance_requeues: Annotated[int, Range(0)] = 1
    deleted_queue: DeletedQueue = DeletedQueue.DROPPED
    update_in_flight: UpdateInFlight = UpdateInFlight.FINISHES
    throttling_status: ThrottlingStatus = ThrottlingStatus.BAD_REQUEST
    refusal_texts: RefusalTexts = RefusalTexts.CONSTRAINT
    container_inference_id: bool = False
    both_objects: BothObjects = BothObjects.NEVER
    failure_location_always: bool = False
    zero_initial_instances: bool = False
    notification_lead_seconds: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def output_name(self, filename: str | None, request_id: str) -> str:
        """
        Return the last part of an output key.

        :param filename: The caller's ``Filename``, or ``None``.
        :param request_id: The generated id of the request's keys.
        """
        if filename is None:
            return f"{request_id}.out"
        return f"{filename}.out" if self.filename_suffix is FilenameSuffix.OUT else filename

    def failure_name(self, filename: str | None, request_id: str) -> str:
        """
        Return the last part of a failure key.

        :param filename: The caller's ``Filename``, or ``None``.
        :param request_id: The generated id of the request's keys.
        """
        kept = filename if self.failure_filename is FailureFilename.KEPT else None
        return f"{kept or request_id}-error.out"

    def failure_folder(self, extension: str | None) -> str:
        """
        Return what stands between the failure path and the name of a failure object; it may be empty.

        :param extension: The caller's ``S3OutputPathExtension``, or ``None``.
        """
        return extension or "" if self.failure_extension is FailureExtension.KEPT else ""

    def content_type(self, answered: str | None) -> str:
        """
        Return the content type of an object with a model's answer.

        :param answered: The content type of the answer, or ``None`` where it has none.
        """
        if self.object_content_type is ObjectContentType.BINARY or not answered:
            return "binary/octet-stream"
        return answered

    def throttling(self) -> tuple[str, int]:
        """Return the error code and the HTTP status of a throttled call."""
        status = 400 if self.throttling_status is ThrottlingStatus.BAD_REQUEST else 429
        return "ThrottlingException", status

    def refusal_text(self, problem: str) -> str:
        """
        Return the text of a refused submission.

        :param problem: What is wrong, as a sentence.
        """
        if self.refusal_texts is RefusalTexts.CONSTRAINT:
            return constraint(problem)
        return f"The request was not accepted. {problem}"
