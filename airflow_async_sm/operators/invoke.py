"""Send one request to an asynchronous endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.payloads import Concealed, encode_payload
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.core.templates import optional
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger

__all__ = ["SageMakerAsyncInvokeOperator"]


class SageMakerAsyncInvokeOperator(SageMakerAsyncBaseOperator[InvocationHandle]):
    """
    Send one request to a SageMaker asynchronous endpoint and return where the answer is.

    The task checks the endpoint, submits, and waits until the output or the failure object is in S3. With
    ``deferrable=True`` no worker is held meanwhile. The submission is sent once; a retry of the task submits
    a new request.

    AWS offers no way to cancel an asynchronous invocation: killing the task stops the waiting, not the work.

    The task returns ``{"endpoint_name", "inference_id", "output_location"}``. While it waits, XCom ``handle``
    already holds these and ``failure_location``, ``submitted_at`` and ``expires_at`` (seconds since 1970,
    UTC). The payload itself is kept out of XCom, of logs and of the rendered template.

    The numbers are from the API model of InvokeEndpointAsync and from the SageMaker developer guide,
    "Asynchronous inference".

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param payload: What to send inline, at most 128,000 bytes: bytes as they are, text as UTF-8, anything
        else as JSON. Give this or ``input_location``. Needs boto3 1.43.29. (templated)
    :param input_location: S3 URI of an object of at most 1 GB, itself at most 1,024 characters. (templated)
    :param content_type: Type of the payload, at most 1,024 ASCII characters. Default: what fits the payload's
        Python type; for ``input_location`` the service's default. (templated)
    :param accept: Type wanted for the answer, at most 1,024 ASCII characters. Default: the model's.
        (templated)
    :param custom_attributes: Text for the model, at most 1,024 visible ASCII characters. Default: none.
        (templated)
    :param inference_id: Name of the request, at most 64 visible ASCII characters. It does not make a repeated
        request the same request. Default: a random one. (templated)
    :param request_ttl: Seconds the request may stay queued, 60 to 21,600. Default: the service's, 21,600.
    :param invocation_timeout: Seconds for download, model and upload together, 1 to 3,600. Default: the
        service's, 900.
    :param timeout: Seconds to wait for the answer, counted from the submission and kept across triggerer
        restarts. Default: as long as an answer can come, which is ``request_ttl`` + ``invocation_timeout`` +
        300.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 5. A young wait is
        looked at every second. Each look is one or two S3 HEAD requests.
    :param wait_for_completion: Wait for the answer. If ``False``, return the handle at once, and
        ``deferrable`` has no effect. Default ``True``.
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
    :raises SubmissionUnconfirmed: the reply to the submission was lost. Not retried.
    :raises InferenceFailed: the failure object is there; its text is in the message.
    :raises InferenceExpired: nothing can arrive any more.
    :raises WaitTimedOut: ``timeout`` passed first; the work may still finish.
    :raises LookFailed: S3 could not be looked at, too often in a row.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncBaseOperator.template_fields,
        "endpoint_name",
        "payload",
        "input_location",
        "content_type",
        "accept",
        "custom_attributes",
        "inference_id",
    )
    handle_type = InvocationHandle

    def __init__(
        self,
        *,
        endpoint_name: str,
        payload: Any = None,
        input_location: str | None = None,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
        request_ttl: int | None = None,
        invocation_timeout: int | None = None,
        timeout: float | None = None,
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_name = endpoint_name
        self.payload = payload
        self.input_location = input_location
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout

    def request(self, context: Context) -> InvocationRequest:  # noqa: ARG002 - others need to know their task
        """Check everything that can be checked without a network."""
        rendered = self.payload.value if isinstance(self.payload, Concealed) else self.payload
        payload = optional("payload", rendered)
        body, content_type = (None, None) if payload is None else encode_payload(payload)
        return InvocationRequest(
            endpoint_name=self.endpoint_name,
            body=body,
            input_location=optional("input_location", self.input_location),
            content_type=optional("content_type", self.content_type) or content_type,
            accept=optional("accept", self.accept),
            custom_attributes=optional("custom_attributes", self.custom_attributes),
            inference_id=optional("inference_id", self.inference_id),
            request_ttl=self.request_ttl,
            invocation_timeout=self.invocation_timeout,
        )

    def submit(self, request: InvocationRequest) -> InvocationHandle:
        """Check the endpoint, and send the request once."""
        self.hook.check_endpoint(request.endpoint_name)
        handle = self.hook.invoke_endpoint_async(request)
        self.log.info("%s is submitted; its answer will be %s.", handle.subject, handle.output_location)
        return handle

    def trigger(self, handle: InvocationHandle) -> SageMakerAsyncInferenceTrigger:
        """Return the wait for the answer."""
        deadline_at = handle.expires_at if self.timeout is None else handle.submitted_at + self.timeout
        return SageMakerAsyncInferenceTrigger(
            **handle.to_dict(),
            **self.aws_params.to_dict(),
            deadline_at=deadline_at,
            poll_interval=self.poll_interval,
        )

    def collect(self, handle: InvocationHandle) -> dict[str, Any]:
        """Return where the answer is."""
        return {
            "endpoint_name": handle.endpoint_name,
            "inference_id": handle.inference_id,
            "output_location": handle.output_location,
        }

    def failure(self, handle: InvocationHandle) -> str:
        """Return the text of the failure object."""
        try:
            return self.hook.read_failure(str(handle.failure_location))
        except SageMakerAsyncError as error:
            return f"(it could not be read: {error})"

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """
        Render as usual, then put the payload out of sight.

        Airflow stores what template fields are rendered to, for its page, in the metadata database. This
        method is the one that plain and mapped tasks have in common.
        """
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self and self.payload is not None and not isinstance(self.payload, Concealed):
            self.payload = Concealed(self.payload)
