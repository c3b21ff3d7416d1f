from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from functools import partial
from importlib import import_module

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator, airflow_connection
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.world import PROGRAM, QUICK, SHORT, World

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred


class Held:
    """
    A model that echoes its input, but not before it is told to.

    So a test can have a request without an answer for as long as it takes, and no longer.
    """

    endpoint = ""

    def __init__(self):
        self._free = threading.Event()

    def __call__(self, body, headers):
        self._free.wait()
        content_type = {name.lower(): value for name, value in headers.items()}.get("content-type")
        return body, content_type or "application/octet-stream"

    def hold(self):
        """Let no request be answered from now on; those that were let go before stay so."""
        self._free = threading.Event()

    def let_go(self):
        """Let all be answered."""
        self._free.set()

    def let_go_in(self, seconds):
        """Let all be answered so much later."""
        threading.Timer(seconds, self._free.set).start()


@pytest.fixture(scope="module")
def held_model():
    return Held()


@pytest.fixture(scope="module")
def world(held_model):
    images = {"program": PROGRAM, "held": held_model}
    with SageMakerAsyncEmulator(images=images, behaviour=QUICK) as emulator:
        yield World(emulator)


@pytest.fixture(scope="module")
def echo(world):
    """An endpoint that does what the custom attributes say."""
    return world.deploy(concurrency=4)


@pytest.fixture
def held(world, held_model):
    """A model that answers no request of ``held.endpoint`` until ``held.let_go()``."""
    held_model.endpoint = held_model.endpoint or world.deploy(image="held", concurrency=4)
    held_model.hold()
    yield held_model
    held_model.let_go()


@pytest.fixture
def slowly(world):
    """Return a function that lets something take so long that no test sees its end."""
    before = world.emulator.knobs.behaviour

    def change(**behaviour):
        world.emulator.knobs.change(behaviour=behaviour)
        changed.extend(behaviour)

    changed = []
    yield change
    world.emulator.knobs.change(behaviour={name: getattr(before, name) for name in changed})


class TaskInstance:
    """One try of a task. Each task of the tests is a run of its own unless they say otherwise."""

    def __init__(self, **changes):
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", str(uuid.uuid4()), "task", -1
        self.try_number, self.max_tries = 1, 0
        self.pushed = {}
        self.__dict__.update(changes)

    def xcom_push(self, key, value):
        json.dumps(value)
        self.pushed[key] = value


@pytest.fixture(scope="module")
def hooks(world):
    """The hooks that were made for this emulator, by their settings."""
    return {}


@pytest.fixture
def one_hook(hooks, monkeypatch):
    """Let tasks share their hooks: making clients takes half a second, too long for hundreds of tasks."""
    make = SageMakerAsyncHook.from_params

    def remembered(cls, params):
        key = json.dumps(params.to_dict(), sort_keys=True)
        if key not in hooks:
            hooks[key] = make(params)
        return hooks[key]

    for way in ("from_params", "shared"):
        monkeypatch.setattr(SageMakerAsyncHook, way, classmethod(remembered))


@pytest.fixture(params=[False, True], ids=["blocking", "deferrable"])
def run(request, world, one_hook, monkeypatch):
    """
    Return a function that runs an operator to its end, in one mode, as Airflow would.

    ``resumed_with`` is what a try begins with, of which Airflow thinks that it was deferred. ``last`` is what
    the last one was resumed with.
    """
    # No worker process lingers here, so a trigger may answer at once.
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    # The emulator tells of a change at once.
    monkeypatch.setattr("airflow_async_sm.hooks._endpoints.STALE_SECONDS", 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))

    def to_its_end(kind, context=None, *, resumed_with=None, **arguments):
        def fresh():
            operator = kind(task_id="task", deferrable=request.param, poll_interval=1, **arguments)
            operator.sleep = lambda seconds: time.sleep(min(seconds, SHORT))
            return operator

        context = context or {"ti": TaskInstance()}
        step = partial(fresh().execute, context)
        if resumed_with is not None:
            step = partial(fresh().resume_execution, *resumed_with, context)
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                assert request.param
                step = resumption(deferred, fresh(), context)
                to_its_end.last = step.args[:2]

    to_its_end.deferrable, to_its_end.last = request.param, None
    return to_its_end


def resumption(deferred, operator, context):
    """Wait as a triggerer does, and return the call that goes on after it."""
    path, kwargs = deferred.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
    trigger.asleep = lambda seconds: asyncio.sleep(min(seconds, SHORT))
    (event,) = asyncio.run(drain(trigger))
    told = {**deferred.kwargs, "event": json.loads(json.dumps(event))}
    return partial(operator.resume_execution, deferred.method_name, told, context)


async def drain(trigger):
    return [event.payload async for event in trigger.run()]
