"""
One run: a fresh pretended AWS, a fresh process that waits, and three phases.

*Start* is from the first wait until each has asked once. *Steady* is a while in which nothing ends. In the
*drain* the objects appear, spread evenly over some seconds, and every wait ends.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.environment import connection, throw_away_home
from benchmarks.fake_aws import Faults
from benchmarks.implementations import Implementation
from benchmarks.job import Job
from benchmarks.processes import Aws, Child, ChildDied, pretended_aws
from benchmarks.waits import BUCKET, FAILED, OUTPUTS, SUCCEEDED, Wait

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    What is done with each implementation.

    :param count: How many waits.
    :param poll: Seconds between two looks.
    :param loop: ``asyncio`` or ``uvloop``.
    :param steady: Seconds that are watched with nothing ending. A multiple of ``poll`` is fairest.
    :param spread: Seconds over which the objects appear.
    :param calm: Seconds between the start and the steady phase.
    :param age: How old the requests are when the waits begin, in seconds. Young ones may be looked at more
        often.
    :param failures: The share of requests that fail, where the implementation notices failures.
    :param history: How many old objects lie in the folder, where the implementation is to meet them.
    :param faults: What is not ideal about AWS.
    :param seed: Begins the random numbers.
    :param settings: Settings of Airflow, as variables.
    """

    count: int
    poll: float = 5.0
    loop: str = "asyncio"
    steady: float = 10.0
    spread: float = 10.0
    calm: float = 2.0
    age: float = 120.0
    failures: float = 0.05
    history: int = 10_000
    faults: Faults = field(default_factory=Faults)
    seed: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

    def start_limit(self) -> float:
        """Return after how many seconds a start is given up."""
        return 60.0 + 0.15 * self.count

    def drain_limit(self) -> float:
        """Return how many seconds after the last object a wait may still end."""
        return 30.0 + 2 * self.poll + 0.02 * self.count


@dataclass(frozen=True, kw_only=True)
class Observed:
    """
    What was seen in one run. Moments are on the monotonic clock.

    :param started: Whether every wait had asked when the start phase ended.
    :param ready_at: When it ended.
    :param before: Figures of AWS before the steady phase; ``after``, after it; ``last``, at the end of all.
    :param result: What the process told at its end.
    :param appeared: When the object of each wait appeared.
    :param expected: How each wait should end.
    """

    started: bool
    ready_at: float
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    last: Mapping[str, Any]
    result: Mapping[str, Any]
    appeared: Mapping[int, float]
    expected: Mapping[int, str]


def run(who: Implementation, plan: Plan) -> Observed:
    """
    Run one implementation once.

    :raises ChildDied: the process that waits ended early.
    """
    with throw_away_home(plan.settings) as environment, pretended_aws(environment) as aws:
        job = make_job(who, plan, aws)
        waits = job.waits()
        aws.tell("expect", bucket=BUCKET, keys=[wait.output_key for wait in waits])
        environment["AIRFLOW_CONN_AWS_DEFAULT"] = connection(aws.url)
        with Child("benchmarks.waiting", [job.to_json()], environment) as child:
            started = _wait_for_the_start(who, plan, aws, child)
            ready_at = time.monotonic()
            time.sleep(plan.calm)
            before = aws.figures()
            time.sleep(plan.steady)
            after = aws.figures()
            begin = time.monotonic() + 0.5
            appeared, expected = let_appear(who, plan, aws, waits, (begin, begin + plan.spread))
            result = wait_for_the_ends(who, plan, child, max(appeared.values(), default=begin))
        return Observed(
            started=started,
            ready_at=ready_at,
            before=before,
            after=after,
            last=aws.figures(),
            result=result,
            appeared=appeared,
            expected=expected,
        )


def make_job(who: Implementation, plan: Plan, aws: Aws) -> Job:
    """Return what the process that waits is told, and make AWS as the plan has it."""
    if who.with_history:
        aws.tell("history", bucket=BUCKET, folder=OUTPUTS, count=plan.history, seed=plan.seed + 1)
    aws.tell("faults", **asdict(plan.faults))
    return Job(
        implementation=who.name,
        count=plan.count,
        seed=plan.seed,
        url=aws.url,
        poll=plan.poll,
        submitted_at=time.time() - plan.age,
        loop=plan.loop,
    )


def _wait_for_the_start(who: Implementation, plan: Plan, aws: Aws, child: Child) -> bool:
    """Return whether every wait has asked, as soon as that is so, or it has taken too long."""
    give_up_at = time.monotonic() + plan.start_limit()
    started = child.said("started", within=plan.start_limit())
    if who.is_null:
        return True
    aws.tell("lists-count", at=started["at"] + started["settling"])
    while aws.figures()["unasked"]:
        if child.has_said("result"):
            raise ChildDied("all waits were over before anything had appeared")
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def let_appear(
    who: Implementation, plan: Plan, aws: Aws, waits: list[Wait], between: tuple[float, float]
) -> tuple[dict[int, float], dict[int, str]]:
    """Let each wait's object appear between two moments; return when, and how each should end."""
    draw = random.Random(plan.seed + 2)
    appeared, expected, objects = {}, {}, []
    for wait in waits if not who.is_null else []:
        fails = who.sees_failures and draw.random() < plan.failures
        expected[wait.index] = FAILED if fails else SUCCEEDED
        appeared[wait.index] = draw.uniform(*between)
        objects.append((wait.failure_key if fails else wait.output_key, appeared[wait.index]))
    aws.add_objects(BUCKET, objects)
    return appeared, expected


def wait_for_the_ends(who: Implementation, plan: Plan, child: Child, last_at: float) -> Mapping[str, Any]:
    """Return what the process tells when all its waits have ended, or are given up."""
    if not who.is_null:
        within = last_at - time.monotonic() + plan.drain_limit()
        try:
            return child.said("result", within=within)
        except ChildDied:
            if child.process.poll() is not None:
                raise
    child.stop()
    return child.said("result", within=90.0)
