"""A real Airflow on a bare machine: own home folder, own processes, loopback only, gone afterwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_async_sm.demo.configuration import (
    Login,
    Settings,
    airflow_major,
    environment_of_api_server,
    environment_of_programs,
    free_port,
    write_home,
)
from airflow_async_sm.demo.errors import (
    DagNotFound,
    LocalAirflowError,
    NotReady,
    RestError,
    RunNotFound,
)
from airflow_async_sm.demo.processes import Components
from airflow_async_sm.demo.rest import RestClient, TaskInstance
from airflow_async_sm.demo.signals import ending_signals_held_back, ending_signals_interrupt

Environment = Mapping[str, str] | Callable[[], Mapping[str, str]]

POLL_SECONDS = 0.1

# The option keeps the two from serving logs, which they would do on all interfaces. The logs are read from
# the shared folder anyway.
WORKING_PARTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
SERVERS = ("api-server", "webserver")


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """What exists between start and stop."""

    settings: Settings
    components: Components
    rest: RestClient
    signals: ExitStack


class LocalAirflow:
    """
    Start a real Airflow of the installed version in a temporary folder, and remove it afterwards.

    .. code-block:: python

        with LocalAirflow("dags") as airflow:
            airflow.wait_for_dag("example", timeout=30)
            run_id = airflow.trigger("example")

    It runs with SQLite and the executor that goes with it, listens on one loopback port, takes nothing from
    the caller's Airflow or AWS settings, and cannot see the AWS accounts configured on the machine. Leaving
    the block ends every process that came from it and removes the folder; so do Ctrl-C, SIGTERM and any error
    while starting. Only SIGKILL, which no program can answer, leaves them behind.

    :param dags_folder: Folder with the DAG files. It may hold other files.
    :param environment: Variables for Airflow's programs, for example ``AIRFLOW_CONN_AWS_DEFAULT``; they win
        over all other settings. Or a function that returns them: it is called while the database is being
        made, which is the time to start what they point to. Default: none.
    :param login: User for web page and API. Default ``None``: whoever can reach the port is an administrator.
    :param parallelism: Tasks that run at the same time, default 4. Airflow 2 runs one.
    :param min_heartbeat_interval: Seconds, default ``None``: Airflow's own default (5). A worker of Airflow 3
        may stay this long after its task deferred; a task that resumes earlier can be failed by mistake, and
        1 avoids that.
    :param paused_at_creation: Whether new DAGs are paused, default ``False``. :meth:`trigger` unpauses its
        DAG then.
    :param start_timeout: Seconds until everything has to be healthy, default 120.
    :param on_progress: Called with a short text whenever a step of the start is done. Default: nobody is
        told.
    """

    def __init__(
        self,
        dags_folder: Path | str,
        *,
        environment: Environment | None = None,
        login: Login | None = None,
        parallelism: int = 4,
        min_heartbeat_interval: float | None = None,
        paused_at_creation: bool = False,
        start_timeout: float = 120.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._dags_folder = Path(dags_folder).resolve()
        self._environment = environment or {}
        self._login = login
        self._parallelism = parallelism
        self._min_heartbeat_interval = min_heartbeat_interval
        self._paused_at_creation = paused_at_creation
        self._start_timeout = start_timeout
        self._on_progress = on_progress or (lambda _step: None)
        self._major = airflow_major()
        self._instance: _Instance | None = None

    # ---- life cycle

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start everything and wait until it is healthy.

        :raises ComponentFailed: a program of Airflow ended while starting; carries the end of its log.
        :raises NotReady: it took longer than ``start_timeout``.
        """
        if self._instance is not None:
            raise LocalAirflowError("This Airflow is started already.")
        if not self._dags_folder.is_dir():
            raise LocalAirflowError(f"There is no DAGs folder {self._dags_folder}.")
        signals = ExitStack()
        signals.enter_context(ending_signals_interrupt())
        try:
            with ending_signals_held_back():
                self._instance = self._prepare(signals)
            self._start_programs(self._instance, deadline=time.monotonic() + self._start_timeout)
        except BaseException:
            self.stop()
            signals.close()
            raise

    def stop(self) -> None:
        """
        End every process and remove the home folder. Does nothing if it is not started; about 3 s, at most
        15.
        """
        instance, self._instance = self._instance, None
        if instance is None:
            return
        try:
            with ending_signals_held_back():
                instance.rest.close()
                instance.components.stop(last=SERVERS)
                shutil.rmtree(instance.settings.home, ignore_errors=True)
        finally:
            instance.signals.close()

    def _prepare(self, signals: ExitStack) -> _Instance:
        home = Path(tempfile.mkdtemp(prefix="local-airflow-")).resolve()
        settings = Settings(
            home=home,
            dags_folder=self._dags_folder,
            port=free_port(),
            login=self._login,
            parallelism=self._parallelism,
            min_heartbeat_interval=self._min_heartbeat_interval,
            paused_at_creation=self._paused_at_creation,
        )
        try:
            write_home(settings, major=self._major)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        return _Instance(
            settings=settings,
            components=Components(home, mark=("AIRFLOW_HOME", str(home))),
            rest=RestClient(
                settings.url, major=self._major, login=self._login, ensure_alive=self.ensure_alive
            ),
            signals=signals,
        )

    def _start_programs(self, instance: _Instance, *, deadline: float) -> None:
        components, home = instance.components, instance.settings.home
        known = {} if callable(self._environment) else self._environment
        components.start("db-migrate", _airflow("db", "migrate"), environment_of_programs(home, known))
        additions = self._environment() if callable(self._environment) else known
        environment = environment_of_programs(home, additions)
        if self._major >= 3:
            # The slowest to start. It needs no tables before it answers its first request.
            server = environment_of_api_server(home, environment)
            components.start("api-server", _airflow("api-server"), server)
        components.finish("db-migrate", timeout=deadline - time.monotonic())
        self._on_progress("database made")
        for name, command in WORKING_PARTS.items():
            components.start(name, _airflow(*command), environment)
        if self._major >= 3:
            components.start("dag-processor", _airflow("dag-processor"), environment)
        else:
            self._start_webserver(components, environment, deadline=deadline)
        self._wait_until_healthy(instance, deadline=deadline)

    def _start_webserver(
        self, components: Components, environment: Mapping[str, str], *, deadline: float
    ) -> None:
        """Airflow 2: users live in the database, and the web server makes the roles."""
        if self._login is not None:
            # A random password may begin like an option.
            secret = f"--password={self._login.password}"
            who = ["--username", self._login.username, secret, "--role", "Admin"]
            rest = ["--firstname", "Local", "--lastname", "Admin", "--email", "admin@localhost"]
            components.start("user", _airflow("users", "create", *who, *rest), environment)
            components.finish("user", timeout=deadline - time.monotonic())
            self._on_progress("user made")
        components.start("webserver", _airflow("webserver"), environment)

    def _wait_until_healthy(self, instance: _Instance, *, deadline: float) -> None:
        server = "api-server" if self._major >= 3 else "webserver"
        missing = {server, "scheduler", "triggerer"}
        if self._major >= 3:
            missing.add("dag-processor")
        while missing:
            instance.components.ensure_alive()
            healthy = _healthy(instance.rest, server)
            for name in sorted(missing & healthy):
                self._on_progress(f"{name} healthy")
            missing -= healthy
            if missing and time.monotonic() > deadline:
                name = min(missing)
                raise NotReady(name, self._start_timeout, instance.components.log_tail(name))
            time.sleep(POLL_SECONDS)

    # ---- where it is

    @property
    def home(self) -> Path:
        """
        ``AIRFLOW_HOME``: configuration, database, task logs, and the log of each program. Gone after the
        stop.
        """
        return self._started.settings.home

    @property
    def url(self) -> str:
        """Address of the web page and, below ``/api``, the REST API."""
        return self._started.settings.url

    @property
    def process_ids(self) -> dict[str, int]:
        """Process id of each program; each leads a session that holds whatever it started."""
        return self._started.components.leaders()

    @property
    def _started(self) -> _Instance:
        if self._instance is None:
            raise LocalAirflowError("This Airflow is not started.")
        return self._instance

    @property
    def _rest(self) -> RestClient:
        return self._started.rest

    # ---- what one can ask

    def ensure_alive(self) -> None:
        """
        Look whether all programs are running. Whatever asks them looks as well: a run would wait for a dead
        scheduler for ever.

        :raises ComponentFailed: one has ended; carries the end of its log.
        """
        self._started.components.ensure_alive()

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60.0, file: Path | str | None = None) -> None:
        """
        Wait until a DAG is known.

        :param timeout: Seconds, default 60.
        :param file: The file that holds it, if known: an import error of that file ends the waiting at once.
        :raises DagNotFound: it did not appear; carries the import errors of the folder.
        """
        deadline = time.monotonic() + timeout
        while not self._rest.has_dag(dag_id):
            errors = self._rest.import_errors()
            broken = file is not None and any(Path(name).name == Path(file).name for name in errors)
            if broken or time.monotonic() > deadline:
                raise DagNotFound(dag_id, errors)
            time.sleep(POLL_SECONDS)

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """
        Start a run now.

        :param conf: Parameters of the run, default none.
        :param run_id: Name of the run. Default: Airflow makes one.
        :return: The name of the run.
        """
        if self._paused_at_creation:
            self._rest.unpause(dag_id)
        return self._rest.trigger(dag_id, conf=conf, run_id=run_id)

    def unpause(self, dag_id: str) -> None:
        """Let a DAG be run by its schedule, or by the assets that it waits for."""
        self._rest.unpause(dag_id)

    def is_due(self, dag_id: str) -> bool:
        """Whether the schedule of a DAG makes a run as soon as it is not paused."""
        return self._rest.is_due(dag_id)

    def wait_for_run(self, dag_id: str, *, timeout: float = 60.0) -> str:
        """
        Wait for the first run that a schedule or an asset makes, and return its name.

        :param timeout: Seconds, default 60.
        :raises RunNotFound: there is none.
        """
        deadline = time.monotonic() + timeout
        while not (runs := self._rest.runs(dag_id)):
            if time.monotonic() > deadline:
                raise RunNotFound(dag_id, timeout)
            time.sleep(POLL_SECONDS)
        return runs[0]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run: ``queued``, ``running``, ``success`` or ``failed``."""
        return self._rest.run_state(dag_id, run_id)

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """All tasks of a run as they are now."""
        return self._rest.task_instances(dag_id, run_id)

    def leaf_tasks(self, dag_id: str) -> list[str]:
        """The last tasks of a DAG, teardowns left out."""
        return self._rest.leaf_tasks(dag_id)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1
    ) -> Any:
        """What a task returned, or pushed under a key; ``None`` if there is nothing."""
        return self._rest.xcom(dag_id, run_id, task_id, key=key, map_index=map_index)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, *, map_index: int = -1) -> str:
        """The log of one try of a task, as plain text."""
        return self._rest.log(dag_id, run_id, task_id, try_number, map_index=map_index)

    def occupied_slots(self) -> int:
        """Worker slots in use: tasks of the default pool that run or are on their way to a worker."""
        return self._rest.occupied_slots()


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _healthy(rest: RestClient, server: str) -> set[str]:
    """Names of the parts that answer or have reported to the database lately."""
    try:
        states = rest.health()
    except RestError:
        return set()
    return {server, *(part.replace("_", "-") for part, state in states.items() if state == "healthy")}
