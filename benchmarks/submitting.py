"""``scripts/bench submit``: how fast requests are submitted, beside what boto3 does by itself."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import batch_services, machine
from benchmarks.environment import throw_away_home
from benchmarks.processes import Child
from benchmarks.submitters import WAYS
from benchmarks.tables import markdown, number

_PATIENCE_SECONDS = 600.0


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table."""
    given = _parsed(arguments)
    watch = machine.Watch()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with throw_away_home({}) as environment:
        home = Path(environment["AIRFLOW_HOME"])
        with batch_services.pretended(home, latency=given.latency) as aws:
            variables = {**environment, "AIRFLOW_CONN_AWS_DEFAULT": aws.connection}
            for repetition in range(given.repetitions):
                # Side by side: what the machine does meanwhile changes from minute to minute.
                for way in WAYS:
                    sys.stderr.write(f"{repetition + 1}: {way} ...\n")
                    with (
                        watch.run(),
                        Child("benchmarks.submitters", [way, aws.url, str(given.items)], variables) as child,
                    ):
                        runs[way].append(child.said("done", within=_PATIENCE_SECONDS))
    notes = watch.notes()
    sys.stdout.write(f"{table(runs, given.items)}\n\n{machine.sentence(notes)}\n")
    if given.json:
        given.json.write_text(json.dumps({"machine": notes, "items": given.items, "runs": runs}, indent=1))
    return 0


def table(runs: dict[str, list[dict[str, Any]]], items: int) -> str:
    """Return what each way has cost: the median of its runs, and how far they are apart."""
    lines = []
    for way, found in runs.items():
        rates = [items / one["seconds"] for one in found]
        cpu = [1_000 * one["cpu"] / items for one in found]
        between = f"{number(min(rates))} to {number(max(rates))}"
        lines.append([way, number(statistics.median(rates)), between, number(statistics.median(cpu))])
    return markdown(["", "submissions a second", "of all runs", "CPU of each, ms"], lines)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench submit", description="Measure how fast requests are submitted."
    )
    parser.add_argument("--items", type=int, default=5_000, help="how many requests a run; default 5000")
    parser.add_argument("--latency", type=float, default=0.03, help="of the pretended AWS, in seconds")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each way; default 3")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(arguments)
