"""Every example runs to its documented end: real Airflow processes, real deferrals, a real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import follow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.world import World

pytestmark = pytest.mark.airflow_processes

DAGS = Path(__file__).parents[2] / "dags"
EXAMPLES = sorted(path.stem for path in DAGS.glob("*.py"))


@pytest.fixture(scope="module")
def emulator():
    # A queue that takes some seconds, so that there is something to wait for.
    with SageMakerAsyncEmulator(behaviour=Behaviour(creation_seconds=2, queue_seconds=3)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def airflow(emulator):
    connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
    with LocalAirflow(DAGS, environment=connection, min_heartbeat_interval=1) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def run(airflow):
    """Return a function that runs an example to its end."""

    def to_its_end(dag_id, **conf):
        airflow.wait_for_dag(dag_id)
        run_id = airflow.trigger(dag_id, conf=conf)
        report = follow(airflow, dag_id, run_id, timeout=180, on_change=lambda change: None)
        # Shown by pytest where a test fails.
        for task in report.tasks:
            if task.state not in {"success", "upstream_failed"}:
                print(task.label, task.state, airflow.log(dag_id, run_id, task.task_id, 1)[-4_000:])
        return report

    return to_its_end


def states(report):
    return {task.task_id: task.state for task in report.tasks}


def left_over(emulator):
    """Return what an example forgot to delete."""
    control = emulator.client("sagemaker")
    return [
        *control.list_endpoints()["Endpoints"],
        *control.list_endpoint_configs()["EndpointConfigs"],
        *control.list_models()["Models"],
    ]


def test_each_example_has_a_test():
    assert [f"test_{name}" for name in EXAMPLES if f"test_{name}" not in globals()] == []


def test_example_invoke_single(airflow, emulator, run):
    report = run("example_invoke_single")
    assert report.succeeded, states(report)

    deferred = {task.task_id for task in report.tasks if task.deferred_seconds > 0}
    assert deferred == {"deploy", "invoke", "delete"}
    assert report.slots_while_deferred == 0

    answer = airflow.xcom("example_invoke_single", report.run_id, "use_prediction")
    (request,) = (r for r in emulator.requests() if r.endpoint == "example-diabetes")
    assert answer["output_location"] == request.output_location
    world = World(emulator)
    assert json.loads(world.body(request.output_location)) == answer["prediction"]
    assert left_over(emulator) == []


def test_example_taskflow(airflow, emulator, run):
    report = run("example_taskflow", patients=3)
    assert report.succeeded, states(report)

    deferred = {task.task_id for task in report.tasks if task.deferred_seconds > 0}
    assert deferred == {"endpoint.deploy", "endpoint.score", "endpoint.delete"}
    assert report.slots_while_deferred == 0

    def xcom(task_id, *key):
        return airflow.xcom("example_taskflow", report.run_id, task_id, *key)

    (request,) = (r for r in emulator.requests() if r.endpoint == "example-taskflow")
    scores = json.loads(World(emulator).body(request.output_location))
    assert len(scores) == 3
    assert xcom("endpoint.score") == scores
    assert xcom("endpoint.score", "answer")["output_location"] == request.output_location
    highest = scores.index(max(scores))
    assert xcom("find_highest") == {"patient": highest, "score": scores[highest], "of": 3}
    assert left_over(emulator) == []


def test_a_model_that_refuses_the_record_fails_the_task_with_its_words(airflow, emulator, run):
    report = run("example_invoke_single", record=["not a number"], endpoint_name="example-refusal")
    assert states(report) == {
        "train_and_upload": "success",
        "deploy": "success",
        "invoke": "failed",
        "use_prediction": "upstream_failed",
        "delete": "success",
    }
    (refused,) = (r for r in emulator.requests() if r.endpoint == "example-refusal")
    body = World(emulator).body(refused.failure_location).decode()
    assert json.loads(body)["error"]
    log = airflow.log("example_invoke_single", report.run_id, "invoke")
    assert f"InferenceFailed: Request {refused.inference_id} to endpoint example-refusal failed" in log
    assert json.loads(body)["error"] in log
    assert left_over(emulator) == []
