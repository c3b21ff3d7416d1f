"""
Whatever dies, is cleared or gets lost, no input is inferred twice without need: in real Airflow processes.

The emulator's log has every request that was accepted, and the model writes down each call.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import airflow as installed_airflow
import pytest

from airflow_async_sm.demo.runs import RUN_ENDED
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from airflow_async_sm.emulator.settings.faults import ReplyLost
from tests.breakable import BreakableAirflow, Killer, wait_for
from tests.world import BUCKET, World

pytestmark = pytest.mark.airflow_processes

ROOT = Path(__file__).parents[2]
VICTIMS = ROOT / "tests" / "victims"
RUN = "run"

AIRFLOW = tuple(int(part) for part in installed_airflow.__version__.split(".")[:2])
# Before that, a task remembers its request in S3.
HAS_STATE_STORE = AIRFLOW >= (3, 3)
# The REST API of Airflow 2 says that it has cleared a task that runs, and the task runs on. Airflow 3.0 ends
# the task, and does not begin it again.
CLEARS_RUNNING = AIRFLOW >= (3, 1)
# Airflow 3.0 fails a task whose process was killed, whatever its retries say, if its supervisor lives on.
RETRIES_KILLED = AIRFLOW != (3, 0)
# Airflow 2 may report one death of a task twice, and the second report ends the retry that runs by then.
REPORTS_TWICE = AIRFLOW < (3, 0)
BOTH = ["held", "deferred"]
POINTS = ["start", "sent", "recorded", "waiting", "answered"]
if RETRIES_KILLED:
    # To clear a task that has collected its answer means to ask again.
    POINTS.append("collected")
KILLED = [*((point, "held") for point in POINTS), *((point, "deferred") for point in POINTS[1:])]
PLAN = {
    "killed": KILLED,
    "power_cut": ["held"],
    "promised": ["held"],
    "random": BOTH * 6,
    "retries": 5,
    # Airflow 2, where it is slow to handle a death, reports it again every ten seconds.
    "retries_that_suffice": 25 if REPORTS_TWICE else 5,
    "failing": BOTH,
    "changed": ["deferred"],
    "lost": BOTH,
    "late": ["held"],
    "lost_and_killed": ["deferred"],
    "cleared_running": CLEARS_RUNNING,
    "waiting": 6,
    "deadline": 60,
}
SETTINGS = {
    # A worker that is gone is noticed soon.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "45",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    # Airflow 2 may lose a task between the scheduler and the executor, and looks for such after ten minutes.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    # Airflow 2 refuses to run tasks side by side on SQLite; its own tests do it like this.
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
    # Triggers change hands soon.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}


class Stage:
    """An Airflow, an emulator, and short words for what the tests ask them."""

    def __init__(self, airflow, emulator, folder, killer):
        self.airflow, self.emulator, self.folder, self.killer = airflow, emulator, folder, killer

    def start(self, name):
        self.airflow.wait_for_dag(f"never_twice_{name}", timeout=180, file="never_twice.py")
        self.airflow.trigger(f"never_twice_{name}", run_id=RUN)

    def task(self, name, task_id, map_index=-1):
        wanted = (task_id, map_index)
        return next(task for task in self.tasks(name) if (task.task_id, task.map_index) == wanted)

    def tasks(self, name):
        return self.airflow.task_instances(f"never_twice_{name}", RUN)

    def in_state(self, name, task_id, state, *, tries=1, within=400):
        """Wait until a task is in a state, in this try or a later one; return it."""

        def seen():
            task = self.task(name, task_id)
            lost = task.state == "failed" != state and task.try_number >= tries
            assert not lost, self.story(name, task_id)
            return task if task.state == state and task.try_number >= tries else None

        return wait_for(seen, within=within, story=lambda: self.story(name, task_id))

    def succeeded(self, name, task_id, *, tries=1):
        """Wait until a task has succeeded, if need be after somebody has cleared it; return it."""
        if not RETRIES_KILLED:
            # What is cleared in the moment when its run ends may be left lying.
            self.ended(name)
            if self.task(name, task_id).state == "failed":
                self.clear(name, task_id)
                self.in_state(name, task_id, "success", tries=2)
        # Airflow 2 may report a death again when the retry has succeeded. It then runs the task once more or,
        # if its run is over, leaves it waiting for a retry that never comes. A run that succeeded says it.
        if REPORTS_TWICE:
            self.ended(name)
            if self.airflow.run_state(f"never_twice_{name}", RUN) == "success":
                return self.task(name, task_id)
        return self.in_state(name, task_id, "success", tries=tries)

    def ended(self, name, *, within=400):
        """Wait until a run has ended; return its tasks."""
        wait_for(
            lambda: self.airflow.run_state(f"never_twice_{name}", RUN) in RUN_ENDED,
            within=within,
            story=lambda: self.tasks(name),
        )
        return self.tasks(name)

    def story(self, name, task_id, map_index=-1):
        """What a reader of a failed test wants to know of a task."""
        task = self.task(name, task_id, map_index)
        logs = [f"--- try {number}\n{log[-9_000:]}" for number, log in enumerate(self.logs(name, task), 1)]
        return "\n".join([str(task), *map(str, self.accepted(task_id, map_index)), *logs])

    def logs(self, name, task):
        """Return the log of each of a task's tries."""
        return [self.log(name, task, number) for number in range(1, task.try_number + 1)]

    def log(self, name, task, try_number=None):
        number = try_number or task.try_number
        return self.airflow.log(f"never_twice_{name}", RUN, task.task_id, number, map_index=task.map_index)

    def value(self, name, task):
        return self.airflow.xcom(f"never_twice_{name}", RUN, task.task_id, map_index=task.map_index)

    def clear(self, name, task_id):
        self.airflow.clear(f"never_twice_{name}", RUN, task_id)

    def release(self, *names):
        """Let the model answer."""
        for name in names:
            (self.folder / "released" / name).touch()

    def accepted(self, task_id, map_index=-1):
        """Return the requests that the service accepted from a task: the folder of each says whose it is."""
        of = f"/{RUN}/{task_id}/" if map_index < 0 else f"/{RUN}/{task_id}/{map_index}/"
        return [request for request in self.emulator.requests() if of in request.output_location]

    def inferred(self, name):
        """Return how often the model was called with an input."""
        return Counter((self.folder / "calls").read_text().splitlines())[name]

    def died(self, name, task_id):
        return (self.folder / "dead" / f"never_twice_{name}.{task_id}.-1").exists()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never-twice")
    for name in ("dead", "announced", "released"):
        (folder / name).mkdir()
    (folder / "calls").touch()
    model = [sys.executable, str(VICTIMS / "model.py")]
    with SageMakerAsyncEmulator(
        images={"program": model}, behaviour=Behaviour(creation_seconds=0)
    ) as emulator:
        world = World(emulator)
        deploy = {"concurrency": 50, "environment": {"FOLDER": str(folder)}}
        plan = {
            **PLAN,
            "folder": str(folder),
            "work_prefix": None if HAS_STATE_STORE else f"s3://{BUCKET}/work",
            **{name: world.deploy(**deploy) for name in ("endpoint", "lossy", "slow")},
        }
        emulator.faults.add(ReplyLost(endpoint=plan["lossy"]))
        emulator.faults.add(ReplyLost(endpoint=plan["slow"], seconds=3))
        environment = {
            **SETTINGS,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "NEVER_TWICE": json.dumps(plan),
            "AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url),
        }
        with BreakableAirflow(
            VICTIMS, environment=environment, min_heartbeat_interval=1, parallelism=6
        ) as airflow:
            killer = Killer(folder / "announced", seed=5, each=2, longest=2)
            killer.start()
            stage = Stage(airflow, emulator, folder, killer)
            # Side by side: most of the time is spent waiting.
            for name in ("cleared", "succeeded", "waiting", "killed", "promised", "random", "other"):
                stage.start(name)
            yield stage
            killer.stop()


@pytest.mark.parametrize(("point", "how"), KILLED)
def test_a_task_that_was_killed_takes_up_its_request(stage, point, how):
    task_id = f"killed_{point}_{how}"
    task = stage.succeeded("killed", task_id)
    # Only another process can have ended it. Airflow 2 may give it the number of the one that died.
    assert stage.died("killed", task_id)
    assert len(stage.accepted(task_id)) == 1
    assert stage.inferred(task_id) == 1
    assert stage.value("killed", task) == {"name": task_id, "call": 1}
    if point != "start" or not REPORTS_TWICE:
        log = "".join(stage.logs("killed", task))
        assert ("submitted by an earlier try" in log) == (point != "start")
        assert ("Its reply was not seen" in log) == (point == "sent")


@pytest.mark.parametrize("how", PLAN["power_cut"])
def test_a_task_whose_worker_died_with_it_takes_up_its_request(stage, how):
    task_id = f"power_cut_{how}"
    task = stage.succeeded("killed", task_id)
    assert stage.died("killed", task_id)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1
    assert stage.value("killed", task) == {"name": task_id, "call": 1}


@pytest.mark.skipif(not RETRIES_KILLED, reason="Airflow 3.0 does not retry a task whose process was killed.")
@pytest.mark.parametrize("how", PLAN["promised"])
def test_a_task_that_cannot_know_whether_it_asked_does_not_ask_again_until_it_is_told_to(stage, how):
    """It was killed between the record of what it was about to ask for and asking."""
    task_id = f"promised_{how}"
    task = stage.in_state("promised", task_id, "failed", tries=3)
    assert stage.died("promised", task_id)
    # Airflow 2.11 may report the death twice, and the second report ends a retry in the middle of its wait.
    retries = "".join(stage.logs("promised", task)[1:])
    assert "Its reply was not seen: the answer is looked for in its folder" in retries
    assert "WaitTimedOut" in retries
    assert stage.accepted(task_id) == []

    # What is cleared in the moment when its run ends may be left lying.
    stage.ended("promised")
    stage.clear("promised", task_id)
    task = stage.in_state("promised", task_id, "success", tries=4)
    assert "on_clear is 'fresh'" in "".join(stage.logs("promised", task))
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1


@pytest.mark.skipif(not RETRIES_KILLED, reason="Airflow 3.0 does not retry a task whose process was killed.")
def test_tasks_that_are_killed_at_random_moments_ask_once(stage):
    tasks = stage.ended("random", within=600)
    assert len(tasks) == len(PLAN["random"])
    asked = {task.map_index: len(stage.accepted("random", task.map_index)) for task in tasks}
    assert stage.killer.killed.total() >= len(tasks) / 2
    undone = {task.map_index: task for task in tasks if task.state != "success"}
    figures = {
        "killed": stage.killer.killed.total(),
        "missed": stage.killer.missed,
        "tries": {task.map_index: task.try_number for task in tasks},
        "asked": asked,
        "without an answer": sorted(undone),
    }
    print(figures)
    for task in tasks:
        index = task.map_index
        story = partial(stage.story, "random", "random", index)
        assert stage.inferred(f"random_{index}") == asked[index] <= 1, story()
        if index not in undone:
            assert asked[index] == 1, story()
            assert stage.value("random", task) == {"name": f"random_{index}", "call": 1}
            continue
        assert task.try_number > PLAN["retries"], story()
        logs = stage.logs("random", task)
        failed = [log for log in logs if "Task failed with exception" in log]
        assert all("WaitTimedOut" in log for log in failed), story()
        if asked[index] == 0:
            # It died in the moment before asking, cannot know that, and waits for what never comes.
            assert any("Its reply was not seen" in log for log in logs), story()
        else:
            assert REPORTS_TWICE, story()
    if undone:
        stage.killer.stop()
        stage.clear("random", "random")
        # Those that had succeeded are cleared with them, and ask again.
        for task in stage.ended("random"):
            story = partial(stage.story, "random", "random", task.map_index)
            assert task.state == "success", story()
            assert len(stage.accepted("random", task.map_index)) == asked[task.map_index] + 1, story()


@pytest.mark.parametrize("how", PLAN["failing"])
def test_a_retry_after_a_failure_of_the_model_asks_anew(stage, how):
    task_id = f"failing_{how}"
    task = stage.succeeded("other", task_id, tries=2)
    assert [request.state for request in stage.accepted(task_id)] == ["failed", "succeeded"]
    assert stage.value("other", task) == {"name": task_id, "call": 2}
    assert "call 1 fails" in stage.log("other", task, 1)


@pytest.mark.parametrize("how", PLAN["changed"])
def test_a_retry_with_another_input_asks_anew(stage, how):
    task_id = f"changed_{how}"
    task = stage.succeeded("other", task_id, tries=2)
    asked = len(stage.accepted(task_id))
    # A try that Airflow 2 gives up at once has not asked.
    assert 2 <= asked <= task.try_number
    assert REPORTS_TWICE or asked == task.try_number
    assert stage.value("other", task)["name"] == task_id
    assert "was for another input" in stage.log("other", task)


@pytest.mark.parametrize("task_id", [f"{what}_{how}" for what in ("lost", "late") for how in PLAN[what]])
def test_an_answer_is_found_without_the_reply_to_the_request(stage, task_id):
    task = stage.succeeded("other", task_id)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1
    assert stage.value("other", task) == {"name": task_id, "call": 1}
    assert "it is not sent again" in stage.log("other", task)


@pytest.mark.parametrize("how", PLAN["lost_and_killed"])
def test_a_task_that_got_no_reply_and_was_killed_takes_up_its_request(stage, how):
    task_id = f"lost_and_killed_{how}"
    task = stage.succeeded("other", task_id)
    assert stage.died("other", task_id)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1
    assert stage.value("other", task) == {"name": task_id, "call": 1}


@pytest.mark.parametrize(("task_id", "requests"), [("cleared_deferred", 1), ("cleared_fresh", 2)])
def test_clearing_a_deferred_task_means_what_on_clear_says(stage, task_id, requests):
    stage.in_state("cleared", task_id, "deferred")
    wait_for(lambda: len(stage.accepted(task_id)) == 1, within=180)
    stage.clear("cleared", task_id)
    stage.in_state("cleared", task_id, "deferred", tries=2)
    wait_for(lambda: stage.inferred(task_id) == requests, within=180)
    stage.release(task_id)
    task = stage.in_state("cleared", task_id, "success", tries=2)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == requests
    assert stage.value("cleared", task) == {"name": task_id, "call": requests}


@pytest.mark.skipif(not CLEARS_RUNNING, reason="Before 3.1, Airflow does not begin it again.")
def test_clearing_a_task_that_runs_takes_up_its_request(stage):
    task_id = "cleared_running"
    stage.in_state("cleared", task_id, "running")
    wait_for(lambda: stage.inferred(task_id) == 1, within=180)
    stage.clear("cleared", task_id)
    stage.in_state("cleared", task_id, "running", tries=2)
    stage.release(task_id)
    task = stage.in_state("cleared", task_id, "success", tries=2)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1
    assert stage.value("cleared", task) == {"name": task_id, "call": 1}


def test_clearing_a_task_that_succeeded_asks_again(stage):
    task_id = "cleared_success"
    stage.ended("succeeded")
    assert len(stage.accepted(task_id)) == 1
    stage.clear("succeeded", task_id)
    task = stage.in_state("succeeded", task_id, "success", tries=2)
    assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 2
    assert stage.value("succeeded", task) == {"name": task_id, "call": 2}


def test_waits_outlive_the_triggerer_and_keep_their_deadlines(stage):
    waiting = [f"waits_{number}" for number in range(PLAN["waiting"])]
    for task_id in waiting:
        stage.in_state("waiting", task_id, "deferred")
    # When the machine has time to see it wait.
    stage.start("hopeless")
    stage.in_state("hopeless", "hopeless", "deferred")
    (request,) = stage.accepted("hopeless")
    # A wait that began anew with the triggerer would end so much too late.
    wait_for(lambda: time.time() > request.submitted_at + PLAN["deadline"] / 3, within=PLAN["deadline"])
    stage.airflow.kill("triggerer")
    # One half is answered while nobody looks, the other once somebody does again.
    stage.release(*waiting[::2])
    stage.airflow.start_again("triggerer")
    started_again = time.time()
    for task_id in waiting[::2]:
        stage.in_state("waiting", task_id, "success")
    stage.release(*waiting[1::2])
    for task_id in waiting:
        task = stage.in_state("waiting", task_id, "success")
        assert len(stage.accepted(task_id)) == stage.inferred(task_id) == 1
        assert stage.value("waiting", task) == {"name": task_id, "call": 1}

    hopeless = stage.in_state("hopeless", "hopeless", "failed")
    assert len(stage.accepted("hopeless")) == 1
    told = re.search(r"WaitTimedOut: .* has no answer after ([0-9]+) s", stage.log("hopeless", hopeless))
    waited = float(told[1])
    print(f"waited {waited:.0f} s of {PLAN['deadline']}")
    assert PLAN["deadline"] - 1 < waited < started_again - request.submitted_at + PLAN["deadline"] - 1
