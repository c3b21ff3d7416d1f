"""The threads of one instance: as many as it takes invocations at a time, made when they are needed."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from airflow_async_sm.emulator.clock import Work

log = logging.getLogger(__name__)


class Crew:
    """
    Runs tasks, at most ``size`` at a time.

    :param name: For the names of the threads.
    :param size: How many tasks run at the same time.
    :param freed: Called by a thread after each task, when it is free for another one.
    """

    def __init__(self, name: str, size: int, freed: Callable[[], None]) -> None:
        self._name = name
        self._size = size
        self._freed = freed
        self._lock = threading.Lock()
        self._busy = 0
        self._tasks: queue.SimpleQueue[tuple[Callable[[], None], Work] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def busy(self) -> int:
        """How many tasks are running."""
        return self._busy

    @property
    def is_free(self) -> bool:
        """Whether it can take a task at once."""
        return self._busy < self._size

    @property
    def has_ended(self) -> bool:
        """Whether no thread is left."""
        return not any(thread.is_alive() for thread in self._threads)

    def run(self, task: Callable[[], None], work: Work) -> None:
        """
        Run a task in a thread. The caller has seen that the crew is free.

        :param task: What to do.
        :param work: Ended when the task is over and the next one, if there is one, has begun.
        :raises RuntimeError: the machine has no thread to spare; nothing has changed.
        """
        with self._lock:
            if self._busy == len(self._threads):
                number = len(self._threads) + 1
                thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._busy += 1
            self._tasks.put((task, work))

    def dismiss(self) -> None:
        """End the threads when their tasks have ended, without waiting for that."""
        with self._lock:
            for _ in self._threads:
                self._tasks.put(None)

    def join(self, until: float) -> None:
        """
        Wait for the threads of a dismissed crew.

        :param until: Moment of ``time.monotonic()`` at which to give up.
        """
        for thread in self._threads:
            if thread is threading.current_thread():
                continue
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                log.warning("Thread %s did not end in time", thread.name)

    def _work(self) -> None:
        while (taken := self._tasks.get()) is not None:
            task, work = taken
            with work:
                self._survive(task)
                with self._lock:
                    self._busy -= 1
                self._survive(self._freed)

    def _survive(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # A bug of ours must cost one request and not a thread.
            log.exception("A task of %s failed", self._name)
