"""The flow of the demo with a scripted Airflow and emulator in the place of the real ones."""

from __future__ import annotations

import io
import json
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from airflow_async_sm import emulator
from airflow_async_sm.demo import command
from airflow_async_sm.demo.errors import ComponentFailed, DagNotFound
from airflow_async_sm.demo.rest import TaskInstance


class FakeEmulator:
    url = "http://127.0.0.1:5555"

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def __enter__(self) -> Self:
        self._events.append("emulator started")
        return self

    def __exit__(self, *_: object) -> None:
        self._events.append("emulator stopped")


class FakeAirflow:
    """Takes the place of LocalAirflow; a test sets what happens."""

    url = "http://127.0.0.1:8080"
    home = Path("/tmp/home")

    def __init__(self) -> None:
        self.events: list[str] = []
        self.followed: list[str] = []
        self.options: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.state = "success"
        self.due: set[str] = set()
        self.on_start: Callable[[], None] = lambda: None
        self.on_known: Callable[[], None] = lambda: None
        self.on_alive: Callable[[], None] = lambda: None
        self.result: Any = {"prediction": 1.5}

    def __call__(self, dags_folder: Path, **options: Any) -> Self:
        self.options = {"dags_folder": dags_folder, **options}
        return self

    def __enter__(self) -> Self:
        self.environment = self.options["environment"]()
        self.options["on_progress"]("database made")
        self.on_start()
        self.events.append("airflow started")
        return self

    def __exit__(self, *_: object) -> None:
        self.events.append("airflow stopped")

    def wait_for_dag(self, dag_id: str, *, timeout: float, file: Path) -> None:
        assert file.stem == dag_id or dag_id == "other"
        self.events.append(f"waited for {dag_id}")
        self.on_known()

    def is_due(self, dag_id: str) -> bool:
        return dag_id in self.due

    def unpause(self, dag_id: str) -> None:
        self.events.append(f"unpaused {dag_id}")

    def wait_for_run(self, dag_id: str, *, timeout: float) -> str:
        self.events.append(f"waited for a run of {dag_id}")
        return f"made-by-airflow-of-{dag_id}"

    def trigger(self, dag_id: str) -> str:
        self.events.append(f"triggered {dag_id}")
        return "run-1"

    def run_state(self, dag_id: str, run_id: str) -> str:
        self.followed.append(run_id)
        return self.state

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        def task(name: str, state: str) -> TaskInstance:
            return TaskInstance(
                task_id=name,
                map_index=-1,
                state=state,
                try_number=1,
                started_at=None,
                ended_at=None,
                duration=2.0,
            )

        return [task("first", "success"), task("last", self.state)]

    def occupied_slots(self) -> int:
        return 0

    def leaf_tasks(self, dag_id: str) -> list[str]:
        return ["last"]

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, map_index: int) -> Any:
        assert task_id == "last"
        return self.result

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, *, map_index: int) -> str:
        return f"::group::Post Execute\nlog of {task_id}, try {try_number}\nValueError: broken\n::endgroup::"

    def ensure_alive(self) -> None:
        self.on_alive()


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> FakeAirflow:
    fake = FakeAirflow()
    monkeypatch.setattr(command, "LocalAirflow", fake)
    monkeypatch.setattr(emulator, "SageMakerAsyncEmulator", lambda: FakeEmulator(fake.events))
    return fake


@pytest.fixture
def dag_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_dag.py"
    file.write_text("")
    return file


def arguments(*words: str) -> Namespace:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def run(*words: str) -> tuple[int, str]:
    output = io.StringIO()
    code = command.run(arguments(*words), console=Console(file=output, width=200))
    return code, output.getvalue()


CLEANED_UP = ["airflow stopped", "emulator stopped"]


def test_success(airflow: FakeAirflow, dag_file: Path) -> None:
    code, output = run("--dag-file", str(dag_file))
    assert code == 0
    assert airflow.events == [
        "emulator started",
        "airflow started",
        "waited for my_dag",
        "triggered my_dag",
        *CLEANED_UP,
    ]
    assert '"prediction": 1.5' in output
    assert "first: success, 2.0 s" in output
    assert "run success" in output
    assert "ValueError" not in output


def test_airflow_is_started_for_the_one_dag_and_the_emulator(airflow: FakeAirflow, dag_file: Path) -> None:
    run("--dag-file", str(dag_file))
    assert airflow.options["dags_folder"] == dag_file.parent
    assert airflow.options["paused_at_creation"] is True
    assert airflow.options["min_heartbeat_interval"] == 1
    assert airflow.options["login"] is None
    connection = json.loads(airflow.environment["AIRFLOW_CONN_AWS_DEFAULT"])
    assert connection["conn_type"] == "aws"
    assert connection["extra"]["endpoint_url"] == FakeEmulator.url


def test_dag_id_can_be_given(airflow: FakeAirflow, dag_file: Path) -> None:
    run("--dag-file", str(dag_file), "--dag-id", "other")
    assert "triggered other" in airflow.events


def test_a_dag_whose_time_has_come_is_not_triggered_as_well(airflow: FakeAirflow, dag_file: Path) -> None:
    airflow.due = {"my_dag"}
    assert run("--dag-file", str(dag_file))[0] == 0
    assert airflow.events[2:-2] == ["waited for my_dag", "unpaused my_dag", "waited for a run of my_dag"]


class TestExamples:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "dags"
        folder.mkdir()
        for name in ("consumer_on_asset", "nightly_batch", "invoke_single"):
            # What fails if it is imported.
            story = f'"""\n### About {name}\n\nA story.\n"""\nraise RuntimeError'
            (folder / f"example_{name}.py").write_text(story)
        return folder

    def test_default_is_the_first(self, airflow: FakeAirflow) -> None:
        assert run()[0] == 0
        assert "triggered example_invoke_single" in airflow.events

    @pytest.mark.parametrize("name", ["example_nightly_batch", "dags/example_nightly_batch.py"])
    def test_one_is_named(self, airflow: FakeAirflow, name: str) -> None:
        assert run(name)[0] == 0
        assert airflow.events[2:-2] == ["waited for example_nightly_batch", "triggered example_nightly_batch"]

    def test_wrong_name_says_which_there_are(self, airflow: FakeAirflow) -> None:
        code, output = run("example_nightly")
        assert code == 1
        there_are = "example_invoke_single, example_consumer_on_asset, example_nightly_batch."
        assert output.strip() == f"There is no example example_nightly. There are: {there_are}"
        assert airflow.events == []

    def test_list_has_a_line_for_each_the_first_first(self, airflow: FakeAirflow) -> None:
        code, output = run("--list")
        assert code == 0
        assert output.splitlines() == [
            "example_invoke_single      About invoke_single",
            "example_consumer_on_asset  About consumer_on_asset",
            "example_nightly_batch      About nightly_batch",
        ]
        assert airflow.events == []

    @pytest.mark.parametrize("words", [["--list"], [], ["example_invoke_single"]])
    def test_folder_without_examples(
        self, airflow: FakeAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
    ) -> None:
        monkeypatch.chdir(tmp_path / "dags")
        code, output = run(*words)
        assert code == 1
        assert "There are no examples in" in output
        assert "--dag-file" in output
        assert airflow.events == []

    @pytest.mark.parametrize(
        "words", [["a", "--dag-file", "b"], ["a", "--list"], ["--list", "--dag-file", "b"]]
    )
    def test_only_one_thing_can_be_asked_for(self, words: list[str]) -> None:
        with pytest.raises(SystemExit):
            arguments(*words)

    def test_one_that_an_asset_starts_comes_after_the_one_that_updates_it(self, airflow: FakeAirflow) -> None:
        code, output = run("example_consumer_on_asset")
        assert code == 0
        assert airflow.events[2:-2] == [
            "waited for example_nightly_batch",
            "waited for example_consumer_on_asset",
            "unpaused example_consumer_on_asset",
            "triggered example_nightly_batch",
            "waited for a run of example_consumer_on_asset",
        ]
        assert airflow.followed == ["run-1", "made-by-airflow-of-example_consumer_on_asset"]
        assert "its asset has started DAG example_consumer_on_asset" in output

    def test_nothing_is_waited_for_where_the_one_before_fails(self, airflow: FakeAirflow) -> None:
        airflow.state = "failed"
        code, output = run("example_consumer_on_asset")
        assert code == 1
        assert "log of last" in output
        assert "waited for a run of example_consumer_on_asset" not in airflow.events

    def test_one_that_an_asset_starts_is_triggered_where_it_stands_alone(
        self, airflow: FakeAirflow, folder: Path
    ) -> None:
        (folder / "example_nightly_batch.py").unlink()
        assert run("example_consumer_on_asset")[0] == 0
        assert "triggered example_consumer_on_asset" in airflow.events


def test_nothing_returned(airflow: FakeAirflow, dag_file: Path) -> None:
    airflow.result = None
    assert "last returned nothing." in run("--dag-file", str(dag_file))[1]


def test_failed_run_shows_the_log_of_the_failing_task(airflow: FakeAirflow, dag_file: Path) -> None:
    airflow.state = "failed"
    code, output = run("--dag-file", str(dag_file))
    assert code == 1
    assert "last: failed, 2.0 s. The end of its log:" in output
    assert "log of last, try 1\nValueError: broken" in output
    assert "::" not in output
    assert "returned" not in output
    assert airflow.events[-2:] == CLEANED_UP


def test_run_that_takes_too_long(airflow: FakeAirflow, dag_file: Path) -> None:
    airflow.state = "running"
    code, output = run("--dag-file", str(dag_file), "--timeout", "0")
    assert code == 1
    assert "still running after 0 s" in output
    assert airflow.events[-2:] == CLEANED_UP


def test_airflow_that_does_not_start_shows_the_components_log(airflow: FakeAirflow, dag_file: Path) -> None:
    def fail() -> None:
        raise ComponentFailed("scheduler", 1, "no such executor")

    airflow.on_start = fail
    code, output = run("--dag-file", str(dag_file))
    assert code == 1
    assert "scheduler ended with exit code 1" in output
    assert "no such executor" in output
    assert airflow.events == ["emulator started", "emulator stopped"]


def test_dag_that_cannot_be_imported(airflow: FakeAirflow, dag_file: Path) -> None:
    def fail() -> None:
        raise DagNotFound("my_dag", {"my_dag.py": "SyntaxError: no"})

    airflow.on_known = fail
    code, output = run("--dag-file", str(dag_file))
    assert code == 1
    assert "my_dag.py:\nSyntaxError: no" in output
    assert airflow.events[-2:] == CLEANED_UP


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_cleans_up(airflow: FakeAirflow, dag_file: Path, number: signal.Signals) -> None:
    airflow.on_known = lambda: signal.raise_signal(number)
    code, output = run("--dag-file", str(dag_file))
    assert code == 130
    assert "Interrupted" in output
    assert airflow.events[-2:] == CLEANED_UP


class TestKeep:
    def test_waits_for_the_interrupt_and_keeps_the_exit_code(
        self, airflow: FakeAirflow, dag_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "KEEP_LOOK_SECONDS", 0.0)
        looks = iter([None, None, signal.SIGINT])

        def interrupt_at_the_third_look() -> None:
            number = next(looks)
            if number is not None:
                signal.raise_signal(number)

        airflow.on_alive = interrupt_at_the_third_look
        code, output = run("--dag-file", str(dag_file), "--keep")
        assert code == 0
        login = airflow.options["login"]
        for part in (FakeAirflow.url, FakeEmulator.url, login.username, login.password):
            assert part in output
        assert airflow.events[-2:] == CLEANED_UP

    def test_ends_when_airflow_dies(self, airflow: FakeAirflow, dag_file: Path) -> None:
        def die() -> None:
            raise ComponentFailed("triggerer", -9, "killed")

        airflow.on_alive = die
        code, output = run("--dag-file", str(dag_file), "--keep")
        assert code == 1
        assert "triggerer ended with exit code -9" in output
        assert airflow.events[-2:] == CLEANED_UP


def test_missing_file_is_reported_before_anything_is_started(airflow: FakeAirflow, tmp_path: Path) -> None:
    code, output = run("--dag-file", str(tmp_path / "none.py"))
    assert code == 1
    assert "There is no DAG file" in output
    assert airflow.events == []


def test_missing_emulator_says_how_to_get_it(
    airflow: FakeAirflow, dag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow_async_sm.emulator", None)
    code, output = run("--dag-file", str(dag_file))
    assert code == 1
    assert "airflow-async-sm[emulator]" in output


def test_relevant_tail_is_bounded() -> None:
    lines = [f"line {i}" for i in range(100)]
    assert command.relevant_tail("\n".join(lines)).splitlines() == lines[-command.LOG_LINES :]


def test_long_results_are_cut_and_say_so() -> None:
    lines = command.pretty(list(range(100))).splitlines()
    assert len(lines) == command.RESULT_LINES + 1
    assert lines[-1] == "... 42 more lines"


def test_results_without_a_json_form_are_shown_as_text() -> None:
    assert command.pretty({"path": Path("/x")}) == '{\n  "path": "/x"\n}'
