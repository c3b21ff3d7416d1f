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
"""


def files_with(content, folder):
    return [str(path) for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def test_a_payload_leaves_no_trace_in_airflow(tmp_path):
    behaviour = Behaviour(creation_seconds=0, queue_seconds=1)
    with SageMakerAsyncEmulator(images={"program": PROGRAM}, behaviour=behaviour) as emulator:
        world = World(emulator)
        endpoint = world.deploy()
        text = DAGS.replace("ENDPOINT", endpoint).replace("TEMPLATE", repr(TEMPLATE))
        (tmp_path / "private_dag.py").write_text(text)
        connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
        with LocalAirflow(tmp_path, environment=connection, min_heartbeat_interval=1) as airflow:
            airflow.wait_for_dag("secrets")
            run_id = airflow.trigger("secrets")
            report = follow(airflow, "secrets", run_id, timeout=180, on_change=lambda change: None)

            assert {(task.label, task.state) for task in report.tasks} == {
                ("plain", "success"),
                ("mapped[0]", "success"),
                ("mapped[1]", "success"),
                ("refused", "failed"),
                ("bad", "failed"),
            }
            assert any(task.deferred_seconds for task in report.tasks)
            answers = [world.body(r.output_location) for r in emulator.requests() if r.state == "succeeded"]
            assert sorted(answers) == [b'["%s"]' % SECRET, SECRET, b'{"who":"%s"}' % SECRET]

            # The search finds what is there: this id is in the database and in a log.
            some_id = emulator.requests()[0].inference_id.encode()
            assert len(files_with(some_id, airflow.home)) >= 2
            assert files_with(SECRET, airflow.home) == []
