"""Threads for what takes real time: starting and stopping programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from airflow_async_sm.emulator.clock import Clock, Work

log = logging.getLogger(__name__)

# A machine that has no thread left may have one a little later.
_PAUSE_SECONDS: Final = 1.0


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
        Begin a task in a thread of its own, or a little later if no thread can be had.

        :param what: For the thread's name.
        :param task: What to do. Nobody hears of an error of it but the log.
        """
        work = self._clock.working()
        try:
            self._begin(threading.Thread(target=partial(self._perform, what, task, work), daemon=True), what)
        except RuntimeError as error:
            work.end()
            log.warning("Endpoint %s waits for a thread for its %s: %s", self._name, what, error)
            self._clock.after(_PAUSE_SECONDS, lambda: self.run(what, task))

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

    def _begin(self, thread: threading.Thread, what: str) -> None:
        thread.name = f"emulator-{self._name}-{what}"
        with self._lock:
            # Under the lock, so that whoever joins sees every thread that has started, and no other.
            thread.start()
            self._threads = [other for other in self._threads if other.is_alive()]
            self._threads.append(thread)

    def _perform(self, what: str, task: Callable[[], None], work: Work) -> None:
        try:
            task()
        except Exception:
            log.exception("The %s of endpoint %s failed", what, self._name)
        finally:
            work.end()
