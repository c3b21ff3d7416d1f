"""
Deferred task instances in a database of Airflow, written and read by a process that is told which.

``python -m benchmarks.triggerer_tasks populate JOB`` writes them, with the triggers they wait for;
``python -m benchmarks.triggerer_tasks collect`` says what became of each.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sqlalchemy import select

from benchmarks.environment import connection
from benchmarks.job import Job
from benchmarks.telling import say
from benchmarks.waits import Wait

DAG_ID = "bench_waits"
RUN_ID = "bench"
URL_VARIABLE = "AIRFLOW_ASYNC_SM_BENCH_URL"

DAG_FILE = f'''
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("{DAG_ID}", schedule=None):
    EmptyOperator(task_id="wait")
'''


def populate(job: Job) -> None:
    """Write a run whose task instances have just been deferred."""
    from airflow.models.connection import Connection
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="aws_default", **_connection_fields()))
        serialized = session.scalars(
            select(SerializedDagModel).where(SerializedDagModel.dag_id == DAG_ID)
        ).one()
        _begin_run(serialized.dag, session)
        for instance in session.scalars(select(TaskInstance).where(TaskInstance.run_id == RUN_ID)):
            session.delete(instance)
        session.flush()
        for wait in job.waits():
            session.add(_deferred(job, wait, serialized, session))
    say("done")


def _connection_fields() -> dict[str, Any]:
    fields = json.loads(connection(os.environ[URL_VARIABLE]))
    return {**fields, "extra": json.dumps(fields["extra"])}


def _begin_run(dag: Any, session: Any) -> None:
    from airflow.sdk import timezone
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag.create_dagrun(
        run_id=RUN_ID,
        run_after=timezone.utcnow(),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )
    session.flush()


def _deferred(job: Job, wait: Wait, serialized: Any, session: Any) -> Any:
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk import timezone
    from airflow.utils.state import TaskInstanceState

    triggers = job.who.in_triggerer().triggers
    if triggers is None:
        raise ValueError(f"{job.implementation} has no trigger")
    trigger = Trigger.from_object(triggers(job.setting, wait)[0])
    session.add(trigger)
    session.flush()
    instance = TaskInstance(
        task=serialized.dag.get_task("wait"),
        run_id=RUN_ID,
        dag_version_id=serialized.dag_version_id,
        map_index=wait.index,
        state=TaskInstanceState.DEFERRED,
    )
    instance.try_number = 1
    instance.trigger_id = trigger.id
    instance.next_method = "execute_complete"
    instance.next_kwargs = {}
    instance.start_date = timezone.utcnow()
    return instance


def collect() -> None:
    """Say of each task instance when it could go on, in seconds since 1970 (UTC), and what it was told."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    columns = (TaskInstance.map_index, TaskInstance.scheduled_dttm, TaskInstance.next_kwargs)
    with create_session() as session:
        rows = session.execute(select(*columns).where(TaskInstance.run_id == RUN_ID)).all()
    say("done", resumed={number: [at.timestamp(), str(told)] for number, at, told in rows if at is not None})


if __name__ == "__main__":
    say("begun")
    if sys.argv[1] == "populate":
        populate(Job.from_json(sys.argv[2]))
    else:
        collect()
