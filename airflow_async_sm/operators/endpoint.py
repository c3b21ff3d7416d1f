"""Deploy and delete asynchronous endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.endpoints import AsyncEndpointSpec, EndpointParts
from airflow_async_sm.core.handles import DELETED, IN_SERVICE, EndpointHandle
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator, optional
from airflow_async_sm.triggers.endpoint import SageMakerAsyncEndpointTrigger

__all__ = [
    "SageMakerAsyncDeleteOperator",
    "SageMakerAsyncDeployOperator",
    "SageMakerAsyncEndpointBaseOperator",
]


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


class SageMakerAsyncDeployOperator(SageMakerAsyncEndpointBaseOperator):
    """
    Create a model, a configuration with ``AsyncInferenceConfig`` and an endpoint, and wait until it serves.

    All arguments are checked before anything is created. What exists already under one of the names is taken
    as it is if it is what this task would create, so a retry goes on where an earlier attempt stopped; if it
    is anything else, that is an error: nothing is overwritten.

    ``InService`` does not mean that a machine is running: an endpoint that was scaled to zero is in service
    too, and wakes up with the first request.

    The task returns ``{"endpoint_name", "endpoint_config_name", "model_name", "output_path",
    "failure_path"}``.

    The numbers are from the API models of CreateModel, CreateEndpointConfig and CreateEndpoint.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param image: Address of the container image, at most 255 characters. (templated)
    :param execution_role_arn: ARN of the role that the endpoint runs under: it reads inputs and the model,
        and writes outputs. (templated)
    :param output_path: S3 folder for answers, at most 512 characters. (templated)
    :param failure_path: S3 folder for failures, at most 512 characters. Default: ``output_path`` with
        ``-failures`` added to its last folder. (templated)
    :param instance_type: Kind of machine, for example ``ml.m5.large``. (templated)
    :param initial_instance_count: Machines to begin with, at least 1. Default 1.
    :param model_data_url: S3 URI of the packed model, ``model.tar.gz``. Default: the image holds the model.
        (templated)
    :param environment: Environment variables of the container, at most 100. Default: none. (templated)
    :param model_name: Name of the model, at most 63 characters. Default: ``endpoint_name``. (templated)
    :param endpoint_config_name: Name of the configuration, at most 63 characters. Default: ``endpoint_name``.
        (templated)
    :param max_concurrent_invocations_per_instance: Requests one machine works on at a time, 1 to 1,000.
        Default: the service chooses.
    :param timeout: Seconds to wait until the endpoint serves. Default 3,600, as botocore's own waiter.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15. Each look is
        one DescribeEndpoint request.
    :param wait_for_completion: Wait until the endpoint serves. If ``False``, return the handle at once, and
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
    :raises RequestRejected: bad input, a name that is taken, or a refusal by the service. Not retried.
    :raises ServiceUnavailable: AWS could not be reached, is busy, or a quota is used up.
    :raises EndpointNotReady: the endpoint failed, or is in service with another configuration.
    :raises WaitTimedOut: ``timeout`` passed first; the creation goes on.
    :raises LookFailed: the endpoint could not be looked at, too often in a row.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncEndpointBaseOperator.template_fields,
        "image",
        "execution_role_arn",
        "output_path",
        "failure_path",
        "instance_type",
        "model_data_url",
        "environment",
        "model_name",
        "endpoint_config_name",
    )

    def __init__(
        self,
        *,
        endpoint_name: str,
        image: str,
        execution_role_arn: str,
        output_path: str,
        failure_path: str | None = None,
        instance_type: str,
        initial_instance_count: int = 1,
        model_data_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        model_name: str | None = None,
        endpoint_config_name: str | None = None,
        max_concurrent_invocations_per_instance: int | None = None,
        timeout: float = 3_600.0,
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(endpoint_name=endpoint_name, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.image = image
        self.execution_role_arn = execution_role_arn
        self.output_path = output_path
        self.failure_path = failure_path
        self.instance_type = instance_type
        self.initial_instance_count = initial_instance_count
        self.model_data_url = model_data_url
        self.environment = environment
        self.model_name = model_name
        self.endpoint_config_name = endpoint_config_name
        self.max_concurrent_invocations_per_instance = max_concurrent_invocations_per_instance

    def request(self, context: Context) -> AsyncEndpointSpec:  # noqa: ARG002 - others need to know their task
        """Check everything that can be checked without a network."""
        return AsyncEndpointSpec(
            endpoint_name=self.endpoint_name,
            image=self.image,
            execution_role_arn=self.execution_role_arn,
            output_path=self.output_path,
            failure_path=optional("failure_path", self.failure_path) or "",
            instance_type=self.instance_type,
            initial_instance_count=self.initial_instance_count,
            model_data_url=optional("model_data_url", self.model_data_url),
            environment=optional("environment", self.environment) or {},
            model_name=optional("model_name", self.model_name) or "",
            endpoint_config_name=optional("endpoint_config_name", self.endpoint_config_name) or "",
            max_concurrent_invocations_per_instance=self.max_concurrent_invocations_per_instance,
        )

    def submit(self, request: AsyncEndpointSpec) -> EndpointHandle:
        """Create the model, the configuration and the endpoint."""
        self.hook.create_model(request)
        self.hook.create_endpoint_config(request)
        submitted_at = self.clock()
        self.hook.create_endpoint(request)
        self.log.info(
            "Endpoint %s is being created; answers will be in %s.", request.endpoint_name, request.output_path
        )
        return EndpointHandle(
            endpoint_name=request.endpoint_name,
            goal=IN_SERVICE,
            submitted_at=submitted_at,
            endpoint_config_name=request.endpoint_config_name,
        )

    def collect(self, handle: EndpointHandle) -> dict[str, Any]:
        """Return the names and folders of what was deployed, as the service has them."""
        config_name = str(handle.endpoint_config_name)
        config = self.hook.describe_endpoint_config(config_name) or {}
        (variant,) = config.get("ProductionVariants") or [{}]
        output = config.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
        return {
            "endpoint_name": handle.endpoint_name,
            "endpoint_config_name": config_name,
            "model_name": variant.get("ModelName"),
            "output_path": output.get("S3OutputPath"),
            "failure_path": output.get("S3FailurePath"),
        }


class SageMakerAsyncDeleteOperator(SageMakerAsyncEndpointBaseOperator):
    """
    Delete an endpoint and, where named, its configuration and model, and wait until the endpoint is gone.

    What is not there (any more) is fine, so the task may be retried and suits a teardown. An endpoint that is
    being created or updated cannot be deleted yet: give a teardown ``retries`` and a ``retry_delay`` that
    outlast that. Requests that are still queued are lost with the endpoint. Objects in S3 stay.

    The task returns ``{"endpoint_name"}``.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param endpoint_config_name: Configuration to delete too. Default: none is deleted. (templated)
    :param model_name: Model to delete too. Default: none is deleted. (templated)
    :param timeout: Seconds to wait until the endpoint is gone. Default 1,800, as botocore's own waiter.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15. Each look is
        one DescribeEndpoint request.
    :param wait_for_completion: Wait until the endpoint is gone, so that its name is free. If ``False``,
        return the handle at once, and ``deferrable`` has no effect. Default ``True``.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input, or a refusal by the service. Not retried.
    :raises EndpointNotReady: the endpoint is being created or updated and cannot be deleted now, or its
        deletion failed.
    :raises ServiceUnavailable: AWS could not be reached or is busy.
    :raises WaitTimedOut: ``timeout`` passed first; the deletion goes on.
    :raises LookFailed: the endpoint could not be looked at, too often in a row.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncEndpointBaseOperator.template_fields,
        "endpoint_config_name",
        "model_name",
    )

    def __init__(
        self,
        *,
        endpoint_name: str,
        endpoint_config_name: str | None = None,
        model_name: str | None = None,
        timeout: float = 1_800.0,
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(endpoint_name=endpoint_name, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_config_name = endpoint_config_name
        self.model_name = model_name

    def request(self, context: Context) -> EndpointParts:  # noqa: ARG002 - others need to know their task
        """Check the names."""
        return EndpointParts(
            endpoint_name=self.endpoint_name,
            endpoint_config_name=optional("endpoint_config_name", self.endpoint_config_name),
            model_name=optional("model_name", self.model_name),
        )

    def submit(self, request: EndpointParts) -> EndpointHandle:
        """Delete the endpoint first: the others are in use until then."""
        submitted_at = self.clock()
        self.hook.delete_endpoint(request.endpoint_name)
        if request.endpoint_config_name:
            self.hook.delete_endpoint_config(request.endpoint_config_name)
        if request.model_name:
            self.hook.delete_model(request.model_name)
        return EndpointHandle(endpoint_name=request.endpoint_name, goal=DELETED, submitted_at=submitted_at)

    def collect(self, handle: EndpointHandle) -> dict[str, Any]:
        """Return the name of what is gone."""
        return {"endpoint_name": handle.endpoint_name}
