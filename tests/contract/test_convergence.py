"""
A task that is killed between any two of its calls and tried again comes to the end that it would have had.

Each run is killed one call later than the one before it: once just before the call is sent, and once when the
call has been carried out and its answer is lost.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from botocore.client import BaseClient

from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.deployments import Deployments
from tests.world import World, echo

pytestmark = pytest.mark.default_airflow

SCALING = {"max_instances": 2, "warm_hours": [{"start": "cron(0 7 * * ? *)", "end": "cron(0 9 * * ? *)"}]}
MOST_CALLS = 60
# What takes time at AWS takes a look or two here: there are hundreds of deployments.
QUICK = Behaviour(
    creation_seconds=0.02, deletion_seconds=0.02, update_seconds=0.02, rollback_seconds=0.02, queue_seconds=0
)
PAUSE = 0.01


class Killed(BaseException):
    """What a process that is killed does not get to handle."""


class Killer:
    """Kills the task at its n-th call, counted from 0."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    @contextmanager
    def at(self, number, *, before):
        """Kill within the block; yield a list of the calls that were made, without repetitions."""
        carry_out, mine, calls = BaseClient._make_api_call, threading.get_ident(), []

        def call(client, operation, arguments):
            if threading.get_ident() != mine:  # The emulator has clients of its own.
                return carry_out(client, operation, arguments)
            again = calls[-1:] == [operation]  # It is still looking; killing it there is nothing new.
            if not again:
                calls.append(operation)
            last = not again and len(calls) - 1 == number
            if last and before:
                raise Killed
            try:
                return carry_out(client, operation, arguments)
            finally:
                if last:
                    raise Killed

        with self._monkeypatch.context() as patched:
            patched.setattr(BaseClient, "_make_api_call", call)
            yield calls


@pytest.fixture(scope="module")
def world():
    with SageMakerAsyncEmulator(images={"program": echo}, behaviour=QUICK) as emulator:
        yield World(emulator)


@pytest.fixture
def killer(monkeypatch):
    return Killer(monkeypatch)


@pytest.fixture
def run(world, one_hook, monkeypatch):
    """Return a function that runs an operator on the worker, without long pauses."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))

    monkeypatch.setattr("airflow_async_sm.hooks._endpoints.STALE_SECONDS", 0.0)

    class TaskInstance:
        def xcom_push(self, key, value):
            pass

    def to_its_end(kind, **arguments):
        operator = kind(task_id="task", deferrable=False, **arguments)
        pause = threading.Event()
        operator.sleep = lambda seconds: pause.wait(min(seconds, PAUSE))
        return operator.execute({"ti": TaskInstance()})

    return to_its_end


def killed_everywhere(killer, before, make, act):
    """Yield what ``make`` makes, after ``act`` on it was killed at its first call, its second, and so on."""
    for number in range(MOST_CALLS):
        its = make()
        try:
            with killer.at(number, before=before) as calls:
                act(its)
        except Killed:
            yield its
        else:
            assert number > 3
            assert len(calls) == number
            return
    pytest.fail(f"more than {MOST_CALLS} calls")


@pytest.mark.parametrize("before", [True, False], ids=["before-the-call", "after-the-call"])
class TestKilledAnywhere:
    def test_a_deployment_comes_to_its_end_with_one_of_each_part(self, world, run, killer, before):
        def deploy(its):
            return its.deploy(scaling=SCALING, tags={"team": "risk"})

        for its in killed_everywhere(killer, before, lambda: Deployments(world, run), deploy):
            made = deploy(its)
            assert its.parts() == ([made["endpoint_config_name"]], [made["model_name"]])
            assert its.scaling() == (1, 2, 2, 3)
            described = its.described()
            assert described["EndpointStatus"] == "InService"
            assert described["EndpointConfigName"] == made["endpoint_config_name"]
            its.delete(delete_parts=True)

    def test_an_update_comes_to_its_end(self, world, run, killer, before):
        def deployed():
            its = Deployments(world, run)
            its.deploy(scaling=SCALING)
            return its

        def update(its):
            return its.deploy(instance_type="ml.m5.xlarge", scaling={"max_instances": 4})

        for its in killed_everywhere(killer, before, deployed, update):
            made = update(its)
            assert its.described()["EndpointConfigName"] == made["endpoint_config_name"]
            assert [len(names) for names in its.parts()] == [2, 1]
            assert its.scaling() == (1, 2, 0, 3)
            its.delete(delete_parts=True)

    def test_a_deletion_leaves_nothing(self, world, run, killer, before):
        def deployed():
            its = Deployments(world, run)
            its.deploy(scaling=SCALING)
            return its

        def delete(its):
            return its.delete(delete_parts=True)

        for its in killed_everywhere(killer, before, deployed, delete):
            delete(its)
            assert not its.exists()
            assert its.parts() == ([], [])
            assert its.scaling() == (0, 0, 0, 0)

    def test_a_failed_creation_leaves_nothing_but_names(self, world, run, killer, before):
        def fail(its):
            with pytest.raises(Exception, match="Failed"):
                its.deploy(image="unknown/image:1")

        for its in killed_everywhere(killer, before, lambda: Deployments(world, run), fail):
            fail(its)
            its.delete(delete_parts=True)
            assert not its.exists()
            assert its.parts() == ([], [])
