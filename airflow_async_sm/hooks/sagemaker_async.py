"""The only caller of SageMaker and of S3."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from airflow_async_sm.core.endpoint_states import admit
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from airflow_async_sm.hooks._batches import BatchCalls
from airflow_async_sm.hooks._inputs import InputCalls
from airflow_async_sm.hooks._outputs import OutputCalls
from airflow_async_sm.hooks._preflight import PreflightCalls
from airflow_async_sm.hooks._results import ResultCalls
from airflow_async_sm.hooks._translate import submission

if TYPE_CHECKING:
    from airflow_async_sm.core.requests import InvocationRequest

__all__ = ["SageMakerAsyncHook"]


class SageMakerAsyncHook(BatchCalls, InputCalls, OutputCalls, ResultCalls, PreflightCalls):
    """
    Talk to SageMaker Asynchronous Inference.

    Usable on its own in a Python task. It looks once and never waits; operators and triggers do the waiting.

    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``.
    :param region_name: AWS region. Default: the connection's, then boto3's.
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting.
    :param botocore_config: Arguments of ``botocore.config.Config``. Default: the connection's.
    """

    @property
    def invoke_members(self) -> frozenset[str]:
        """The members of a request that the loaded boto3 can send."""
        shape = self._runtime.meta.service_model.operation_model("InvokeEndpointAsync").input_shape
        return frozenset(shape.members if shape else ())

    def check_endpoint(self, endpoint_name: str) -> dict[str, str]:
        """
        Return the endpoint's ``OutputConfig``, as far as it may be seen, if it takes asynchronous requests.

        If its failures would leave no trace, that is logged.

        Who may submit may still lack the right to describe an endpoint. Then the check is left out, and the
        service itself refuses what it cannot take.

        :param endpoint_name: Name of the endpoint.
        :raises RequestRejected: there is no such endpoint, it is not asynchronous, or it is broken.
        :raises EndpointNotReady: it is being created.
        """
        try:
            description = self.describe_endpoint(endpoint_name, patiently=True)
        except RequestRejected as error:
            if not isinstance(error.__cause__, ClientError):
                raise
            self.log.info("The endpoint is not checked before submission: %s", error.__cause__)
            return {}
        admission = admit(endpoint_name, description)
        if not admission.accepts:
            kind = EndpointNotReady if admission.later else RequestRejected
            raise kind(f"{admission.text} Nothing was submitted.", endpoint_name=endpoint_name)
        output: dict[str, str] = (description or {})["AsyncInferenceConfig"].get("OutputConfig", {})
        if not output.get("S3FailurePath"):
            self.log.warning(
                "Endpoint %s has no failure path (S3FailurePath): a failed request leaves no trace in S3 and "
                "is noticed only when it expires.",
                endpoint_name,
            )
        return output

    def invoke_endpoint_async(self, request: InvocationRequest) -> InvocationHandle:
        """
        Submit one request and return its handle. Sent once: no attempt is repeated by the client.

        :param request: What to submit. Without an ``inference_id`` it gets a random one.
        :raises RequestRejected: the service refused it, or the installed boto3 cannot send it.
        :raises ~airflow_async_sm.exceptions.Throttled: the service is too busy to take it; a retry
            may succeed.
        :raises ServiceUnavailable: it was not accepted; a retry may succeed.
        :raises SubmissionUnconfirmed: the reply was lost; it may have been accepted.
        """
        inference_id = request.inference_id or str(uuid.uuid4())
        self.check_members(request)
        arguments = {**request.to_api(), "InferenceId": inference_id}
        submitted_at = time.time()
        with submission(f"request {inference_id} to endpoint {request.endpoint_name}"):
            reply = self._runtime.invoke_endpoint_async(**arguments)
            return InvocationHandle(
                endpoint_name=request.endpoint_name,
                inference_id=reply.get("InferenceId") or inference_id,
                output_location=reply["OutputLocation"],
                failure_location=reply.get("FailureLocation") or None,
                submitted_at=submitted_at,
                expires_at=request.expires_at(submitted_at),
                endpoint_region=self.region,
            )

    def check_members(self, request: InvocationRequest) -> None:
        """
        Raise unless the loaded boto3 can send all that a request says.

        :param request: The request.
        :raises RequestRejected: it is too old for a member.
        """
        if unknown := sorted(request.to_api().keys() - self.invoke_members):
            raise RequestRejected(
                f"The installed boto3 {boto3.__version__} cannot send {', '.join(unknown)}. "
                "Body needs boto3 1.43.29, S3OutputPathExtension and Filename need 1.42.54. Update boto3"
                + (", or put the payload into S3 and give input_location." if "Body" in unknown else ".")
                + " Nothing was submitted; a retry would be refused as well."
            )
