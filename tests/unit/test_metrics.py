"""What Airflow's own metrics make of ours, down to the client that sends them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from types import SimpleNamespace
from typing import get_args

import pytest

from airflow_async_sm import metrics

IN_THE_TASK = "airflow.sdk.observability.stats"
IN_THE_TRIGGERER = "airflow.observability.stats"
ONE_FOR_ALL = "airflow.stats"
HAS_TWO = find_spec("airflow.sdk") is not None and find_spec("airflow.sdk.observability") is not None
HOMES = [IN_THE_TASK, IN_THE_TRIGGERER] if HAS_TWO else [ONE_FOR_ALL]
LOGGERS = {
    IN_THE_TASK: "airflow.sdk._shared.observability.metrics.statsd_logger",
    IN_THE_TRIGGERER: "airflow._shared.observability.metrics.statsd_logger",
    ONE_FOR_ALL: "airflow.metrics.statsd_logger",
}


class Client:
    """What sends to a StatsD server."""

    def __init__(self):
        self.sent = []

    def incr(self, stat, count=1, rate=1):
        self.sent.append(("incr", stat, count))

    def gauge(self, stat, value, rate=1, delta=False):
        self.sent.append(("gauge", stat, value))

    def timing(self, stat, delta):
        assert isinstance(delta, timedelta)  # a number would be taken for milliseconds
        self.sent.append(("timing", stat, delta.total_seconds()))


def set_up(monkeypatch, home, client):
    """Set the metrics of one place up as Airflow does, but for the client that sends them. Tags are on."""
    logger = import_module(LOGGERS[home]).SafeStatsdLogger
    with_tags = {"influxdb_tags_enabled", "statsd_influxdb_enabled"} & signature(logger).parameters.keys()
    backend = logger(client, **dict.fromkeys(with_tags, True))
    stats = import_module(home).Stats
    if home == ONE_FOR_ALL:
        monkeypatch.setattr(stats, "instance", backend)
        monkeypatch.setattr(stats, "_instance_pid", os.getpid(), raising=False)
    else:
        put(monkeypatch, stats, lambda: backend)


def put(monkeypatch, stats, factory):
    if hasattr(type(stats), "factory"):  # Airflow 3.2
        names, home = ("factory", "instance"), stats
    else:
        names, home = ("_factory", "_backend"), sys.modules[stats.incr.__module__]
    for name, value in zip(names, (factory, None), strict=True):
        monkeypatch.setattr(home, name, value)


@pytest.fixture(autouse=True)
def _nothing_is_set_up(monkeypatch):
    monkeypatch.setattr(metrics, "_has_complained", False)
    metrics._loaded.cache_clear()
    if HAS_TWO:
        for home in HOMES:
            put(monkeypatch, import_module(home).Stats, None)
    yield
    metrics._loaded.cache_clear()


@pytest.fixture(params=HOMES)
def client(request, monkeypatch):
    """Who sends what is counted; the metrics of one place at a time are set up."""
    client = Client()
    set_up(monkeypatch, request.param, client)
    return client


def test_one_thing_is_counted_once(client, caplog):
    metrics.count("submitted")
    assert client.sent == [("incr", "sagemaker_async.submitted", 1)]
    assert not caplog.messages


def test_a_tag_tells_things_apart(client):
    metrics.count("failed", kind="ModelRejected", endpoint_name="churn", inference_id=None)
    ((_, name, _),) = client.sent
    stat, *tags = name.split(",")
    assert stat == "sagemaker_async.failed"
    assert sorted(tags) == ["endpoint_name=churn", "kind=ModelRejected"]


def test_a_tag_that_is_not_known_is_left_out(client):
    metrics.count("failed", kind=None)
    assert client.sent == [("incr", "sagemaker_async.failed", 1)]


def test_a_duration_keeps_its_unit(client):
    metrics.timing("wait_seconds", 12.5)
    assert client.sent == [("timing", "sagemaker_async.wait_seconds", 12.5)]


def test_how_much_there_is_is_told(client):
    metrics.gauge("watcher.waits", 1_000)
    assert client.sent == [("gauge", "sagemaker_async.watcher.waits", 1_000)]


def test_many_are_counted_at_once(client):
    metrics.count("watcher.looks", 12, kind="listing")
    ((what, name, how_many),) = client.sent
    assert (what, name.partition(",")[0], how_many) == ("incr", "sagemaker_async.watcher.looks", 12)


def test_a_duration_that_two_clocks_make_less_than_nothing_is_nothing(client, caplog):
    metrics.timing("wait_seconds", -0.5)
    assert client.sent == [("timing", "sagemaker_async.wait_seconds", 0.0)]
    assert not caplog.messages


@pytest.mark.parametrize("name", get_args(metrics.Counted))
def test_airflow_takes_every_name(client, name):
    metrics.count(name)
    assert client.sent == [("incr", f"sagemaker_async.{name}", 1)]


def test_every_name_is_explained():
    explained = set(re.findall(r"``sagemaker_async\.([\w.]+)``", metrics.__doc__))
    kinds = (metrics.Counted, metrics.Measured, metrics.Timed)
    assert explained == {name for kind in kinds for name in get_args(kind)}


@pytest.mark.skipif(not HAS_TWO, reason="this Airflow has its metrics in one place")
def test_a_process_that_set_both_up_counts_once(monkeypatch):
    """A local executor's task inherits the scheduler's."""
    sent = {home: Client() for home in HOMES}
    for home, client in sent.items():
        set_up(monkeypatch, home, client)
    metrics.count("looks")
    assert [len(client.sent) for client in sent.values()] == [1, 0]


@pytest.mark.skipif(not HAS_TWO, reason="this Airflow has its metrics in one place")
def test_one_that_was_only_used_is_not_set_up(monkeypatch):
    """Airflow 3.2 then puts something in its place that swallows everything."""
    import_module(IN_THE_TASK).Stats.incr("something.else")
    client = Client()
    set_up(monkeypatch, IN_THE_TRIGGERER, client)
    metrics.count("looks")
    assert client.sent == [("incr", "sagemaker_async.looks", 1)]


def test_metrics_that_are_off_are_no_trouble(caplog):
    metrics.count("submitted")
    metrics.timing("wait_seconds", 1.0)
    assert not caplog.messages


def test_a_client_that_fails_is_told_of_once(monkeypatch, caplog):
    tried = []

    def broken(*arguments, **tags):
        tried.append(arguments)
        raise OSError("no network")

    set_up(monkeypatch, HOMES[0], SimpleNamespace(incr=broken, timing=broken, gauge=broken))
    for _ in range(3):
        metrics.count("looks")
        metrics.timing("wait_seconds", 1.0)
        metrics.gauge("watcher.waits", 1)
    assert len(tried) == 9
    assert caplog.messages == ["Metrics of this process are lost: OSError: no network"]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), None])
def test_a_duration_that_is_none_does_not_end_a_task(client, caplog, seconds):
    metrics.timing("wait_seconds", seconds)
    assert client.sent == []
    assert len(caplog.messages) == 1


def test_an_airflow_that_has_its_metrics_elsewhere_is_told_of_once(monkeypatch, caplog):
    for home in LOGGERS:
        monkeypatch.setitem(sys.modules, home, None)
    metrics.count("submitted")
    metrics.timing("wait_seconds", 1.0)
    assert len(caplog.messages) == 1
    assert "ModuleNotFoundError" in caplog.text


def test_an_airflow_that_knows_in_another_way_what_is_set_up_is_believed(monkeypatch):
    sent = []
    stats = SimpleNamespace(incr=lambda name, count=1, tags=None: sent.append(name))
    monkeypatch.setitem(sys.modules, IN_THE_TASK, SimpleNamespace(Stats=stats))
    monkeypatch.setitem(sys.modules, IN_THE_TRIGGERER, SimpleNamespace(Stats=None))
    metrics.count("submitted")
    assert sent == ["sagemaker_async.submitted"]


def test_loading_it_loads_no_metrics():
    program = (
        "import sys, airflow_async_sm.metrics\n"
        "print([name for name in sys.modules if name.startswith('airflow.') and 'stats' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
