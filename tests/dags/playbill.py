"""Where the examples play: an Airflow, an emulator, and short words for what the tests ask them."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path

from airflow_async_sm.demo.configuration import airflow_major, environment_of_programs
from airflow_async_sm.demo.examples import STARTED_BY
from airflow_async_sm.demo.local_airflow import _airflow
from airflow_async_sm.demo.runs import follow
from tests.world import World

DAGS = Path(__file__).parents[2] / "dags"
EXAMPLES = sorted(path.stem for path in DAGS.glob("example_*.py"))

# One look a second at each of many runs is enough for what is asked here, and leaves the machine to them.
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 480

# What Airflow writes into the log of a task that is deferred.
DEFERS = "Pausing task as DEFERRED"


@cache
def module_of(example):
    """Return the module of an example, for tests of its functions."""
    spec = importlib.util.spec_from_file_location(example, DAGS / f"{example}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def states(report):
    return {task.label: task.state for task in report.tasks}


class Stage:
    """
    Examples that run side by side, because most of the time is spent waiting.

    :param airflow: A :class:`LocalAirflow` with the examples.
    :param emulator: What the examples take for AWS.
    """

    def __init__(self, airflow, emulator):
        self.airflow, self.emulator, self.world = airflow, emulator, World(emulator)
        self._threads = ThreadPoolExecutor(max_workers=2 * len(EXAMPLES))
        self._first: dict[str, Future] = {}
        self._triggering = threading.Lock()

    def begin(self):
        """Start the first run of each example."""
        for example in EXAMPLES:
            self.airflow.wait_for_dag(example, timeout=120, file=f"{example}.py")
            start = self._trigger
            if example in STARTED_BY or self.airflow.is_due(example):
                self.airflow.unpause(example)
                start = partial(self.airflow.wait_for_run, timeout=PATIENCE_SECONDS)
            self._first[example] = self._threads.submit(self._play, example, start)

    def close(self):
        self._threads.shutdown(cancel_futures=True)

    def first(self, example):
        """Return the report of an example's first run, with its defaults, once that has ended."""
        return self._first[example].result(PATIENCE_SECONDS)

    def run(self, example, **conf):
        """Run an example again, with other parameters, to its end; return the report."""
        return self._play(example, partial(self._trigger, conf=conf))

    def backfill(self, example, days):
        """Run an example for days of the past, as an administrator would; return the reports, by day."""
        before = set(self.airflow._rest.runs(example))
        if airflow_major() >= 3:
            period = ["--from-date", f"{min(days)}T00:00:00Z", "--to-date", f"{max(days)}T23:59:59Z"]
            at_once = ["--max-active-runs", str(len(days))]
            command = _airflow("backfill", "create", "--dag-id", example, *period, *at_once)
            environment = environment_of_programs(self.airflow.home, self.airflow._environment)
            subprocess.run(command, env=environment, check=True, timeout=120)
        else:
            # Its backfill is a program of its own with workers of its own. A run with a date is the same day.
            for day in days:
                night = date.fromisoformat(day) + timedelta(days=1)
                dated = {"logical_date": f"{night}T02:00:00Z"}
                with self._triggering:
                    self.airflow._rest._write("POST", f"/dags/{example}/dagRuns", json=dated)
        runs = set(self.airflow._rest.runs(example)) - before
        reports = list(self._threads.map(lambda run: self._play(example, lambda _: run), runs))
        return {self.run_of(report)["data_interval_start"][:10]: report for report in reports}

    def _play(self, example, start):
        report = follow(
            self.airflow,
            example,
            start(example),
            timeout=PATIENCE_SECONDS,
            on_change=lambda change: None,
            sleep=lambda seconds: time.sleep(LOOK_SECONDS),
        )
        # Shown by pytest where a test fails.
        for task in report.tasks:
            if task.state not in {"success", "upstream_failed", "skipped"}:
                print(
                    example, task.label, task.state, self.log(report, task.task_id, task.map_index)[-4_000:]
                )
        return report

    def _trigger(self, example, conf=None):
        # Airflow's SQLite refuses one of two that come at the same moment.
        with self._triggering:
            return self.airflow.trigger(example, conf=conf)

    # ---- what one can ask

    def asked(self, path, **params):
        """Return what the REST API answers."""
        return self.airflow._rest._read(path, params=params)

    def run_of(self, report):
        """Return what the REST API says of a run."""
        return self.asked(f"/dags/{report.dag_id}/dagRuns/{report.run_id}")

    def xcom(self, report, task_id, key="return_value", *, map_index=-1):
        return self.airflow.xcom(report.dag_id, report.run_id, task_id, key, map_index=map_index)

    def log(self, report, task_id, map_index=-1, try_number=1):
        return self.airflow.log(report.dag_id, report.run_id, task_id, try_number, map_index=map_index)

    def deferred(self, report):
        """Return which tasks waited without a worker. Their logs know of waits between two looks, too."""
        return {
            task.label
            for task in report.tasks
            for try_number in range(1, task.try_number + 1)
            if DEFERS in self.log(report, task.task_id, task.map_index, try_number)
        }

    def requests(self, endpoint):
        """Return the requests that an endpoint got."""
        return [request for request in self.emulator.requests() if request.endpoint == endpoint]

    def asset_events(self, example):
        """Return what the events of a DAG's assets (2.11: datasets) say, oldest first."""
        kind = "assets" if airflow_major() >= 3 else "datasets"
        found = self.asked(f"/{kind}/events", source_dag_id=example, order_by="timestamp")
        return [event["extra"] for event in found[f"{kind.removesuffix('s')}_events"]]

    def left_over(self, endpoint):
        """Return what an example forgot to delete: everything is named for its endpoint."""
        control = self.emulator.client("sagemaker")
        return [
            *control.list_endpoints(NameContains=endpoint)["Endpoints"],
            *control.list_endpoint_configs(NameContains=endpoint)["EndpointConfigs"],
            *control.list_models(NameContains=endpoint)["Models"],
        ]
