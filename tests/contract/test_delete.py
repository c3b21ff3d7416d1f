"""The delete operator against the emulator: nothing is left, nothing is lost that was to be waited for."""

from __future__ import annotations

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from tests.deployments import Deployments
from tests.world import QUICK, World, echo


@pytest.fixture(scope="module")
def world():
    with SageMakerAsyncEmulator(images={"program": echo}, behaviour=QUICK) as emulator:
        yield World(emulator)


@pytest.fixture
def its(world, run):
    return Deployments(world, run)


class TestDeletion:
    def test_an_endpoint_goes_and_its_name_is_free(self, its):
        its.deploy()
        assert its.delete() == {"endpoint_name": its.name}
        its.deploy()
        assert its.exists()

    def test_only_what_is_asked_for_is_deleted(self, its):
        made = its.deploy()
        its.delete()
        assert its.parts() == ([made["endpoint_config_name"]], [made["model_name"]])
        its.delete(endpoint_config_name=made["endpoint_config_name"])
        assert its.parts() == ([], [made["model_name"]])
        its.delete(model_name=made["model_name"])
        assert its.parts() == ([], [])

    def test_all_parts_that_were_ever_made_for_it_go_with_it_and_no_others(self, its, world):
        its.deploy()
        its.deploy(environment={"THREADS": "4"})
        neighbour = Deployments(world, its.run)
        neighbour.name = f"{its.name}-2"
        neighbour.deploy()
        its.delete(delete_parts=True)
        configs, models = its.parts()
        assert (configs, models) == neighbour.parts()
        assert (len(configs), len(models)) == (1, 1)
        assert neighbour.exists()

    def test_what_is_gone_is_not_missed(self, its):
        its.deploy()
        for _ in range(2):
            assert its.delete(delete_parts=True) == {"endpoint_name": its.name}

    def test_its_scaling_goes_with_all_alarms(self, its):
        warm = {"start": "cron(0 7 ? * MON-FRI *)", "end": "cron(0 18 ? * MON-FRI *)"}
        its.deploy(scaling={"max_instances": 2, "warm_hours": [warm]})
        assert its.scaling() == (1, 2, 2, 3)
        its.delete()
        assert its.scaling() == (0, 0, 0, 0)

    def test_an_endpoint_that_is_being_created_is_deleted_once_it_can_be(self, its):
        its.deploy(wait_for_completion=False)
        its.delete()
        assert not its.exists()

    def test_a_task_that_does_not_wait_says_that_it_would_have_to(self, its, slowly):
        slowly(creation_seconds=600)
        its.deploy(wait_for_completion=False)
        with pytest.raises(EndpointNotReady, match="it is Creating.*Nothing was changed; a retry can"):
            its.delete(wait_for_completion=False)

    def test_a_failed_endpoint_is_deleted(self, its):
        with pytest.raises(EndpointNotReady):
            its.deploy(image="unknown/image:1", keep_failed=True)
        its.delete(delete_parts=True)
        assert not its.exists()
        assert its.parts() == ([], [])

    def test_a_deployer_without_rights_for_scaling_can_delete_all_the_same(self, its, monkeypatch):
        its.deploy()

        def denied(hook, *names):
            raise RequestRejected("AccessDenied")

        monkeypatch.setattr("airflow_async_sm.hooks._scaling.ScalingCalls.remove_scaling", denied)
        its.delete()
        assert not its.exists()

    @pytest.mark.parametrize("name", ["endpoint_config_name", "model_name"])
    def test_a_name_that_cannot_be_is_refused_before_anything_is_deleted(self, its, name):
        its.deploy()
        with pytest.raises(RequestRejected, match=f"{name} is 'a_b'"):
            its.delete(**{name: "a_b"})
        assert its.described()["EndpointStatus"] == "InService"

    def test_draining_without_waiting_is_refused(self, its):
        with pytest.raises(RequestRejected, match="draining is waiting"):
            its.delete(drain=True, wait_for_completion=False)
