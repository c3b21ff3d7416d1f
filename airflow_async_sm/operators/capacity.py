"""Have instances of an asynchronous endpoint ready before a batch, and let them go after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow_async_sm._compat import Context
from airflow_async_sm.core import limits
from airflow_async_sm.core.endpoint_states import Phase, admit, capacity, phase_of, progress, variant_name
from airflow_async_sm.core.handles import CAPACITY, SETTLED, EndpointHandle
from airflow_async_sm.core.templates import whole_number
from airflow_async_sm.exceptions import RequestRejected
from airflow_async_sm.operators.endpoint import SageMakerAsyncEndpointBaseOperator

__all__ = ["SageMakerAsyncCapacityOperator"]


class _Demand(NamedTuple):
    """How many instances an endpoint is to have."""

    endpoint_name: str
    instances: int


class SageMakerAsyncCapacityOperator(SageMakerAsyncEndpointBaseOperator):
    """
    Let an endpoint have so many instances, and wait until they are in service.

    Before a batch it warms an endpoint up, which takes minutes from zero instances; after it, with
    ``instances=0``, it lets them go. Where the endpoint scales, ``instances`` becomes the fewest that it may
    have until another task says otherwise, so what scales it in leaves them alone; its maximum is raised if
    it is smaller, and stays so. To let go is then to let the scaling decide again. Where the endpoint does
    not scale, ``instances`` is exactly how many it gets; without any, requests wait in the queue until it is
    warmed up again, or expire there.

    What is so already is not asked for again, so the task may be retried. An endpoint that is being created
    or updated cannot be changed: the task waits until it can.

    The task returns ``{"endpoint_name", "instances"}``, the instances that are in service at its end. There
    may be more of them than were asked for.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param instances: How many instances there are to be, at least 0, as a number or as its digits.
        (templated)
    :param timeout: Seconds until the instances are in service, counted from the task's start, all waits
        together. Default 3,600.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15. Each look is
        one DescribeEndpoint request.
    :param wait_for_completion: Wait until the instances are in service. If ``False``, return the handle at
        once, and ``deferrable`` has no effect. Default ``True``.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input, an endpoint that is missing, not asynchronous or broken, or a refusal
        by the service. Not retried.
    :raises EndpointNotReady: the endpoint is changing and the task does not wait, or it cannot have the
        instances any more.
    :raises ServiceUnavailable: AWS could not be reached, is busy, or a quota is used up.
    :raises WaitTimedOut: ``timeout`` passed first; the instances that were asked for may still come.
    :raises LookFailed: the endpoint could not be looked at, too often in a row.
    """

    template_fields: Sequence[str] = (*SageMakerAsyncEndpointBaseOperator.template_fields, "instances")

    def __init__(
        self,
        *,
        endpoint_name: str,
        instances: int | str,
        timeout: float = 3_600.0,
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(endpoint_name=endpoint_name, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.instances = instances

    def request(self, context: Context) -> _Demand:  # noqa: ARG002 - others need to know their task
        """Check the name and the number."""
        return _Demand(
            limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name),
            limits.INSTANCES.check("instances", whole_number("instances", self.instances)),
        )

    def submit(self, request: _Demand, context: Context) -> EndpointHandle:  # noqa: ARG002 - others remember
        """Do what is to be done first, and return what to wait for."""
        return self._pursue(request, since=self.clock())

    def follow(self, handle: EndpointHandle, context: Context) -> EndpointHandle | None:
        """Ask for the instances once another change is over."""
        if handle.goal == CAPACITY:
            return None
        return self._pursue(self.again(handle, context), since=handle.submitted_at)

    def collect(self, handle: EndpointHandle, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return how many instances are in service now."""
        description = self.hook.describe_endpoint(handle.endpoint_name) or {}
        return {"endpoint_name": handle.endpoint_name, "instances": capacity(description)[0]}

    def _pursue(self, demand: _Demand, *, since: float) -> EndpointHandle:
        """Look what there is, and do the next thing."""
        name = demand.endpoint_name
        description = self.hook.describe_endpoint(name)
        admission = admit(name, description)
        if description is None or not (admission.accepts or admission.later):
            raise RequestRejected(
                f"{admission.text} Nothing was changed; a retry would be refused as well.", endpoint_name=name
            )
        if phase_of(description) is Phase.MOVING:
            self.must_wait(f"it is {progress(description)}")
            return EndpointHandle(endpoint_name=name, goal=SETTLED, submitted_at=since)
        self.hook.set_capacity(name, variant_name(description), demand.instances)
        return EndpointHandle(endpoint_name=name, goal=CAPACITY, submitted_at=since, count=demand.instances)
