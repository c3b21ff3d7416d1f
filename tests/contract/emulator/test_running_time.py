"""Time that runs by itself, as fast as one likes."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock
from tests.lab import model
from tests.world import World, eventually

# What takes ten minutes takes one second.
SPEED = 600
MINUTES = Behaviour(creation_seconds=300, instance_start_seconds=120, update_seconds=60)


@pytest.fixture(scope="module")
def world():
    with SageMakerAsyncEmulator(
        images={"model": model}, behaviour=MINUTES, clock=Clock(speed=SPEED)
    ) as emulator:
        yield World(emulator)


def test_it_cannot_be_moved(world):
    request = urllib.request.Request(f"{world.emulator.url}/_emulator/clock", data=b'{"advance": 1}')
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    with refused.value as answer:
        assert (answer.code, "only a stepped one" in json.load(answer)["error"]) == (409, True)


def test_minutes_pass_in_less_than_a_second_each(world):
    clock, began = world.emulator.clock, time.monotonic()
    before = clock.now()
    name = world.deploy(image="model")
    assert clock.now() - before >= 300
    change = world.control.update_endpoint_weights_and_capacities
    change(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}],
    )
    world.wait("endpoint_in_service", name)
    expiring = world.submit(name, RequestTTLSeconds=600)
    assert world.ended(expiring).state == "expired"
    record = world.record(expiring)
    assert record.finished_at - record.submitted_at >= 600
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling = world.emulator.client("application-autoscaling")
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=1)
    response = world.submit(name)
    eventually(lambda: world.exists(response["OutputLocation"]))
    assert time.monotonic() - began < 15
