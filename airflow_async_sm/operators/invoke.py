"""Send one request to an asynchronous endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.collecting import CollectsAnswer
from airflow_async_sm.core.answers import MAX_RESULT_BYTES
from airflow_async_sm.core.attempts import ON_CLEAR, Phase, Tries
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.identities import TaskIdentity
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.payloads import revealed
from airflow_async_sm.core.templates import number, optional
from airflow_async_sm.exceptions import RequestRejected, SageMakerAsyncError
from airflow_async_sm.links import INVOCATION_LINKS
from airflow_async_sm.operators._concealing import ConcealsFields
from airflow_async_sm.operators._drafts import Draft, draft
from airflow_async_sm.operators._journal import Journal, journal_of
from airflow_async_sm.operators._sender import Sender
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.sources import as_input_location, open_source
from airflow_async_sm.triggers.inference import ON_403, SageMakerAsyncInferenceTrigger

__all__ = ["SageMakerAsyncInvokeOperator"]

# Members of a request that a task is given as texts, and as numbers.
_TEXTS = (
    "content_type",
    "accept",
    "custom_attributes",
    "inference_id",
    "s3_output_path_extension",
    "filename",
)
_NUMBERS = ("request_ttl", "invocation_timeout")


class SageMakerAsyncInvokeOperator(
    ConcealsFields, CollectsAnswer, SageMakerAsyncBaseOperator[InvocationHandle]
):
    """
    Send one request to a SageMaker asynchronous endpoint and return its answer, or where that is.

    The task checks its input and the endpoint, submits, and waits until the output or the failure object is
    in S3. With ``deferrable=True`` no worker is held meanwhile.

    A request is sent once. The task remembers it outside of XCom: in Airflow's task state store (3.3 and
    later), else as a small object below ``work_prefix``. A retry, or a new worker after a crash, takes up the
    request there is. A new one is made if the input has changed, if the earlier one failed or expired, or
    if a task whose answer was taken over is cleared. With neither place, each try makes a request of its
    own; the log says so.

    AWS offers no way to cancel an asynchronous invocation: killing the task stops the waiting, not the work.

    The task returns what ``result`` says. Where that is not the location, the XCom ``answer`` has the
    location and what else is known: ``endpoint_name``, ``inference_id``, ``output_location``,
    ``content_type``, ``size`` in bytes, ``submitted_at`` and ``answered_at`` in seconds since 1970 (UTC),
    ``seconds`` between them and, where they apply, ``input_location`` and ``copied_to``. While the task
    waits, XCom ``handle`` has the fields of its
    :class:`~airflow_async_sm.core.handles.InvocationHandle`.

    Numbers without another source are from the service's API model, ``InvokeEndpointAsync``.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param payload: What to send: JSON values, text, bytes, a ``pathlib.Path`` or an ``ObjectStoragePath``, or
        what another task returned. ``content_type`` says how values are written. Give exactly one of
        ``payload``, ``payload_path`` and ``input_location``. (templated)
    :param payload_path: File to send: a local path, or any address that ``ObjectStoragePath`` takes. An S3
        address is not copied but handed to the service, as ``input_location``. (templated)
    :param input_location: S3 URI of the payload, at most 1,024 ASCII characters, of an object of at most
        1 GB. The endpoint's role reads it. (templated)
    :param serializer: Function that turns ``payload`` into bytes or text. Default: by ``content_type``, which
        may be JSON, JSON Lines, CSV, NumPy's ``application/x-npy``, text or bytes.
    :param payload_transport: ``"inline"``: in the request, at most 128,000 bytes, needs boto3 1.43.29.
        ``"s3"``: put below ``work_prefix`` first, at most 1 GB. Default ``"auto"``: inline if it fits and
        boto3 can.
    :param work_prefix: S3 URI of a folder for uploads (``inputs/``) and records (``records/``). Default: the
        connection's extra ``work_prefix``. (templated)
    :param sse_kms_key_id: KMS key to encrypt uploads with. Default: as the bucket does. (templated)
    :param delete_input: Delete an upload after its answer was taken over. Default ``False``.
    :param content_type: Type of the payload, at most 1,024 ASCII characters. Default: JSON for values, text
        for text, a file's by its name, none for ``input_location``. (templated)
    :param accept: Type wanted for the answer, at most 1,024 ASCII characters. Default: the model's.
        (templated)
    :param custom_attributes: Text handed to the model, at most 1,024 visible ASCII characters. Default:
        ``dag_id=...;run_id=...;task_id=...;map_index=...``. (templated)
    :param inference_id: Name of the request, at most 64 visible ASCII characters. It names the request, and
        is not part of its input. Default: a random one. (templated)
    :param request_ttl: Seconds the request may stay queued, 60 to 21,600. Default: the service's, 21,600.
        (templated)
    :param invocation_timeout: Seconds for download, model and upload, 1 to 3,600. Default: the service's,
        900. (templated)
    :param s3_output_path_extension: Folder below the endpoint's output path, at most 512 characters; needs
        boto3 1.42.54. Default: ``airflow/<dag>/<run>/<task>/...``, a folder of this request's own, in which
        it is found again if the reply to the submission is lost. With another folder it is not.
        (templated)
    :param filename: Name of the output object, at most 32 characters with at most one dot; needs boto3
        1.42.54, and cannot go with ``s3_output_path_extension``. Default: the service's choice. (templated)
    :param result: What the task returns. ``"location"``: where the answer is, with its type, size and times.
        ``"json"``, ``"text"``, or ``"bytes"`` as Base64 text: the answer itself. A function: what it makes of
        the answer's bytes. Default ``"location"``.
    :param result_schema: What the answer has to be: a JSON Schema, or a pydantic model. Default: anything.
    :param max_result_bytes: Most bytes of an answer that goes into XCom. Default 49,152.
    :param on_large_result: ``"fail"``, or ``"location"`` to return the location of an answer that is larger.
        Default ``"fail"``.
    :param copy_to: Where to copy the answer: an S3 URI or any address that ``ObjectStoragePath`` takes; with
        a slash at its end, a folder. Default: nowhere. (templated)
    :param on_clear: What clearing the task means for a request whose end it has not seen: ``"reattach"``
        takes it up, ``"fresh"`` makes a new one and lets it go on unseen. Default ``"reattach"``. Airflow
        2.11 may count the clearing of a task that runs on a worker at that moment as a retry.
    :param on_403: What to do where S3 refuses the looks and will not say whether the answer is there:
        ``"fail"`` ends the wait, ``"wait"`` goes on until the answer appears. Default ``"fail"``.
    :param timeout: Seconds to wait in one try of the task, kept across triggerer restarts. Default: as long
        as an answer can come, which is ``request_ttl`` + ``invocation_timeout`` + 300 from the submission.
        ``execution_timeout`` bounds it too, in the triggerer as well.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 5. A young wait is
        looked at every second. On a worker each look is one or two S3 HEAD requests; in a triggerer, waits
        share their looks, and with thousands that cannot the pause is longer.
    :param wait_for_completion: Wait for the answer. If ``False``, return the handle at once; ``deferrable``,
        ``timeout``, ``result`` and what belongs to it, and ``copy_to`` have no effect then. Default ``True``.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input, an endpoint that is missing or not asynchronous, or a refusal by the
        service. Not retried.
    :raises EndpointNotReady: the endpoint is still being created.
    :raises ServiceUnavailable: AWS could not be reached or is busy; nothing was submitted.
    :raises RecordUnreadable: the record of an earlier request is there, but cannot be read.
    :raises SubmissionUnconfirmed: the reply was lost, and the request has no folder of its own, or it is not
        known where (that takes ``sagemaker:DescribeEndpoint``). Not retried.
    :raises InferenceFailed: the failure object is there; its text is in the message. There is a subclass for
        each kind of failure; those that a retry cannot help are not retried.
    :raises InferenceExpired: nothing can arrive any more.
    :raises EndpointLost: the endpoint is gone or broken, so nothing can arrive any more.
    :raises WaitTimedOut: ``timeout`` passed first; the work may still finish.
    :raises LookFailed: S3 could not be looked at, too often in a row, or refuses it.
    :raises ResultTooLarge: the answer is larger than XCom may hold. Not retried.
    :raises ResultInvalid: the answer is not what ``result`` or ``result_schema`` say. Not retried.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncBaseOperator.template_fields,
        "endpoint_name",
        "payload",
        "payload_path",
        "input_location",
        "work_prefix",
        "sse_kms_key_id",
        "content_type",
        "accept",
        "custom_attributes",
        "inference_id",
        "request_ttl",
        "invocation_timeout",
        "s3_output_path_extension",
        "filename",
        "copy_to",
    )
    operator_extra_links = INVOCATION_LINKS
    handle_type = InvocationHandle
    # What others could put into the place of the payload; it is concealed as the payload is.
    concealed_fields: Sequence[str] = ("payload",)

    def __init__(
        self,
        *,
        endpoint_name: str,
        payload: Any = None,
        payload_path: str | PathLike[str] | None = None,
        input_location: str | None = None,
        serializer: Callable[[Any], bytes | str] | None = None,
        payload_transport: str = "auto",
        work_prefix: str | None = None,
        sse_kms_key_id: str | None = None,
        delete_input: bool = False,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
        request_ttl: int | str | None = None,
        invocation_timeout: int | str | None = None,
        s3_output_path_extension: str | None = None,
        filename: str | None = None,
        result: str | Callable[[bytes], Any] = "location",
        result_schema: Any = None,
        max_result_bytes: int = MAX_RESULT_BYTES,
        on_large_result: str = "fail",
        copy_to: str | PathLike[str] | None = None,
        on_clear: str = "reattach",
        on_403: str = "fail",
        timeout: float | None = None,
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_name = endpoint_name
        self.payload = payload
        self.payload_path = payload_path
        self.input_location = input_location
        self.serializer = serializer
        self.payload_transport = payload_transport
        self.work_prefix = work_prefix
        self.sse_kms_key_id = sse_kms_key_id
        self.delete_input = delete_input
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout
        self.s3_output_path_extension = s3_output_path_extension
        self.filename = filename
        self.result = result
        self.result_schema = result_schema
        self.max_result_bytes = max_result_bytes
        self.on_large_result = on_large_result
        self.copy_to = copy_to
        self.on_clear = on_clear
        self.on_403 = on_403

    def request(self, context: Context) -> Draft:
        """Check everything that can be checked without a network."""
        for name, allowed in (("on_clear", ON_CLEAR), ("on_403", ON_403)):
            if (value := getattr(self, name)) not in allowed:
                raise InvalidInput(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
        if self.delete_input and not self.wait_for_completion:
            raise InvalidInput(
                "delete_input is given with wait_for_completion=False: nobody would be there to delete the "
                "upload after the answer has come. Leave it out."
            )
        self.check_result()
        _ = self.hook.expected_bucket_owner
        payload = self.payload_value(context)
        path = optional("payload_path", self.payload_path)
        given = optional("input_location", self.input_location)
        named = {"payload": payload, "payload_path": path, "input_location": given}
        if sum(value is not None for value in named.values()) != 1:
            which = ", ".join(name for name, value in named.items() if value is not None) or "none"
            raise InvalidInput(
                f"Give exactly one of payload, payload_path and input_location; there is {which}."
            )
        location = given or as_input_location(payload, path)
        if location is not None and self.serializer is not None:
            raise InvalidInput(
                f"serializer is given with {location!r}, which is sent as it is. Leave it out."
            )
        members = {name: optional(name, getattr(self, name)) for name in _TEXTS}
        members |= {name: number(name, getattr(self, name)) for name in _NUMBERS}
        drafted = draft(
            {"endpoint_name": self.endpoint_name, **members},
            payload=location or open_source(payload, path, members["content_type"], self.serializer),
            identity=TaskIdentity.of(context.get("ti")),
            members=self.hook.invoke_members,
            payload_transport=self.payload_transport,
            work_prefix=self._work_prefix,
            sse_kms_key_id=optional("sse_kms_key_id", self.sse_kms_key_id),
            reached={"region": self.hook.region, "aws_conn_id": self.aws_conn_id},
        )
        self.hook.check_members(drafted.request)
        return drafted

    def checked(self, context: Context) -> Draft:
        """
        Return the request.

        :raises RequestRejected: the input is bad. Where an earlier try has sent a request, that is named.
        """
        try:
            drafted: Draft = super().checked(context)
        except RequestRejected as error:
            if left := self._left_alone(context):
                raise RequestRejected(f"{error} {left}") from error
            raise
        return drafted

    def payload_value(self, context: Context) -> Any:  # noqa: ARG002 - others make it of their task
        """Return what ``payload`` was rendered to; ``None`` if it is not given."""
        return optional("payload", revealed(self.payload))

    def submit(self, request: Draft, context: Context) -> InvocationHandle:
        """Take up the request of an earlier try, or send a new one."""
        sender = Sender(
            hook=self.hook,
            journal=self._journal(context),
            tries=Tries.of_task(context.get("ti"), self.retries),
            on_clear=self.on_clear,
            on_403=self.on_403,
            log=self.log,
            clock=self.clock,
            sleep=self.sleep,
        )
        handle = sender.send(request)
        self.log.info("%s: its answer will be %s.", handle.subject, handle.output_location)
        return handle

    def trigger(self, handle: InvocationHandle) -> SageMakerAsyncInferenceTrigger:
        """Return the wait for the answer."""
        now = self.clock()
        deadline_at = handle.expires_at if self.timeout is None else now + self.timeout
        return SageMakerAsyncInferenceTrigger(
            **handle.to_dict(),
            **self.aws_params.to_dict(),
            deadline_at=self.latest(deadline_at, began_at=now if self._began_at is None else self._began_at),
            poll_interval=self.poll_interval,
            on_403=self.on_403,
        )

    def handed_on(self, handle: InvocationHandle, context: Context) -> dict[str, Any]:
        """Return the handle: from here on, somebody else waits."""
        self._journal(context).note(handle, Phase.COLLECTED)
        return super().handed_on(handle, context)

    def collect(self, handle: InvocationHandle, context: Context) -> Any:
        """Take over the answer; whatever fails here, a retry takes it over and infers nothing."""
        value = self.collect_answer(self.hook, handle, context)
        # Not removed: a worker that dies from here on is replaced by one that finds the answer.
        self._journal(context).note(handle, Phase.COLLECTED)
        self._clean_up(handle)
        return value

    def error(self, handle: InvocationHandle, outcome: Outcome, context: Context) -> SageMakerAsyncError:
        """Return the error for a request without an answer, and remember that, where it is final."""
        journal = self._journal(context)
        if outcome.end in (End.FAILED, End.EXPIRED):
            journal.note(handle, Phase.ENDED)
        again = None if journal.keeps else "A retry of the task submits a new request."
        return self.answer_error(self.hook, handle, outcome, again=again)

    @property
    def _work_prefix(self) -> str | None:
        """The folder for uploads and records: the argument, else the connection's."""
        given: str | None = optional("work_prefix", self.work_prefix)
        return given or self.hook.work_prefix

    def _left_alone(self, context: Context) -> str:
        """Return what there is to say of a request that an earlier try has sent; else an empty text."""
        try:
            found = self._journal(context).read()
        except (InvalidInput, SageMakerAsyncError):
            return ""
        if found is None or found.phase is not Phase.OPEN:
            return ""
        handle = found.handle
        return f"{handle.subject}, of an earlier try, goes on: its answer will be {handle.output_location}."

    def _journal(self, context: Context) -> Journal:
        return journal_of(
            context,
            identity=TaskIdentity.of(context.get("ti")),
            hook=self.hook,
            work_prefix=self._work_prefix,
            log=self.log,
        )

    def _clean_up(self, handle: InvocationHandle) -> None:
        if not (self.delete_input and handle.uploaded):
            return
        try:
            self.hook.delete_object(str(handle.input_location))
        except SageMakerAsyncError as error:
            self.log.warning("The upload %s is still there: %s", handle.input_location, error)
