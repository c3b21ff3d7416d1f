"""Wait for the answer to one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.outcomes import Observation, Pending
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["ON_403", "SageMakerAsyncInferenceTrigger"]

ON_403 = ("fail", "wait")


class SageMakerAsyncInferenceTrigger(SageMakerAsyncBaseTrigger):
    """
    Wait until the output or the failure object of one request is in S3, or neither can come any more.

    Looks are shared with all waits that reach AWS in the same way: one LIST of a folder, or a HEAD for each
    object, whatever costs less. AWS offers no way to cancel an asynchronous invocation, so killing
    the task stops the waiting, not the work.

    :param endpoint_name: The endpoint that accepted the request; ``None``: not known. An endpoint that is
        known is looked at as well: where it is gone, nothing can come any more.
    :param inference_id: The request's name at the service; ``None``: not known.
    :param output_location: S3 URI where the answer will be, as the service returned it; with a slash at its
        end, the folder that belongs to this request alone.
    :param failure_location: S3 URI where a failure will be told, or its folder, or ``None``.
    :param submitted_at: When it was submitted, in seconds since 1970 (UTC).
    :param expires_at: After this moment nothing can arrive any more, in seconds since 1970 (UTC).
    :param input_location: S3 URI of the payload; ``None``: it was sent inline, or is not known.
    :param uploaded: Whether the payload was put there for this request alone. Default ``False``.
    :param endpoint_region: AWS region of the endpoint; ``None``: not known. An endpoint that does not exist
        in another region is no loss.
    :param deadline_at: When to give up, in seconds since 1970 (UTC).
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 5.
    :param on_403: What to do where S3 refuses the looks and will not say whether the objects are there:
        ``"fail"`` ends the wait, ``"wait"`` goes on until the object appears. Default ``"fail"``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``.
    :param region_name: AWS region. Default: the connection's, then boto3's.
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting.
    :param botocore_config: Arguments of ``botocore.config.Config``. Default: the connection's.
    """

    handle: InvocationHandle

    def __init__(
        self,
        *,
        endpoint_name: str | None = None,
        inference_id: str | None = None,
        output_location: str,
        failure_location: str | None = None,
        submitted_at: float,
        expires_at: float,
        input_location: str | None = None,
        uploaded: bool = False,
        endpoint_region: str | None = None,
        deadline_at: float,
        poll_interval: float = 5.0,
        on_403: str = "fail",
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            handle=InvocationHandle(
                endpoint_name=endpoint_name,
                inference_id=inference_id,
                output_location=output_location,
                failure_location=failure_location,
                submitted_at=submitted_at,
                expires_at=expires_at,
                input_location=input_location,
                uploaded=uploaded,
                endpoint_region=endpoint_region,
            ),
            params=AwsParams(
                aws_conn_id=aws_conn_id,
                region_name=region_name,
                verify=verify,
                botocore_config=botocore_config,
            ),
            deadline_at=deadline_at,
            poll_interval=poll_interval,
        )
        self.on_403 = on_403

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class and arguments."""
        path, arguments = super().serialize()
        return path, {**arguments, "on_403": self.on_403}

    @property
    def places(self) -> tuple[S3Uri | None, S3Uri | None]:
        """The exact places of both objects. Where only folders are known, each look is a look of its own."""
        output, failure = self.handle.output_location, self.handle.failure_location
        if output.endswith("/") or (failure or "").endswith("/"):
            return None, None
        return S3Uri.parse(output), S3Uri.parse(failure) if failure else None

    def unanswered(self, hook: SageMakerAsyncHook) -> Pending | None:
        """Return what is known of the endpoint; ``None``: it may be lost."""
        return hook.unanswered(self.handle)

    def look(self) -> Observation:
        """Look once for the output and the failure object, and now and then at the endpoint."""
        return self.hook.look_at_result(self.handle, on_403=self.on_403)
