"""What the operators that change an endpoint have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.endpoint_states import variant_names
from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
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
            deadline_at=self.latest(handle.submitted_at + self.timeout, began_at=handle.submitted_at),
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

    def again(self, handle: EndpointHandle, context: Context) -> Any:
        """
        Return the request anew, after a wait: this may be another process.

        :raises RequestRejected: its templates come to another endpoint than they did before.
        """
        request = self.checked(context)
        if request.endpoint_name != handle.endpoint_name:
            raise RequestRejected(
                f"{handle.subject} is {handle.aim}, but endpoint_name is {request.endpoint_name!r} by now. "
                "Use a template that stays the same while the task waits. Nothing more was changed.",
                endpoint_name=handle.endpoint_name,
            )
        return request

    def remove_scaling(self, endpoint_name: str, description: Mapping[str, Any] | None) -> None:
        """Remove the scaling of an endpoint that is to go, with its alarms, as far as the rights go."""
        for variant in variant_names(description):
            try:
                self.hook.remove_scaling(endpoint_name, variant)
            except RequestRejected as error:
                # Who never scales may lack the rights for it. The endpoint costs more than an alarm.
                self.log.warning(
                    "The scaling of endpoint %s, if any, is not removed: %s", endpoint_name, error
                )
