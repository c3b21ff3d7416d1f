"""Delete an asynchronous endpoint and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.endpoint_states import Phase, phase_of, progress
from airflow_async_sm.core.endpoints import EndpointParts
from airflow_async_sm.core.handles import DELETED, DRAINED, SETTLED, EndpointHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.templates import optional
from airflow_async_sm.operators.endpoint import SageMakerAsyncEndpointBaseOperator

__all__ = ["SageMakerAsyncDeleteOperator"]


class SageMakerAsyncDeleteOperator(SageMakerAsyncEndpointBaseOperator):
    """
    Delete an endpoint, its scaling with all alarms, and as asked its configurations and models.

    What is not there (any more) is fine, so the task may be retried and suits a teardown. An endpoint that is
    being created or updated cannot be deleted: the task waits until it can. Requests that are still queued
    are lost with the endpoint, unless ``drain`` is set. Objects in S3 stay.

    The task returns ``{"endpoint_name"}``.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param endpoint_config_name: Configuration to delete too. Default: none is deleted. (templated)
    :param model_name: Model to delete too. Default: none is deleted. (templated)
    :param delete_parts: Delete every configuration and model too that :class:`SageMakerAsyncDeployOperator`
        made for this endpoint: they are recognised by the names that it gives them. Default ``False``.
    :param drain: Wait until no request is queued or worked on before anything is deleted. The figure comes
        from CloudWatch once a minute, so this takes some minutes also for an idle endpoint. Who goes on
        submitting keeps the task waiting. Default ``False``.
    :param timeout: Seconds until the endpoint is gone, all waits together. Default 1,800, as botocore's own
        waiter; with ``drain`` 25,200: no request lives longer than six hours in the queue and one hour on a
        machine.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15. Each look is
        one DescribeEndpoint request.
    :param wait_for_completion: Wait until the endpoint is gone, so that its name is free. If ``False``,
        return the handle at once, and ``deferrable`` has no effect; ``drain`` cannot be given then. Default
        ``True``.
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
    :raises EndpointNotReady: the endpoint is changing and the task does not wait, or its deletion failed.
    :raises ServiceUnavailable: AWS could not be reached or is busy.
    :raises WaitTimedOut: ``timeout`` passed first. Where it passed while the endpoint was drained, nothing
        was deleted.
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
        delete_parts: bool = False,
        drain: bool = False,
        timeout: float | None = None,
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        if timeout is None:
            timeout = 25_200.0 if drain else 1_800.0
        super().__init__(endpoint_name=endpoint_name, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.endpoint_config_name = endpoint_config_name
        self.model_name = model_name
        self.delete_parts = delete_parts
        self.drain = drain

    def request(self, context: Context) -> EndpointParts:  # noqa: ARG002 - others need to know their task
        """Check the names."""
        if self.drain and not self.wait_for_completion:
            raise InvalidInput("drain is given with wait_for_completion=False; draining is waiting.")
        return EndpointParts(
            endpoint_name=self.endpoint_name,
            endpoint_config_name=optional("endpoint_config_name", self.endpoint_config_name),
            model_name=optional("model_name", self.model_name),
        )

    def submit(self, request: EndpointParts, context: Context) -> EndpointHandle:  # noqa: ARG002 - others remember
        """Do what is to be done first, and return what to wait for."""
        return self._pursue(request, since=self.clock(), drained=not self.drain)

    def follow(self, handle: EndpointHandle, context: Context) -> EndpointHandle | None:
        """Go on after a wait that was not the last."""
        if handle.goal == DELETED:
            return None
        drained = handle.goal == DRAINED or not self.drain
        return self._pursue(self.again(handle, context), since=handle.submitted_at, drained=drained)

    def collect(self, handle: EndpointHandle, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the name of what is gone."""
        return {"endpoint_name": handle.endpoint_name}

    def _pursue(self, parts: EndpointParts, *, since: float, drained: bool) -> EndpointHandle:
        """Look what there is, and do the next thing."""
        description = self.hook.describe_endpoint(parts.endpoint_name)
        phase = phase_of(description)
        if description is not None and phase is Phase.MOVING:
            self.must_wait(f"it is {progress(description)}")
            goal = SETTLED
        elif phase is Phase.SERVING and not drained:
            self.log.info("Endpoint %s is not deleted before its backlog is empty.", parts.endpoint_name)
            goal = DRAINED
        else:
            self._delete(parts, description)
            goal = DELETED
        return EndpointHandle(
            endpoint_name=parts.endpoint_name,
            goal=goal,
            submitted_at=since,
            changed_at=self.clock() if goal == DELETED else 0.0,
        )

    def _delete(self, parts: EndpointParts, description: Mapping[str, Any] | None) -> None:
        """Delete the endpoint before the others: they are in use until then."""
        self.remove_scaling(parts.endpoint_name, description)
        self.hook.delete_endpoint(parts.endpoint_name)
        configs, models = [parts.endpoint_config_name], [parts.model_name]
        if self.delete_parts:
            made_configs, made_models = self.hook.made_parts(parts.endpoint_name)
            configs += [name for name in made_configs if name not in configs]
            models += [name for name in made_models if name not in models]
        for name in filter(None, configs):
            self.hook.delete_endpoint_config(name)
        for name in filter(None, models):
            self.hook.delete_model(name)
