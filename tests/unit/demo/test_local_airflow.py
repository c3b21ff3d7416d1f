"""Life cycle for both major versions, with small Python programs in the place of Airflow's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from airflow_async_sm.demo import local_airflow
from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.errors import ComponentFailed, NotReady, RestError, RunNotFound
from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.rest import RestClient

# Notes what it was asked for; ends at once if that is a task, goes on if it is a service.
PROGRAM = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    file.write(" ".join(sys.argv[2:4]) + " " + os.environ.get("GIVEN", "-") + "\\n")
    if sys.argv[2] == "users":
        file.write(" ".join(sys.argv[4:]) + "\\n")
if sys.argv[2] not in ("db", "users"):
    time.sleep(600)
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the programs note what they were asked for."""
    file = tmp_path / "asked"
    (tmp_path / "dags").mkdir()
    (tmp_path / "homes").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "homes"))
    monkeypatch.setattr(
        local_airflow, "_airflow", lambda *words: [sys.executable, "-c", PROGRAM, str(file), *words]
    )
    return file


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that first does not answer and then reports one part after the other."""
    answers: Iterator[Any] = iter(
        [RestError("GET /health", None, "refused"), {"scheduler": "healthy", "triggerer": None}]
    )

    def health(_self: RestClient) -> dict[str, str | None]:
        answer = next(answers, dict.fromkeys(["scheduler", "triggerer", "dag_processor"], "healthy"))
        if isinstance(answer, RestError):
            raise answer
        return answer

    monkeypatch.setattr(RestClient, "health", health)


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, major: int, **options: Any) -> LocalAirflow:
    monkeypatch.setattr(local_airflow, "airflow_major", lambda: major)
    return LocalAirflow(tmp_path / "dags", **options)


@pytest.mark.usefixtures("healthy")
def test_programs_of_airflow_3(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    instance = start(tmp_path, monkeypatch, major=3, environment={"GIVEN": "yes"}, on_progress=steps.append)
    with instance as airflow:
        assert set(airflow.process_ids) == {"api-server", "scheduler", "triggerer", "dag-processor"}
        processes = [psutil.Process(pid) for pid in airflow.process_ids.values()]
    assert not psutil.wait_procs(processes, timeout=5)[1]
    assert {line.split()[0] for line in asked.read_text().splitlines()} <= {
        "db",
        "api-server",
        "scheduler",
        "triggerer",
        "dag-processor",
    }
    assert "db migrate yes" in asked.read_text()
    assert steps == [
        "database made",
        "api-server healthy",
        "scheduler healthy",
        "dag-processor healthy",
        "triggerer healthy",
    ]
    assert list((tmp_path / "homes").iterdir()) == []


@pytest.mark.usefixtures("healthy")
def test_programs_of_airflow_2(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    instance = start(
        tmp_path,
        monkeypatch,
        major=2,
        login=Login(username="admin", password="-like-an-option"),
        environment=lambda: {"GIVEN": "late"},
        on_progress=steps.append,
    )
    with instance as airflow:
        assert set(airflow.process_ids) == {"webserver", "scheduler", "triggerer"}
        lines = asked.read_text().splitlines()
    assert "db migrate -" in lines
    assert "users create late" in lines
    # A random password may begin so.
    assert any("--password=-like-an-option " in line for line in lines)
    assert steps[:2] == ["database made", "user made"]
    assert list((tmp_path / "homes").iterdir()) == []


@pytest.mark.usefixtures("asked")
def test_service_that_never_gets_healthy_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on the port, because these programs do not."""
    steps: list[str] = []
    # The time is over as soon as the database is made, however long that takes.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 60 * len(steps), sleep=time.sleep)
    monkeypatch.setattr(local_airflow, "time", clock)
    with pytest.raises(NotReady, match="api-server was not ready after 60 s"):
        start(tmp_path, monkeypatch, major=3, start_timeout=60, on_progress=steps.append).start()
    assert steps == ["database made"]
    assert list((tmp_path / "homes").iterdir()) == []


@pytest.mark.usefixtures("healthy", "asked")
def test_dead_program_is_noticed_by_every_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(tmp_path, monkeypatch, major=3) as airflow:
        scheduler = psutil.Process(airflow.process_ids["scheduler"])
        scheduler.kill()
        # Not collected yet: that is up to its parent, which is us.
        while scheduler.status() != psutil.STATUS_ZOMBIE:
            pass
        with pytest.raises(ComponentFailed, match="scheduler ended with exit code -9"):
            airflow.run_state("d", "r")


@pytest.mark.usefixtures("healthy", "asked")
def test_the_run_that_airflow_makes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[str]] = [[], [], ["by schedule"]]
    monkeypatch.setattr(RestClient, "runs", lambda _self, dag_id: looks.pop(0) if dag_id == "d" else [])
    with start(tmp_path, monkeypatch, major=3) as airflow:
        assert airflow.wait_for_run("d", timeout=30) == "by schedule"
        with pytest.raises(RunNotFound, match="No run of DAG 'other' began within 0 s"):
            airflow.wait_for_run("other", timeout=0)


@pytest.mark.usefixtures("healthy", "asked")
def test_trigger_unpauses_only_where_dags_are_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpaused: list[str] = []
    monkeypatch.setattr(RestClient, "unpause", lambda _self, dag_id: unpaused.append(dag_id))
    monkeypatch.setattr(RestClient, "trigger", lambda _self, dag_id, **_: f"run of {dag_id}")
    with start(tmp_path, monkeypatch, major=3, paused_at_creation=True) as airflow:
        assert airflow.trigger("paused") == "run of paused"
    with start(tmp_path, monkeypatch, major=3) as airflow:
        assert airflow.trigger("active") == "run of active"
    assert unpaused == ["paused"]
