"""What the suite can be told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fake_aws import Faults
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.phases import Plan

_EVERYBODY = tuple(IMPLEMENTATIONS)
_COMPARED = ("null", "ours", "ours-own", "s3key2", "threads")

# How many waits of whom, where nothing else is said.
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "waits": {"waits": [100], "implementations": _EVERYBODY},
    "curve": {"waits": [10, 100, 1_000, 10_000], "implementations": _COMPARED},
    "reads": {"waits": [1_000], "implementations": ("ours",)},
    "triggerer": {"waits": [100], "implementations": ("null", "ours", "s3key")},
}
_FULL_WAITS: Mapping[str, list[int]] = {"waits": [1_000, 10_000], "triggerer": [1_000]}
_FULL: Mapping[str, Any] = {
    "repetitions": 3,
    "steady": 30.0,
    "spread": 20.0,
    "history": 100_000,
}
_NUMBERS: Sequence[tuple[str, float, str]] = (
    ("--poll", 5.0, "seconds between two looks"),
    ("--steady", 20.0, "seconds that are watched with nothing ending"),
    ("--spread", 10.0, "seconds over which the objects appear"),
    ("--calm", 2.0, "seconds between the start and the steady phase"),
    ("--age", 120.0, "how old requests are when their waits begin, in seconds; reads: 0"),
    ("--minutes", 10.0, "reads: how long the longest wait is"),
    ("--failures", 0.05, "share of requests that fail"),
    ("--latency", 0.02, "how long an answer of AWS takes on average, in seconds"),
    ("--cap", 0.0, "requests in a second above which S3 answers 503; 0: any number"),
    ("--refused", 0.0, "share of S3's answers that are 403"),
)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what was said on the command line, completed."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure what waiting costs; benchmarks/README.md says how to read the table.",
    )
    parser.add_argument("subcommand", nargs="?", choices=list(_USUAL), default="waits")
    parser.add_argument("--waits", type=_counts, help="how many; several with commas")
    parser.add_argument("--implementations", type=_names, help=f"with commas: {', '.join(_EVERYBODY)}")
    parser.add_argument("--full", action="store_true", help="many waits, three times: hours")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="asyncio")
    for name, usual, meaning in _NUMBERS:
        parser.add_argument(name, type=float, default=usual, help=f"{meaning}; default {usual:g}")
    parser.add_argument(
        "--history", type=int, default=10_000, help="old objects in the folder; default 10000"
    )
    parser.add_argument("--heartbeat", type=float, help="Airflow's [workers] min_heartbeat_interval")
    parser.add_argument("--repetitions", type=int, default=1, help="runs of each; the table has the medians")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time: to try out, not to measure")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    if given.full:
        parser.set_defaults(**_FULL, waits=_FULL_WAITS.get(given.subcommand))
        given = parser.parse_args(arguments)
    for name, value in _USUAL[given.subcommand].items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def plans(given: argparse.Namespace) -> list[Plan]:
    """Return what is to be done: a plan for each number of waits and each kind of loop."""
    settings = {}
    if given.heartbeat is not None:
        settings["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = str(given.heartbeat)
    # A triggerer has the loop that it has.
    both = given.loop == "both" and given.subcommand != "triggerer"
    return [
        Plan(
            count=count,
            poll=given.poll,
            loop=loop,
            # Whole intervals, so that everybody looks equally often in it.
            steady=max(1, round(given.steady / given.poll)) * given.poll,
            spread=given.spread,
            calm=given.calm,
            age=0.0 if given.subcommand == "reads" else given.age,
            failures=given.failures,
            history=given.history,
            faults=Faults(latency=given.latency, most_per_second=given.cap, refused=given.refused),
            settings=settings,
        )
        for count in given.waits
        for loop in (["asyncio", "uvloop"] if both else [given.loop])
    ]


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError("at least one wait is needed")
    return counts


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in IMPLEMENTATIONS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names
