"""When a scheduled action is due."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

_FORM: Final = re.compile(r"(?P<kind>at|rate|cron)\((?P<text>[^()]*)\)")
_RATE: Final = re.compile(r"(?P<value>[1-9]\d*) (?P<unit>minute|hour|day)s?")
_UNITS: Final = {"minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_CRON_FIELDS: Final = 6
_WEEKDAY_NUMBER: Final = re.compile(r"(?<!/)\b[1-7]\b")

# Tells whether an action is due after one moment, up to and including another.
Due = Callable[[float, float], bool]


class BadSchedule(ValueError):
    """A schedule that cannot be read. Its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """
    When a scheduled action runs. Times are epoch seconds.

    :param due: Whether it runs between two moments, as far as its expression goes.
    :param begins: A recurring one does not run before this.
    :param ends: A recurring one does not run after this.
    """

    due: Due
    begins: float | None
    ends: float | None

    def runs(self, after: float, until: float) -> bool:
        """Return whether it runs after one moment, up to and including another."""
        if self.begins is not None:
            # A little less, so that the beginning itself belongs to it.
            after = max(after, self.begins - 0.001)
        if self.ends is not None:
            until = min(until, self.ends)
        return after < until and self.due(after, until)


def parse_schedule(
    expression: str,
    *,
    timezone: str | None = None,
    created: float,
    begins: float | None = None,
    ends: float | None = None,
) -> Schedule:
    """
    Return the schedule of an expression.

    :param expression: ``at(yyyy-mm-ddThh:mm:ss)``, ``rate(value unit)`` or ``cron(fields)``. In the six
        fields of cron, ``L``, ``W`` and ``#`` are not imitated.
    :param timezone: Time zone of ``at`` and ``cron``. Default: UTC.
    :param created: When the action was made, or changed. A rate counts from then, or from ``begins``.
    :param begins: When a recurring schedule begins.
    :param ends: When a recurring schedule ends.
    :raises BadSchedule: the expression or the time zone cannot be read, or cron cannot be served here.
    """
    form = _FORM.fullmatch(expression)
    if form is None:
        raise BadSchedule(f"{expression!r} is none of at(...), rate(...) and cron(...).")
    zone = _zone(timezone)
    if form["kind"] == "at":
        # Start and end belong to recurring schedules.
        return Schedule(due=_at(form["text"], zone), begins=None, ends=None)
    if form["kind"] == "rate":
        due = _rate(form["text"], created if begins is None else begins, immediately=begins is not None)
    else:
        due = _cron(form["text"], zone)
    return Schedule(due=due, begins=begins, ends=ends)


def _zone(name: str | None) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise BadSchedule(f"{name!r} is not a time zone.") from error


def _at(text: str, zone: tzinfo) -> Due:
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone).timestamp()
    except ValueError as error:
        raise BadSchedule(f"at({text}) is not at(yyyy-mm-ddThh:mm:ss).") from error
    return lambda after, until: after < moment <= until


def _rate(text: str, origin: float, *, immediately: bool) -> Due:
    form = _RATE.fullmatch(text)
    if form is None:
        raise BadSchedule(f"rate({text}) is not a positive number with minutes, hours or days.")
    every = int(form["value"]) * _UNITS[form["unit"]]
    first = origin if immediately else origin + every

    def due(after: float, until: float) -> bool:
        if until < first:
            return False
        newest = first + (until - first) // every * every
        return newest > after

    return due


def _cron(text: str, zone: tzinfo) -> Due:
    fields = text.split()
    if len(fields) != _CRON_FIELDS or re.search(r"[LW#]", fields[2]) or re.search(r"L\b|#", fields[4]):
        raise BadSchedule(f"cron({text}) does not have six fields, or uses L, W or #.")
    try:
        croniter: Any = importlib.import_module("croniter").croniter
    except ImportError as error:
        raise BadSchedule("cron(...) needs the package croniter, which is not installed.") from error
    minute, hour, day, month, weekday, year = (field.replace("?", "*") for field in fields)
    # AWS counts the days of the week from 1 for Sunday, croniter from 0.
    weekday = _WEEKDAY_NUMBER.sub(lambda number: str(int(number[0]) - 1), weekday)
    try:
        usual = " ".join((minute, hour, day, month, weekday))
        croniter(usual)
        years = _years(year)
    except ValueError as error:
        raise BadSchedule(f"cron({text}) cannot be read: {error}") from error

    def due(after: float, until: float) -> bool:
        # The next time after the end of the minute before; a schedule has no finer grain than a minute.
        following = croniter(usual, datetime.fromtimestamp(after, zone)).get_next(datetime)
        return bool(following.timestamp() <= until and years(following.year))

    return due


def _years(field: str) -> Callable[[int], bool]:
    if field == "*":
        return lambda _year: True
    wanted: set[int] = set()
    for part in field.split(","):
        first, _, last = part.partition("-")
        wanted.update(range(int(first), int(last or first) + 1))
    return wanted.__contains__
