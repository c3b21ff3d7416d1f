"""An endpoint that lives as long as the tasks that need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_async_sm._compat import EmptyOperator, TaskGroup
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator

__all__ = ["sagemaker_async_endpoint"]

# How AWS is reached and how to wait is the same for both tasks.
_SHARED = ("aws_conn_id", "region_name", "verify", "botocore_config", "deferrable", "poll_interval")
_DELETION = {"retries": 3, "delete_parts": True}


@contextmanager
def sagemaker_async_endpoint(
    group_id: str = "endpoint",
    *,
    endpoint_name: str,
    delete_args: Mapping[str, Any] | None = None,
    **deploy_args: Any,
) -> Iterator[SageMakerAsyncDeployOperator]:
    """
    Deploy an endpoint before the tasks of the block, and delete it after them, whatever became of them.

    ::

        with sagemaker_async_endpoint(endpoint_name="nightly", image=..., output_path=...):
            SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="nightly", payload=...)

    The block is a task group with the tasks ``begin``, ``deploy`` and ``delete``. The deletion is a teardown:
    it also runs after a task failed, and after a deployment that failed or ran out of time. Its success does
    not make the DAG run one; its failure fails it, for what is left is paid for. Whoever clears a task of the
    block clears deployment and deletion too. The block may stand in a mapped task group: then each instance
    has an endpoint of its own, which needs a name of its own.

    :param group_id: Id of the task group, and what the ids of the three tasks begin with. Default
        ``endpoint``.
    :param endpoint_name: Name of the endpoint, at most 63 characters. Two runs at the same time must not have
        the same one: put the run into it, or set ``max_active_runs=1``. (templated)
    :param delete_args: Further arguments of :class:`SageMakerAsyncDeleteOperator`, such as ``drain`` or
        ``retries``. Default: three retries, and everything that was made for the endpoint goes with it.
    :param deploy_args: Arguments of :class:`SageMakerAsyncDeployOperator`. Those about the connection and
        about waiting hold for both tasks.
    :returns: The task ``deploy``.
    :raises InvalidInput: there is no task in the block.
    """
    shared = {name: deploy_args[name] for name in _SHARED if name in deploy_args}
    with TaskGroup(group_id) as group:
        # A teardown runs if one of its setups succeeded, so the deployment must not be the only one: what it
        # has begun has to be deleted too.
        begin = EmptyOperator(task_id="begin")
        deploy = SageMakerAsyncDeployOperator(task_id="deploy", endpoint_name=endpoint_name, **deploy_args)
        delete = SageMakerAsyncDeleteOperator(
            task_id="delete", endpoint_name=endpoint_name, **{**_DELETION, **shared, **(delete_args or {})}
        )
        begin.set_downstream(deploy)
        yield deploy
        tasks = [task for task in group.iter_tasks() if task not in (begin, deploy, delete)]
        if not tasks:
            raise InvalidInput(
                f"There is no task in the block of {group.group_id}: nothing needs the endpoint."
            )
        deploy.set_downstream(_outermost(tasks, "upstream_task_ids"))
        delete.set_upstream(_outermost(tasks, "downstream_task_ids"))
        delete.as_teardown(setups=[begin, deploy], on_failure_fail_dagrun=True)


def _outermost(tasks: Sequence[Any], neighbours: str) -> list[Any]:
    """Return the tasks that have no neighbours among the others."""
    ids = {task.task_id for task in tasks}
    return [task for task in tasks if not ids & getattr(task, neighbours)]
