"""Wait for an endpoint to reach a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.core.outcomes import Observation
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["SageMakerAsyncEndpointTrigger"]


class SageMakerAsyncEndpointTrigger(SageMakerAsyncBaseTrigger):
    """
    Wait until an endpoint has reached a goal, or can reach it no more.

    Each look is one DescribeEndpoint, and for the goal ``Drained`` one GetMetricData more. Killing the task
    stops the waiting; the endpoint goes on changing.

    :param endpoint_name: The endpoint.
    :param goal: ``InService``; ``Deleted``, until it is gone; ``Settled``, until nothing changes it any more;
        ``Capacity``, until ``count`` instances are in service; or ``Drained``, until its backlog is at most
        ``count``.
    :param submitted_at: When the change was asked for, in seconds since 1970 (UTC).
    :param endpoint_config_name: The configuration it must be in service with. ``None``: any. An endpoint that
        is in service with another one has rolled back, which is a failure.
    :param count: How many instances, or how many requests in the backlog. Default 0.
    :param changed_at: When the last change was asked for, in seconds since 1970 (UTC): what is seen shortly
        after it may be from before it. Default 0: nothing was.
    :param deadline_at: When to give up, in seconds since 1970 (UTC).
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``.
    :param region_name: AWS region. Default: the connection's, then boto3's.
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting.
    :param botocore_config: Arguments of ``botocore.config.Config``. Default: the connection's.
    """

    handle: EndpointHandle

    def __init__(
        self,
        *,
        endpoint_name: str,
        goal: str,
        submitted_at: float,
        endpoint_config_name: str | None = None,
        count: int = 0,
        changed_at: float = 0.0,
        deadline_at: float,
        poll_interval: float = 15.0,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            handle=EndpointHandle(
                endpoint_name=endpoint_name,
                goal=goal,
                submitted_at=submitted_at,
                endpoint_config_name=endpoint_config_name,
                count=count,
                changed_at=changed_at,
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

    def look(self) -> Observation:
        """Look once at the endpoint's state."""
        return self.hook.look_at_endpoint(self.handle)
