"""The instances of one fleet: which there are, how far each has come, and who takes its next step."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from airflow_async_sm.emulator.models.containers import Container


class Stage(enum.Enum):
    """How far an instance has come."""

    STARTING = enum.auto()  # Its container comes up, for the first time or again.
    READY = enum.auto()  # It is healthy and has no queue to work on.
    JOINING = enum.auto()  # Somebody is handing it to the queue.
    SERVING = enum.auto()  # The queue has it.
    LEAVING = enum.auto()  # It is not wanted any more; its container may still run.


_WITH_THE_QUEUE: Final = (Stage.JOINING, Stage.SERVING)


@dataclass(slots=True, eq=False)
class Instance:
    """One instance. Its container is another one after each start."""

    name: str
    number: int
    concurrency: int
    stage: Stage = Stage.STARTING
    in_service: bool = False
    current: Container | None = None

    @property
    def container(self) -> Container:
        """
        Its container.

        :raises LookupError: it has none yet.
        """
        if self.current is None:
            raise LookupError(f"Instance {self.name} has not been started.")
        return self.current

    @container.setter
    def container(self, container: Container) -> None:
        self.current = container


class Roster:
    """
    The instances of one fleet. Every step of an instance is taken here, under one lock, by one thread only.

    The lock is held for the step alone: nothing is called meanwhile. One that leaves stays known until its
    container has stopped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._desired = 0
        self._wanted: list[Instance] = []
        self._leaving: list[Instance] = []
        self._closed = False

    @property
    def desired(self) -> int:
        """How many instances there shall be."""
        return self._desired

    @property
    def in_service(self) -> int:
        """How many instances serve."""
        with self._lock:
            return sum(instance.in_service for instance in self._wanted)

    # How many there are.

    def want(self, count: int) -> list[Instance]:
        """
        Have another number of instances from now on. The newest go first.

        :param count: How many. A closed roster does not take note of it.
        :return: Those that the caller has to see off.
        """
        with self._lock:
            if self._closed:
                return []
            self._desired = count
            return [instance for instance in self._wanted[count:] if self._part_with(instance)]

    def fill(self, make: Callable[[], Instance]) -> list[Instance]:
        """Add as many instances as are missing, and return them."""
        with self._lock:
            missing = 0 if self._closed else self._desired - len(self._wanted)
            new = [make() for _ in range(missing)]
            self._wanted += new
        return new

    def retire(self) -> tuple[list[Instance], list[Instance]]:
        """
        Want no instance any more, and take no new one.

        :return: Those that the queue has, which finish what they are doing, and those that the caller has to
            see off.
        """
        with self._lock:
            self._closed, self._desired = True, 0
            serving = [instance for instance in self._wanted if instance.stage is Stage.SERVING]
            others = [instance for instance in self._wanted if instance.stage is not Stage.SERVING]
            return serving, [instance for instance in others if self._part_with(instance)]

    def close(self) -> None:
        """Let nothing start from now on."""
        with self._lock:
            self._closed = True

    def containers(self) -> list[Container]:
        """Return every container that may run, also those of instances that leave."""
        with self._lock:
            everyone = (*self._wanted, *self._leaving)
            return [instance.current for instance in everyone if instance.current is not None]

    def clear(self) -> None:
        """Forget every instance."""
        with self._lock:
            for instance in (*self._wanted, *self._leaving):
                instance.in_service, instance.stage = False, Stage.LEAVING
            self._wanted, self._leaving = [], []

    # The steps of one of them.

    def is_wanted(self, instance: Instance) -> bool:
        """Return whether it belongs here and does not leave."""
        with self._lock:
            return instance in self._wanted

    def equip(self, instance: Instance, container: Container) -> bool:
        """Give it the container that is to be started; return whether that may be done."""
        with self._lock:
            may = not self._closed and instance.stage is Stage.STARTING and instance in self._wanted
            if may:
                instance.container = container
            return may

    def make_ready(self, instance: Instance) -> None:
        """Note that it is healthy."""
        with self._lock:
            if instance.stage is Stage.STARTING:
                instance.stage = Stage.READY

    def ready(self) -> list[Instance]:
        """Return those that could serve a queue."""
        with self._lock:
            return [instance for instance in self._wanted if instance.stage is Stage.READY]

    def join(self, instance: Instance) -> bool:
        """Begin to hand it to the queue; return whether this is the one who does so."""
        with self._lock:
            may = not self._closed and instance.stage is Stage.READY
            if may:
                instance.stage = Stage.JOINING
            return may

    def joined(self, instance: Instance) -> bool:
        """
        Note that the queue has it.

        :return: Whether it is still wanted. If it is not, the caller has to see it off.
        """
        with self._lock:
            if instance.stage is Stage.JOINING:
                instance.stage, instance.in_service = Stage.SERVING, True
            return instance.stage is not Stage.LEAVING

    def not_joined(self, instance: Instance) -> None:
        """Note that the queue does not take it. The caller has to see it off."""
        with self._lock:
            self._part_with(instance)

    def start_again(self, instance: Instance) -> bool:
        """Note that the queue has let go of it, for its container is dead; return whether it is wanted."""
        with self._lock:
            may = not self._closed and instance.stage in _WITH_THE_QUEUE
            if may:
                instance.stage = Stage.STARTING
            return may

    def leave(self, instance: Instance) -> bool:
        """Want it no more; return whether the caller has to see it off."""
        with self._lock:
            return instance in self._wanted and self._part_with(instance)

    def forget(self, instance: Instance) -> None:
        """Note that it has left: nothing of it runs."""
        with self._lock:
            if instance in self._leaving:
                self._leaving.remove(instance)

    def _part_with(self, instance: Instance) -> bool:
        """Return whether nobody is handing it to the queue; whoever does sees it off afterwards."""
        if instance not in self._wanted:
            return False
        was, instance.stage, instance.in_service = instance.stage, Stage.LEAVING, False
        self._wanted.remove(instance)
        self._leaving.append(instance)
        return was is not Stage.JOINING
