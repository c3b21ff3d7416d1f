"""A real triggerer of Airflow: its database is made, it is begun, watched and ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import psutil  # type: ignore[import-untyped]
from sqlalchemy import create_engine, text

from benchmarks import triggerer_tasks
from benchmarks.environment import ROOT
from benchmarks.job import Job
from benchmarks.processes import Child, end

COMMAND_SECONDS = 300.0

_WATCH_SECONDS = 0.5
_RESUMED_SECONDS = 2.0


class Usage:
    """
    What a process and its children use, watched from the side.

    :param process_id: The process.
    """

    def __init__(self, process_id: int) -> None:
        self._root = psutil.Process(process_id)
        self._over = threading.Event()
        self.peak_memory = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def cpu(self) -> float:
        """Return the CPU seconds so far, those of children that have ended included."""
        return sum(sum(times[:4]) for times in self._of_each(lambda process: process.cpu_times()))

    def memory(self) -> float:
        """Return the megabytes in use now."""
        return float(sum(self._of_each(lambda process: process.memory_info().rss)) / 2**20)

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            self.peak_memory = max(self.peak_memory, self.memory())

    def _of_each(self, look: Callable[[psutil.Process], Any]) -> Iterator[Any]:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield look(process)


def prepare(home: Path, job: Job, environment: Mapping[str, str]) -> None:
    """Make the database, and write into it what is deferred."""
    (home / "dags").mkdir()
    (home / "dags" / "bench_waits.py").write_text(triggerer_tasks.DAG_FILE)
    for command in (["db", "reset", "--yes"], ["dags", "reserialize"]):
        subprocess.run(  # noqa: S603 - Airflow's own command
            [sys.executable, "-m", "airflow", *command],
            env=dict(environment),
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
    with Child("benchmarks.triggerer_tasks", ["populate", job.to_json()], environment) as child:
        child.said("done", within=COMMAND_SECONDS)


@contextlib.contextmanager
def running_triggerer(capacity: int, environment: Mapping[str, str], log: TextIO) -> Iterator[Usage]:
    """Run a triggerer, and end it with all that it has begun."""
    command = ["triggerer", "--capacity", str(capacity), "--skip-serve-logs"]
    process = subprocess.Popen(  # noqa: S603 - Airflow's own command
        [sys.executable, "-m", "airflow", *command],
        env=dict(environment),
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    usage = Usage(process.pid)
    try:
        yield usage
    finally:
        usage.stop()
        process.terminate()
        end(process)


def wait_until_resumed(url: str, until: float) -> None:
    """Return when no task instance is deferred any more, or at a moment on the monotonic clock."""
    engine = create_engine(url)
    try:
        while time.monotonic() < until:
            with engine.connect() as connection:
                query = text("SELECT count(*) FROM task_instance WHERE state = 'deferred'")
                if not connection.execute(query).scalar():
                    return
            time.sleep(_RESUMED_SECONDS)
    finally:
        engine.dispose()
