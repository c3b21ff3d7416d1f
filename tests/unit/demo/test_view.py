"""The two views: a table for terminals, plain lines for everything else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.runs import Change, RunReport, summarise
from airflow_async_sm.demo.view import (
    LiveView,
    PlainView,
    evidence,
    keep_lines,
    note,
    open_view,
    task_line,
    write,
)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def change(at: float, before: str | None, after: str, *, map_index: int = -1, try_number: int = 1) -> Change:
    return Change(
        at=at, task_id="invoke", map_index=map_index, before=before, after=after, try_number=try_number
    )


DEFERRED_RUN = [
    change(1.0, None, "running"),
    change(2.0, "running", "deferred"),
    change(8.2, "deferred", "running"),
    change(9.2, "running", "success"),
]


def report_of(changes: list[Change], *, slots: int | None = 0, state: str = "success") -> RunReport:
    return RunReport(
        dag_id="d",
        run_id="r",
        state=state,
        timed_out=False,
        seconds=10.0,
        tasks=(summarise(changes, now=10.0),) if changes else (),
        slots_while_deferred=slots,
    )


def test_view_suits_the_output() -> None:
    assert isinstance(open_view(console(terminal=True)), LiveView)
    assert isinstance(open_view(console(terminal=False)), PlainView)


def test_plain_view_writes_one_line_per_change_and_no_control_codes() -> None:
    output = console(terminal=False)
    with open_view(output) as view:
        for step in DEFERRED_RUN:
            view.change(step)
        view.finish(report_of(DEFERRED_RUN))
    assert text_of(output).splitlines() == [
        "    1.0 s  invoke: running",
        "    2.0 s  invoke: running -> deferred",
        "    8.2 s  invoke: deferred -> running",
        "    9.2 s  invoke: running -> success",
        "invoke: success, 8.2 s, deferred 6.2 s, 0 worker slots",
    ]


def test_text_is_written_as_it_is() -> None:
    output = console(terminal=False)
    write(output, "run [bold]x[/bold] 1.5 " + "y" * 200)
    assert text_of(output) == "run [bold]x[/bold] 1.5 " + "y" * 200 + "\n"


class TestLiveView:
    def test_durations_grow_between_changes(self) -> None:
        now = [100.0]
        view = LiveView(console(terminal=True), clock=lambda: now[0])
        view.change(change(0.5, None, "running"))
        now[0] = 104.0
        assert self.cells(view) == [["invoke"], ["running"], ["4.0"], [""]]
        view.change(change(4.5, "running", "deferred"))
        now[0] = 106.0
        assert self.cells(view) == [["invoke"], ["deferred"], ["6.0"], ["deferred 2.0 s"]]

    def test_last_table_has_the_numbers_of_the_report(self) -> None:
        output = console(terminal=True)
        with LiveView(output) as view:
            for step in DEFERRED_RUN:
                view.change(step)
            view.finish(report_of(DEFERRED_RUN))
        assert self.cells(view) == [["invoke"], ["success"], ["8.2"], ["deferred 6.2 s, 0 worker slots"]]
        assert "deferred 6.2 s, 0 worker slots" in text_of(output)

    def test_mapped_tasks_have_rows_of_their_own(self) -> None:
        view = LiveView(console(terminal=True))
        view.change(change(0, None, "running", map_index=0))
        view.change(change(0, None, "queued", map_index=1))
        assert self.cells(view)[0] == ["invoke[0]", "invoke[1]"]

    @staticmethod
    def cells(view: LiveView) -> list[list[str]]:
        return [[str(cell) for cell in column.cells] for column in view.table().columns]


class TestNote:
    def test_nothing_special(self) -> None:
        task = summarise([change(0, None, "running"), change(1, "running", "success")], now=2)
        assert note(task, slots=0) == ""
        assert task_line(task, slots=0) == "invoke: success, 1.0 s"

    def test_second_try(self) -> None:
        task = summarise([change(0, None, "running", try_number=2)], now=2)
        assert note(task, slots=None) == "try 2"

    def test_slots_that_are_not_known_are_not_claimed(self) -> None:
        assert note(summarise(DEFERRED_RUN, now=10), slots=None) == "deferred 6.2 s"


class TestEvidence:
    @pytest.mark.parametrize("slots", [0, 2])
    def test_counted_slots_are_told(self, slots: int) -> None:
        text = evidence(report_of(DEFERRED_RUN, slots=slots))
        assert "deferred for 6.2 s and ran on a worker for 2.0 s" in text
        assert f"worker slots in use while tasks were only deferred: {slots}." in text

    @pytest.mark.parametrize(("slots", "told"), [(0, "0 worker slots"), (1, "1 worker slot")])
    def test_note_counts_slots(self, slots: int, told: str) -> None:
        assert note(summarise(DEFERRED_RUN, now=10), slots=slots) == f"deferred 6.2 s, {told}"

    def test_uncounted_slots_are_admitted(self) -> None:
        assert "not counted" in evidence(report_of(DEFERRED_RUN, slots=None))

    def test_no_deferral(self) -> None:
        assert evidence(report_of([change(0, None, "running")], slots=None)) == "No task was seen deferred."


def test_keep_block_has_addresses_and_login() -> None:
    text = "\n".join(
        keep_lines(
            airflow_url="http://127.0.0.1:20001",
            login=Login(username="admin", password="pw-123"),
            emulator_url="http://127.0.0.1:20002",
            home="/tmp/home",
        )
    )
    for part in (
        "http://127.0.0.1:20001",
        "http://127.0.0.1:20002",
        "admin",
        "pw-123",
        "/tmp/home",
        "Ctrl-C",
    ):
        assert part in text
