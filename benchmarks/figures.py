"""What is made of a run: few numbers, each with a meaning."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from benchmarks.phases import Observed
from benchmarks.ticker import cpu_at

# A wait of so many seconds is what the cost is told for.
WAIT_SECONDS = 300.0

# List prices of S3 in us-east-1, in US dollars for one request. SageMaker's control plane is free.
PRICES: Mapping[str, float] = {
    "HEAD": 0.0004 / 1000,
    "GET": 0.0004 / 1000,
    "LIST": 0.005 / 1000,
    "PUT": 0.005 / 1000,
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """
    The numbers of one run, or the medians of several. Times in seconds, memory in kilobytes.

    :param count: How many waits there were.
    :param start_wall: How long the start took.
    :param start_cpu: CPU of the start.
    :param steady_share: CPU of the steady phase, as a share of one core.
    :param drain_wall: How long the drain took.
    :param drain_cpu: CPU of the drain.
    :param detect_p50: Half of the waits ended within so long after their object had appeared.
    :param detect_p95: Nineteen of twenty did.
    :param pause_max: The longest the event loop was held up, over all phases; ``pause_p99``, only one of a
        hundred ticks was held up for longer.
    :param kilobytes: Memory at its peak less that before the first wait, for one wait.
    :param missed: How many waits never ended.
    :param wrong: How many ended otherwise than they should, or before their object was there.
    :param started: 1 if every wait had asked when the steady phase began, otherwise 0.
    """

    count: float
    start_wall: float
    start_cpu: float
    steady_share: float
    drain_wall: float
    drain_cpu: float
    detect_p50: float
    detect_p95: float
    pause_max: float
    pause_p99: float
    kilobytes: float
    missed: float
    wrong: float
    started: float

    def cpu(self, seconds: float) -> float:
        """Return the CPU of all waits, where each lasts so many seconds."""
        return self.start_cpu + self.steady_share * seconds + self.drain_cpu


def figures_of(seen: Observed, *, count: int) -> Figures:
    """Return the numbers of one run."""
    result, samples = seen.result, [tuple(sample) for sample in seen.result["samples"]]
    begun, steady, over = result["begun_at"], (seen.before["at"], seen.after["at"]), result["ended_at"]
    cpu = [cpu_at(samples, moment) for moment in (seen.ready_at, *steady)]
    late = [sample[1] for sample in samples]
    ends = {int(index): tuple(end) for index, end in result["ends"].items()}
    took = detections(seen.appeared, seen.expected, ends)
    return Figures(
        count=count,
        start_wall=seen.ready_at - begun,
        start_cpu=cpu[0] - result["begun_cpu"],
        steady_share=(cpu[2] - cpu[1]) / (steady[1] - steady[0]),
        drain_wall=over - steady[1],
        drain_cpu=result["ended_cpu"] - cpu[2],
        detect_p50=quantile(took, 0.5),
        detect_p95=quantile(took, 0.95),
        pause_max=max(late, default=math.nan),
        pause_p99=quantile(late, 0.99),
        kilobytes=result["kilobytes"] / count,
        missed=len(seen.appeared.keys() - ends.keys()),
        wrong=len(ends) - len(took),
        started=float(seen.started),
    )


def detections(
    appeared: Mapping[int, float], expected: Mapping[int, str], ends: Mapping[int, tuple[Any, ...]]
) -> list[float]:
    """Return how long after its object each wait ended that ended as it should."""
    return [
        at - appeared[index]
        for index, (at, outcome) in ends.items()
        if index in appeared and outcome == expected[index] and at >= appeared[index]
    ]


def rates(seen: Observed) -> dict[str, float]:
    """
    Return how often each kind of request was made in a second of the steady phase.

    What S3 is not asked is too rare to be seen there: that is counted over the whole run.
    """
    first, last = seen.before, seen.after
    steady = last["at"] - first["at"]
    whole = seen.last["at"] - seen.result["begun_at"]
    found = {}
    for kind, total in seen.last["counts"].items():
        in_steady = last["counts"].get(kind, 0) - first["counts"].get(kind, 0)
        found[kind] = in_steady / steady if kind in PRICES else total / whole
    return found


def dollars(requests: Mapping[str, float]) -> float:
    """Return what requests cost."""
    return sum(PRICES.get(kind, 0.0) * number for kind, number in requests.items())


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value below which a share of the values lies; not a number where there are none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * share
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Iterable[float]) -> float:
    """Return the median of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each number; of what must be none, the sum."""
    found = {f.name: median(getattr(run, f.name) for run in runs) for f in fields(Figures)}
    found |= {name: sum(getattr(run, name) for run in runs) for name in ("missed", "wrong")}
    return Figures(**found)
