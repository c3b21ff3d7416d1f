"""What passes through a task is found nowhere in Airflow's home: not in the database, not in a log."""

from __future__ import annotations

import pytest

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import follow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.world import PROGRAM, World

pytestmark = pytest.mark.airflow_processes

# Put together by a template, so that the DAG as Airflow stores it does not hold it.
SECRET = b"patient-4711-is-ill"
TEMPLATE = "{{ 'patient-' ~ 4711 ~ '-is-ill' }}"

DAGS = """
from airflow_async_sm.decorators.sagemaker_async import sagemaker_async_task
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

with DAG("secrets", schedule=None):
    common = {"endpoint_name": "ENDPOINT", "deferrable": True}
    SageMakerAsyncInvokeOperator(task_id="plain", payload={"who": TEMPLATE}, **common)
    SageMakerAsyncInvokeOperator.partial(task_id="mapped", **common).expand(payload=[[TEMPLATE], TEMPLATE])
    SageMakerAsyncInvokeOperator(task_id="refused", payload=TEMPLATE, custom_attributes="refuse", **common)
    SageMakerAsyncInvokeOperator(task_id="bad", payload=TEMPLATE, request_ttl=1, **common)
    SageMakerAsyncInvokeOperator(task_id="from_file", payload_path="FILE", **common)
    SageMakerAsyncInvokeOperator(
        task_id="invalid",
        payload={"who": TEMPLATE},
        result="json",
        result_schema={"maxProperties": 0},
        **common,
    )

    @sagemaker_async_task(result="location", **common)
    def decorated(who):
        return {"who": who}

    decorated(TEMPLATE)
    decorated.override(task_id="named")(who=TEMPLATE)
"""


def files_with(content, folder):
    return [str(path) for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def test_a_payload_leaves_no_trace_in_airflow(tmp_path, tmp_path_factory):
    behaviour = Behaviour(creation_seconds=0, queue_seconds=4)
    with SageMakerAsyncEmulator(images={"program": PROGRAM}, behaviour=behaviour) as emulator:
        world = World(emulator)
        endpoint = world.deploy()
        file = tmp_path_factory.mktemp("elsewhere") / "rows.csv"
        file.write_bytes(SECRET)
        text = (
            DAGS.replace("ENDPOINT", endpoint).replace("TEMPLATE", repr(TEMPLATE)).replace("FILE", str(file))
        )
        (tmp_path / "private_dag.py").write_text(text)
        connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
        with LocalAirflow(tmp_path, environment=connection, min_heartbeat_interval=1) as airflow:
            airflow.wait_for_dag("secrets")
            run_id = airflow.trigger("secrets")
            report = follow(airflow, "secrets", run_id, timeout=400, on_change=lambda change: None)

            assert {(task.label, task.state) for task in report.tasks} == {
                ("plain", "success"),
                ("mapped[0]", "success"),
                ("mapped[1]", "success"),
                ("refused", "failed"),
                ("bad", "failed"),
                ("from_file", "success"),
                ("invalid", "failed"),
                ("decorated", "success"),
                ("named", "success"),
            }
            assert files_with(b"Pausing task as DEFERRED", airflow.home)
            answers = [world.body(r.output_location) for r in emulator.requests() if r.state == "succeeded"]
            listed, mapping = b'["%s"]' % SECRET, b'{"who":"%s"}' % SECRET
            assert sorted(answers) == [listed, *2 * [SECRET], *4 * [mapping]]

            # The search finds what is there: this id is in the database and in a log.
            some_id = emulator.requests()[0].inference_id.encode()
            assert len(files_with(some_id, airflow.home)) >= 2
            assert files_with(SECRET, airflow.home) == []
