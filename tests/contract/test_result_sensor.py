"""The result sensor against the emulator: however it waits, it comes to the same end."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from importlib import import_module

import pytest

from airflow_async_sm._compat import AirflowSensorTimeout, AirflowSkipException, BaseSensorOperator
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import (
    EndpointLost,
    InferenceExpired,
    InferenceFailed,
    RequestRejected,
    ResultTooLarge,
)
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.sensors.result import SageMakerAsyncResultSensor
from tests.world import BUCKET, SHORT

try:
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred
except ImportError:
    from airflow.exceptions import AirflowRescheduleException, TaskDeferred

AIRFLOW_2 = BaseSensorOperator.__module__ == "airflow.sensors.base"
WAYS = ("poke", "reschedule", "deferrable")


class TaskInstance:
    """What a task asks of Airflow: who it is, a place for its XComs, and when it was rescheduled first."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "wait", "run", -1, 0
    try_number = 1
    first_rescheduled_at = None

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = json.loads(json.dumps(value))

    if not AIRFLOW_2:

        def get_first_reschedule_date(self, context):
            return self.first_rescheduled_at


@pytest.fixture
def task_instance():
    return TaskInstance()


@pytest.fixture
def connected(world, one_hook, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))


@pytest.fixture(params=WAYS)
def wait(request, connected, task_instance, monkeypatch):
    """Return a function that runs a sensor to its end, in one way, as Airflow would."""
    monkeypatch.setattr(SageMakerAsyncBaseSensor, "_get_next_poke_interval", lambda *_: SHORT)
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    if AIRFLOW_2:
        monkeypatch.setattr(
            "airflow.sensors.base._orig_start_date", lambda **names: task_instance.first_rescheduled_at
        )
    way = {"deferrable": True} if request.param == "deferrable" else {"mode": request.param}

    def to_its_end(**arguments):
        def fresh():
            return SageMakerAsyncResultSensor(
                task_id="wait", **({"poke_interval": 1, "deferrable": False} | way | arguments)
            )

        context = {"ti": task_instance}
        while True:
            began_at = time.time()
            try:
                return fresh().execute(context)
            except AirflowRescheduleException:
                assert request.param == "reschedule"
                if task_instance.first_rescheduled_at is None:
                    task_instance.first_rescheduled_at = datetime.fromtimestamp(began_at, UTC)
                time.sleep(SHORT)
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


@pytest.fixture
def sent(connected, echo):
    """Return a function that lets a task send a request and not wait, and returns what that task returns."""

    def send(mode, **arguments):
        operator = SageMakerAsyncInvokeOperator(
            task_id="send",
            custom_attributes=mode,
            wait_for_completion=False,
            **({"endpoint_name": echo, "payload": {"row": 1}} | arguments),
        )
        return json.loads(json.dumps(operator.execute({"ti": TaskInstance()})))

    return send


class TestRequestOfAnotherTask:
    def test_its_answer_is_waited_for(self, wait, sent, world, held, task_instance):
        handle = sent("echo", endpoint_name=held.endpoint)
        assert not world.exists(handle["output_location"])
        # Meanwhile the sensor has looked.
        held.let_go_in(1.0)
        assert wait(handle=handle, result="json") == {"row": 1}
        answer = task_instance.pushed["answer"]
        assert answer["output_location"] == handle["output_location"]
        assert (answer["endpoint_name"], answer["inference_id"]) == (
            handle["endpoint_name"],
            handle["inference_id"],
        )
        assert (answer["submitted_at"], answer["size"]) == (handle["submitted_at"], len(b'{"row":1}'))

    def test_many_may_wait_for_it_and_it_is_sent_once(self, wait, sent, world):
        before = len(world.emulator.requests())
        handle = sent("echo")
        first = wait(handle=handle)
        assert wait(handle=handle) == first
        assert first["output_location"] == handle["output_location"]
        assert len(world.emulator.requests()) == before + 1

    def test_its_answer_can_be_copied(self, wait, sent, world):
        answer = wait(handle=sent("echo"), copy_to=f"s3://{BUCKET}/copies/")
        assert answer["copied_to"].startswith(f"s3://{BUCKET}/copies/")
        assert world.body(answer["copied_to"]) == b'{"row":1}'

    def test_its_failure_ends_the_wait(self, wait, sent):
        handle = sent("refuse")
        with pytest.raises(InferenceFailed, match="Unknown task") as failed:
            wait(handle=handle)
        assert failed.value.location == handle["failure_location"]

    def test_its_failure_skips_the_task_where_that_is_asked_for(self, wait, sent):
        with pytest.raises(AirflowSkipException):
            wait(handle=sent("refuse"), soft_fail=True)

    def test_it_expires(self, wait, sent, held):
        handle = sent("echo", endpoint_name=held.endpoint) | {"expires_at": time.time() + 1}
        with pytest.raises(InferenceExpired, match="finds the same; nothing is submitted"):
            wait(handle=handle)

    def test_an_answer_that_is_too_large_is_told_of(self, wait, sent):
        with pytest.raises(ResultTooLarge, match="has 9 bytes and max_result_bytes is 8"):
            wait(handle=sent("echo"), result="json", max_result_bytes=8)


class TestRequestFromElsewhere:
    def test_a_reply_of_boto3_is_enough(self, wait, world, echo, task_instance):
        reply = world.submit(echo, mode="slow", Body=b"[1]", ContentType="application/json")
        assert wait(handle=reply, endpoint_name=echo, result="json") == [1]
        answer = task_instance.pushed["answer"]
        assert (answer["inference_id"], answer["endpoint_name"]) == (reply["InferenceId"], echo)
        assert (answer["submitted_at"], answer["seconds"]) == (None, None)

    def test_so_is_where_its_answer_will_be(self, wait, world, echo):
        reply = world.submit(echo, mode="slow", Body=b"text")
        found = wait(output_location=reply["OutputLocation"])
        assert (found["output_location"], found["size"]) == (reply["OutputLocation"], 4)

    def test_a_failure_is_seen_where_it_was_said_to_be_told(self, wait, world, echo):
        reply = world.submit(echo, mode="refuse")
        with pytest.raises(InferenceFailed, match="The request that is answered at .* failed"):
            wait(output_location=reply["OutputLocation"], failure_location=reply["FailureLocation"])

    def test_time_that_runs_out_ends_the_wait(self, wait, world, held):
        reply = world.submit(held.endpoint)
        with pytest.raises(AirflowSensorTimeout, match="looks again; nothing is submitted"):
            wait(handle=reply, timeout=1)

    def test_time_that_runs_out_skips_the_task_where_that_is_asked_for(self, wait):
        with pytest.raises(AirflowSkipException):
            wait(output_location=f"s3://{BUCKET}/never", timeout=1, soft_fail=True)

    def test_an_endpoint_that_is_gone_ends_the_wait(self, wait, world, monkeypatch):
        monkeypatch.setattr("airflow_async_sm.hooks._looks.CLOCKS_DIFFER", 0.0)
        # What is known of an endpoint is remembered for a minute.
        name = f"gone-{uuid.uuid4().hex[:12]}"
        with pytest.raises(EndpointLost, match=f"Endpoint {name} does not exist any more.*finds the same"):
            wait(
                handle=InvocationHandle(
                    endpoint_name=name,
                    endpoint_region="us-east-1",
                    inference_id="id-1",
                    output_location=f"s3://{BUCKET}/never",
                    submitted_at=time.time(),
                    expires_at=time.time() + 3_600,
                ).to_dict()
            )


@pytest.mark.parametrize("soft_fail", [False, True])
def test_bad_input_fails_the_task_however_soft(wait, soft_fail):
    with pytest.raises(RequestRejected, match="names no object"):
        wait(output_location=f"s3://{BUCKET}/folder/", soft_fail=soft_fail)
