"""Show a run as it happens: a live table in a terminal, one plain line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.runs import DEFERRED, Change, RunReport, TaskKey, TaskReport, summarise

COLOURS = {
    "success": "green",
    "failed": "bold red",
    "upstream_failed": "red",
    "running": "bright_green",
    "deferred": "magenta",
    "queued": "bright_black",
    "scheduled": "bright_black",
    "skipped": "yellow",
    "up_for_retry": "yellow",
}


class RunView(Protocol):
    """Takes the changes of a run and shows them."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def change(self, change: Change) -> None: ...
    def finish(self, report: RunReport) -> None: ...


def open_view(console: Console, *, clock: Callable[[], float] = time.monotonic) -> RunView:
    """A view that suits where the console writes to."""
    return LiveView(console, clock=clock) if console.is_terminal else PlainView(console)


class PlainView:
    """One line per change, without control codes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def change(self, change: Change) -> None:
        before = f"{change.before} -> " if change.before else ""
        write(self._console, f"{change.at:7.1f} s  {change.label}: {before}{change.after}")

    def finish(self, report: RunReport) -> None:
        for task in report.tasks:
            write(self._console, task_line(task, slots=report.slots_while_deferred))


class LiveView:
    """
    A table that is redrawn four times a second.

    :param clock: Monotonic seconds; lets durations grow between two changes.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes: dict[TaskKey, tuple[Change, ...]] = {}
        self._began = clock()
        self._report: RunReport | None = None
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def change(self, change: Change) -> None:
        key = (change.task_id, change.map_index)
        if not self._changes:
            self._began = self._clock() - change.at
        # The drawing thread reads this dictionary: replace a whole new one instead of changing it under its
        # hands.
        self._changes = {**self._changes, key: (*self._changes.get(key, ()), change)}

    def finish(self, report: RunReport) -> None:
        self._report = report
        self._live.refresh()

    def table(self) -> Table:
        """The table as of now."""
        slots = None
        if self._report is not None:
            tasks, slots = self._report.tasks, self._report.slots_while_deferred
        else:
            now = self._clock() - self._began
            tasks = tuple(summarise(changes, now=now) for changes in self._changes.values())
        table = Table("task", "state", "seconds", "note", box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.columns[2].justify = "right"
        for task in tasks:
            state = Text(str(task.state), style=COLOURS.get(str(task.state), ""))
            table.add_row(Text(task.label), state, f"{task.total_seconds:.1f}", Text(note(task, slots=slots)))
        return table


def task_line(task: TaskReport, *, slots: int | None) -> str:
    """A task in one line of text."""
    about = note(task, slots=slots)
    return f"{task.label}: {task.state}, {task.total_seconds:.1f} s" + (f", {about}" if about else "")


def note(task: TaskReport, *, slots: int | None) -> str:
    """
    What is special about a task: its deferral and its tries.

    :param slots: Worker slots in use while tasks were only deferred; ``None`` if that is not known.
    """
    notes = []
    if task.deferred_seconds > 0 or task.state == DEFERRED:
        notes.append(f"deferred {task.deferred_seconds:.1f} s")
        if slots is not None:
            notes.append(_slots(slots))
    if task.try_number > 1:
        notes.append(f"try {task.try_number}")
    return ", ".join(notes)


def evidence(report: RunReport) -> str:
    """One sentence about the workers while tasks were deferred."""
    deferred = sum(task.deferred_seconds for task in report.tasks)
    worker = sum(task.worker_seconds for task in report.tasks)
    if not deferred:
        return "No task was seen deferred."
    if report.slots_while_deferred is None:
        known = "there was no moment with deferred tasks only, so worker slots were not counted"
    else:
        known = f"worker slots in use while tasks were only deferred: {report.slots_while_deferred}"
    return f"Tasks were deferred for {deferred:.1f} s and ran on a worker for {worker:.1f} s; {known}."


def _slots(number: int) -> str:
    return f"{number} worker slot{'' if number == 1 else 's'}"


def keep_lines(*, airflow_url: str, login: Login, emulator_url: str, home: str) -> list[str]:
    """What somebody needs who wants to look around."""
    return [
        f"Airflow      {airflow_url}",
        f"  user       {login.username}",
        f"  password   {login.password}",
        f"  command    AIRFLOW_HOME={home} airflow ...",
        f"Emulator     {emulator_url}   (any credentials)",
        "Press Ctrl-C to end both and remove everything.",
    ]


def write(console: Console, text: str, *, style: str | None = None) -> None:
    """Write text as it is: no markup, no colouring of numbers, no folding of long lines."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
