"""
A batch whose worker is killed at any of its calls goes on where it was: nothing is lost, or sent twice.

Each run is killed one call later than the one before it: once just before the call is sent, and once when the
call has been carried out and its answer is lost. That takes minutes, so by default it is done at every sixth
call, first before and then after it; AIRFLOW_ASYNC_SM_KILL_EVERY=1 does it at all.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.victims.batch import KILLED
from tests.world import BUCKET, World

pytestmark = pytest.mark.default_airflow

ROOT = Path(__file__).parents[2]
# Of one turn: a part, two that are on their way together, and an item for which there is no room yet.
ITEMS, PART, ROOM = 6, 2, 5
MOST_CALLS = 100
AT_ONCE = 3
EVERY = int(os.environ.get("AIRFLOW_ASYNC_SM_KILL_EVERY", "6"))


class Stage:
    """Processes that run batches, several at a time."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self._free = queue.Queue()
        self._processes = []
        environment = {
            **os.environ,
            "AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(world.emulator.url),
            "PYTHONPATH": str(ROOT),
        }
        for number in range(AT_ONCE):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.victims.batch"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(folder / f"log-{number}").open("wb"),
                text=True,
            )
            self._processes.append(process)
            self._free.put(process)
        for process in self._processes:
            assert json.loads(process.stdout.readline()) == "ready"

    def close(self):
        for process in self._processes:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()

    def run(self, run_id, arguments, *, try_number=1, kill_at=None, before=False):
        """Run one try of a task, and return how its process ended, and what the task returned."""
        returned = self.folder / f"{run_id}-{try_number}"
        told = {
            "run_id": run_id,
            "arguments": arguments,
            "try_number": try_number,
            "kill_at": kill_at,
            "before": before,
            "expires_after": 8,
            "part": PART,
            "returned": str(returned),
        }
        process = self._free.get()
        try:
            process.stdin.write(f"{json.dumps(told)}\n")
            process.stdin.flush()
            code = json.loads(process.stdout.readline())
        finally:
            self._free.put(process)
        return code, json.loads(returned.read_text()) if code == 0 else None

    def log(self):
        return "\n".join(path.read_text()[-3_000:] for path in sorted(self.folder.glob("log-*")))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    behaviour = Behaviour(creation_seconds=0.1, deletion_seconds=0.1, queue_seconds=0)
    # Every request's payload comes back.
    with SageMakerAsyncEmulator(images={"echo": lambda body, headers: body}, behaviour=behaviour) as emulator:
        stage = Stage(World(emulator), tmp_path_factory.mktemp("batches"))
        try:
            yield stage
        finally:
            stage.close()


@pytest.fixture(scope="module")
def endpoint(stage):
    return stage.world.deploy(image="echo", concurrency=4)


def test_a_worker_that_is_killed_at_any_call_is_replaced_by_one_that_goes_on(stage, endpoint):
    def life(number, *, before):
        run_id = f"run-{number}-{before}"
        arguments = {
            "endpoint_name": endpoint,
            "inputs": [f"{run_id} {index}" for index in range(ITEMS)],
            "work_prefix": f"s3://{BUCKET}/work/{uuid.uuid4().hex}",
            "max_in_flight": ROOM,
        }
        code, told = stage.run(run_id, arguments, kill_at=number, before=before)
        assert code in (0, KILLED), stage.log()
        if code == KILLED:
            second, told = stage.run(run_id, arguments, try_number=2)
            assert second == 0, stage.log()
        assert told["counts"]["Succeeded"] == ITEMS
        manifest = [json.loads(line) for line in stage.world.body(told["manifest"]).splitlines()]
        answers = [stage.world.body(row["output_location"]).decode() for row in manifest]
        assert answers == arguments["inputs"]
        return code == KILLED

    deaths = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, MOST_CALLS, 2 * EVERY):
            numbers = [(first, True), (first + EVERY, True), (first + EVERY // 2, False)]
            numbers += [(first + EVERY + EVERY // 2, False)]
            killed = list(pool.map(lambda one: life(one[0], before=one[1]), numbers))
            deaths.update(killed)
            if not any(killed):
                break
        else:
            pytest.fail(f"a batch of {ITEMS} items makes more than {MOST_CALLS} calls")
    assert deaths[True] * EVERY > 40
    accepted = Counter(record.inference_id.rsplit("-", 1)[0] for record in stage.world.emulator.requests())
    assert set(accepted.values()) == {1}
    assert len(accepted) == ITEMS * sum(deaths.values())
