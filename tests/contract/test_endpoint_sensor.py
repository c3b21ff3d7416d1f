"""
The endpoint sensor against the emulator: however it waits, it comes to the same end.

Time passes 150 times as fast: a backlog is told once a minute. The sensor reads the same clock.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, datetime
from importlib import import_module

import pytest

from airflow_async_sm._compat import AirflowSensorTimeout, AirflowSkipException, BaseSensorOperator
from airflow_async_sm.core.scaling import ScalingSpec
from airflow_async_sm.emulator import SageMakerAsyncEmulator, airflow_connection
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.faults import ModelLatency
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.sensors.endpoint import SageMakerAsyncEndpointSensor
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger
from tests.world import QUICK, SHORT, World, echo, eventually

try:
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred
except ImportError:
    from airflow.exceptions import AirflowRescheduleException, TaskDeferred

AIRFLOW_2 = BaseSensorOperator.__module__ == "airflow.sensors.base"
VARIANT = "AllTraffic"
WAYS = ("poke", "reschedule", "deferrable")


@pytest.fixture(scope="module")
def world():
    behaviour = dataclasses.replace(QUICK, instance_start_seconds=90)
    images = {"program": echo}
    with SageMakerAsyncEmulator(images=images, behaviour=behaviour, clock=Clock(speed=150)) as emulator:
        yield World(emulator)


class TaskInstance:
    """What a sensor asks of Airflow: when it was rescheduled first."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "wait", "run", -1, 0
    first_rescheduled_at = None

    if not AIRFLOW_2:

        def get_first_reschedule_date(self, context):
            return self.first_rescheduled_at


@pytest.fixture(params=WAYS)
def wait(request, world, one_hook, monkeypatch):
    """Return a function that runs a sensor to its end, in one way, as Airflow would."""
    monkeypatch.setattr(SageMakerAsyncBaseSensor, "_get_next_poke_interval", lambda *_: SHORT)
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    for kind in (SageMakerAsyncBaseSensor, SageMakerAsyncBaseTrigger):
        monkeypatch.setattr(kind, "clock", lambda self: world.emulator.clock.now())
    task_instance = TaskInstance()
    if AIRFLOW_2:
        monkeypatch.setattr(
            "airflow.sensors.base._orig_start_date", lambda **names: task_instance.first_rescheduled_at
        )
    way = {"deferrable": True} if request.param == "deferrable" else {"mode": request.param}

    def to_its_end(**arguments):
        def fresh():
            return SageMakerAsyncEndpointSensor(
                task_id="wait", **({"poke_interval": 1, "deferrable": False} | way | arguments)
            )

        context = {"ti": task_instance}
        while True:
            began_at = world.emulator.clock.now()
            try:
                return fresh().execute(context)
            except AirflowRescheduleException:
                assert request.param == "reschedule"
                if task_instance.first_rescheduled_at is None:
                    task_instance.first_rescheduled_at = datetime.fromtimestamp(began_at, UTC)
            except TaskDeferred as deferred:
                assert request.param == "deferrable"
                return resume(deferred, fresh(), context)

    return to_its_end


def resume(deferred, sensor, context):
    """Wait as a triggerer does, and go on as the worker does after it."""
    path, kwargs = deferred.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
    trigger.asleep = lambda seconds: asyncio.sleep(min(seconds, SHORT))

    async def events():
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(events())
    arguments = {"event": json.loads(json.dumps(event)), **deferred.kwargs}
    return sensor.resume_execution(deferred.method_name, arguments, context)


def resize(world, name, count):
    wanted = {"VariantName": VARIANT, "DesiredInstanceCount": count}
    world.control.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[wanted]
    )


def instances(world, name):
    (variant,) = world.control.describe_endpoint(EndpointName=name)["ProductionVariants"]
    return variant["CurrentInstanceCount"]


@pytest.fixture
def asleep(world):
    """An endpoint without instances."""
    name = world.deploy()
    resize(world, name, 0)
    world.wait("endpoint_in_service", name)
    eventually(lambda: instances(world, name) == 0)
    return name


@pytest.fixture
def latency(world):
    """Return a function that lets models take so long; they do for as long as the test lasts."""
    yield lambda seconds, **more: world.emulator.faults.add(ModelLatency(seconds=seconds, **more))
    world.emulator.faults.clear()


class TestInService:
    def test_an_endpoint_that_is_being_created_is_waited_for(self, wait, world):
        name = world.configure()
        world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        assert wait(endpoint_name=name) == {"endpoint_name": name}
        assert world.control.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"

    def test_an_endpoint_without_instances_is_in_service(self, wait, asleep):
        assert wait(endpoint_name=asleep) == {"endpoint_name": asleep}

    def test_a_broken_endpoint_is_not_waited_for(self, wait, world):
        name = world.fail(image="unknown/image:1")["EndpointName"]
        with pytest.raises(EndpointNotReady, match="is not in service after .* Failed"):
            wait(endpoint_name=name)

    def test_one_that_breaks_while_it_is_waited_for_ends_the_wait(self, wait, world):
        name = world.configure(image="unknown/image:1")
        world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        with pytest.raises(EndpointNotReady, match="is not in service after .* Failed"):
            wait(endpoint_name=name)

    def test_a_broken_endpoint_skips_the_task_where_that_is_asked_for(self, wait, world):
        name = world.fail(image="unknown/image:1")["EndpointName"]
        with pytest.raises(AirflowSkipException, match="is not in service after"):
            wait(endpoint_name=name, soft_fail=True)

    def test_an_endpoint_that_does_not_exist_is_not_waited_for(self, wait):
        with pytest.raises(EndpointNotReady, match="does not exist"):
            wait(endpoint_name="nobody")


class TestCapacity:
    def test_instances_that_somebody_asked_for_are_waited_for(self, wait, world, asleep):
        resize(world, asleep, 2)
        assert wait(endpoint_name=asleep, min_instances=2) == {"endpoint_name": asleep}
        assert instances(world, asleep) == 2

    def test_so_are_those_of_a_scaling(self, wait, world, asleep):
        world.emulator.client("application-autoscaling").register_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId=f"endpoint/{asleep}/variant/{VARIANT}",
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            MinCapacity=1,
            MaxCapacity=2,
        )
        wait(endpoint_name=asleep, min_instances="1")
        assert instances(world, asleep) == 1

    def test_a_request_wakes_an_endpoint_that_scales(self, wait, world, asleep):
        SageMakerAsyncHook().apply_scaling(asleep, VARIANT, ScalingSpec(max_instances=1))
        response = world.submit(asleep)
        wait(endpoint_name=asleep, min_instances=1)
        assert world.ended(response).state == "succeeded"

    def test_instances_that_nobody_asked_for_do_not_come(self, wait, asleep):
        with pytest.raises(AirflowSensorTimeout, match="was not in service with at least 1 instances after"):
            wait(endpoint_name=asleep, min_instances=1, timeout=100)

    def test_time_that_runs_out_skips_the_task_where_that_is_asked_for(self, wait, asleep):
        with pytest.raises(AirflowSkipException):
            wait(endpoint_name=asleep, min_instances=1, timeout=100, soft_fail=True)


class TestBacklog:
    def test_it_is_over_when_every_request_is(self, wait, world, latency):
        name = world.deploy(concurrency=1)
        latency(40)
        submitted = [world.submit(name) for _ in range(3)]
        assert wait(endpoint_name=name, max_backlog=0) == {"endpoint_name": name}
        assert [world.record(one).state for one in submitted] == ["succeeded"] * 3

    def test_some_may_be_left(self, wait, world, latency):
        name = world.deploy(concurrency=1)
        latency(100_000)
        # The default limit would end it after six real seconds.
        response = world.submit(name, InvocationTimeoutSeconds=3600)
        wait(endpoint_name=name, max_backlog=1)
        assert world.record(response).state == "running"
        with pytest.raises(AirflowSensorTimeout, match="was not drained to a backlog of at most 0"):
            wait(endpoint_name=name, max_backlog=0, timeout=200)

    def test_what_does_not_exist_has_none(self, wait):
        assert wait(endpoint_name="nobody", max_backlog=0) == {"endpoint_name": "nobody"}


@pytest.mark.parametrize("soft_fail", [False, True])
def test_bad_input_fails_the_task_however_soft(wait, soft_fail):
    with pytest.raises(RequestRejected, match="max_backlog is 'few'"):
        wait(endpoint_name="nobody", max_backlog="few", soft_fail=soft_fail)
