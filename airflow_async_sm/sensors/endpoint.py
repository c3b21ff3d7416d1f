"""Wait for an endpoint that somebody else manages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core import limits
from airflow_async_sm.core.handles import CAPACITY, DRAINED, IN_SERVICE, EndpointHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.templates import optional, whole_number
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.triggers.endpoint import SageMakerAsyncEndpointTrigger

__all__ = ["SageMakerAsyncEndpointSensor"]


class SageMakerAsyncEndpointSensor(SageMakerAsyncBaseSensor):
    """
    Wait until an endpoint is in service, has instances, or has worked off its backlog.

    ``InService`` does not mean that a machine is running: an endpoint that was scaled to zero is in service
    too. Whoever needs a machine waits with ``min_instances``.

    An endpoint that does not exist, that failed or that is being deleted cannot come into service any more:
    the task fails at once, and does not wait for somebody to repair it. It has no backlog either, so with
    ``max_backlog`` an endpoint that does not exist is waited for no longer.

    The task returns ``{"endpoint_name"}``.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param min_instances: Wait until so many instances are in service, at least 0, as a number or as its
        digits. Default: any number is fine, also none. (templated)
    :param max_backlog: Wait until at most so many requests are queued or worked on, at least 0, as a number
        or as its digits. The figure comes from CloudWatch once a minute, and only one of a minute that began
        after the task did counts, so this takes some minutes also for an idle endpoint. Not together with
        ``min_instances``. Default: the backlog is not looked at. (templated)
    :param poke_interval: Seconds between two looks, at least 1, or a ``timedelta``. Default 30. Each look is
        one DescribeEndpoint request, with ``max_backlog`` one GetMetricData request more. Where the wait is
        deferred it is the longest pause: a young wait is looked at more often.
    :param timeout: Seconds to wait, counted from the first look and kept across triggerer restarts, or a
        ``timedelta``. Default: Airflow's ``[sensors] default_timeout``, a week.
    :param mode: ``"poke"`` holds the worker between two looks, ``"reschedule"`` gives it back. Default
        ``"poke"``.
    :param soft_fail: Skip the task, instead of failing it, when the endpoint cannot become what is waited
        for, could not be looked at, or did not become it in time. Bad input fails it anyhow. Default
        ``False``.
    :param deferrable: Wait in the triggerer and hold no worker; ``mode`` has no effect then. Default:
        Airflow's ``[operators] default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input. Not retried.
    :raises EndpointNotReady: the endpoint can no longer become what is waited for.
    :raises AirflowSensorTimeout: ``timeout`` passed first. Not retried.
    :raises LookFailed: the endpoint could not be looked at, 21 times in a row, or at the last look before the
        timeout. With ``mode="reschedule"`` nobody counts: failed looks are borne until the timeout.
    :raises AirflowSkipException: with ``soft_fail``, in place of the three before.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncBaseSensor.template_fields,
        "endpoint_name",
        "min_instances",
        "max_backlog",
    )
    handle_type = EndpointHandle

    def __init__(
        self,
        *,
        endpoint_name: str,
        min_instances: int | str | None = None,
        max_backlog: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min_instances is not None and max_backlog is not None:
            raise InvalidInput(
                "min_instances and max_backlog are both given; a sensor waits for one of them. Make two."
            )
        self.endpoint_name = endpoint_name
        self.min_instances = min_instances
        self.max_backlog = max_backlog

    def trigger(self, began_at: float) -> SageMakerAsyncEndpointTrigger:
        """Return the wait for the endpoint."""
        goal, count = self._goal()
        return SageMakerAsyncEndpointTrigger(
            endpoint_name=limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name),
            goal=goal,
            count=count,
            submitted_at=began_at,
            **self.aws_params.to_dict(),
            deadline_at=began_at + self.timeout,
            poll_interval=self.poke_interval,
        )

    def collect(self, handle: EndpointHandle, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the name of the endpoint."""
        return {"endpoint_name": handle.endpoint_name}

    def _goal(self) -> tuple[str, int]:
        """Return what is waited for, and how much of it."""
        if optional("min_instances", self.min_instances) is not None:
            return CAPACITY, limits.INSTANCES.check(
                "min_instances", whole_number("min_instances", self.min_instances)
            )
        if optional("max_backlog", self.max_backlog) is not None:
            return DRAINED, whole_number("max_backlog", self.max_backlog)
        return IN_SERVICE, 0
