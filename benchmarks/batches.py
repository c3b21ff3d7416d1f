"""``scripts/bench batch``: many inputs in one task, end to end in a whole Airflow, and what that costs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import batch_services, machine
from benchmarks.airflow_process import Usage
from benchmarks.batch_airflow import BatchAirflow, a_folder
from benchmarks.batch_services import BUCKET, ENDPOINT, Service
from benchmarks.batch_task import told
from benchmarks.tables import markdown, number

# A batch that lets everybody load what is loaded once, so that what follows is what the inputs cost.
_FIRST = 300
_SECONDS_AN_INPUT = 2.0
_LEAST_SECONDS = 1_200.0

_BATCH = """
from benchmarks.batch_task import ObservedBatch

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

for name, count in {counts!r}.items():
    with DAG(name, schedule=None):
        ObservedBatch(
            task_id="batch",
            endpoint_name={endpoint!r},
            inputs=lambda count=count: ([index % 7 + 0.5, 3.0, 4.0, 1.0] for index in range(count)),
            content_type="application/json",
            work_prefix={work_prefix!r},
            max_in_flight={in_flight!r},
            deferrable=True,
        )
"""
_SINGLES = """
from benchmarks.batch_task import ObservedInvoke

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

with DAG("singles", schedule=None, max_active_tasks=64):
    ObservedInvoke.partial(
        task_id="single",
        endpoint_name={endpoint!r},
        content_type="application/json",
        work_prefix={work_prefix!r},
        deferrable=True,
    ).expand(payload=[[index % 7 + 0.5, 3.0, 4.0, 1.0] for index in range({count})])
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """
    What one DAG run has cost. Times in seconds, memory in megabytes.

    :param name: What ran.
    :param items: How many inputs it had.
    :param succeeded: How many of them have an answer.
    :param twice: How many requests were taken a second time.
    :param wall: From the trigger of the run to its end.
    :param sending: In how many seconds requests came; not a number if that is not known.
    :param starts: How many worker processes began.
    :param worker_cpu: CPU of these in the operator.
    :param worker_seconds: How long they were in the operator, all together.
    :param worker_peak: The most memory that one of them had.
    :param worker_before: How much one of them had when the operator began.
    :param airflow_cpu: CPU of all of Airflow's programs and what they began.
    :param triggerer_growth: How much more memory the triggerer had at its peak than before.
    :param rows: How many rows there are more in the metadata database.
    :param calls: Calls of AWS, by their names.
    """

    name: str
    items: int
    succeeded: int
    twice: int
    wall: float
    sending: float
    starts: int
    worker_cpu: float
    worker_seconds: float
    worker_peak: float
    worker_before: float
    airflow_cpu: float
    triggerer_growth: float
    rows: int
    calls: dict[str, int]

    @property
    def per_second(self) -> float:
        """How many requests were sent each second, while they were."""
        return self.items / (self.sending or math.nan)

    @property
    def failed(self) -> bool:
        """Whether an input has no answer, or was sent twice."""
        return self.succeeded != self.items or bool(self.twice)


def main(arguments: Sequence[str]) -> int:
    """Measure, and return 1 if an input has no answer or was sent twice, otherwise 0."""
    given = _parsed(arguments)
    watch = machine.Watch()
    with (
        a_folder() as folder,
        _service(given, folder) as service,
        watch.run(),
        _airflow(given, folder, service) as airflow,
    ):
        costs = list(_measured(given, airflow, service))
    notes = watch.notes()
    sys.stdout.write(f"{table(costs)}\n\nAWS: {service.name}. {machine.sentence(notes)}\n")
    if given.json:
        rows = [asdict(cost) for cost in costs]
        given.json.write_text(json.dumps({"machine": notes, "rows": rows}, indent=1) + "\n")
    return int(any(cost.failed for cost in costs))


def table(costs: Sequence[Cost]) -> str:
    """Return what runs have cost, a column for each."""
    lines = [
        ["inputs", *(f"{one.items:,}" for one in costs)],
        ["answered", *(f"{one.succeeded:,}" for one in costs)],
        ["sent twice", *(f"{one.twice:,}" for one in costs)],
        ["wall, s", *(number(one.wall) for one in costs)],
        ["submissions a second while it sends", *(number(one.per_second) for one in costs)],
        ["worker starts", *(f"{one.starts:,}" for one in costs)],
        ["workers' CPU in the operator, s", *(number(one.worker_cpu) for one in costs)],
        ["workers' time in the operator, s", *(number(one.worker_seconds) for one in costs)],
        ["largest worker, MB", *(number(one.worker_peak) for one in costs)],
        ["of which before the operator began, MB", *(number(one.worker_before) for one in costs)],
        ["CPU of all of Airflow, s", *(number(one.airflow_cpu) for one in costs)],
        ["triggerer's memory grows by, MB", *(number(max(0.0, one.triggerer_growth)) for one in costs)],
        ["rows more in the database", *(f"{one.rows:,}" for one in costs)],
        ["LISTs", *(f"{_lists(one):,}" for one in costs)],
        ["other calls of S3", *(f"{_others(one):,}" for one in costs)],
    ]
    return markdown(["", *(one.name for one in costs)], lines)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench batch", description="Measure a batch in a whole Airflow."
    )
    parser.add_argument("--items", type=int, default=100_000, help="how many inputs; default 100000")
    parser.add_argument(
        "--model",
        choices=["pretended", "noop", "sklearn"],
        default="pretended",
        help="pretended: a quick endpoint in a process of its own, answers after 1 s. "
        "noop, sklearn: the emulator with such a model; its S3 is slow with many objects",
    )
    parser.add_argument("--latency", type=float, default=0.03, help="of the pretended AWS, in seconds")
    parser.add_argument("--in-flight", type=int, default=10_000, help="max_in_flight; default 10000")
    parser.add_argument(
        "--compare", action="store_true", help="against as many mapped single requests; usual items: 1000"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    if given.compare and given.items == parser.get_default("items"):
        given.items = 1_000
    return given


@contextlib.contextmanager
def _service(given: argparse.Namespace, folder: Path) -> Iterator[Service]:
    if given.model == "pretended":
        with batch_services.pretended(folder, latency=given.latency) as service:
            yield service
    else:
        with batch_services.emulated(folder, model=given.model) as service:
            yield service


@contextlib.contextmanager
def _airflow(given: argparse.Namespace, folder: Path, service: Service) -> Iterator[BatchAirflow]:
    airflow = BatchAirflow(folder, connection=service.connection, parallelism=4)
    common = {"endpoint": ENDPOINT, "work_prefix": f"s3://{BUCKET}/work"}
    counts = {"first": _FIRST, "measured": given.items}
    dags = folder / "dags"
    (dags / "batch.py").write_text(_BATCH.format(counts=counts, in_flight=given.in_flight, **common))
    if given.compare:
        (dags / "singles.py").write_text(_SINGLES.format(count=given.items, **common))
    with airflow:
        yield airflow


def _measured(given: argparse.Namespace, airflow: BatchAirflow, service: Service) -> Iterator[Cost]:
    _tell(f"a first batch of {_FIRST} inputs")
    airflow.run("first", timeout=_LEAST_SECONDS)
    _tell(f"a batch of {given.items:,} inputs")
    yield _cost("one batch", "measured", given.items, airflow, service)
    if given.compare:
        _tell(f"{given.items:,} mapped tasks")
        yield _cost("mapped tasks", "singles", given.items, airflow, service)


def _cost(name: str, dag_id: str, items: int, airflow: BatchAirflow, service: Service) -> Cost:
    airflow.wait_for_dag(dag_id, timeout=_LEAST_SECONDS)
    before, rows = service.counts(), airflow.rows()
    usage = airflow.usage()
    cpu, memory = _cpu(usage), usage["triggerer"].memory()
    wall = airflow.run(dag_id, timeout=max(_LEAST_SECONDS, _SECONDS_AN_INPUT * items))
    used, growth = _cpu(usage) - cpu, usage["triggerer"].peak_memory - memory
    for one in usage.values():
        one.stop()
    after = service.counts()
    legs = [leg for leg in told(airflow.told) if leg["dag"] == dag_id]
    ended = [leg for leg in legs if "ended_at" in leg]
    return Cost(
        name=name,
        items=items,
        succeeded=_succeeded(airflow, dag_id),
        twice=after.twice - before.twice,
        wall=wall,
        sending=_between(before.sending_seconds, after.sending_seconds),
        starts=len(legs),
        worker_cpu=sum(leg["cpu_s"] for leg in ended),
        worker_seconds=sum(leg["ended_at"] - leg["begun_at"] for leg in ended),
        worker_peak=max(leg["peak_mb"] for leg in ended),
        worker_before=max(leg["begun_mb"] for leg in ended),
        airflow_cpu=used,
        triggerer_growth=growth,
        rows=sum(airflow.rows().values()) - sum(rows.values()),
        calls={kind: made - before.calls.get(kind, 0) for kind, made in after.calls.items()},
    )


def _succeeded(airflow: BatchAirflow, dag_id: str) -> int:
    if dag_id == "measured":
        result = airflow.result(dag_id)
        return int(result["counts"]["Succeeded"]) if result else 0
    tasks = airflow.task_instances(dag_id, "run")
    return sum(task.state == "success" for task in tasks)


def _cpu(usage: dict[str, Usage]) -> float:
    return sum(one.cpu() for one in usage.values())


def _between(before: float | None, after: float | None) -> float:
    return math.nan if before is None or after is None else after - before


def _lists(cost: Cost) -> int:
    return sum(made for kind, made in cost.calls.items() if kind in ("LIST", "ListObjectsV2"))


def _others(cost: Cost) -> int:
    not_s3 = ("LIST", "ListObjectsV2", "InvokeEndpointAsync", "DescribeEndpoint", "unknown")
    return sum(made for kind, made in cost.calls.items() if kind not in not_s3)


def _tell(what: str) -> None:
    sys.stderr.write(f"{what} ...\n")


def _main() -> Any:
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
