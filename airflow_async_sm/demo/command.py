"""``airflow-async-sm demo``: run a DAG in a real Airflow against the emulator, show it, and clean up."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.errors import LocalAirflowError
from airflow_async_sm.demo.examples import FIRST, STARTED_BY, find_example, listing
from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import RunReport, TaskReport, follow
from airflow_async_sm.demo.signals import ending_signals_held_back, ending_signals_interrupt
from airflow_async_sm.demo.view import evidence, keep_lines, open_view, task_line, write

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130

DEFAULT_TIMEOUT = 300.0
DAG_TIMEOUT = 60.0
LOG_LINES = 40
RESULT_LINES = 60
KEEP_LOOK_SECONDS = 0.5


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "example",
        nargs="?",
        default=None,
        help=f"name of an example in dags/ below the current folder (default: {FIRST})",
    )
    which.add_argument(
        "--dag-file",
        type=Path,
        default=None,
        help="file with another DAG; the other files of its folder are loaded too, but paused",
    )
    which.add_argument("--list", action="store_true", help="list the examples, and run nothing")
    parser.add_argument("--dag-id", default=None, help="DAG to run (default: the name of the file)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave Airflow and the emulator up until Ctrl-C, and print the login",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="seconds the run may take (default: %(default)g)",
    )


def run(args: Namespace, *, console: Console | None = None) -> int:
    """
    Run the demo.

    :param args: What :func:`add_arguments` asked for.
    :param console: Where to write. Default: standard output.
    :return: Exit code: 0 the run succeeded, 1 it did not or Airflow could not be started, 130 interrupted.
    """
    console = console or Console()
    examples = Path.cwd() / "dags"
    try:
        if args.list:
            for line in listing(examples):
                write(console, line)
            return SUCCESS
        dag_file = (args.dag_file or find_example(examples, args.example or FIRST).file).resolve()
        demo = Demo(
            dag_file=dag_file,
            dag_id=args.dag_id or dag_file.stem,
            keep=args.keep,
            timeout=args.timeout,
            console=console,
        )
        with ending_signals_interrupt():
            return demo.run()
    except KeyboardInterrupt:
        write(console, "Interrupted. Everything is stopped and removed.")
        return INTERRUPTED
    except (LocalAirflowError, DemoError) as error:
        write(console, str(error), style="red")
        return FAILURE


class DemoError(Exception):
    """The demo cannot be run as asked."""


class Demo:
    """
    One run of the demo, from the first line to the last.

    :param dag_file: File with the DAG; its folder is the DAGs folder.
    :param dag_id: DAG to run; where an asset of another example starts it, that one is run first.
    :param keep: Wait for Ctrl-C before cleaning up, and ask for a login.
    :param timeout: Seconds the run may take.
    :param console: Where to write.
    """

    def __init__(self, *, dag_file: Path, dag_id: str, keep: bool, timeout: float, console: Console) -> None:
        self._dag_file = dag_file
        self._dags = dags_to_run(dag_file, dag_id)
        self._timeout = timeout
        self._console = console
        self._login = Login.generate() if keep else None
        self._began = time.monotonic()
        self._resources = ExitStack()
        self._emulator_url = ""

    def run(self) -> int:
        """Start, run, show, clean up."""
        if not self._dag_file.is_file():
            raise DemoError(f"There is no DAG file {self._dag_file}.")
        self._step(f"starting a local Airflow and the emulator for {self._dag_file.name}")
        try:
            airflow = self._start()
            report = self._run_dags(airflow)
            self._tell(airflow, report)
            if self._login is not None:
                self._keep(airflow, self._login)
        finally:
            # An impatient second Ctrl-C must not leave a part of it behind.
            with ending_signals_held_back():
                self._resources.close()
        self._step("stopped, and everything is removed")
        return SUCCESS if report.succeeded else FAILURE

    def _start(self) -> LocalAirflow:
        airflow = LocalAirflow(
            self._dag_file.parent,
            environment=self._start_emulator,
            login=self._login,
            # A prediction may take less than Airflow's default of 5 s.
            min_heartbeat_interval=1,
            # Only the one DAG is to run, whatever schedules its neighbours have.
            paused_at_creation=True,
            on_progress=self._step,
        )
        self._resources.enter_context(airflow)
        for dag_id, file in self._dags.items():
            airflow.wait_for_dag(dag_id, timeout=DAG_TIMEOUT, file=file)
        return airflow

    def _start_emulator(self) -> Mapping[str, str]:
        """Start it while Airflow makes its database, and tell Airflow where it is."""
        try:
            # An optional part, and slow to import.
            from airflow_async_sm.emulator import SageMakerAsyncEmulator, airflow_connection
        except ImportError as error:
            raise DemoError(
                f"The emulator cannot be loaded ({error}). Install airflow-async-sm[emulator]."
            ) from error
        emulator = self._resources.enter_context(SageMakerAsyncEmulator())
        self._emulator_url = emulator.url
        self._step(f"emulator up at {emulator.url}")
        return {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}

    def _run_dags(self, airflow: LocalAirflow) -> RunReport:
        """Run the DAG, and before it the one that starts it. Return what became of the last that ran."""
        first, *then = self._dags
        for dag_id in then:
            # Paused, it would not hear of the asset.
            airflow.unpause(dag_id)
        report = self._follow(airflow, first, self._begin(airflow, first))
        for dag_id in then:
            if not report.succeeded:
                break
            run_id = airflow.wait_for_run(dag_id, timeout=DAG_TIMEOUT)
            self._step(f"run {report.state}; its asset has started DAG {dag_id}, run {run_id}")
            report = self._follow(airflow, dag_id, run_id)
        return report

    def _begin(self, airflow: LocalAirflow, dag_id: str) -> str:
        """Return the run that the schedule makes, or make one."""
        if airflow.is_due(dag_id):
            # A second one, made by hand, would come in its way.
            airflow.unpause(dag_id)
            run_id = airflow.wait_for_run(dag_id, timeout=DAG_TIMEOUT)
            self._step(f"DAG {dag_id} started by its schedule, run {run_id}")
        else:
            run_id = airflow.trigger(dag_id)
            self._step(f"DAG {dag_id} triggered, run {run_id}")
        return run_id

    def _follow(self, airflow: LocalAirflow, dag_id: str, run_id: str) -> RunReport:
        with open_view(self._console) as view:
            report = follow(airflow, dag_id, run_id, timeout=self._timeout, on_change=view.change)
            if len(self._dags) > 1:
                # The other DAG may have taken them.
                report = replace(report, slots_while_deferred=None)
            view.finish(report)
        return report

    def _tell(self, airflow: LocalAirflow, report: RunReport) -> None:
        self.say(evidence(report))
        if report.timed_out:
            self.say(f"The run was still {report.state} after {report.seconds:.0f} s.", style="red")
        for task in report.failed_tasks:
            self._show_log(airflow, report, task)
        if report.succeeded:
            self._show_results(airflow, report)
        style = "green" if report.succeeded else "red"
        self._step(f"run {report.state} after {report.seconds:.1f} s", style=style)

    def _show_log(self, airflow: LocalAirflow, report: RunReport, task: TaskReport) -> None:
        text = airflow.log(
            report.dag_id, report.run_id, task.task_id, task.try_number, map_index=task.map_index
        )
        self.say(f"{task_line(task, slots=None)}. The end of its log:", style="red")
        self.say(relevant_tail(text))

    def _show_results(self, airflow: LocalAirflow, report: RunReport) -> None:
        leaves = airflow.leaf_tasks(report.dag_id)
        for task in report.tasks:
            if task.task_id in leaves and task.state == "success":
                value = airflow.xcom(report.dag_id, report.run_id, task.task_id, map_index=task.map_index)
                if value is None:
                    self.say(f"{task.label} returned nothing.")
                else:
                    self.say(f"{task.label} returned:", style="bold")
                    self.say(pretty(value))

    def _keep(self, airflow: LocalAirflow, login: Login) -> None:
        for line in keep_lines(
            airflow_url=airflow.url, login=login, emulator_url=self._emulator_url, home=str(airflow.home)
        ):
            self.say(line)
        try:
            while True:
                airflow.ensure_alive()
                time.sleep(KEEP_LOOK_SECONDS)
        except KeyboardInterrupt:
            # This is how it is meant to end.
            self._step("stopping")

    def say(self, text: str, *, style: str | None = None) -> None:
        """Write a line."""
        write(self._console, text, style=style)

    def _step(self, text: str, *, style: str | None = None) -> None:
        """Write a line with the seconds since the start of the demo."""
        self.say(f"[{time.monotonic() - self._began:5.1f} s] {text}", style=style)


def dags_to_run(dag_file: Path, dag_id: str) -> dict[str, Path]:
    """Return the DAGs to run, one after the other, and their files."""
    starter = STARTED_BY.get(dag_id, "")
    file = dag_file.with_name(f"{starter}.py")
    # A copy that stands alone has nobody who starts it.
    first = {starter: file} if file.is_file() else {}
    return {**first, dag_id: dag_file}


def relevant_tail(log: str) -> str:
    """The last lines of a task's log, without the markers that fold it in the web page."""
    lines = [line for line in log.splitlines() if "::group::" not in line and "::endgroup::" not in line]
    return "\n".join(lines[-LOG_LINES:])


def pretty(value: Any) -> str:
    """A return value as indented JSON, cut after some lines."""
    lines = json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines()
    cut = [f"... {len(lines) - RESULT_LINES} more lines"] if len(lines) > RESULT_LINES else []
    return "\n".join(lines[:RESULT_LINES] + cut)
