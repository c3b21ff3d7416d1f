"""Time that stands until it is moved: everything takes exactly as long as it is set to, and no real time."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_async_sm.emulator import Behaviour
from tests.lab import Lab, make_lab
from tests.world import PROGRAM, eventually

WAITS = Behaviour(
    creation_seconds=300,
    deletion_seconds=60,
    update_seconds=200,
    rollback_seconds=40,
    instance_start_seconds=120,
    queue_seconds=10,
    container_restart_seconds=30,
)


@pytest.fixture(scope="module")
def lab():
    with make_lab(behaviour=WAITS, images={"program": PROGRAM}) as emulator:
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.fixture
def ready(lab):
    """An endpoint that is in service."""
    name = lab.create()
    lab.advance(300)
    assert lab.status(name) == "InService"
    yield name
    lab.emulator.faults.clear()


def takes(lab, seconds, look, before, after):
    """Check that something is as it is until so many seconds have passed, and then not any more."""
    assert look() == before
    lab.advance(seconds - 1)
    assert look() == before
    lab.advance(1)
    assert look() == after


def test_time_stands(lab):
    before = lab.clock.now()
    lab.settle()
    assert lab.clock.now() == before
    assert lab.control_address("GET", "clock") == {"kind": "stepped", "speed": 0.0, "now": before}


def test_creation(lab):
    name, began = lab.create(), lab.clock.now()
    takes(lab, 300, lambda: lab.status(name), "Creating", "InService")
    described = lab.describe(name)
    times = [described[member].timestamp() for member in ("CreationTime", "LastModifiedTime")]
    assert times == pytest.approx([began, began + 300], abs=0.002)


def test_deletion(lab, ready):
    lab.control.delete_endpoint(EndpointName=ready)
    lab.settle()

    def there():
        return [one["EndpointStatus"] for one in lab.control.list_endpoints(NameContains=ready)["Endpoints"]]

    takes(lab, 60, there, ["Deleting"], [])


def test_update_and_its_way_back(lab, ready):
    lab.control.update_endpoint(EndpointName=ready, EndpointConfigName=lab.configure())
    lab.settle()
    takes(lab, 200, lambda: lab.status(ready), "Updating", "InService")
    lab.control.update_endpoint(EndpointName=ready, EndpointConfigName=lab.configure(image="unheard-of"))
    lab.settle()
    takes(lab, 40, lambda: lab.status(ready), "RollingBack", "InService")


def test_instance_that_joins(lab, ready):
    lab.resize(ready, 2)
    takes(lab, 120, lambda: lab.counts(ready), (1, 2), (2, 2))


def test_queue_and_model(lab, ready):
    lab.hold(1000)
    response = lab.submit(ready, InvocationTimeoutSeconds=3600)
    takes(lab, 10, lambda: lab.state(response), "queued", "running")
    takes(lab, 1000, lambda: lab.objects(response), set(), {"output"})
    record = lab.record(response)
    assert record.started_at - record.submitted_at == pytest.approx(10)
    assert record.finished_at - record.started_at == pytest.approx(1000)


@pytest.mark.parametrize("limit", [1, 900, 3600])
def test_time_limit_of_an_invocation(lab, ready, limit):
    lab.hold(100_000)
    response = lab.submit(ready, InvocationTimeoutSeconds=limit)
    lab.advance(10)
    lab.advance(limit - 0.5)
    assert lab.state(response) == "running"
    lab.advance(0.5)
    assert lab.body(response["FailureLocation"]).startswith(b"Timed out uploading object (bucket: ")


def test_default_limits_are_six_hours_and_a_quarter(lab, ready):
    lab.hold(100_000)
    running = lab.submit(ready)
    lab.advance(10)
    lab.advance(900)
    assert lab.objects(running) == {"failure"}
    lab.resize(ready, 0)
    lab.advance(200)
    waiting = lab.submit(ready)
    takes(lab, 21_600, lambda: lab.state(waiting), "queued", "expired")


def test_longest_life_of_a_request_is_seven_hours(lab, ready):
    lab.hold(100_000)
    lab.resize(ready, 0)
    lab.advance(200)
    response = lab.submit(ready, RequestTTLSeconds=21_600, InvocationTimeoutSeconds=3_600)
    # The instance is there just before the request expires.
    lab.advance(21_600 - 121)
    lab.resize(ready, 1)
    lab.advance(120)
    assert lab.state(response) == "running"
    takes(lab, 3_600, lambda: lab.state(response), "running", "failed")
    record = lab.record(response)
    assert record.finished_at - record.submitted_at == pytest.approx(25_199)


def test_notification_has_the_emulators_times(lab):
    inbox = lab.inbox()
    name = lab.create(inbox=inbox)
    lab.advance(300)
    lab.hold(7000)
    response, received = lab.submit(name, InvocationTimeoutSeconds=3600), lab.clock.now()
    lab.advance(3610)
    message = inbox.one(response)
    times = [
        datetime.strptime(message[key], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
        for key in ("receivedTime", "eventTime")
    ]
    assert times == pytest.approx([received, received + 3610], abs=0.002)
    lab.emulator.faults.clear()


def test_programs_are_waited_for(lab):
    """A model that is a program takes real time; the clock does not run away from it."""
    name = lab.create(image="program")
    lab.advance(300)
    assert lab.status(name) == "InService"
    response = lab.submit(name, mode="slow")
    lab.advance(10)
    assert lab.objects(response) == {"output"}
    record = lab.record(response)
    assert record.finished_at - record.started_at < 1


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_container_that_died_is_started_again(lab):
    name = lab.create(image="program", concurrency=1)
    lab.advance(300)
    asked = lab.submit(name, mode="environment_back")
    lab.advance(10)
    pid = json.loads(lab.body(asked["OutputLocation"]))["pid"]
    crashed = lab.submit(name, mode="crash")
    lab.advance(10)
    assert lab.state(crashed) == "failed"
    # A connection is cut a moment before its process has ended.
    eventually(lambda: has_ended(pid))
    following = lab.submit(name)
    lab.advance(10)
    assert lab.state(following) == "queued"
    takes(lab, 30, lambda: lab.state(following), "queued", "succeeded")


def test_a_day_passes_in_no_time(lab, ready):
    began, before = time.monotonic(), lab.clock.now()
    lab.advance(86_400)
    assert lab.clock.now() == before + 86_400
    assert time.monotonic() - began < 30
    # No minute was left out.
    values = lab.metric(ready, "ApproximateBacklogSize", statistic="Average", minutes=1438)
    pauses = {(after["Timestamp"] - one["Timestamp"]).total_seconds() for one, after in pairwise(values)}
    assert (pauses, len(values) > 1400) == ({60.0}, True)


def test_time_is_moved_over_http(lab):
    name, before = lab.create(), lab.clock.now()
    answered = lab.control_address("POST", "clock", {"advance": 299})
    assert answered["now"] == before + 299
    assert lab.status(name) == "Creating"
    lab.control_address("POST", "clock", {"advance": 1, "patience": 20})
    assert lab.status(name) == "InService"
