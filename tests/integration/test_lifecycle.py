"""
The whole life of an endpoint in real Airflow: deployed, updated, rolled back, scaled to zero, woken by one
request, warmed up, drained and deleted.

Time at the emulator passes 120 times as fast, so the minutes that alarms take are seconds here.
"""

from __future__ import annotations

import pytest

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import follow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from airflow_async_sm.emulator.clock import Clock
from tests.world import BUCKET, PROGRAM, ROLE, World

pytestmark = pytest.mark.airflow_processes

DAGS = f'''
from airflow_async_sm.operators.capacity import SageMakerAsyncCapacityOperator
from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.sensors.endpoint import SageMakerAsyncEndpointSensor
from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, task, task_group
except ImportError:
    from airflow import DAG
    from airflow.decorators import task, task_group

SPEC = dict(
    endpoint_name="life",
    image="program",
    execution_role_arn="{ROLE}",
    instance_type="ml.m5.large",
    output_path="s3://{BUCKET}/life",
    deferrable=True,
)
# Short, so that the endpoint falls asleep soon.
SCALING = dict(max_instances=2, scale_in_cooldown=60, scale_out_cooldown=60)

with DAG("life", schedule=None):

    @task
    def asleep():
        """Wait until nothing is in service, which may take an hour in real life."""
        import time

        from airflow_async_sm.core.endpoint_states import capacity
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        hook, give_up_at = SageMakerAsyncHook(), time.monotonic() + 120
        while capacity(hook.describe_endpoint("life"))[0]:
            assert time.monotonic() < give_up_at, "it does not fall asleep"
            time.sleep(0.5)

    deploy = SageMakerAsyncDeployOperator(task_id="deploy", **SPEC, scaling=SCALING)
    update = SageMakerAsyncDeployOperator(
        task_id="update", **SPEC, scaling=SCALING, environment={{"THREADS": "2"}}
    )
    broken = SageMakerAsyncDeployOperator(
        task_id="broken_update", **{{**SPEC, "image": "unknown/image:1"}}, scaling=SCALING
    )
    still_there = SageMakerAsyncEndpointSensor(
        task_id="still_there", endpoint_name="life", deferrable=True, trigger_rule="one_failed"
    )
    wake = SageMakerAsyncInvokeOperator(
        task_id="wake", endpoint_name="life", payload={{"n": 1}}, deferrable=True
    )
    warm_up = SageMakerAsyncCapacityOperator(
        task_id="warm_up", endpoint_name="life", instances=2, deferrable=True
    )
    let_go = SageMakerAsyncCapacityOperator(
        task_id="let_go", endpoint_name="life", instances=0, deferrable=True
    )
    delete = SageMakerAsyncDeleteOperator(
        task_id="delete", endpoint_name="life", drain=True, delete_parts=True, deferrable=True
    )
    deploy >> update >> broken >> still_there >> asleep() >> wake >> warm_up >> let_go >> delete

with DAG("ephemeral", schedule=None):

    @task_group
    def score(name, payload):
        with sagemaker_async_endpoint(**{{**SPEC, "endpoint_name": name}}):
            SageMakerAsyncInvokeOperator(
                task_id="invoke",
                endpoint_name=name,
                payload=payload,
                custom_attributes="{{{{ 'refuse' if task_instance.map_index else 'echo' }}}}",
                deferrable=True,
            )

    score.partial(payload="x").expand(name=["brief-0", "brief-1"])
'''


@pytest.fixture(scope="module")
def emulator():
    # Longer than a worker needs until its first look: the triggerer has to wait for something.
    behaviour = Behaviour(creation_seconds=720, update_seconds=60, rollback_seconds=120, deletion_seconds=720)
    with SageMakerAsyncEmulator(
        images={"program": PROGRAM}, behaviour=behaviour, clock=Clock(speed=120)
    ) as emulator:
        World(emulator)
        yield emulator


@pytest.fixture(scope="module")
def airflow(emulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dags")
    (folder / "life.py").write_text(DAGS)
    connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
    with LocalAirflow(folder, environment=connection, min_heartbeat_interval=1) as airflow:
        yield airflow


def run(airflow, dag_id):
    airflow.wait_for_dag(dag_id)
    run_id = airflow.trigger(dag_id)
    report = follow(airflow, dag_id, run_id, timeout=600, on_change=lambda change: None)
    for task in report.tasks:
        if task.state not in {"success", "upstream_failed"}:
            print(
                task.label,
                task.state,
                airflow.log(dag_id, run_id, task.task_id, 1, map_index=task.map_index)[-3_000:],
            )
    return report, {task.label: task.state for task in report.tasks}


def left_over(emulator):
    control, cloudwatch = emulator.client("sagemaker"), emulator.client("cloudwatch")
    return [
        *control.list_endpoints()["Endpoints"],
        *control.list_endpoint_configs()["EndpointConfigs"],
        *control.list_models()["Models"],
        *cloudwatch.describe_alarms()["MetricAlarms"],
    ]


def test_an_endpoint_lives_its_whole_life(airflow, emulator):
    report, states = run(airflow, "life")
    assert report.succeeded, states
    assert states.pop("broken_update") == "failed"
    assert set(states.values()) == {"success"}
    assert "InService, but with configuration" in airflow.log("life", report.run_id, "broken_update")
    assert "at least 2 instances" in airflow.log("life", report.run_id, "warm_up")
    (request,) = (request for request in emulator.requests() if request.endpoint == "life")
    assert request.state == "succeeded"
    assert report.slots_while_deferred == 0
    assert left_over(emulator) == []


def test_endpoints_of_a_mapped_group_are_deleted_also_after_a_failure(airflow, emulator):
    _, states = run(airflow, "ephemeral")
    assert {label: state for label, state in states.items() if "delete" in label or "invoke" in label} == {
        "score.endpoint.invoke[0]": "success",
        "score.endpoint.invoke[1]": "failed",
        "score.endpoint.delete[0]": "success",
        "score.endpoint.delete[1]": "success",
    }
    assert left_over(emulator) == []
