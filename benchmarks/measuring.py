"""Runs everybody, one after the other, again and again, and keeps what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from benchmarks import machine
from benchmarks.figures import Figures, figures_of, median, medians, rates
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.phases import Observed, Plan, run
from benchmarks.processes import ChildDied

# What may be taken of the memory that is free.
_SHARE_OF_MEMORY = 0.7


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    What was found of one implementation with one plan.

    :param who: Who waited.
    :param plan: What was done.
    :param figures: The medians; ``None``: there are none, and ``note`` says why.
    :param rates: Requests in a second, by kind.
    :param null: The medians of the harness alone with the same plan.
    :param note: What else is to be said.
    """

    who: Implementation
    plan: Plan
    figures: Figures | None = None
    rates: dict[str, float] = field(default_factory=dict)
    null: Figures | None = None
    note: str = ""

    def requests(self, seconds: float) -> dict[str, float]:
        """Return the requests of all waits by kind, where each lasts so many seconds."""
        return {kind: rate * seconds for kind, rate in self.rates.items()}

    def net_start_cpu(self) -> float:
        """Return the CPU of the start without that of the harness."""
        if self.figures is None:
            return 0.0
        if self.null is None:
            return self.figures.start_cpu
        longer = self.figures.start_wall - self.null.start_wall
        return self.figures.start_cpu - self.null.start_cpu - self.null.steady_share * longer

    def net_cpu(self, seconds: float) -> float:
        """Return the CPU of all waits without that of the harness, where each lasts so many seconds."""
        if self.figures is None:
            return 0.0
        alone = self.null.steady_share if self.null else 0.0
        steady = (self.figures.steady_share - alone) * seconds
        drain = self.figures.drain_cpu - alone * self.figures.drain_wall
        return max(0.0, self.net_start_cpu() + steady + drain)


@dataclass
class Measurement:
    """
    All rows.

    :param tell: Told what is done at the moment.
    :param watch: Watches the machine.
    :param at_once: How many runs there are at a time. More than one is for trying out: they disturb others.
    """

    tell: Callable[[str], object]
    watch: machine.Watch
    at_once: int = 1

    def rows(self, names: Sequence[str], plans: Sequence[Plan], repetitions: int) -> list[Row]:
        """Return a row for everybody with each plan: medians over the repetitions."""
        return [row for plan in plans for row in self._with_one_plan(names, plan, repetitions)]

    def _with_one_plan(self, names: Sequence[str], plan: Plan, repetitions: int) -> Iterator[Row]:
        everybody = [IMPLEMENTATIONS[name] for name in names]
        why_not = {who.name: _why_not(who, plan) for who in everybody}
        seen: dict[str, list[tuple[Observed, Figures]]] = {who.name: [] for who in everybody}
        for repetition in range(repetitions):
            again = replace(plan, seed=plan.seed + 10 * repetition)
            able = [who for who in everybody if not why_not[who.name]]
            with ThreadPoolExecutor(self.at_once) as pool:
                for who, found in zip(able, pool.map(partial(self._once, plan=again), able), strict=True):
                    if isinstance(found, str):
                        why_not[who.name] = found
                    else:
                        seen[who.name].append(found)
        null = medians([figures for _, figures in seen["null"]]) if seen.get("null") else None
        for who in everybody:
            yield _row(who, plan, seen[who.name], null, why_not[who.name])

    def _once(self, who: Implementation, *, plan: Plan) -> tuple[Observed, Figures] | str:
        """Return what was seen, or why nothing was."""
        self.tell(f"{who.name}, {plan.count} waits, {plan.loop}")
        try:
            with self.watch.run():
                seen = run(who, plan)
        except ChildDied as error:
            return str(error)
        return seen, figures_of(seen, count=plan.count)


def _why_not(who: Implementation, plan: Plan) -> str:
    if who.missing:
        return f"needs {', '.join(who.missing)}, which is not installed"
    wanted = who.megabytes * plan.count
    if wanted > _SHARE_OF_MEMORY * machine.free_megabytes():
        return f"would need about {wanted / 1024:.0f} GB of memory, more than there is"
    if who.waiter is not None and plan.loop != "asyncio":
        return "has no event loop"
    return ""


def _row(
    who: Implementation, plan: Plan, seen: list[tuple[Observed, Figures]], null: Figures | None, note: str
) -> Row:
    if not seen:
        return Row(who=who, plan=plan, note=note)
    found = medians([figures for _, figures in seen])
    if found.started < 1:
        note = "not every wait had asked when the steady phase began"
    every = [rates(observed) for observed, _ in seen]
    kinds = sorted({kind for each in every for kind in each})
    return Row(
        who=who,
        plan=plan,
        figures=found,
        rates={kind: median(each.get(kind, 0.0) for each in every) for kind in kinds},
        null=None if who.is_null else null,
        note=note,
    )
