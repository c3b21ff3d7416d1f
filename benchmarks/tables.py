"""Tables for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.figures import WAIT_SECONDS, Figures, dollars
from benchmarks.measuring import Row

LONG_WAIT_SECONDS = 600.0

# The head of a column, and what stands in it.
Column = tuple[str, Callable[[Row, Figures], str]]


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many digits that mean something."""
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(0, places)}f}"


def requests(found: Mapping[str, float]) -> str:
    """Return requests by kind, those that are made most first."""
    made = sorted(((kind, value) for kind, value in found.items() if value), key=lambda pair: -pair[1])
    return ", ".join(f"{kind} {number(value)}" for kind, value in made) or "none"


def for_a_thousand(row: Row, seconds: float) -> dict[str, float]:
    """Return the requests for a thousand waits."""
    return {kind: 1000 * made / row.plan.count for kind, made in row.requests(seconds).items()}


def _cost(row: Row) -> str:
    return number(dollars(for_a_thousand(row, WAIT_SECONDS)), 2)


def _pauses(_row: Row, figures: Figures) -> str:
    return f"{1000 * figures.pause_max:.0f} / {1000 * figures.pause_p99:.0f}"


def _detection(_row: Row, figures: Figures) -> str:
    if math.isnan(figures.detect_p50):
        return ""
    return f"{figures.detect_p50:.2f} / {figures.detect_p95:.2f}"


def _without_harness(value: Callable[[Row], float]) -> Callable[[Row, Figures], str]:
    return lambda row, _: "" if row.who.is_null else number(value(row))


SIDE_BY_SIDE: Sequence[Column] = (
    ("", lambda row, _: row.who.title),
    ("waits", lambda row, _: f"{row.plan.count:,}"),
    ("loop", lambda row, _: "threads" if row.who.waiter else row.plan.loop),
    ("start, CPU ms a wait", _without_harness(lambda row: 1000 * row.net_start_cpu() / row.plan.count)),
    ("steady, % of a core", lambda _, figures: number(100 * figures.steady_share)),
    (
        "CPU s for 1,000 waits of 300 s",
        _without_harness(lambda row: 1000 * row.net_cpu(WAIT_SECONDS) / row.plan.count),
    ),
    ("noticed after s, p50 / p95", _detection),
    ("pause of the loop ms, longest / p99", _pauses),
    ("KB a wait", lambda _, figures: number(max(0.0, figures.kilobytes))),
    ("requests for 1,000 waits of 300 s", lambda row, _: requests(for_a_thousand(row, WAIT_SECONDS))),
    ("of 600 s", lambda row, _: requests(for_a_thousand(row, LONG_WAIT_SECONDS))),
    ("$ for 1,000 waits of 300 s", lambda row, _: _cost(row)),
    ("missed", lambda _, figures: f"{figures.missed:.0f}"),
    ("wrong", lambda _, figures: f"{figures.wrong:.0f}"),
)

CURVE: Sequence[Column] = (
    SIDE_BY_SIDE[0],
    SIDE_BY_SIDE[1],
    (
        "CPU ms a wait of 300 s",
        _without_harness(lambda row: 1000 * row.net_cpu(WAIT_SECONDS) / row.plan.count),
    ),
    SIDE_BY_SIDE[3],
    SIDE_BY_SIDE[4],
    (
        "requests a wait of 300 s",
        lambda row, _: number(sum(row.requests(WAIT_SECONDS).values()) / row.plan.count),
    ),
    *(SIDE_BY_SIDE[index] for index in (11, 8, 6, 7, 12, 13)),
)


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *(list(line) for line in lines))
    )


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table of rows; one without figures has its note instead of them."""
    lines = []
    for row in rows:
        if row.figures is None:
            told = [row.who.title, f"{row.plan.count:,}", row.note]
            lines.append(told + [""] * (len(columns) - len(told)))
        else:
            lines.append([cell(row, row.figures) for _, cell in columns])
    found = markdown([head for head, _ in columns], lines)
    notes = [f"{row.who.title}: {row.note}." for row in rows if row.figures is not None and row.note]
    return "\n\n".join([found, *notes])


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows for programs."""
    return [
        {
            "name": row.who.name,
            "waits": row.plan.count,
            "loop": row.plan.loop,
            "note": row.note,
            "requests_per_second": row.rates,
            "net_start_cpu_s": row.net_start_cpu(),
            "net_cpu_s_waits_of_300_s": row.net_cpu(WAIT_SECONDS),
            **({} if row.figures is None else asdict(row.figures)),
        }
        for row in rows
    ]
