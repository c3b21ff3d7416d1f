"""
Real minutes: many waits that end one after the other, and every request that was made for them.

Nothing is scaled here. What is saved by asking less for old requests, or in folders in which nothing happens,
shows only where waits are as long as they are in life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.environment import connection, throw_away_home
from benchmarks.figures import PRICES, detections, dollars, quantile
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.phases import Plan, let_appear, make_job, wait_for_the_ends
from benchmarks.processes import Child, pretended_aws
from benchmarks.tables import markdown, number

_HEADS = (
    "",
    "waits",
    "minutes",
    *PRICES,
    "DescribeEndpoint",
    "reads a wait",
    "$",
    "CPU s",
    "noticed after s, p50 / p95",
    "missed",
    "wrong",
)


@dataclass(frozen=True, kw_only=True)
class Reads:
    """
    What was seen of one implementation.

    :param who: Who waited.
    :param plan: What was done.
    :param minutes: How long the longest wait was.
    :param counts: Requests by kind.
    :param cpu: CPU seconds.
    :param took: How long after its object each wait ended that ended as it should, in seconds.
    :param missed: How many waits never ended.
    :param wrong: How many ended otherwise than they should.
    """

    who: Implementation
    plan: Plan
    minutes: float
    counts: Mapping[str, int]
    cpu: float
    took: Sequence[float]
    missed: int
    wrong: int

    def figures(self) -> dict[str, Any]:
        """Return the numbers, for programs."""
        return {
            "name": self.who.name,
            "waits": self.plan.count,
            "minutes": self.minutes,
            "requests": dict(self.counts),
            "dollars": dollars(self.counts),
            "cpu_s": self.cpu,
            "detect_p50": quantile(self.took, 0.5),
            "detect_p95": quantile(self.took, 0.95),
            "missed": self.missed,
            "wrong": self.wrong,
        }

    def cells(self) -> list[str]:
        """Return the numbers, for people."""
        told = self.figures()
        asked = sum(self.counts.values())
        return [
            self.who.title,
            f"{self.plan.count:,}",
            f"{self.minutes:g}",
            *(f"{self.counts.get(kind, 0):,}" for kind in (*PRICES, "DescribeEndpoint")),
            number(asked / self.plan.count),
            number(told["dollars"], 2),
            number(self.cpu),
            f"{told['detect_p50']:.2f} / {told['detect_p95']:.2f}",
            str(self.missed),
            str(self.wrong),
        ]


def watch_one(who: Implementation, plan: Plan, *, minutes: float) -> Reads:
    """Let waits end evenly between a tenth of ``minutes`` and ``minutes`` after they have begun."""
    with throw_away_home(plan.settings) as environment, pretended_aws(environment) as aws:
        job = make_job(who, plan, aws)
        environment["AIRFLOW_CONN_AWS_DEFAULT"] = connection(aws.url)
        with Child("benchmarks.waiting", [job.to_json()], environment) as child:
            begun_at = child.said("started", within=plan.start_limit())["at"]
            between = (begun_at + 6 * minutes, begun_at + 60 * minutes)
            appeared, expected = let_appear(who, plan, aws, job.waits(), between)
            result = wait_for_the_ends(who, plan, child, max(appeared.values(), default=time.monotonic()))
        ends = {int(index): tuple(end) for index, end in result["ends"].items()}
        took = detections(appeared, expected, ends)
        return Reads(
            who=who,
            plan=plan,
            minutes=minutes,
            counts=aws.figures()["counts"],
            cpu=result["ended_cpu"] - result["begun_cpu"],
            took=took,
            missed=len(appeared.keys() - ends.keys()),
            wrong=len(ends) - len(took),
        )


def watch_all(
    names: Sequence[str],
    plans: Sequence[Plan],
    *,
    minutes: float,
    tell: Callable[[str], object],
    watch: machine.Watch,
) -> list[Reads]:
    """Return what was seen of each that can run here."""
    seen = []
    for plan in plans:
        for who in (IMPLEMENTATIONS[name] for name in names):
            if who.missing or who.is_null:
                tell(f"{who.name} is left out: it looks at nothing, or needs what is not installed")
                continue
            tell(f"{who.name}, {plan.count} waits of up to {minutes:g} minutes")
            with watch.run():
                seen.append(watch_one(who, plan, minutes=minutes))
    return seen


def table(seen: Sequence[Reads]) -> str:
    """Return the table."""
    return markdown(_HEADS, [each.cells() for each in seen])
