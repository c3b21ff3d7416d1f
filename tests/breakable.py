"""A local Airflow that tests break: its programs and tasks are killed, its tasks cleared."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import psutil

from airflow_async_sm.demo.configuration import environment_of_programs
from airflow_async_sm.demo.errors import RestError
from airflow_async_sm.demo.local_airflow import WORKING_PARTS, LocalAirflow, _airflow


def wait_for(holds, *, within, pause=1.0, story=lambda: ""):
    """Return the first true value of ``holds()``; fail after ``within`` seconds, and tell ``story()``."""
    give_up_at = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < give_up_at, f"did not happen within {within:.0f} s\n{story()}"
        time.sleep(pause)
    return value


class BreakableAirflow(LocalAirflow):
    """Ends programs as a power cut does, and starts them again."""

    def kill(self, name):
        """Kill a program, with everything that it started."""
        # It is forgotten first: everybody who asks Airflow something looks whether all programs run.
        program = self._started.components._started.pop(name).process
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == program.pid:
                    process.kill()
        program.wait(10)

    def start_again(self, name):
        """Start a program that was killed."""
        environment = environment_of_programs(self.home, self._environment)
        self._started.components.start(name, _airflow(*WORKING_PARTS[name]), environment)

    def clear(self, dag_id, run_id, *task_ids):
        """Clear tasks, as a user does on the web page."""
        what = {"dag_run_id": run_id, "task_ids": task_ids, "only_failed": False, "reset_dag_runs": True}
        path = f"/dags/{quote(dag_id)}/clearTaskInstances"
        try:
            self._rest._write("POST", path, json={"dry_run": False, **what})
        except RestError as error:
            # A busy server may be late with the answer. What it was asked for is done nevertheless.
            if error.status is not None:
                raise


class Killer(threading.Thread):
    """
    Kills processes that announce themselves, at moments nobody can foresee.

    :param folder: Where a process announces itself: a file ``<task>~<try>~<leg>`` with its id.
    :param seed: Makes the moments the same in every run, as far as the processes are.
    :param each: How many processes of one task are killed at most.
    :param longest: Longest time from the announcement to the shot, in seconds.
    """

    def __init__(self, folder: Path, *, seed, each, longest):
        super().__init__(daemon=True, name="killer")
        self._folder, self._seed, self._each, self._longest = folder, seed, each, longest
        self._over = threading.Event()
        self._seen: set[str] = set()
        self._due: list[tuple[float, str, psutil.Process]] = []
        self.missed = 0
        self.killed: Counter[str] = Counter()

    def run(self):
        while not self._over.wait(0.02):
            for place in self._folder.iterdir():
                if place.name not in self._seen and not place.name.startswith("."):
                    self._seen.add(place.name)
                    self._aim(place)
            now = time.monotonic()
            for shot in [shot for shot in self._due if shot[0] <= now]:
                self._due.remove(shot)
                self._shoot(*shot[1:])

    def stop(self):
        self._over.set()
        self.join(10)

    def _aim(self, place):
        # A process that ends before it is looked at is one that was missed.
        with contextlib.suppress(psutil.Error):
            delay = random.Random(f"{self._seed} {place.name}").uniform(0, self._longest)
            task = place.name.partition("~")[0]
            self._due.append((time.monotonic() + delay, task, psutil.Process(int(place.read_text()))))

    def _shoot(self, task, process):
        if self.killed[task] >= self._each:
            return
        try:
            # psutil looks whether it still is the process that was announced.
            process.kill()
        except psutil.Error:
            self.missed += 1
        else:
            self.killed[task] += 1
