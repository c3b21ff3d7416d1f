"""The awaited driver: time and looks come from the test; trigger, watcher and engine are the real ones."""

from __future__ import annotations

import asyncio
import logging

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.handles import EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, LookError, Pending, Settled
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.triggers._watcher import Watcher
from airflow_async_sm.triggers.endpoint import SageMakerAsyncEndpointTrigger
from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger
from tests.stepped import in_no_time

REQUEST = {
    "endpoint_name": "model",
    "inference_id": "id-1",
    "output_location": "s3://bucket/out",
    "submitted_at": 1_000.0,
    "expires_at": 2_000.0,
    "deadline_at": 1_100.0,
}


class Stepped:
    """A trigger in a loop with a time of its own, which is 1000 at its beginning. Its looks are scripted."""

    # Each look is one of its own.
    places = (None, None)

    def __init__(self, *seen, **changes):
        super().__init__(**(REQUEST | changes))
        self.script(*seen)

    def script(self, *seen):
        self.loop = asyncio.get_running_loop()
        self.ahead = 1_000.0 - self.loop.time()
        self.seen = list(seen)
        self.sleeps: list[float] = []
        self.looked_at: list[float] = []

    def clock(self):
        return self.loop.time() + self.ahead

    async def asleep(self, seconds):
        self.sleeps.append(seconds)
        await super().asleep(seconds)

    def look(self):
        self.looked_at.append(self.clock())
        seen = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        if isinstance(seen, Exception):
            raise seen
        return seen


class SteppedInference(Stepped, SageMakerAsyncInferenceTrigger):
    pass


class SteppedEndpoint(Stepped, SageMakerAsyncEndpointTrigger):
    def __init__(self, *seen):
        SageMakerAsyncEndpointTrigger.__init__(
            self, endpoint_name="model", goal="InService", submitted_at=1_000.0, deadline_at=2_000.0
        )
        self.script(*seen)


class Hook:
    """What a watcher has to have, where no look is made with it."""

    def look_at_endpoints(self, handles):
        pass

    def close(self):
        pass


@pytest.fixture(autouse=True)
def airflows_default_heartbeat(monkeypatch):
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 6.0)


@pytest.fixture(autouse=True)
def nothing_is_asked(monkeypatch):
    monkeypatch.setattr(Watcher, "_make", lambda self: Hook())


async def outcome_of(trigger):
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    handle, outcome = decode_event(events[0], type(trigger.handle))
    assert handle == trigger.handle
    return outcome


@in_no_time
async def test_the_first_look_waits_until_airflow_may_resume_the_task():
    trigger = SteppedInference(Settled(True))
    outcome = await outcome_of(trigger)
    assert outcome.end is End.SUCCEEDED
    assert trigger.sleeps == [6.0]
    assert 1_006.0 <= trigger.looked_at[0] < 1_007.0


@in_no_time
async def test_it_looks_until_the_answer_is_there():
    trigger = SteppedInference(Pending(), Pending(), Settled(False))
    outcome = await outcome_of(trigger)
    assert outcome.end is End.FAILED
    assert len(trigger.looked_at) == 3
    assert outcome.seen_at == trigger.looked_at[-1]


@in_no_time
async def test_it_gives_up_at_the_deadline_and_not_before():
    trigger = SteppedInference(Pending())
    outcome = await outcome_of(trigger)
    assert outcome.end is End.TIMED_OUT
    assert outcome.seen_at == trigger.looked_at[-1]
    assert 1_100.0 <= outcome.seen_at < 1_100.2


@in_no_time
async def test_a_restarted_trigger_keeps_the_deadline():
    trigger = SteppedInference(Pending())
    trigger.ahead += 99.0
    outcome = await outcome_of(trigger)
    assert outcome.end is End.TIMED_OUT
    assert len(trigger.looked_at) == 1


@in_no_time
async def test_a_request_that_can_no_longer_be_answered_has_expired():
    trigger = SteppedInference(Pending(), expires_at=1_050.0)
    assert (await outcome_of(trigger)).end is End.EXPIRED


@in_no_time
async def test_a_look_that_raises_is_no_failed_request(caplog):
    trigger = SteppedInference(OSError("no route"), Pending(), Settled(True))
    with caplog.at_level(logging.WARNING):
        assert (await outcome_of(trigger)).end is End.SUCCEEDED


@in_no_time
async def test_looks_that_keep_failing_end_the_wait_with_the_last_reason():
    trigger = SteppedInference(OSError("no route"), deadline_at=9_000.0, expires_at=9_000.0)
    outcome = await outcome_of(trigger)
    assert outcome.end is End.LOOK_FAILED
    assert outcome.detail == "OSError: no route"
    assert len(trigger.looked_at) == 21


@in_no_time
async def test_of_an_error_of_ours_the_cause_is_told():
    error = RequestRejected("Could not look. A retry would be refused as well.")
    error.__cause__ = PermissionError("403")
    trigger = SteppedInference(error, deadline_at=1_001.0)
    assert (await outcome_of(trigger)).detail == "PermissionError: 403"
    trigger = SteppedInference(RequestRejected("Could not look."), deadline_at=1_001.0)
    assert (await outcome_of(trigger)).detail == "Could not look."


@in_no_time
async def test_an_address_that_cannot_be_read_ends_the_wait_at_once():
    trigger = SteppedInference(InvalidInput("no such place"))
    assert (await outcome_of(trigger)).end is End.LOOK_FAILED
    assert len(trigger.looked_at) == 1


@in_no_time
async def test_a_cancelled_wait_yields_nothing():
    trigger = SteppedInference(Pending())
    reached = asyncio.Event()

    async def asleep(seconds):
        reached.set()
        await asyncio.Event().wait()

    trigger.asleep = asleep
    events = []

    async def drain():
        events.extend([event async for event in trigger.run()])

    task = asyncio.create_task(drain())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == []


@in_no_time
async def test_a_look_does_not_hold_up_the_event_loop():
    """A blocking look runs beside the loop: both sides have to meet for either to go on."""
    begun, loop_turned = asyncio.Event(), asyncio.Event()
    met = []

    async def meet():
        begun.set()
        return await loop_turned.wait()

    class Meeting(SteppedInference):
        def look(self):
            met.append(asyncio.run_coroutine_threadsafe(meet(), self.loop).result(timeout=10))
            return Settled(True)

    waiting = asyncio.create_task(outcome_of(Meeting()))
    await begun.wait()
    loop_turned.set()
    assert (await waiting).end is End.SUCCEEDED
    assert met == [True]


@in_no_time
async def test_a_status_is_logged_once_a_change(monkeypatch):
    trigger = SteppedEndpoint(
        Pending("Creating"), Pending("Creating"), Pending("Updating"), Settled(True, "InService")
    )
    lines = []
    monkeypatch.setattr(trigger.log, "info", lambda text, *values: lines.append(text % values))
    assert (await outcome_of(trigger)).end is End.SUCCEEDED
    assert lines == ["Endpoint model: Creating", "Endpoint model: Updating"]


def test_a_trigger_knows_its_handle():
    assert SageMakerAsyncInferenceTrigger(**REQUEST).handle == InvocationHandle(
        **{key: value for key, value in REQUEST.items() if key != "deadline_at"}
    )
    endpoint = SageMakerAsyncEndpointTrigger(
        endpoint_name="model", goal="Deleted", submitted_at=1.0, deadline_at=2.0
    )
    assert endpoint.handle == EndpointHandle(endpoint_name="model", goal="Deleted", submitted_at=1.0)


class TestCredentials:
    """A secret may be changed while a request is waited for."""

    @pytest.mark.parametrize(("code", "renewed"), [("ExpiredToken", True), ("SlowDown", False)])
    def test_those_that_are_no_good_any_more_are_fetched_anew_for_the_next_look(
        self, monkeypatch, code, renewed
    ):
        hooks = []

        class Hook:
            retired = False

            def look_at_result(self, handle, on_403):
                cause = ClientError(
                    {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "HeadObject"
                )
                raise ServiceUnavailable("no") from cause

            def retire(self):
                self.retired = True

        def shared(params):
            hooks.append(Hook())
            return hooks[-1]

        monkeypatch.setattr("airflow_async_sm.hooks.sagemaker_async.SageMakerAsyncHook.shared", shared)
        trigger = SageMakerAsyncInferenceTrigger(**REQUEST)
        for _ in range(2):
            assert isinstance(trigger.observe(), LookError)
        assert len(hooks) == (2 if renewed else 1)
        assert hooks[0].retired is renewed


@in_no_time
async def test_a_killed_task_says_that_its_request_goes_on(monkeypatch):
    trigger = SageMakerAsyncInferenceTrigger(**REQUEST)
    lines = []
    monkeypatch.setattr(trigger.log, "info", lambda text, *values: lines.append(text % values))
    await trigger.on_kill()
    assert lines == ["Request id-1 to endpoint model is not waited for here any more. It goes on by itself."]
