"""
``scripts/bench chaos``: batches whose workers and triggerer are killed at random moments.

Each round is a batch in a whole Airflow, against the emulator, which knows what it accepted. At the end of a
round its manifest has to be complete, its counts have to add up, and each input must have been accepted once.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil  # type: ignore[import-untyped]

from airflow_async_sm.core.batches.items import index_of
from airflow_async_sm.core.batches.ranges import members
from airflow_async_sm.demo.runs import RUN_ENDED
from benchmarks import machine
from benchmarks.batch_airflow import BatchAirflow, a_folder
from benchmarks.batch_services import BUCKET, ENDPOINT, Emulated, emulated
from benchmarks.batch_task import PATIENCE_VARIABLE, TOLD
from benchmarks.tables import markdown

# The emulator ends each request in a fraction of that; what was not accepted is sent again after it.
_PATIENCE_SECONDS = 20.0
# A process is killed at most so long after it began, and the triggerer so often.
_LONGEST_AIM = 6.0
_TRIGGERER_EVERY = (25.0, 60.0)
_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_ROUND_SECONDS = 300.0
# Nothing is killed any more when a task has lost so many processes: Airflow gives a task up at some point.
_EACH = 3

_DAG = """
from datetime import timedelta

from benchmarks.batch_task import HastyBatch

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

for number in range({rounds}):
    with DAG(f"round_{{number}}", schedule=None):
        HastyBatch(
            task_id="batch",
            endpoint_name={endpoint!r},
            inputs=lambda: range({items}),
            content_type="application/json",
            work_prefix={work_prefix!r},
            max_in_flight={in_flight},
            poll_interval=1,
            retry_delay_seconds=1,
            deferrable=True,
            retries={retries},
            retry_delay=timedelta(0),
        )
"""


@dataclass(kw_only=True)
class Round:
    """
    What became of one batch.

    :param number: Which round.
    :param state: How its task ended.
    :param lost: Inputs without an answer, or without a row in the manifest.
    :param twice: What the ledger says of inputs that were accepted more than once, by their names.
    :param tries: How often Airflow tried the task.
    """

    number: int
    state: str = "running"
    lost: list[int] = field(default_factory=list)
    twice: dict[str, list[Any]] = field(default_factory=dict)
    tries: int = 0


class Killer(threading.Thread):
    """
    Ends processes at moments that nobody can foresee, and that are the same with the same seed.

    :param airflow: Whose.
    :param seed: Begins the chance.
    """

    def __init__(self, airflow: BatchAirflow, seed: int) -> None:
        super().__init__(daemon=True, name="killer")
        self._over = threading.Event()
        self._airflow = airflow
        self._draw = random.Random(seed)
        self._seen: set[str] = set()
        self._due: list[tuple[float, str, psutil.Process]] = []
        self._triggerer_at = time.monotonic() + self._draw.uniform(*_TRIGGERER_EVERY)
        self.workers: Counter[str] = Counter()
        self.triggerers = 0

    def run(self) -> None:
        """Go on until it is stopped."""
        while not self._over.wait(_PAUSE_SECONDS):
            self._look()

    def stop(self) -> None:
        """
        Kill no more.

        :raises RuntimeError: nothing was killed for a while, because this thread has died.
        """
        if not self.is_alive():
            raise RuntimeError("The killer has died; what it died of stands above.")
        self._over.set()
        self.join()

    def _look(self) -> None:
        """Aim at processes that have begun, and kill those whose moment has come."""
        for place in self._airflow.told.glob(TOLD):
            if place.name not in self._seen:
                self._seen.add(place.name)
                leg = json.loads(place.read_text())
                if "ended_at" not in leg:
                    self._aim(leg)
        now = time.monotonic()
        for shot in [shot for shot in self._due if shot[0] <= now]:
            self._due.remove(shot)
            self._shoot(*shot[1:])
        if now >= self._triggerer_at:
            self._airflow.kill_triggerer()
            self.triggerers += 1
            self._triggerer_at = time.monotonic() + self._draw.uniform(*_TRIGGERER_EVERY)

    def _aim(self, leg: dict[str, Any]) -> None:
        delay = self._draw.uniform(0, _LONGEST_AIM)
        try:
            process = psutil.Process(leg["pid"])
            # Whatever has that number by now: only Airflow's own is killed.
            if self._airflow.process_ids["scheduler"] in (parent.pid for parent in process.parents()):
                self._due.append((time.monotonic() + delay, leg["dag"], process))
        except psutil.Error:
            return

    def _shoot(self, dag_id: str, process: psutil.Process) -> None:
        if self.workers[dag_id] >= _EACH:
            return
        try:
            # psutil looks whether it still is the process that was aimed at.
            process.kill()
        except psutil.Error:
            return
        self.workers[dag_id] += 1


def main(arguments: Sequence[str]) -> int:
    """Run all rounds, print what became of them, and return 1 if anything was lost, sent twice or failed."""
    given = _parsed(arguments)
    watch = machine.Watch()
    with a_folder() as folder, emulated(folder) as service:
        airflow = BatchAirflow(
            folder,
            connection=service.connection,
            parallelism=given.at_once + 2,
            variables={PATIENCE_VARIABLE: str(given.patience)},
        )
        (folder / "dags" / "rounds.py").write_text(
            _DAG.format(
                rounds=given.rounds,
                endpoint=ENDPOINT,
                items=given.items,
                in_flight=max(1, given.items // 3),
                work_prefix=f"s3://{BUCKET}/work",
                retries=3 * _EACH,
            )
        )
        with watch.run(), airflow:
            killer = Killer(airflow, given.seed)
            killer.start()
            try:
                rounds = _all_rounds(given, airflow, service)
            finally:
                killer.stop()
    sys.stdout.write(f"{table(rounds, killer, given.items)}\n\n{machine.sentence(watch.notes())}\n")
    for one in rounds:
        if one.state != "success" or one.lost or one.twice:
            sys.stdout.write(f"{json.dumps(vars(one), indent=1)}\n")
    return int(any(one.state != "success" or one.lost or one.twice for one in rounds))


def table(rounds: Sequence[Round], killer: Killer, items: int) -> str:
    """Return all rounds in one line."""
    heads = [
        "rounds",
        "succeeded",
        "workers killed",
        "triggerers killed",
        "tries of tasks",
        "items",
        "duplicates",
    ]
    line = [
        f"{len(rounds)}",
        f"{sum(one.state == 'success' for one in rounds)}",
        f"{killer.workers.total()}",
        f"{killer.triggerers}",
        f"{sum(one.tries for one in rounds)}",
        f"{items * len(rounds):,}",
        f"{sum(len(one.twice) for one in rounds)}",
        f"{sum(len(one.lost) for one in rounds)}",
    ]
    return markdown([*heads, "lost"], [line])


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench chaos", description="Kill workers and the triggerer."
    )
    parser.add_argument("--rounds", type=int, default=50, help="how many batches; default 50")
    parser.add_argument("--items", type=int, default=300, help="inputs of each; default 300")
    parser.add_argument("--at-once", type=int, default=10, help="batches side by side; default 10")
    parser.add_argument("--seed", type=int, default=7, help="begins the chance; default 7")
    parser.add_argument(
        "--patience",
        type=float,
        default=_PATIENCE_SECONDS,
        help="seconds after which nothing is expected of a request any more; default 20",
    )
    return parser.parse_args(arguments)


def _all_rounds(given: argparse.Namespace, airflow: BatchAirflow, service: Emulated) -> list[Round]:
    rounds = [Round(number=number) for number in range(given.rounds)]
    waiting, running = list(rounds), dict[int, tuple[Round, float]]()
    while waiting or running:
        while waiting and len(running) < given.at_once:
            begun = waiting.pop(0)
            airflow.begin(f"round_{begun.number}")
            running[begun.number] = begun, time.monotonic()
        for one, began in list(running.values()):
            if _is_over(airflow, one, began):
                del running[one.number]
                _look_at(airflow, service, one, given.items)
                sys.stderr.write(f"round {one.number}: {one.state}, {one.tries} tries ...\n")
        time.sleep(_LOOK_SECONDS)
    return rounds


def _is_over(airflow: BatchAirflow, one: Round, began: float) -> bool:
    one.state = airflow.state(f"round_{one.number}")
    if one.state not in RUN_ENDED and time.monotonic() - began > _ROUND_SECONDS:
        one.state = f"{one.state} after {_ROUND_SECONDS:.0f} s"
        return True
    return one.state in RUN_ENDED


def _look_at(airflow: BatchAirflow, service: Emulated, one: Round, items: int) -> None:
    """Compare what the task says with what the emulator knows."""
    dag_id = f"round_{one.number}"
    one.tries, result = airflow.task_instances(dag_id, "run")[0].try_number, airflow.result(dag_id)
    places = [r["output_location"] for r in service.ask("requests") if f"/{dag_id}/" in r["output_location"]]
    accepted = Counter(index_of(place.rpartition("/")[2]) for place in places)
    if result is None:
        one.lost = list(range(items))
    else:
        rows = [json.loads(line) for line in _lines(service, result["manifest"])]
        answered = {row["index"] for row in rows if row["end"] == "Succeeded"}
        one.lost = sorted(set(range(items)) - answered)
        if len(rows) != items or sum(result["counts"].values()) != items:
            one.state = f"{one.state}, with {len(rows)} rows and {result['counts']}"
    twice = {index: count for index, count in accepted.items() if count > 1 and index is not None}
    if twice:
        events = _ledger(service, places[0])
        one.twice = {
            f"{index:08d}": [
                sorted(place for place in places if f"/{index:08d}-" in place),
                *_of(index, events),
            ]
            for index in twice
        }


def _lines(service: Emulated, location: str) -> list[str]:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    content: bytes = service.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content.decode().splitlines()


def _ledger(service: Emulated, place: str) -> list[dict[str, Any]]:
    """Return the events of the batch that an answer belongs to."""
    extension = place.removeprefix(f"s3://{BUCKET}/out/").rpartition("/")[0]
    s3 = service.client("s3")
    prefix = f"work/batches/{extension}/ledger/"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [json.loads("".join(_lines(service, f"s3://{BUCKET}/{each['Key']}"))) for each in listed]


def _of(index: int, events: Sequence[dict[str, Any]]) -> list[Any]:
    """Return what a ledger says of one input."""
    found = []
    for number, event in enumerate(events, 1):
        names = ("items", "unsent", "unknown", "succeeded", "expired")
        texts = {name: event[name] for name in names if isinstance(event.get(name), str)}
        fields = [name for name, text in texts.items() if index in members(text)]
        if fields:
            found.append([number, event["event"], *fields, event.get("at")])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
