"""``airflow-async-sm preflight``: look at an endpoint and its surroundings before money is spent."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.preflight import Check, Level

__all__ = ["add_arguments", "run"]

_NOTHING_FAILED, _SOMETHING_FAILED, _INTERRUPTED = 0, 1, 130

_REGION = r"[a-z0-9-]{1,63}"
_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.FAILED: "1;31"}
_HEADINGS = ("level", "what", "found")
_GAP = "  "
_NARROWEST = 30


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    parser.add_argument("endpoint", metavar="ENDPOINT", type=_endpoint_name, help="name of the endpoint")
    parser.add_argument(
        "--region", type=_region, help="AWS region (default: the connection's, then boto3's own)"
    )
    parser.add_argument(
        "--aws-conn-id",
        metavar="ID",
        help="Airflow connection with the credentials (default: none is used, but boto3's own chain)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """
    Look, print what was found, and return the exit code.

    :param args: What :func:`add_arguments` asked for.
    :return: Exit code: 0 nothing failed, 1 something did, 130 interrupted.
    """
    try:
        checks = _look(args)
    except KeyboardInterrupt:
        return _INTERRUPTED
    text = _json(args.endpoint, checks) if args.json else _table(checks)
    sys.stdout.write(f"{text}\n")
    return _NOTHING_FAILED if _nothing_failed(checks) else _SOMETHING_FAILED


def _look(args: Namespace) -> tuple[Check, ...]:
    with _airflow_kept_quiet(serves_connections=args.aws_conn_id is not None):
        # Airflow and boto3 take seconds to import, and the other commands do not need them.
        from airflow_async_sm.hooks._preflight import PreflightCalls

        return PreflightCalls(args.aws_conn_id, region_name=args.region).preflight(args.endpoint)


@contextlib.contextmanager
def _airflow_kept_quiet(*, serves_connections: bool) -> Iterator[None]:
    """
    Keep what Airflow logs out of the output.

    It logs to standard output, which is for the table, and tells of every connection that is not there.

    :param serves_connections: Whether connections from Airflow's database are needed. Airflow 3 looks there
        only in a process that calls itself a server, as its own ``airflow connections`` does.
    """
    settings = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL"}
    if serves_connections:
        settings["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _nothing_failed(checks: Sequence[Check]) -> bool:
    return all(check.level is not Level.FAILED for check in checks)


def _json(endpoint_name: str, checks: Sequence[Check]) -> str:
    listed = [{"name": check.name, "level": check.level.value, "text": check.text} for check in checks]
    answer = {"endpoint": endpoint_name, "ok": _nothing_failed(checks), "checks": listed}
    return json.dumps(answer, indent=2, ensure_ascii=False)


def _table(checks: Sequence[Check]) -> str:
    """Return the checks in columns: wrapped and coloured for a terminal, one line each otherwise."""
    terminal = sys.stdout.isatty()
    colours = terminal and not os.environ.get("NO_COLOR")
    levels, names = (
        max(map(len, column))
        for column in zip(_HEADINGS[:2], *((check.level.value, check.name) for check in checks), strict=True)
    )
    indent = " " * (levels + names + 2 * len(_GAP))
    width = max(_NARROWEST, shutil.get_terminal_size().columns - len(indent)) if terminal else None

    def line(level: str, name: str, text: str, colour: str | None = None) -> str:
        marked = f"\x1b[{colour}m{level:{levels}}\x1b[0m" if colour else f"{level:{levels}}"
        return f"{marked}{_GAP}{name:{names}}{_GAP}{_wrapped(text, width, indent)}"

    lines = [line(*_HEADINGS)]
    for check in checks:
        colour = _COLOURS[check.level] if colours else None
        lines.append(line(check.level.value, check.name, check.text, colour))
    return "\n".join([*lines, "", _summary(checks)])


def _wrapped(text: str, width: int | None, indent: str) -> str:
    """Return a text on one line, or on lines of a width, each after the first indented."""
    text = " ".join(text.split())
    if width is None:
        return text
    return f"\n{indent}".join(
        textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [text]
    )


def _summary(checks: Sequence[Check]) -> str:
    counts = Counter(check.level for check in checks)
    warned = counts[Level.WARNING]
    warning = f"{warned} warning{'' if warned == 1 else 's'}"
    if counts[Level.FAILED]:
        return f"{counts[Level.FAILED]} failed, {warning}. Mend what failed before a request is paid for."
    return f"Nothing failed, {warning}."


def _endpoint_name(text: str) -> str:
    try:
        return limits.ENDPOINT_NAME.check("ENDPOINT", text)
    except InvalidInput as error:
        raise ArgumentTypeError(str(error)) from error


def _region(text: str) -> str:
    if not re.fullmatch(_REGION, text):
        raise ArgumentTypeError(f"{text!r} is no region; one is named like eu-west-1")
    return text
