"""Follow one run of a DAG: every change of every task, and how long tasks held a worker or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from airflow_async_sm.demo.rest import TaskInstance

POLL_SECONDS = 0.33

RUN_ENDED = frozenset({"success", "failed"})
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
NOT_STARTED = frozenset({None, "scheduled", "queued"})
HOLDS_A_WORKER = frozenset({"running", "restarting"})
TAKES_A_SLOT = frozenset({"queued", *HOLDS_A_WORKER})
DEFERRED = "deferred"

TaskKey = tuple[str, int]


class Followable(Protocol):
    """What is asked of an Airflow while following a run."""

    def run_state(self, dag_id: str, run_id: str) -> str: ...
    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]: ...
    def occupied_slots(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Change:
    """
    A task came into another state.

    :param at: Seconds since the following began. A change is seen at the next look, up to a third of a second
        late.
    :param before: The state seen before; ``None`` if there was none.
    """

    at: float
    task_id: str
    map_index: int
    before: str | None
    after: str | None
    try_number: int

    @property
    def label(self) -> str:
        """Task id, with the position in brackets if the task is mapped."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """
    One task of a run in numbers, all in seconds, all tries together.

    :param total_seconds: From the first start to the end, or until now.
    :param worker_seconds: In which it ran, and so held a worker.
    :param deferred_seconds: In which it waited in the triggerer.
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    changes: tuple[Change, ...]
    total_seconds: float
    worker_seconds: float
    deferred_seconds: float

    @property
    def label(self) -> str:
        return self.changes[0].label


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """
    One run in numbers.

    :param state: State of the run at the last look.
    :param timed_out: Whether the following ended before the run did.
    :param seconds: How long it was followed.
    :param tasks: The tasks in the order in which they came to life.
    :param slots_while_deferred: The highest number of worker slots that were in use while a task was deferred
        and none was running or about to; ``None`` if there was no such moment.
    """

    dag_id: str
    run_id: str
    state: str
    timed_out: bool
    seconds: float
    tasks: tuple[TaskReport, ...]
    slots_while_deferred: int | None

    @property
    def succeeded(self) -> bool:
        return self.state == "success"

    @property
    def failed_tasks(self) -> list[TaskReport]:
        """Tasks that failed themselves, not those that could not start because of them."""
        return [task for task in self.tasks if task.state == "failed"]


def summarise(changes: Sequence[Change], *, now: float, duration: float | None = None) -> TaskReport:
    """
    Compute the numbers of one task from its changes, of which there is at least one.

    :param now: Seconds since the following began; where the last state ends for now.
    :param duration: Seconds of the last try as Airflow counts them. A short task can run between two looks,
        unseen.
    """
    last = changes[-1]
    ends = [change.at for change in changes[1:]] + [last.at if last.after in TASK_ENDED else now]
    spans = [(change.after, change.at, end) for change, end in zip(changes, ends, strict=True)]
    started = [begin for state, begin, _ in spans if state not in NOT_STARTED]
    seen = ends[-1] - started[0] if started else 0.0
    worker = sum(end - begin for state, begin, end in spans if state in HOLDS_A_WORKER)
    deferred = sum(end - begin for state, begin, end in spans if state == DEFERRED)
    known = duration or 0.0
    return TaskReport(
        task_id=last.task_id,
        map_index=last.map_index,
        state=last.after,
        try_number=last.try_number,
        changes=tuple(changes),
        total_seconds=max(seen, known),
        worker_seconds=worker if deferred else max(worker, known),
        deferred_seconds=deferred,
    )


@dataclass
class RunHistory:
    """What was seen of a run. Holds no clock and asks nobody."""

    changes: dict[TaskKey, list[Change]] = field(default_factory=dict)
    slots_while_deferred: int | None = None
    _latest: list[TaskInstance] = field(default_factory=list)
    _unconfirmed: tuple[frozenset[TaskKey], int] | None = None

    def look(self, instances: Sequence[TaskInstance], *, now: float) -> list[Change]:
        """
        Take in the tasks as they are now.

        :param now: Seconds since the following began.
        :return: What changed since the last look.
        """
        new = [change for instance in instances if (change := self._change(instance, now)) is not None]
        self._latest = list(instances)
        self._confirm_slots()
        return new

    def _change(self, instance: TaskInstance, now: float) -> Change | None:
        earlier = self.changes.get((instance.task_id, instance.map_index), [])
        before = earlier[-1].after if earlier else None
        if instance.state == before:
            return None
        change = Change(
            at=now,
            task_id=instance.task_id,
            map_index=instance.map_index,
            before=before,
            after=instance.state,
            try_number=instance.try_number,
        )
        self.changes.setdefault((instance.task_id, instance.map_index), []).append(change)
        return change

    def only_deferred(self) -> frozenset[TaskKey]:
        """The deferred tasks, if there are any and no task takes a worker slot; else nothing."""
        if any(instance.state in TAKES_A_SLOT for instance in self._latest):
            return frozenset()
        return frozenset((i.task_id, i.map_index) for i in self._latest if i.state == DEFERRED)

    def count_slots(self, occupied: int) -> None:
        """
        Take in the number of occupied worker slots, read while tasks were only deferred.

        States and slots cannot be read at the same moment. The number counts once the next look has found the
        same tasks still deferred.
        """
        self._unconfirmed = (self.only_deferred(), occupied)

    def _confirm_slots(self) -> None:
        if self._unconfirmed is not None:
            waiting, occupied = self._unconfirmed
            if waiting == self.only_deferred():
                self.slots_while_deferred = max(occupied, self.slots_while_deferred or 0)
        self._unconfirmed = None

    def tasks(self, *, now: float) -> tuple[TaskReport, ...]:
        """The numbers of all tasks seen so far."""
        durations = {(i.task_id, i.map_index): i.duration for i in self._latest}
        return tuple(
            summarise(changes, now=now, duration=durations.get(key)) for key, changes in self.changes.items()
        )


def follow(
    airflow: Followable,
    dag_id: str,
    run_id: str,
    *,
    timeout: float,
    on_change: Callable[[Change], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RunReport:
    """
    Follow a run to its end, looking three times a second.

    :param timeout: Seconds after which to stop following.
    :param on_change: Called for every change of a task, in the order in which they were seen.
    :param clock: Monotonic seconds.
    :param sleep: Waits for a number of seconds.
    :raises RestError: the API could not be read.
    """
    began = clock()
    history = RunHistory()
    while True:
        # The state of the run comes first: when it has ended, the states of its tasks are the final ones.
        state = airflow.run_state(dag_id, run_id)
        instances = airflow.task_instances(dag_id, run_id)
        for change in history.look(instances, now=clock() - began):
            on_change(change)
        if history.only_deferred():
            history.count_slots(airflow.occupied_slots())
        now = clock() - began
        if state in RUN_ENDED or now >= timeout:
            return RunReport(
                dag_id=dag_id,
                run_id=run_id,
                state=state,
                timed_out=state not in RUN_ENDED,
                seconds=now,
                tasks=history.tasks(now=now),
                slots_while_deferred=history.slots_while_deferred,
            )
        sleep(POLL_SECONDS)
