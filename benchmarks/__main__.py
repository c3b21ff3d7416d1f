"""
Measures, and prints a table.

``python -m benchmarks [waits|curve|reads|triggerer|batch|submit|chaos] [...]``
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks import machine, options, reads, tables, triggerer
from benchmarks.measuring import Measurement

# These are about batches, have options of their own, and need the extra ``emulator``.
OF_BATCHES = {"batch": "batches", "submit": "submitting", "chaos": "chaos"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return 1 if any wait was missed or ended wrongly, otherwise 0."""
    said = list(sys.argv[1:] if arguments is None else arguments)
    if said and said[0] in OF_BATCHES:
        module: Any = import_module(f"benchmarks.{OF_BATCHES[said[0]]}")
        return int(module.main(said[1:]))
    given = options.parsed(said)
    watch = machine.Watch()
    found, table, failed = _measured(given, watch)
    notes = watch.notes()
    sys.stdout.write(f"{table}\n\n{machine.sentence(notes)}\n")
    if given.json:
        told = {"subcommand": given.subcommand, "machine": notes, "rows": found}
        given.json.write_text(json.dumps(_in_json(told), indent=1, allow_nan=False) + "\n")
    return int(failed)


def _measured(given: argparse.Namespace, watch: machine.Watch) -> tuple[list[dict[str, Any]], str, bool]:
    """Return the rows for programs, the table for people, and whether any wait was missed or wrong."""
    names, plans = given.implementations, options.plans(given)
    if given.subcommand == "reads":
        seen = reads.watch_all(names, plans, minutes=given.minutes, tell=_tell, watch=watch)
        return [one.figures() for one in seen], reads.table(seen), any(o.missed or o.wrong for o in seen)
    if given.subcommand == "triggerer":
        hosted = triggerer.host_all(names, plans, tell=_tell, watch=watch)
        return [one.figures() for one in hosted], triggerer.table(hosted), any(o.missed for o in hosted)
    measurement = Measurement(tell=_tell, watch=watch, at_once=given.at_once)
    rows = measurement.rows(names, plans, given.repetitions)
    columns = tables.CURVE if given.subcommand == "curve" else tables.SIDE_BY_SIDE
    failed = any(row.figures and (row.figures.missed or row.figures.wrong) for row in rows)
    return tables.as_json(rows), tables.table(columns, rows), failed


def _in_json(value: Any) -> Any:
    """Return a value with null for what is not a number, as JSON wants it."""
    if isinstance(value, dict):
        return {name: _in_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_in_json(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _tell(what: str) -> None:
    sys.stderr.write(f"{what} ...\n")


if __name__ == "__main__":
    # Whoever ends this ends what it has begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
