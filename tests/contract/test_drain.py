"""Draining before a deletion, in time that passes 150 times as fast: a backlog is told once a minute."""

from __future__ import annotations

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.faults import ModelLatency
from airflow_async_sm.exceptions import WaitTimedOut
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger
from tests.deployments import Deployments
from tests.world import QUICK, World, echo

pytestmark = pytest.mark.default_airflow


@pytest.fixture(scope="module")
def world():
    images = {"program": echo}
    with SageMakerAsyncEmulator(images=images, behaviour=QUICK, clock=Clock(speed=150)) as emulator:
        yield World(emulator)


@pytest.fixture
def its(world, run, monkeypatch):
    # A figure counts if it is newer than the task, so both have to live in the same time.
    for kind in (SageMakerAsyncBaseOperator, SageMakerAsyncBaseTrigger):
        monkeypatch.setattr(kind, "clock", lambda self: world.emulator.clock.now())
    yield Deployments(world, run)
    world.emulator.faults.clear()


def test_every_request_is_answered_before_the_endpoint_goes(its, world):
    its.deploy(max_concurrent_invocations_per_instance=1)
    world.emulator.faults.add(ModelLatency(seconds=40))
    submitted = [world.submit(its.name) for _ in range(3)]
    its.delete(drain=True)
    assert not its.exists()
    assert [world.record(one).state for one in submitted] == ["succeeded"] * 3


def test_an_idle_endpoint_goes_after_its_next_figure(its):
    its.deploy()
    its.delete(drain=True)
    assert not its.exists()


def test_an_endpoint_that_is_not_there_has_nothing_to_drain(its):
    its.delete(drain=True)


def test_time_that_runs_out_deletes_nothing(its, world):
    its.deploy(max_concurrent_invocations_per_instance=1)
    # Twenty real seconds; the default limit would end it after six.
    world.emulator.faults.add(ModelLatency(seconds=3000))
    hanging = world.submit(its.name, InvocationTimeoutSeconds=3600)
    with pytest.raises(WaitTimedOut, match="was not drained to a backlog of at most 0 after"):
        its.delete(drain=True, timeout=240)
    assert its.described()["EndpointStatus"] == "InService"
    assert world.record(hanging).state == "running"
    its.delete()
    assert not its.exists()
