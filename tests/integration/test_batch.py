"""
Batches in real Airflow processes: workers come and go, die, are cleared, and each input is asked for once.

The emulator's log has every request that was accepted. What a batch kept of itself is in its S3.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest

from airflow_async_sm.core.batches.items import index_of
from airflow_async_sm.core.batches.ranges import members
from airflow_async_sm.demo.runs import RUN_ENDED
from airflow_async_sm.emulator import Behaviour, Reply, SageMakerAsyncEmulator, airflow_connection
from tests.breakable import BreakableAirflow, wait_for
from tests.world import BUCKET, World

pytestmark = pytest.mark.airflow_processes

ROOT = Path(__file__).parents[2]
VICTIMS = ROOT / "tests" / "victims"
RUN = "run"

PATIENT = 4711
SECRET = f"patient-{PATIENT}-is-ill".encode()
PLAN = {
    "items": {"windows": 200, "killed": 200, "triggerer": 120, "cleared": 120},
    "in_flight": {"windows": 100, "killed": 200, "triggerer": 120, "cleared": 120},
    "failing": {"windows": 20, "cleared": 5},
    # In the middle of the only part that this batch has.
    "die_after": {"killed": 90},
    "patient": PATIENT,
    # Seconds. Longer than the emulator takes for any request, where none is held back.
    "patience": {"windows": 60, "killed": 30},
    "work_prefix": f"s3://{BUCKET}/work",
}
HELD = ("triggerer", "cleared")
SETTINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    # Airflow 2 refuses to run tasks side by side on SQLite; its own tests do it like this.
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
    # Triggers change hands soon.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}


class Model:
    """Answers with the name that it is sent; fails as often as it is told to, and can be held back."""

    def __init__(self):
        self.calls, self.lock = Counter(), threading.Lock()
        self.released = {name: threading.Event() for name in HELD}

    def __call__(self, body, headers):
        asked = json.loads(body)
        batch = asked["name"].partition("-")[0]
        if batch in self.released:
            self.released[batch].wait(600)
        with self.lock:
            self.calls[asked["name"]] += 1
            call = self.calls[asked["name"]]
        if call <= asked["fails"]:
            return Reply(status=500, body=b"it fails")
        return json.dumps({"name": asked["name"]}), "application/json"


class Stage:
    """An Airflow, an emulator, and short words for what the tests ask them."""

    def __init__(self, airflow, world, model, folder):
        self.airflow, self.world, self.model, self.folder = airflow, world, model, folder

    def start(self, name):
        self.airflow.trigger(f"batch_{name}", run_id=RUN)

    def task(self, name):
        (task,) = self.airflow.task_instances(f"batch_{name}", RUN)
        return task

    def in_state(self, name, state, *, tries=1):
        """Wait until a batch's task is in a state, in this try or a later one; return it."""

        def seen():
            task = self.task(name)
            return task if task.state == state and task.try_number >= tries else None

        return wait_for(seen, within=400, pause=0.3, story=lambda: self.story(name))

    def ended(self, name):
        """Wait until a run has ended; return its task."""
        wait_for(
            lambda: self.airflow.run_state(f"batch_{name}", RUN) in RUN_ENDED,
            within=400,
            pause=0.5,
            story=lambda: self.story(name),
        )
        return self.task(name)

    def story(self, name):
        """What a reader of a failed test wants to know of a batch."""
        task = self.task(name)
        logs = [f"--- try {number}\n{self.log(name, number)[-6_000:]}" for number in self.tries(task)]
        return "\n".join([str(task), str(self.starts(name)), f"{len(self.accepted(name))} accepted", *logs])

    def tries(self, task):
        return range(1, task.try_number + 1)

    def log(self, name, number):
        return self.airflow.log(f"batch_{name}", RUN, "batch", number)

    def told(self, name):
        return self.airflow.xcom(f"batch_{name}", RUN, "batch")

    def clear(self, name):
        self.airflow.clear(f"batch_{name}", RUN, "batch")

    def starts(self, name):
        """Return the processes of a batch's task, as they announced themselves."""
        place = self.folder / f"batch_{name}.starts"
        return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []

    def accepted(self, name):
        """Return how often the service has accepted a request for each input of a batch."""
        of = f"/batch_{name}/"
        found = [r.output_location for r in self.world.emulator.requests() if of in r.output_location]
        return Counter(index_of(location.rpartition("/")[2]) for location in found)

    def rows(self, location):
        return [json.loads(line) for line in self.world.body(location).splitlines()]

    def events(self, told):
        """Return what the ledger of a batch says, in order."""
        folder = f"{told['manifest'].rpartition('/')[0]}/ledger/".removeprefix(f"s3://{BUCKET}/")
        listed = self.world.s3.list_objects_v2(Bucket=BUCKET, Prefix=folder)["Contents"]
        return [json.loads(self.world.body(f"s3://{BUCKET}/{one['Key']}")) for one in listed]

    def check_complete(self, name, *, failing=0):
        """See that each input has its own answer, and was asked for as often as was due."""
        task = self.ended(name)
        assert task.state == "success", self.story(name)
        count, told = PLAN["items"][name], self.told(name)
        assert told["counts"]["Succeeded"] == count
        rows = self.rows(told["manifest"])
        assert [row["index"] for row in rows] == list(range(count))
        answers = [json.loads(self.world.body(row["output_location"]))["name"] for row in rows]
        assert answers == [f"{name}-{index}" for index in range(count)]
        due = {index: 2 if index < failing else 1 for index in range(count)}
        assert self.accepted(name) == due, self.story(name)
        return told


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("batches"), Model()
    behaviour = Behaviour(creation_seconds=0, queue_seconds=3)
    with SageMakerAsyncEmulator(images={"model": model}, behaviour=behaviour) as emulator:
        world = World(emulator)
        plan = {
            **PLAN,
            "folder": str(folder),
            "endpoints": {name: world.deploy(image="model", concurrency=8) for name in PLAN["items"]},
        }
        environment = {
            **SETTINGS,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "BATCHES": json.dumps(plan),
            "AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url),
        }
        dags = tmp_path_factory.mktemp("dags")
        (dags / "batches.py").symlink_to(VICTIMS / "batches.py")
        with BreakableAirflow(
            dags, environment=environment, min_heartbeat_interval=1, parallelism=6
        ) as airflow:
            stage = Stage(airflow, world, model, folder)
            # Side by side: most of the time is spent waiting.
            names = ("killed", "windows", *HELD, "listed")
            for name in names:
                airflow.wait_for_dag(f"batch_{name}", timeout=180, file="batches.py")
            for name in names:
                stage.start(name)
            yield stage
            for gate in model.released.values():
                gate.set()


def test_a_worker_that_is_killed_while_it_sends_leaves_nothing_out_and_sends_nothing_twice(stage):
    told = stage.check_complete("killed")
    assert (stage.folder / "batch_killed.dead").exists()
    events = stage.events(told)
    first, *others = [event for event in events if event["event"] == "sending"]
    assert len(list(members(first["items"]))) == PLAN["items"]["killed"]
    # What was not accepted is sent when its time is over.
    assert others
    unsent = [index for event in others for index in members(event["items"])]
    assert len(unsent) <= PLAN["items"]["killed"] - PLAN["die_after"]["killed"]


def test_a_batch_takes_two_workers_and_one_for_each_wave(stage):
    told = stage.check_complete("windows", failing=PLAN["failing"]["windows"])
    rows = stage.rows(told["manifest"])
    assert [row["attempts"] for row in rows] == [2] * PLAN["failing"]["windows"] + [1] * (
        PLAN["items"]["windows"] - PLAN["failing"]["windows"]
    )
    events = [event["event"] for event in stage.events(told)]
    turns = " ".join(events).split("turn")
    waves = sum("sending" in turn for turn in turns)
    assert waves > PLAN["items"]["windows"] / PLAN["in_flight"]["windows"]
    starts = [one["leg"] for one in stage.starts("windows")]
    assert starts[0] == "begins"
    assert set(starts[1:]) == {"goes on"}
    assert 3 <= len(starts) <= waves + 2, (starts, events)
    assert stage.task("windows").try_number == 1


def test_a_batch_outlives_its_triggerer_and_holds_no_worker_meanwhile(stage):
    stage.in_state("triggerer", "deferred")
    (start,) = stage.starts("triggerer")
    wait_for(lambda: not psutil.pid_exists(start["pid"]), within=120, pause=0.2)
    assert stage.task("triggerer").state == "deferred"
    stage.airflow.kill("triggerer")
    # It is answered while nobody looks.
    stage.model.released["triggerer"].set()
    stage.airflow.start_again("triggerer")
    stage.check_complete("triggerer")
    # One process has sent them, another has written the manifest.
    assert [one["leg"] for one in stage.starts("triggerer")] == ["begins", "goes on"]
    assert stage.task("triggerer").try_number == 1


def test_a_task_that_is_cleared_while_it_waits_goes_on_with_its_batch(stage):
    stage.in_state("cleared", "deferred")
    assert stage.accepted("cleared").total() == PLAN["items"]["cleared"]
    stage.clear("cleared")
    stage.in_state("cleared", "deferred", tries=2)
    stage.model.released["cleared"].set()
    stage.check_complete("cleared", failing=PLAN["failing"]["cleared"])
    assert "is gone on with" in stage.log("cleared", 2)


def test_payloads_leave_no_trace_in_airflow(stage):
    assert stage.ended("listed").state == "failed"
    # The model has been sent it.
    assert stage.model.calls["listed"] == 1
    home = stage.airflow.home
    # The search finds what is there: the name of a batch's folder is in the database and in a log.
    assert stage.ended("windows").state == "success"
    token = stage.told("windows")["manifest"].split("/")[-2].encode()
    assert len(files_with(token, home)) >= 2
    assert files_with(SECRET, home) == []


def files_with(content, folder):
    return [str(path) for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]
