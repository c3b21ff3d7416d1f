"""Every example runs to its documented end: real Airflow processes, real deferrals, a real model."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_async_sm.demo.configuration import airflow_major
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
        return followed(airflow, dag_id, airflow.trigger(dag_id, conf=conf))

    return to_its_end


def followed(airflow, dag_id, run_id):
    report = follow(airflow, dag_id, run_id, timeout=300, on_change=lambda change: None)
    # Shown by pytest where a test fails.
    for task in report.tasks:
        if task.state not in {"success", "upstream_failed"}:
            print(task.label, task.state, airflow.log(dag_id, run_id, task.task_id, 1)[-4_000:])
    return report


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


def test_example_nightly_batch(airflow, emulator):
    dag_id = "example_nightly_batch"
    airflow.wait_for_dag(dag_id)
    run_id = scheduled_run(airflow, dag_id)
    report = followed(airflow, dag_id, run_id)
    assert report.succeeded, states(report)
    deferred = {task.task_id for task in report.tasks if task.deferred_seconds > 0}
    assert deferred == {"endpoint.deploy", "endpoint.score", "endpoint.delete"}
    assert report.slots_while_deferred == 0

    # The run of a night belongs to the day before.
    day = interval_start(airflow, dag_id, run_id)[:10]
    asked = [r for r in emulator.requests() if r.endpoint == "example-nightly"]
    folder = f"s3://async-sm-example/nightly/incoming/{day}/"
    assert {r.input_location for r in asked} == {f"{folder}patient-{n:04d}.json" for n in range(20)}
    # The damaged one is tried twice.
    assert len(asked) == 21

    batch = airflow.xcom(dag_id, run_id, "endpoint.score")
    assert (batch["counts"]["Succeeded"], batch["counts"]["Failed"]) == (19, 1)
    (dead,) = map(json.loads, World(emulator).body(batch["dead_letter"]).splitlines())
    assert dead["input_location"] == f"{folder}patient-0019.json"
    assert airflow.xcom(dag_id, run_id, "check_quality") == {"files": 20, "failed": 1, "share": 0.05}
    assert airflow.xcom(dag_id, run_id, "load_scores") == {"day": day, "rows": 20, "scored": 19}

    with sqlite3.connect(airflow.home / "nightly_scores.db") as database:
        rows = database.execute("SELECT input, score, attempts FROM nightly_scores WHERE day = ?", [day])
        loaded = {name.rpartition("/")[2]: (score, attempts) for name, score, attempts in rows}
    expected = predictions(20)
    assert loaded.pop("patient-0019.json") == (None, 2)
    assert {name: attempts for name, (_, attempts) in loaded.items()} == dict.fromkeys(loaded, 1)
    assert [loaded[f"patient-{n:04d}.json"][0] for n in range(19)] == pytest.approx(expected[:19])

    (event,) = asset_events(airflow, dag_id)
    assert (event["day"], event["manifest"]) == (day, batch["manifest"])
    assert event["counts"] == batch["counts"]
    assert left_over(emulator) == []


def scheduled_run(airflow, dag_id):
    """Let a DAG's schedule begin, and return the run that it makes."""
    airflow._rest.unpause(dag_id)
    give_up_at = time.monotonic() + 60
    while not (runs := airflow._rest._call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]):
        assert time.monotonic() < give_up_at, "the schedule makes no run"
        time.sleep(0.3)
    (run,) = runs
    assert run["run_type"] == "scheduled"
    return run["dag_run_id"]


def interval_start(airflow, dag_id, run_id):
    return airflow._rest._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["data_interval_start"]


def asset_events(airflow, dag_id):
    """Return what the events of a DAG's assets say. In Airflow 2.11 they are called datasets."""
    kind = "assets" if airflow_major() >= 3 else "datasets"
    found = airflow._rest._call("GET", f"/{kind}/events", params={"source_dag_id": dag_id})
    return [event["extra"] for event in found[f"{kind.removesuffix('s')}_events"]]


def predictions(count):
    """Return what the model of the examples predicts."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=0.1).fit(*load_diabetes(return_X_y=True))
    return model.predict(load_diabetes().data[:count]).tolist()


@pytest.fixture(scope="module")
def nightly():
    """Return the module of the nightly example."""
    spec = importlib.util.spec_from_file_location("example_nightly_batch", DAGS / "example_nightly_batch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("failed", "passes"), [(0, True), (2, True), (3, False), (20, False)])
def test_the_nightly_example_loads_nothing_if_too_many_files_have_no_score(nightly, failed, passes):
    check = nightly.dag.get_task("check_quality").python_callable
    batch = {
        "counts": {"Succeeded": 20 - failed, "Failed": failed, "Expired": 0},
        "summary": "s3://work/summary.json",
        "dead_letter": "s3://work/dead-letter.jsonl",
    }
    if passes:
        assert check(batch, params={"most_failed": 0.1})["failed"] == failed
    else:
        with pytest.raises(ValueError, match=f"{failed} of 20 files have no score.*dead-letter.jsonl"):
            check(batch, params={"most_failed": 0.1})


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Make a connection of Airflow's to a database, where its provider is installed."""
    pytest.importorskip("airflow.providers.sqlite.hooks.sqlite")
    monkeypatch.setenv("AIRFLOW_CONN_SCORES", f"sqlite:///{tmp_path / 'scores.db'}")
    return tmp_path / "scores.db"


def test_the_nightly_example_replaces_what_a_day_has_in_the_database(nightly, database, monkeypatch):
    class Events(dict):
        def __missing__(self, asset):
            self[asset.uri] = event = SimpleNamespace()
            return event

    def answered(day, count, error=None):
        row = {"day": day, "score": None if error else 1.5, "problem": error, "attempts": 1}
        return [{**row, "input": f"s3://in/{number}"} for number in range(count)]

    load = nightly.dag.get_task("load_scores").python_callable
    batch = {"counts": {"Succeeded": 2}, "manifest": "s3://work/manifest.jsonl"}
    params = {"database_conn_id": "scores", "sqlite_file": None, "aws_conn_id": "aws_default"}
    for day, count in (("2026-11-20", 3), ("2026-11-21", 2_500), ("2026-11-20", 1)):
        monkeypatch.setattr(nightly, "rows_of", lambda batch, day, aws, n=count: iter(answered(day, n)))
        told = load(batch, day, params=params, outlet_events=Events())
        assert told == {"day": day, "rows": count, "scored": 2}
    with sqlite3.connect(database) as connection:
        counts = connection.execute("SELECT day, count(*) FROM nightly_scores GROUP BY day").fetchall()
    assert dict(counts) == {"2026-11-20": 1, "2026-11-21": 2_500}


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
