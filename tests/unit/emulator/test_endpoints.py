"""Endpoints without an account around them: what may go wrong on the way up and down."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.account.backend import Backend
from airflow_async_sm.emulator.account.endpoints import Endpoint, Site
from airflow_async_sm.emulator.account.plans import AsyncPlan, EndpointPlan
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.models.images import Images
from airflow_async_sm.emulator.timers import Timers
from airflow_async_sm.emulator.work.engine import Tools
from airflow_async_sm.emulator.work.records import RequestLog
from tests.world import PROGRAM, eventually


class NoStorage:
    s3 = None


class OnePlan:
    """Reads the same plan whatever the name."""

    def __init__(self, plan):
        self.plan = plan

    def read(self, config_name, region):
        return self.plan


def plan(**changes):
    asynchronous = AsyncPlan(output=S3Uri("bucket"), failure=None, concurrency=2, as_configured={})
    return EndpointPlan(
        **{
            "config_name": "c",
            "variant_name": "v",
            "instance_count": 1,
            "weight": 1.0,
            "start_timeout": None,
            "image": "program",
            "model_data_url": None,
            "environment": {},
            "asynchronous": asynchronous,
            **changes,
        }
    )


@pytest.fixture
def started(monkeypatch):
    """Return the processes that were started, and end those that a failed test leaves behind."""
    processes = []
    original = subprocess.Popen

    def start(*arguments, **options):
        processes.append(original(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr("airflow_async_sm.emulator.models.containers.subprocess.Popen", start)
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def site(tmp_path, started):
    timers = Timers(Clock())
    timers.start()
    behaviour = Behaviour(creation_seconds=0, deletion_seconds=0, container_stop_grace=1)
    tools = Tools(
        behaviour=behaviour, clock=Clock(), timers=timers, requests=RequestLog(), storage=NoStorage()
    )
    yield Site(url="http://127.0.0.1:1", folder=tmp_path, images=Images({"program": PROGRAM}), tools=tools)
    timers.stop()


def endpoint(site, **changes):
    return Endpoint(name="e", region="r", arn="arn", plan=plan(**changes), site=site)


def came_up(made):
    eventually(lambda: made.status != "Creating")
    return made.status


def no_thread(*words):
    """Return a stand-in for ``Thread.start`` that fails for threads with one of the words in their names."""
    original = threading.Thread.start

    def start(thread):
        if any(word in thread.name for word in words):
            raise RuntimeError("can't start new thread")
        original(thread)

    return start


def test_start_timeout_of_the_variant_wins(site):
    made = endpoint(site, start_timeout=0.3, environment={"MODE": "sick"})
    made.start()
    assert came_up(made) == "Failed"
    assert "within 0.3 seconds" in made.describe()["FailureReason"]
    made.stop()


def test_worker_that_cannot_start_makes_the_endpoint_fail_and_ends_its_container(site, started, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", no_thread("worker-2"))
    made = endpoint(site)
    made.start()
    assert came_up(made) == "Failed"
    assert [process.poll() is not None for process in started] == [True]
    made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("emulator-e-worker")]


def backend(site, *plans):
    made = Backend(account_id="123456789012", plans=OnePlan(plan()), site=site)
    for number, each in enumerate(plans):
        made._plans.plan = each
        made.create_endpoint("r", {"EndpointName": f"e{number}", "EndpointConfigName": "c"})
    eventually(lambda: all(e["EndpointStatus"] != "Creating" for e in made.overview()), within=30)
    return made


def test_endpoint_whose_thread_cannot_start_is_not_there(site, monkeypatch):
    made = Backend(account_id="123456789012", plans=OnePlan(plan()), site=site)
    monkeypatch.setattr(threading.Thread, "start", no_thread("creation"))
    with pytest.raises(RuntimeError):
        made.create_endpoint("r", {"EndpointName": "e", "EndpointConfigName": "c"})
    with pytest.raises(AwsError, match="Could not find"):
        made.describe_endpoint("r", {"EndpointName": "e"})
    made.close()


def test_endpoints_are_stopped_together(site, started):
    stubborn = plan(environment={"MODE": "stubborn"}, instance_count=2)
    made = backend(site, stubborn, stubborn, stubborn)
    assert len(started) == 6
    before = time.monotonic()
    made.close()
    # Each of them takes its whole second.
    assert 1 <= time.monotonic() - before < 2.5
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize("step", ["ask_to_stop", "stop"])
def test_endpoint_that_cannot_be_stopped_does_not_keep_the_others(site, started, monkeypatch, caplog, step):
    made = backend(site, plan(), plan())
    original = getattr(Endpoint, step)

    def broken(endpoint):
        if endpoint.name == "e0":
            raise ZeroDivisionError("a bug of the emulator")
        original(endpoint)

    monkeypatch.setattr(Endpoint, step, broken)
    made.close()
    assert "a bug of the emulator" in caplog.text
    assert all(process.wait(5) is not None for process in started)
    monkeypatch.undo()
    made.close()


def test_interruption_of_the_stop_ends_the_containers_at_once(site, started, monkeypatch):
    made = backend(site, plan(environment={"MODE": "stubborn"}), plan(environment={"MODE": "stubborn"}))

    def interrupted(endpoint):
        raise KeyboardInterrupt

    monkeypatch.setattr(Endpoint, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.close()
    assert all(process.wait(5) is not None for process in started)
    monkeypatch.undo()
    made.close()


def test_requests_of_an_earlier_endpoint_of_the_name_are_not_counted(site):
    made = backend(site, plan())
    made.invoke_async("r", "e0", {}, b"x")
    before = sum(made.overview()[0]["Requests"].values())
    made.delete_endpoint("r", {"EndpointName": "e0"})
    eventually(lambda: made.overview() == [])
    made.create_endpoint("r", {"EndpointName": "e0", "EndpointConfigName": "c"})
    after = sum(made.overview()[0]["Requests"].values())
    made.close()
    assert (before, after) == (1, 0)
