"""A whole Airflow for batches, seen from the side: what its programs use, and what it wrote down."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from airflow_async_sm.demo.configuration import environment_of_programs
from airflow_async_sm.demo.errors import ComponentFailed
from airflow_async_sm.demo.local_airflow import WORKING_PARTS, LocalAirflow, _airflow
from airflow_async_sm.demo.runs import RUN_ENDED
from benchmarks.airflow_process import Usage
from benchmarks.batch_task import FOLDER_VARIABLE
from benchmarks.environment import ROOT

RUN = "run"
_LOOK_SECONDS = 1.0
_ENDING_SECONDS = 10.0


class BatchAirflow(LocalAirflow):
    """
    An Airflow whose triggerer can be killed, and whose use of the machine can be asked for.

    :param folder: For its DAG files and for what tasks tell of themselves.
    :param connection: The connection to AWS, as an Airflow variable has it.
    :param parallelism: Tasks that run at the same time.
    :param variables: Further variables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        connection: str,
        parallelism: int,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.told = folder / "told"
        self.told.mkdir()
        (folder / "dags").mkdir()
        self._variables = {
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_AWS_DEFAULT": connection,
            FOLDER_VARIABLE: str(self.told),
            # As Airflow has it: the local one looks more often for what to do, which costs a sixth of a core.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            # Triggers change hands soon.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            **(variables or {}),
        }
        super().__init__(
            folder / "dags",
            environment=self._variables,
            parallelism=parallelism,
            min_heartbeat_interval=1,
            start_timeout=300,
        )

    def kill_triggerer(self) -> None:
        """Kill the triggerer with all that it has begun, and start it again."""
        components = self._started.components
        program = components._started.pop("triggerer").process
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == program.pid:
                    process.kill()
        program.wait(_ENDING_SECONDS)
        environment = environment_of_programs(self.home, self._variables)
        components.start("triggerer", _airflow(*WORKING_PARTS["triggerer"]), environment)

    def ensure_alive(self) -> None:
        """Look whether all programs run; a triggerer that SQLite has thrown out is begun again."""
        try:
            super().ensure_alive()
        except ComponentFailed as error:
            if error.component != "triggerer" or "database is locked" not in str(error):
                raise
            sys.stderr.write("the triggerer ended, for the database was locked; another one begins ...\n")
            self.kill_triggerer()

    def usage(self) -> dict[str, Usage]:
        """Begin to watch each program with all that it starts."""
        return {name: Usage(process_id) for name, process_id in self.process_ids.items()}

    def rows(self) -> dict[str, int]:
        """Return how many rows each table of the metadata database has."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True)) as opened:
            tables = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {
                name: opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - its own
                for (name,) in tables
            }

    def begin(self, dag_id: str, *, timeout: float = 300.0) -> None:
        """Start the run of a DAG."""
        self.wait_for_dag(dag_id, timeout=timeout)
        self.trigger(dag_id, run_id=RUN)

    def state(self, dag_id: str) -> str:
        """Return the state of the run."""
        return self.run_state(dag_id, RUN)

    def run(self, dag_id: str, *, timeout: float, meanwhile: Callable[[], object] = lambda: None) -> float:
        """Run a DAG to its end, and return how many seconds that took."""
        self.begin(dag_id)
        began = time.monotonic()
        while self.state(dag_id) not in RUN_ENDED:
            if time.monotonic() - began > timeout:
                raise TimeoutError(f"{dag_id} has not ended after {timeout:.0f} s")
            meanwhile()
            time.sleep(_LOOK_SECONDS)
        return time.monotonic() - began

    def result(self, dag_id: str, task_id: str = "batch") -> Any:
        """Return what a task returned."""
        return self.xcom(dag_id, RUN, task_id)


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """Yield a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="airflow-async-sm-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
