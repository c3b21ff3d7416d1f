"""Threads for what takes real time: starting and stopping programs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_async_sm.emulator.clock import Clock


class Background:
    """
    Threads that can be waited for.

    :param name: For the names of the threads.
    :param clock: Hears that something is going on.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def run(self, what: str, task: Callable[[], None]) -> None:
        """
        Begin a task in a thread of its own.

        :param what: For the thread's name.
        :param task: What to do.
        """
        work = self._clock.working()

        def perform() -> None:
            with work:
                task()

        thread = threading.Thread(target=perform, name=f"emulator-{self._name}-{what}", daemon=True)
        thread.start()
        with self._lock:
            # Only what has started can be joined.
            self._threads = [other for other in self._threads if other.is_alive()]
            self._threads.append(thread)

    def join(self) -> None:
        """Wait for every thread but the one that calls."""
        while True:
            with self._lock:
                alive = [
                    thread
                    for thread in self._threads
                    if thread.is_alive() and thread is not threading.current_thread()
                ]
            if not alive:
                return
            alive[0].join()
