"""Send many requests to an asynchronous endpoint in one task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from airflow_async_sm import metrics
from airflow_async_sm._compat import Context
from airflow_async_sm.assets import describe_outlets
from airflow_async_sm.batch_inputs import BatchInputs
from airflow_async_sm.core.attempts import BatchAttempt, Phase, Tries
from airflow_async_sm.core.handles import BatchHandle
from airflow_async_sm.core.identities import TaskIdentity
from airflow_async_sm.core.limits import DEFAULT_INVOCATION_TIMEOUT, DEFAULT_REQUEST_TTL, InvalidInput
from airflow_async_sm.core.payloads import revealed
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.core.templates import number, optional
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.links import ENDPOINT_LINKS
from airflow_async_sm.operators._batch import Batch, BatchLimits
from airflow_async_sm.operators._batch_checks import check_arguments
from airflow_async_sm.operators._batch_looks import Patience
from airflow_async_sm.operators._batch_opener import BatchOpener
from airflow_async_sm.operators._batch_texts import batch_failed
from airflow_async_sm.operators._concealing import ConcealsFields
from airflow_async_sm.operators._journal import Journal, journal_of
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.triggers.batch import SageMakerAsyncBatchTrigger

__all__ = ["SageMakerAsyncBatchOperator"]

# For so many seconds the worker waits itself where it will have more to send: to start one takes longer.
_LINGER = 15.0
# The trigger ends the wait itself at its moment; it is given up this much later, in seconds.
_GRACE = 900.0

_PLACES = ("input_prefix", "input_pattern", "input_manifest", "input_records")
_TEXTS = ("content_type", "accept", "custom_attributes")
_NUMBERS = ("request_ttl", "invocation_timeout")


class SageMakerAsyncBatchOperator(ConcealsFields, SageMakerAsyncBaseOperator[BatchHandle]):
    """
    Send many requests to a SageMaker asynchronous endpoint, in one task, and return where their answers are.

    The inputs are written down below ``work_prefix`` once. Then as many are sent as the endpoint answers in
    time, the task waits without a worker until half of those are answered, sends more, and so on. What failed
    and may succeed is sent again. At the end a manifest says for each input what became of it.

    What was sent is written down before and after it is, so a task that is retried or cleared goes on where
    it was. No input is sent twice that may have been accepted: its answer has a name of its own, for which is
    looked until nothing can come any more. That takes boto3 1.42.54; with an older one, a worker that dies
    leaves up to 500 requests behind that are sent again once they would have expired.

    AWS offers no way to cancel an asynchronous invocation: killing the task stops the waiting and the
    sending, not the work.

    The task returns ``manifest``, ``summary``, ``dead_letter``, ``parquet`` and ``results``, which are S3
    URIs or null, and ``counts``, how many inputs ended in which way. XCom ``handle`` has the fields of its
    :class:`~airflow_async_sm.core.handles.BatchHandle`, and with it the folder of the batch.

    Give exactly one of ``inputs``, ``input_locations``, ``input_prefix``, ``input_manifest`` and
    ``input_records``. Numbers without another source are from the service's API model,
    ``InvokeEndpointAsync``.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param inputs: Payloads: a list or another iterable, a function without arguments that returns one, or
        what mapped tasks returned. Each is JSON, text, bytes, or a path object, which stands for its file.
        (templated)
    :param input_locations: S3 URIs of payloads, which the endpoint's role reads; in the same forms.
        (templated)
    :param input_prefix: S3 URI of a folder. Each object below it is an input. (templated)
    :param input_pattern: Which objects of the folder, as a pattern such as ``2026-*/*.json`` for what stands
        after the folder in their keys. Default: all. (templated)
    :param input_manifest: S3 URI of an object that names the inputs: JSON Lines, CSV, a SageMaker manifest
        file, the ``manifest.json`` of an S3 inventory, or the dead-letter file of another batch. (templated)
    :param input_records: S3 URI of a JSON Lines or a CSV file. Each of its records is an input. (templated)
    :param records_per_request: How many records make an input, at least 1. Default 1.
    :param csv_header: Whether the first row of a CSV file names its columns. Default ``True``.
    :param serializer: Function that turns each of ``inputs`` into bytes or text. Default: by
        ``content_type``.
    :param work_prefix: S3 URI of a folder for the batch's plan, ledger and manifest. Default: the
        connection's extra ``work_prefix``. (templated)
    :param sse_kms_key_id: KMS key to encrypt payloads with that have to be uploaded. Default: as the bucket
        does. (templated)
    :param payload_transport: ``"inline"``: payloads go in the requests, at most 128,000 bytes, needs boto3
        1.43.29. ``"s3"``: put below ``work_prefix`` first, at most 1 GB. Default ``"auto"``: inline if it
        fits and boto3 can.
    :param content_type: Type of the payloads, at most 1,024 ASCII characters. Default: what fits each.
        (templated)
    :param accept: Type wanted for the answers, at most 1,024 ASCII characters. Default: the model's.
        (templated)
    :param custom_attributes: Text handed to the model, at most 1,024 visible ASCII characters. Default:
        ``dag_id=...;run_id=...;task_id=...;map_index=...``. (templated)
    :param request_ttl: Seconds a request may stay queued, 60 to 21,600. Default: the service's, 21,600.
        (templated)
    :param invocation_timeout: Seconds for download, model and upload, 1 to 3,600. Default: the service's,
        900. (templated)
    :param max_in_flight: How many requests the service may have at the same time, at least 1. Fewer are sent
        as long as the endpoint does not answer that many within half of ``request_ttl``. Default 10,000.
    :param max_submissions_per_second: How many are sent each second at most. Default: as many as the service
        takes.
    :param submission_threads: How many are sent at the same time, 1 to 64. Default 32.
    :param max_attempts: How often an input is sent at most, 1 to 100, where sending it again may help. In
        each further try of the task it is sent once more. Default 3.
    :param retry_delay_seconds: Pause before an input is sent again, in seconds. It doubles each time. Default
        30.
    :param max_failures: How many inputs may have no answer, as a number, or as a share below 1. Rows that are
        no inputs count as well. With more the task fails when all is done. Default 0.
    :param stop_early: Whether nothing more is sent once there are more failures, and the task fails at once.
        Default ``False``.
    :param on_empty: ``"fail"``, or ``"skip"`` the task, where there are no inputs. Default ``"fail"``.
    :param merge_to: S3 URI to put all answers together at, one a line, in the order of the inputs; with a
        slash at its end, a folder. Default: they are not. (templated)
    :param on_clear: What clearing the task means for a batch whose end was not seen: ``"reattach"`` goes on
        with it, ``"fresh"`` begins anew. A batch that has succeeded always begins anew. Default
        ``"reattach"``.
    :param timeout: Seconds to work and wait in one try of the task, kept across triggerer restarts. Default:
        as long as it takes. ``execution_timeout`` bounds it too, in the triggerer as well.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 10. A look is one
        LIST for each thousand objects of requests in flight.
    :param wait_for_completion: Wait for the answers. It has to be ``True``: sending goes on while they come.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input, an endpoint that is missing or not asynchronous, or a service that
        takes none of the requests. Not retried.
    :raises EndpointNotReady: the endpoint is still being created.
    :raises ServiceUnavailable: AWS could not be reached or is busy. A retry goes on with the batch.
    :raises RecordUnreadable: what an earlier try has written down is there, but cannot be read.
    :raises BatchFailed: more inputs than ``max_failures`` have no answer. A retry sends those again that it
        may help.
    :raises BatchRejected: as many would fail in the same way again. Not retried.
    :raises BatchTakenOver: another process of the task goes on with the batch.
    :raises EndpointLost: the endpoint is gone or broken, so nothing can arrive any more.
    :raises WaitTimedOut: ``timeout`` passed first. A retry goes on with the batch.
    :raises LookFailed: S3 could not be looked at, too often in a row, or refuses it.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncBaseOperator.template_fields,
        "endpoint_name",
        "inputs",
        "input_locations",
        "input_prefix",
        "input_pattern",
        "input_manifest",
        "input_records",
        "work_prefix",
        "sse_kms_key_id",
        "content_type",
        "accept",
        "custom_attributes",
        "request_ttl",
        "invocation_timeout",
        "merge_to",
    )
    operator_extra_links = ENDPOINT_LINKS
    handle_type = BatchHandle
    goes_on_by_itself = True
    concealed_fields: Sequence[str] = ("inputs", "input_locations")

    _batch: Batch | None = None
    function_fields: Sequence[str] = ("inputs", "input_locations")

    def __init__(
        self,
        *,
        endpoint_name: str,
        inputs: Any = None,
        input_locations: Any = None,
        input_prefix: str | None = None,
        input_pattern: str | None = None,
        input_manifest: str | None = None,
        input_records: str | None = None,
        records_per_request: int = 1,
        csv_header: bool = True,
        serializer: Callable[[Any], bytes | str] | None = None,
        work_prefix: str | None = None,
        sse_kms_key_id: str | None = None,
        payload_transport: str = "auto",
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        request_ttl: int | str | None = None,
        invocation_timeout: int | str | None = None,
        max_in_flight: int = 10_000,
        max_submissions_per_second: float | None = None,
        submission_threads: int = 32,
        max_attempts: int = 3,
        retry_delay_seconds: float = 30.0,
        max_failures: float = 0,
        stop_early: bool = False,
        on_empty: str = "fail",
        merge_to: str | None = None,
        on_clear: str = "reattach",
        timeout: float | None = None,
        poll_interval: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_name = endpoint_name
        self.inputs = inputs
        self.input_locations = input_locations
        self.input_prefix = input_prefix
        self.input_pattern = input_pattern
        self.input_manifest = input_manifest
        self.input_records = input_records
        self.records_per_request = records_per_request
        self.csv_header = csv_header
        self.serializer = serializer
        self.work_prefix = work_prefix
        self.sse_kms_key_id = sse_kms_key_id
        self.payload_transport = payload_transport
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout
        self.max_in_flight = max_in_flight
        self.max_submissions_per_second = max_submissions_per_second
        self.submission_threads = submission_threads
        self.max_attempts = max_attempts
        self.retry_delay_seconds = retry_delay_seconds
        self.max_failures = max_failures
        self.stop_early = stop_early
        self.on_empty = on_empty
        self.merge_to = merge_to
        self.on_clear = on_clear

    def request(self, context: Context) -> BatchInputs:
        """Check everything that can be checked without a network."""
        check_arguments(self)
        found = BatchInputs(
            inputs=self.input_values(context),
            input_locations=optional("input_locations", revealed(self.input_locations)),
            **{name: optional(name, getattr(self, name)) for name in _PLACES},
            records_per_request=self.records_per_request,
            csv_header=self.csv_header,
            serializer=self.serializer,
            content_type=optional("content_type", self.content_type),
        )
        found.check()
        self._check_work_prefix(found)
        # A request like those to come, for what is wrong with all of them.
        InvocationRequest(**self._members(context), input_location="s3://bucket/key")
        return found

    def input_values(self, context: Context) -> Any:  # noqa: ARG002 - others make them of their task
        """Return what ``inputs`` was rendered to; ``None`` if it is not given."""
        return optional("inputs", revealed(self.inputs))

    def submit(self, request: BatchInputs, context: Context) -> BatchHandle:
        """Go on with the batch of an earlier try, or plan a new one; and send what there is room for."""
        self._batch, handle = self._opener(context).open(request)
        self._batch.send(handle)
        return self._batch.handle(handle)

    def trigger(self, handle: BatchHandle) -> SageMakerAsyncBatchTrigger:
        """Return the wait until there is something to do."""
        deadline_at = handle.wake_at + _GRACE
        if self.timeout is not None:
            deadline_at = min(deadline_at, handle.began_at + self.timeout)
        return SageMakerAsyncBatchTrigger(
            **handle.to_dict(),
            **self.aws_params.to_dict(),
            deadline_at=self.latest(deadline_at, began_at=handle.began_at),
            poll_interval=self.poll_interval,
        )

    def linger(self, handle: BatchHandle) -> float:
        """Wait here a little where there is more to send."""
        return _LINGER if handle.items > handle.done + handle.in_flight else 0.0

    def follow(self, handle: BatchHandle, context: Context) -> BatchHandle | None:
        """Take in what has come, and send more; ``None``: there is nothing left to do."""
        batch = self._loaded(handle, context)
        batch.look()
        if batch.is_over:
            return None
        batch.send(handle)
        return batch.handle(handle)

    def collect(self, handle: BatchHandle, context: Context) -> dict[str, Any]:
        """Write the manifest, and fail if there are more failures than may be."""
        batch = self._loaded(handle, context)
        end = batch.finish(handle, optional("merge_to", self.merge_to))
        if batch.has_failed:
            raise batch_failed(
                handle, batch.state, end, unreadable=batch.plan.unreadable, is_lost=batch.is_lost
            )
        self._journal(context).note(handle, Phase.COLLECTED)
        told = asdict(end)
        describe_outlets(context, self.outlets, {**told, "endpoint_name": handle.endpoint_name})
        metrics.count("succeeded", end.counts["Succeeded"])
        return told

    def _loaded(self, handle: BatchHandle, context: Context) -> Batch:
        """Return the batch as this process knows it; after a deferral, as it is written down."""
        if self._batch is None:
            self._batch = self._opener(context).load(handle.location)
        return self._batch

    def _check_work_prefix(self, inputs: BatchInputs) -> None:
        work_prefix = self._work_prefix
        if inputs.overlaps(work_prefix):
            raise InvalidInput(
                f"work_prefix {work_prefix} lies in input_prefix {inputs.input_prefix}: what the batch "
                "writes would be its own input the next time. Put it elsewhere."
            )

    @property
    def _work_prefix(self) -> S3Uri:
        """The folder for all that batches write: the argument, else the connection's."""
        given = optional("work_prefix", self.work_prefix) or self.hook.work_prefix
        if not given:
            raise InvalidInput(
                "work_prefix is missing: a batch keeps its inputs and its ledger in S3. Give "
                "work_prefix='s3://bucket/folder', or the connection's extra work_prefix."
            )
        return S3Uri.parse(given, argument="work_prefix")

    def _members(self, context: Context) -> dict[str, Any]:
        """What all requests have in common, as ``InvocationRequest`` names it."""
        members = {name: optional(name, getattr(self, name)) for name in _TEXTS}
        members |= {name: number(name, getattr(self, name)) for name in _NUMBERS}
        members["custom_attributes"] = (
            members["custom_attributes"] or TaskIdentity.of(context.get("ti")).custom_attributes
        )
        return {"endpoint_name": self.endpoint_name, **members}

    def _opener(self, context: Context) -> BatchOpener:
        members = self._members(context)
        return BatchOpener(
            hook=self.hook,
            journal=self._journal(context),
            tries=Tries.of_task(context.get("ti"), self.retries),
            on_clear=self.on_clear,
            skip_empty=self.on_empty == "skip",
            identity=TaskIdentity.of(context.get("ti")),
            work_prefix=self._work_prefix,
            members=members,
            wants_inline=self.payload_transport != "s3",
            sse_kms_key_id=optional("sse_kms_key_id", self.sse_kms_key_id),
            limits=BatchLimits(
                max_in_flight=self.max_in_flight,
                max_submissions_per_second=self.max_submissions_per_second,
                submission_threads=self.submission_threads,
                max_failures=self.max_failures,
                stop_early=self.stop_early,
                patience=Patience(
                    request_ttl=members["request_ttl"] or DEFAULT_REQUEST_TTL,
                    invocation_timeout=members["invocation_timeout"] or DEFAULT_INVOCATION_TIMEOUT,
                    max_attempts=self.max_attempts,
                    retry_delay=self.retry_delay_seconds,
                ),
            ),
            log=self.log,
            clock=self.clock,
        )

    def _journal(self, context: Context) -> Journal:
        return journal_of(
            context,
            identity=TaskIdentity.of(context.get("ti")),
            hook=self.hook,
            work_prefix=str(self._work_prefix),
            log=self.log,
            attempt_type=BatchAttempt,
        )
