"""Following a run: states in, numbers out. Time is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from airflow_async_sm.demo.rest import TaskInstance
from airflow_async_sm.demo.runs import (
    POLL_SECONDS,
    Change,
    RunHistory,
    RunReport,
    follow,
    summarise,
)


def task(
    task_id: str,
    state: str | None,
    *,
    map_index: int = -1,
    try_number: int = 1,
    duration: float | None = None,
) -> TaskInstance:
    return TaskInstance(
        task_id=task_id,
        map_index=map_index,
        state=state,
        try_number=try_number,
        started_at=None,
        ended_at=None,
        duration=duration,
    )


def changes(*steps: tuple[float, str | None], task_id: str = "a") -> list[Change]:
    before: str | None = None
    found = []
    for at, state in steps:
        found.append(Change(at=at, task_id=task_id, map_index=-1, before=before, after=state, try_number=1))
        before = state
    return found


Look = tuple[str, list[TaskInstance]]


class ScriptedAirflow:
    """Answers look after look from a list; the last answer is repeated."""

    def __init__(self, looks: Sequence[Look], *, slots: Sequence[int] = (0,)) -> None:
        self._looks = list(looks)
        self._slots = list(slots)
        self._current: Look = ("queued", [])
        self.slot_reads = 0

    def run_state(self, dag_id: str, run_id: str) -> str:
        assert (dag_id, run_id) == ("d", "r")
        self._current = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return self._current[0]

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        assert (dag_id, run_id) == ("d", "r")
        return self._current[1]

    def occupied_slots(self) -> int:
        self.slot_reads += 1
        return self._slots.pop(0) if len(self._slots) > 1 else self._slots[0]


class SteppedClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def follow_script(
    airflow: ScriptedAirflow, *, timeout: float = 60, on_change: Callable[[Change], None] | None = None
) -> RunReport:
    clock = SteppedClock()
    seen = on_change or (lambda _change: None)
    return follow(airflow, "d", "r", timeout=timeout, on_change=seen, clock=clock, sleep=clock.sleep)


class TestSummarise:
    def test_deferral_is_told_apart_from_running(self) -> None:
        seen = changes(
            (1, "queued"), (2, "running"), (3, "deferred"), (9, "queued"), (10, "running"), (11, "success")
        )
        report = summarise(seen, now=50)
        assert report.total_seconds == 9
        assert report.worker_seconds == 2
        assert report.deferred_seconds == 6
        assert report.state == "success"

    def test_last_state_lasts_until_now_if_the_task_has_not_ended(self) -> None:
        report = summarise(changes((1, "running"), (3, "deferred")), now=10)
        assert (report.total_seconds, report.worker_seconds, report.deferred_seconds) == (9, 2, 7)

    def test_task_that_ran_between_two_looks_has_the_duration_airflow_knows(self) -> None:
        report = summarise(changes((1, "queued"), (2, "success")), now=3, duration=0.7)
        assert (report.total_seconds, report.worker_seconds) == (0.7, 0.7)

    def test_airflows_duration_is_not_taken_for_worker_time_if_the_task_deferred(self) -> None:
        report = summarise(changes((0, "running"), (1, "deferred"), (6, "success")), now=9, duration=6.5)
        assert (report.total_seconds, report.worker_seconds, report.deferred_seconds) == (6.5, 1, 5)

    def test_task_that_never_started_took_no_time(self) -> None:
        report = summarise(changes((1, "scheduled"), (4, "queued")), now=8)
        assert (report.total_seconds, report.worker_seconds, report.deferred_seconds) == (0, 0, 0)

    def test_all_tries_count(self) -> None:
        seen = changes((0, "running"), (2, "up_for_retry"), (5, "running"), (6, "success"))
        report = summarise(seen, now=6)
        assert (report.total_seconds, report.worker_seconds) == (6, 3)


class TestRunHistory:
    def test_only_changes_are_reported(self) -> None:
        history = RunHistory()
        assert history.look([task("a", None), task("b", None)], now=0) == []
        (first,) = history.look([task("a", "running"), task("b", None)], now=1)
        assert (first.at, first.label, first.before, first.after) == (1, "a", None, "running")
        assert history.look([task("a", "running"), task("b", None)], now=2) == []
        (second,) = history.look([task("a", "success", try_number=2), task("b", None)], now=3)
        assert (second.before, second.after, second.try_number) == ("running", "success", 2)

    def test_mapped_tasks_are_kept_apart(self) -> None:
        history = RunHistory()
        history.look([task("a", "running", map_index=0), task("a", "deferred", map_index=1)], now=0)
        assert [t.label for t in history.tasks(now=1)] == ["a[0]", "a[1]"]

    @pytest.mark.parametrize("other", ["running", "queued", "restarting"])
    def test_not_only_deferred_while_another_takes_a_slot(self, other: str) -> None:
        history = RunHistory()
        history.look([task("a", "deferred"), task("b", other)], now=0)
        assert history.only_deferred() == frozenset()

    @pytest.mark.parametrize("other", [None, "success", "scheduled"])
    def test_only_deferred_beside_a_task_without_a_slot(self, other: str | None) -> None:
        history = RunHistory()
        history.look([task("a", "deferred"), task("b", other)], now=0)
        assert history.only_deferred() == {("a", -1)}

    def test_slots_count_only_if_the_next_look_finds_the_same_tasks_deferred(self) -> None:
        history = RunHistory()
        history.look([task("a", "deferred")], now=0)
        history.count_slots(3)
        history.look([task("a", "running")], now=1)
        assert history.slots_while_deferred is None
        history.look([task("a", "deferred")], now=2)
        history.count_slots(1)
        history.look([task("a", "deferred")], now=3)
        history.count_slots(0)
        history.look([task("a", "deferred")], now=4)
        assert history.slots_while_deferred == 1


class TestFollow:
    def test_run_with_a_deferral(self) -> None:
        deferred: Look = ("running", [task("a", "deferred"), task("b", None)])
        airflow = ScriptedAirflow(
            [
                ("queued", []),
                ("running", [task("a", "running"), task("b", None)]),
                deferred,
                deferred,
                deferred,
                ("running", [task("a", "success"), task("b", "running")]),
                ("success", [task("a", "success"), task("b", "success")]),
            ]
        )
        seen: list[Change] = []
        report = follow_script(airflow, on_change=seen.append)
        assert [(c.label, c.after) for c in seen] == [
            ("a", "running"),
            ("a", "deferred"),
            ("a", "success"),
            ("b", "running"),
            ("b", "success"),
        ]
        assert report.succeeded
        assert not report.timed_out
        assert report.seconds == pytest.approx(6 * POLL_SECONDS)
        assert report.tasks[0].deferred_seconds == pytest.approx(3 * POLL_SECONDS)
        assert report.tasks[0].worker_seconds == pytest.approx(POLL_SECONDS)
        assert report.slots_while_deferred == 0
        assert airflow.slot_reads == 3
        assert report.failed_tasks == []

    def test_occupied_slots_are_reported_as_they_are(self) -> None:
        deferred: Look = ("running", [task("a", "deferred")])
        end: Look = ("success", [task("a", "success")])
        report = follow_script(ScriptedAirflow([deferred, deferred, deferred, end], slots=[0, 1, 0]))
        assert report.slots_while_deferred == 1

    def test_no_deferral_gives_no_evidence(self) -> None:
        airflow = ScriptedAirflow([("running", [task("a", "running")]), ("success", [task("a", "success")])])
        report = follow_script(airflow)
        assert report.slots_while_deferred is None
        assert airflow.slot_reads == 0

    def test_failed_run_names_the_task_that_failed_itself(self) -> None:
        tasks = [task("a", "success"), task("b", "failed"), task("c", "upstream_failed")]
        report = follow_script(ScriptedAirflow([("failed", tasks)]))
        assert not report.succeeded
        assert [t.label for t in report.failed_tasks] == ["b"]

    def test_timeout_ends_the_following(self) -> None:
        report = follow_script(ScriptedAirflow([("running", [task("a", "running")])]), timeout=5)
        assert report.timed_out
        assert report.state == "running"
        assert 5 <= report.seconds < 5 + POLL_SECONDS
