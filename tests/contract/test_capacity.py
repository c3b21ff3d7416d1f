"""The capacity operator against the emulator: instances are there when it says so, and go when let go."""

from __future__ import annotations

import dataclasses
from unittest.mock import Mock

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, WaitTimedOut
from airflow_async_sm.operators.capacity import SageMakerAsyncCapacityOperator
from airflow_async_sm.triggers.endpoint import SageMakerAsyncEndpointTrigger
from tests.world import QUICK, World, echo, eventually

VARIANT = "AllTraffic"
LOOKING = ("Describe", "List", "Get")


@pytest.fixture(scope="module")
def world():
    behaviour = dataclasses.replace(QUICK, instance_start_seconds=0.2, update_seconds=0.2)
    with SageMakerAsyncEmulator(images={"program": echo}, behaviour=behaviour) as emulator:
        yield World(emulator)


@pytest.fixture
def its(world, run):
    return Capacity(world, run)


class Capacity:
    """One endpoint whose instances come and go."""

    def __init__(self, world, run):
        self.world, self.run = world, run
        self.scaling = world.emulator.client("application-autoscaling")
        self.name = ""

    def deploy(self, *, instances=1, scales=False, **configuration):
        """Create an endpoint and leave it so many instances."""
        self.name = self.world.deploy(**configuration)
        if instances != 1:
            self.resize(instances)
            self.wait_for(instances)
        if scales:
            self.scaling.register_scalable_target(**self.target, MinCapacity=0, MaxCapacity=1)
        return self

    def resize(self, count):
        wanted = {"VariantName": VARIANT, "DesiredInstanceCount": count}
        self.world.control.update_endpoint_weights_and_capacities(
            EndpointName=self.name, DesiredWeightsAndCapacities=[wanted]
        )

    def wait_for(self, count):
        eventually(lambda: (*self.counts(), self.status()) == (count, count, "InService"))

    def set(self, instances, **arguments):
        return self.run(
            SageMakerAsyncCapacityOperator, endpoint_name=self.name, instances=instances, **arguments
        )

    @property
    def target(self):
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{self.name}/variant/{VARIANT}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }

    def described(self):
        return self.world.control.describe_endpoint(EndpointName=self.name)

    def status(self):
        return self.described()["EndpointStatus"]

    def counts(self):
        (variant,) = self.described()["ProductionVariants"]
        return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]

    def limits(self):
        (target,) = self.scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[self.target["ResourceId"]]
        )["ScalableTargets"]
        return target["MinCapacity"], target["MaxCapacity"]

    def changes(self):
        """Return how many calls were made so far that change something, over all endpoints."""
        return sum(
            count
            for operations in self.world.emulator.counters()["calls"].values()
            for operation, count in operations.items()
            if not operation.startswith(LOOKING)
        )


@pytest.fixture
def slow_start(world):
    """Instances take longer to start than any test waits."""
    world.emulator.knobs.change(behaviour={"instance_start_seconds": 600})
    yield
    world.emulator.knobs.change(behaviour={"instance_start_seconds": 0.2})


@pytest.mark.parametrize("scales", [False, True], ids=["fixed", "scales"])
class TestWarmingUp:
    def test_an_endpoint_without_instances_gets_them(self, its, scales):
        its.deploy(instances=0, scales=scales)
        assert its.set(2) == {"endpoint_name": its.name, "instances": 2}
        assert its.counts() == (2, 2)

    def test_the_second_time_nothing_is_changed(self, its, scales):
        its.deploy(instances=0, scales=scales)
        its.set(2)
        before = its.changes()
        assert its.set("2")["instances"] == 2
        assert its.changes() == before

    def test_a_request_that_was_asleep_is_answered(self, its, world, scales):
        its.deploy(instances=0, scales=scales)
        response = world.submit(its.name)
        its.set(1)
        assert world.ended(response).state == "succeeded"

    def test_time_that_runs_out_is_no_success(self, its, scales, slow_start):
        its.deploy(instances=0, scales=scales)
        with pytest.raises(WaitTimedOut, match="was not in service with at least 2 instances after"):
            its.set(2, timeout=1.5)
        assert its.counts()[0] == 0


def test_each_number_on_the_way_is_logged_once_by_who_looks(its, monkeypatch, slow_start):
    log = Mock()
    monkeypatch.setattr(SageMakerAsyncEndpointTrigger, "log", log)
    its.deploy(instances=0)
    # Every look finds the same.
    with pytest.raises(WaitTimedOut):
        its.set(2, timeout=1.5)
    told = [call.args[2] for call in log.info.call_args_list]
    assert told[0].endswith("0 of 2 instances")
    # The worker looks first, also where the triggerer does the rest.
    assert told in ([told[0]], [told[0]] * 2)


class TestLettingGo:
    def test_an_endpoint_that_does_not_scale_has_none_then(self, its):
        its.deploy(instances=2)
        assert its.set(0)["endpoint_name"] == its.name
        its.wait_for(0)

    def test_one_that_scales_may_have_none_again_and_decides_itself(self, its):
        its.deploy(scales=True)
        its.set(2)
        assert its.limits() == (2, 2)
        assert its.set(0) == {"endpoint_name": its.name, "instances": 2}
        assert its.limits() == (0, 2)

    def test_without_a_scaling_there_are_exactly_so_many(self, its):
        its.deploy(instances=3)
        its.set(1)
        its.wait_for(1)

    def test_with_one_there_are_at_least_so_many(self, its):
        its.deploy(instances=3)
        its.scaling.register_scalable_target(**its.target, MinCapacity=0, MaxCapacity=5)
        assert its.set(1)["instances"] == 3
        assert its.limits() == (1, 5)


class TestAnEndpointInMotion:
    def test_one_that_is_being_created_is_waited_for(self, its, world):
        its.name = world.configure()
        world.control.create_endpoint(EndpointName=its.name, EndpointConfigName=its.name)
        assert its.set(2)["instances"] == 2

    def test_another_change_is_waited_for_and_then_ours_is_made(self, its, slowly):
        its.deploy()
        # Long enough to be seen; what follows takes no time.
        slowly(update_seconds=2)
        its.resize(3)
        slowly(update_seconds=0.2)
        assert its.status() == "Updating"
        before = its.changes()
        its.set(2)
        assert its.changes() == before + 1
        its.wait_for(2)

    def test_a_retry_goes_on_with_what_an_earlier_attempt_asked_for(self, its):
        its.deploy(instances=0)
        assert its.set(2, wait_for_completion=False)["goal"] == "Capacity"
        before = its.changes()
        assert its.set(2)["instances"] == 2
        assert its.changes() == before

    def test_a_task_that_does_not_wait_says_that_it_would_have_to(self, its, slow_start):
        its.deploy(instances=0)
        its.resize(3)
        with pytest.raises(EndpointNotReady, match="it is Updating.*Nothing was changed; a retry can"):
            its.set(2, wait_for_completion=False)


class TestRefusals:
    def test_an_endpoint_that_does_not_exist(self, its):
        its.name = "nobody"
        with pytest.raises(RequestRejected, match=r"'nobody' does not exist.*Nothing was changed"):
            its.set(1)

    def test_an_endpoint_that_is_not_asynchronous(self, its):
        its.deploy(asynchronous=False)
        with pytest.raises(RequestRejected, match="is not asynchronous.*Nothing was changed"):
            its.set(2)
        assert its.counts() == (1, 1)

    def test_a_broken_endpoint(self, its, world):
        its.name = world.fail(image="unknown/image:1")["EndpointName"]
        with pytest.raises(RequestRejected, match="it is Failed.*Nothing was changed"):
            its.set(1)

    def test_one_whose_creation_fails_while_it_is_waited_for(self, its, world):
        its.name = world.configure(image="unknown/image:1")
        world.control.create_endpoint(EndpointName=its.name, EndpointConfigName=its.name)
        with pytest.raises(RequestRejected, match="it is Failed.*Nothing was changed"):
            its.set(1)
