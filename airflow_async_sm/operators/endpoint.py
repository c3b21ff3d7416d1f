"""What the operators that change an endpoint have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.exceptions import EndpointNotReady
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.triggers.endpoint import SageMakerAsyncEndpointTrigger

__all__ = ["SageMakerAsyncEndpointBaseOperator"]


class SageMakerAsyncEndpointBaseOperator(SageMakerAsyncBaseOperator[EndpointHandle]):
    """
    Change an endpoint and wait until the change is done.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param timeout: Seconds to wait for the change, counted from when it was asked for.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1.
    """

    template_fields: Sequence[str] = (*SageMakerAsyncBaseOperator.template_fields, "endpoint_name")
    handle_type = EndpointHandle
    timeout: float

    def __init__(self, *, endpoint_name: str, timeout: float, poll_interval: float, **kwargs: Any) -> None:
        super().__init__(timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_name = endpoint_name

    def trigger(self, handle: EndpointHandle) -> SageMakerAsyncEndpointTrigger:
        """Return the wait for the endpoint."""
        return SageMakerAsyncEndpointTrigger(
            **handle.to_dict(),
            **self.aws_params.to_dict(),
            deadline_at=handle.submitted_at + self.timeout,
            poll_interval=self.poll_interval,
        )

    def must_wait(self, why: str) -> None:
        """
        Say that the change has to wait for something.

        :param why: For what, for a reader.
        :raises EndpointNotReady: the task does not wait.
        """
        if not self.wait_for_completion:
            raise EndpointNotReady(
                f"Endpoint {self.endpoint_name} cannot be changed now: {why}, and the task does not wait "
                "(wait_for_completion=False). Nothing was changed; a retry can succeed later.",
                endpoint_name=self.endpoint_name,
            )
        self.log.info("Endpoint %s: %s; waiting for that to end.", self.endpoint_name, why)
