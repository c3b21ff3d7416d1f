"""The same waits as deferred task instances, in one real ``airflow triggerer`` with a database of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import machine, triggerer_tasks
from benchmarks.airflow_process import (
    COMMAND_SECONDS,
    Usage,
    prepare,
    running_triggerer,
    wait_until_resumed,
)
from benchmarks.environment import throw_away_home
from benchmarks.figures import quantile
from benchmarks.idle import is_ready, tell_moments
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.phases import Plan, let_appear, make_job
from benchmarks.processes import Aws, Child, ChildDied, pretended_aws
from benchmarks.tables import markdown, number
from benchmarks.waits import BUCKET

# Names a database that is emptied first. Without it there is a SQLite file that is removed at the end.
DATABASE_VARIABLE = "AIRFLOW_ASYNC_SM_BENCH_DATABASE"

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """
    What was seen of one implementation. Times in seconds, memory in megabytes.

    :param name: Who waited.
    :param waits: How many.
    :param database: What kind of database there was.
    :param asked_once: From the first trigger that had begun until every wait had asked once; not a number if
        that never was.
    :param start_cpu: CPU of the triggerer's processes in that time.
    :param steady_share: Their CPU while nothing ended, as a share of one core.
    :param peak_memory: The most they had in memory together, at any time.
    :param blocked: How often Airflow warned that its event loop was blocked.
    :param detect_p50: Half of the task instances could go on within so long after their object had appeared.
    :param detect_p95: Nineteen of twenty could.
    :param missed: How many could not go on in the end, or did not because their object was there.
    """

    name: str
    waits: int
    database: str
    asked_once: float
    start_cpu: float
    steady_share: float
    peak_memory: float
    blocked: int
    detect_p50: float
    detect_p95: float
    missed: int

    def figures(self) -> dict[str, Any]:
        """Return the numbers, for programs."""
        return asdict(self)


def host_all(
    names: Sequence[str],
    plans: Sequence[Plan],
    *,
    tell: Callable[[str], object],
    watch: machine.Watch,
) -> list[Hosted]:
    """Return what was seen of each that is one trigger a wait and can run here."""
    hosted = []
    for plan in plans:
        for who in (IMPLEMENTATIONS[name].in_triggerer() for name in names):
            if who.missing or who.triggers is None or who.name == "s3key2":
                tell(f"{who.name} is left out: it is not one trigger, or needs what is not installed")
                continue
            tell(f"{who.name}, {plan.count} task instances in a triggerer")
            with watch.run():
                hosted.append(host(who, replace(plan, failures=0.0)))
    return hosted


def host(who: Implementation, plan: Plan) -> Hosted:
    """Run one implementation once."""
    with throw_away_home(plan.settings) as environment, pretended_aws(environment) as aws:
        home = Path(environment["AIRFLOW_HOME"])
        url = os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{home / 'airflow.db'}"
        environment |= {
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            triggerer_tasks.URL_VARIABLE: aws.url,
        }
        job = make_job(who, plan, aws)
        if who.hosted is None:
            aws.tell("expect", bucket=BUCKET, keys=[wait.output_key for wait in job.waits()])
        prepare(home, job, environment)
        with (
            (home / "triggerer.log").open("w") as log,
            running_triggerer(plan.count, environment, log) as usage,
        ):
            asked_once, start_cpu = _start(who, plan, aws, home, usage)
            time.sleep(plan.calm)
            begun_at, cpu = time.monotonic(), usage.cpu()
            time.sleep(plan.steady)
            steady_share = (usage.cpu() - cpu) / (time.monotonic() - begun_at)
            begin = time.monotonic() + 1.0
            appeared, _ = let_appear(who, plan, aws, job.waits(), (begin, begin + plan.spread))
            tell_moments(home, appeared)
            wait_until_resumed(url, begin + plan.spread + plan.drain_limit())
        took = _detections(appeared, environment)
        return Hosted(
            name=who.name,
            waits=plan.count,
            database=url.partition(":")[0],
            asked_once=asked_once,
            start_cpu=start_cpu,
            steady_share=steady_share,
            peak_memory=usage.peak_memory,
            blocked=(home / "triggerer.log").read_text(errors="replace").count("was blocked for"),
            detect_p50=quantile(took, 0.5),
            detect_p95=quantile(took, 0.95),
            missed=plan.count - len(took),
        )


def _start(who: Implementation, plan: Plan, aws: Aws, home: Path, usage: Usage) -> tuple[float, float]:
    """Wait until every wait has asked once; return how long that took from the first on, and the CPU."""
    give_up_at = time.monotonic() + plan.start_limit()
    first: tuple[float, float] | None = None
    all_begun = False
    while time.monotonic() < give_up_at:
        # Every trigger tells that it starts in a log of its own.
        begun = sum(1 for _ in (home / "logs").rglob("*.trigger.*.log"))
        if begun and first is None:
            first = time.monotonic(), usage.cpu()
        if begun >= plan.count and not all_begun:
            all_begun = True
            aws.tell("lists-count", at=time.monotonic() + who.settling())
        have_asked = is_ready(home) if who.hosted else not aws.figures()["unasked"]
        if first and all_begun and have_asked:
            return time.monotonic() - first[0], usage.cpu() - first[1]
        time.sleep(_LOOK_SECONDS)
    if first is None:
        raise ChildDied(f"the triggerer began nothing: {(home / 'triggerer.log').read_text()[-500:]}")
    return float("nan"), usage.cpu() - first[1]


def _detections(appeared: Mapping[int, float], environment: Mapping[str, str]) -> list[float]:
    """Return how long after its object each task instance could go on, of those that were told of it."""
    with Child("benchmarks.triggerer_tasks", ["collect"], environment) as child:
        resumed = child.said("done", within=COMMAND_SECONDS)["resumed"]
    began = time.time() - time.monotonic()
    found = ((at - began - appeared[int(key)], told) for key, (at, told) in resumed.items())
    return [took for took, told in found if took >= 0 and ("'Succeeded'" in told or "'success'" in told)]


def table(hosted: Sequence[Hosted]) -> str:
    """Return the table."""
    heads = (
        "",
        "waits",
        "database",
        "all have asked after s",
        "start, CPU s",
        "steady, % of a core",
        "peak memory MB",
        "blocked warnings",
        "noticed after s, p50 / p95",
        "missed",
    )
    lines = [
        [
            IMPLEMENTATIONS[one.name].in_triggerer().title,
            f"{one.waits:,}",
            one.database,
            number(one.asked_once),
            number(one.start_cpu),
            number(100 * one.steady_share),
            f"{one.peak_memory:,.0f}",
            str(one.blocked),
            f"{one.detect_p50:.2f} / {one.detect_p95:.2f}",
            str(one.missed),
        ]
        for one in hosted
    ]
    return markdown(heads, lines)
