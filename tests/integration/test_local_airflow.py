"""A real Airflow, started once for most tests: what runs in it, what it shows, that it leaves no trace."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from airflow_async_sm.demo.configuration import airflow_major
from airflow_async_sm.demo.errors import ComponentFailed, DagNotFound, LocalAirflowError, NotReady
from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import Change, RunReport, follow

pytestmark = pytest.mark.airflow_processes

DEFERRED_SECONDS = 4

# Triggers are imported by the triggerer, so they have to be in a module and not in a DAG file.
PARTS = """
import asyncio

from airflow.providers.common.compat.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent


class Pause(BaseTrigger):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def serialize(self):
        return ("local_airflow_parts.Pause", {"seconds": self.seconds})

    async def run(self):
        await asyncio.sleep(self.seconds)
        yield TriggerEvent(self.seconds)


class PauseOperator(BaseOperator):
    def __init__(self, *, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context):
        self.defer(trigger=Pause(self.seconds), method_name="resume")

    def resume(self, context, event=None):
        return {"paused": event}
"""

DAGS = """
import os

from local_airflow_parts import PauseOperator

try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task

with DAG("pauses", schedule=None):
    PauseOperator(task_id="pause", seconds=SECONDS)

with DAG("fails", schedule=None, default_args={"retries": 0}):

    @task
    def fail():
        print("about to fail")
        raise ValueError("this went wrong")

    @task
    def after(value):
        return value

    after(fail())

with DAG("echoes", schedule=None):

    @task
    def echo(dag_run=None):
        return dict(dag_run.conf)

    @task
    def double(value):
        return 2 * value

    @task
    def variables():
        prefixes = ("AIRFLOW", "AWS", "DEMO")
        return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}

    @task
    def clean():
        pass

    first = echo()
    setup = variables()
    first >> double.expand(value=[1, 2]) >> setup >> clean().as_teardown(setups=setup)
"""


@pytest.fixture(scope="module")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "dags.py").write_text(DAGS.replace("SECONDS", str(DEFERRED_SECONDS)))
    (folder / "broken.py").write_text("from airflow import DAG\nimport no_such_module_anywhere\n")
    (folder / "notes.txt").write_text("The folder may hold other files.")
    return folder


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "local_airflow_parts.py").write_text(PARTS)
    return folder


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def airflow(dags_folder: Path, parts_folder: Path, steps: list[str]) -> Iterator[LocalAirflow]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", "production")
        patch.setenv("AIRFLOW__CORE__PARALLELISM", "17")
        patch.setenv("DEMO_OF_CALLER", "1")
        path = os.pathsep.join(filter(None, [str(parts_folder), os.environ.get("PYTHONPATH")]))
        instance = LocalAirflow(
            dags_folder,
            environment=lambda: {"PYTHONPATH": path, "DEMO_ADDED": "yes"},
            min_heartbeat_interval=1,
            on_progress=steps.append,
        )
        with instance:
            yield instance


def run_to_end(airflow: LocalAirflow, dag_id: str, **conf: object) -> tuple[RunReport, list[Change]]:
    airflow.wait_for_dag(dag_id)
    run_id = airflow.trigger(dag_id, conf=conf or None)
    changes: list[Change] = []
    report = follow(airflow, dag_id, run_id, timeout=300, on_change=changes.append)
    assert not report.timed_out
    return report, changes


def test_deferral_is_seen_and_takes_no_slot(airflow: LocalAirflow) -> None:
    report, changes = run_to_end(airflow, "pauses")
    assert report.succeeded
    states = [change.after for change in changes]
    assert "deferred" in states
    assert states[-1] == "success"
    (task,) = report.tasks
    assert task.deferred_seconds >= DEFERRED_SECONDS / 2
    assert task.total_seconds > task.deferred_seconds + task.worker_seconds - 0.001
    assert report.slots_while_deferred == 0
    assert airflow.xcom("pauses", report.run_id, "pause") == {"paused": DEFERRED_SECONDS}


def test_failing_task_gives_its_log(airflow: LocalAirflow) -> None:
    report, _ = run_to_end(airflow, "fails")
    assert report.state == "failed"
    assert [(task.task_id, task.state) for task in report.tasks if task.state != "failed"] == [
        ("after", "upstream_failed")
    ]
    (failed,) = report.failed_tasks
    log = airflow.log("fails", report.run_id, failed.task_id, failed.try_number)
    assert "about to fail" in log
    assert "ValueError: this went wrong" in log
    assert airflow.xcom("fails", report.run_id, "fail") is None


@pytest.fixture(scope="module")
def echoes(airflow: LocalAirflow) -> RunReport:
    report, _ = run_to_end(airflow, "echoes", text="hello", number=3)
    assert report.succeeded
    return report


def test_parameters_of_the_run_arrive(airflow: LocalAirflow, echoes: RunReport) -> None:
    assert airflow.xcom("echoes", echoes.run_id, "echo") == {"text": "hello", "number": 3}


def test_mapped_tasks_are_told_apart(airflow: LocalAirflow, echoes: RunReport) -> None:
    values = [airflow.xcom("echoes", echoes.run_id, "double", map_index=index) for index in (0, 1)]
    assert values == [2, 4]
    assert {"double[0]", "double[1]"} <= {task.label for task in echoes.tasks}


def test_teardowns_are_no_leaf_tasks(airflow: LocalAirflow, echoes: RunReport) -> None:
    assert airflow.leaf_tasks("echoes") == ["variables"]


def test_tasks_see_the_given_variables_and_not_the_callers(airflow: LocalAirflow, echoes: RunReport) -> None:
    seen = airflow.xcom("echoes", echoes.run_id, "variables")
    assert seen["DEMO_ADDED"] == "yes"
    assert seen["AIRFLOW_HOME"] == str(airflow.home)
    assert seen["AWS_CONFIG_FILE"] == os.devnull
    assert not {"AWS_PROFILE", "AIRFLOW__CORE__PARALLELISM", "DEMO_OF_CALLER"} & set(seen)


def test_run_id_can_be_chosen(airflow: LocalAirflow) -> None:
    airflow.wait_for_dag("echoes")
    assert airflow.trigger("echoes", run_id="mine") == "mine"
    # Other tests count the slots in use, so it is seen to its end.
    report = follow(airflow, "echoes", "mine", timeout=300, on_change=lambda change: None)
    assert report.succeeded


def test_missing_dag_reports_files_that_cannot_be_imported(airflow: LocalAirflow) -> None:
    with pytest.raises(DagNotFound, match="no_such_module_anywhere"):
        airflow.wait_for_dag("not_there", timeout=60, file="broken.py")


def test_waiting_for_a_missing_dag_is_bounded(airflow: LocalAirflow) -> None:
    began = time.monotonic()
    with pytest.raises(DagNotFound, match="not_there"):
        airflow.wait_for_dag("not_there", timeout=0.5)
    assert time.monotonic() - began < 60


def test_progress_is_told(airflow: LocalAirflow, steps: list[str]) -> None:
    assert steps[0] == "database made"
    assert {"scheduler healthy", "triggerer healthy"} <= set(steps)


def test_cannot_be_started_twice(airflow: LocalAirflow) -> None:
    with pytest.raises(LocalAirflowError, match="started already"):
        airflow.start()
    airflow.ensure_alive()


def test_only_loopback_sockets_are_listened_on(airflow: LocalAirflow) -> None:
    # The sockets of all processes that came from Airflow, workers and triggers included.
    listening = {
        connection.laddr
        for process in processes_of(airflow.process_ids)
        for connection in connections_of(process)
        if connection.status == psutil.CONN_LISTEN and connection.family in {socket.AF_INET, socket.AF_INET6}
    }
    assert listening
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {int(airflow.url.rpartition(":")[2])}


def test_processes_are_those_of_this_version(airflow: LocalAirflow) -> None:
    own = {"api-server", "dag-processor"} if airflow_major() >= 3 else {"webserver"}
    parts = {"scheduler", "triggerer"} | own
    assert set(airflow.process_ids) == parts
    assert len(processes_of(airflow.process_ids)) > len(parts)


# The following start an Airflow of their own.

CHILD = """
import sys, time
from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.local_airflow import LocalAirflow

def tell(step):
    print("step", step, flush=True)

with LocalAirflow(sys.argv[1], on_progress=tell, login=Login.generate(), paused_at_creation=True) as airflow:
    airflow.wait_for_dag("pauses")
    run_id = airflow.trigger("pauses")
    deadline = time.monotonic() + 180
    while not any(task.state == "deferred" for task in airflow.task_instances("pauses", run_id)):
        assert time.monotonic() < deadline, "never deferred"
        time.sleep(0.1)
    print("up", airflow.home, *airflow.process_ids.values(), flush=True)
    time.sleep(600)
"""


def listen_to_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def child(dags_folder: Path, parts_folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join(filter(None, [str(parts_folder), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(dags_folder)],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job has it ignored, and the child would inherit that.
        preexec_fn=listen_to_interrupts,
    )
    try:
        yield process
    finally:
        # It ends its Airflow with itself, if it is asked to.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_interrupt_leaves_nothing_behind(child: subprocess.Popen[str], tmp_path: Path) -> None:
    """With a task waiting in the triggerer. The child also shows that a login and paused DAGs work."""
    assert child.stdout is not None
    line = next(line for line in child.stdout if line.startswith("up"))
    _, home, *pids = line.split()
    assert Path(home).is_dir()
    processes = processes_of({pid: int(pid) for pid in pids})
    assert len(processes) > len(pids)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) != 0
    assert_gone(processes, tmp_path)


def test_request_to_end_while_starting_leaves_nothing_behind(
    child: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "step database made\n"
    wait_for(lambda: len(psutil.Process(child.pid).children()) >= 2)
    processes = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) != 0
    assert_gone(processes, tmp_path)


def test_program_that_dies_while_starting_shows_its_log(
    dags_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    instance = LocalAirflow(dags_folder, environment={"AIRFLOW__CORE__EXECUTOR": "no_such_module.Executor"})
    with pytest.raises(ComponentFailed, match="no_such_module"):
        instance.start()
    assert list(tmp_path.glob("local-airflow-*")) == []
    with pytest.raises(LocalAirflowError, match="not started"):
        _ = instance.home
    instance.stop()


def test_start_is_bounded(dags_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(NotReady, match="was not ready after"):
        LocalAirflow(dags_folder, start_timeout=0.2).start()
    assert list(tmp_path.glob("local-airflow-*")) == []


def test_missing_folder_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(LocalAirflowError, match="no DAGs folder"):
        LocalAirflow(tmp_path / "none").start()


def test_unwritable_home_is_not_left_behind(
    dags_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("airflow_async_sm.demo.local_airflow.write_home", refuse)
    with pytest.raises(OSError, match="disk full"):
        LocalAirflow(dags_folder).start()
    assert list(tmp_path.iterdir()) == []


def processes_of(leaders: dict[str, int]) -> list[psutil.Process]:
    """The living processes in the sessions of these leaders."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in leaders.values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def connections_of(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def assert_gone(processes: list[psutil.Process], folder: Path) -> None:
    """Neither these processes, nor anything that was started for a home in this folder, nor the home."""

    def living() -> list[psutil.Process]:
        # An orphan stays a zombie where there is no init to collect it.
        return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    wait_for(lambda: not living())
    assert list(folder.glob("local-airflow-*")) == []
