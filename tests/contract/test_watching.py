"""Many waits at once, against the emulator: how few requests that takes, and what goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from urllib.parse import quote, unquote_plus

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.failures import LOOK_REFUSED
from airflow_async_sm.core.outcomes import End
from airflow_async_sm.core.waiting import Pace, WaitEngine
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.emulator.settings.faults import (
    ExpiredCredentials,
    ListDenied,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    SlowAnswer,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.triggers._watcher import Watcher
from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger
from tests.shaky import Proxy
from tests.world import BUCKET, SHORT

pytestmark = pytest.mark.default_airflow


class Wait(SageMakerAsyncInferenceTrigger):
    """A wait for one key. It looks as often as it can, and soon after a failed look."""

    def __init__(self, key, *, bucket=BUCKET, failure=None, seconds=300.0, **more):
        now = time.time()
        self.ahead = 0.0
        arguments = {
            "endpoint_region": "us-east-1",
            "output_location": f"s3://{bucket}/{key}",
            "failure_location": failure and f"s3://{bucket}/{failure}",
            "submitted_at": now,
            "expires_at": now + 9_000,
            "deadline_at": now + seconds,
            "poll_interval": 1,
        }
        super().__init__(**(arguments | more))
        self.engine = WaitEngine(
            started_at=self.handle.submitted_at,
            deadline_at=self.deadline_at,
            expires_at=self.handle.expires_at,
            pace=Pace(shortest=0.4, longest=0.4, longest_after_error=0.8),
        )

    def clock(self):
        return time.time() + self.ahead

    async def outcome(self):
        (event,) = [event.payload async for event in self.run()]
        return decode_event(event, type(self.handle))[1]


def place(*keys, bucket=BUCKET):
    """Put objects where no fault can hinder it."""
    for key in keys:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, b"answer")


@pytest.fixture(scope="module")
def sessions():
    """One session for all hooks of this module: what a new one has to load takes half a second."""
    return []


class Calls(Counter):
    """How often each of S3's calls was made by watchers."""

    def of(self, *names):
        return sum(self[name] for name in names)


@pytest.fixture
def calls(monkeypatch, sessions):
    calls = Calls()
    connect = SageMakerAsyncHook.connect

    def counted(self):
        if sessions:
            vars(self)["_session"] = sessions[0]
        connect(self)
        sessions.append(self._session)
        for client in (self._s3_looking, self._sagemaker_looking):
            client.meta.events.register("before-call", lambda model, **_: calls.update([model.name]))

    monkeypatch.setattr(SageMakerAsyncHook, "connect", counted)
    return calls


@pytest.fixture
def faults(world):
    yield world.emulator.faults
    world.emulator.faults.clear()


@pytest.fixture(scope="module")
def buckets(world):
    """Where there are few keys in each, they are asked for one by one."""
    names = [f"few-{n}" for n in range(4)]
    for name in names:
        world.s3.create_bucket(Bucket=name)
    return names


@pytest.fixture(autouse=True)
def at_once(world, calls, monkeypatch):
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    for name, seconds in {"_JOINING": 0.1, "_LISTED_EVERY": 0.2, "_PLANNED_ANEW": 0.2}.items():
        monkeypatch.setattr(f"airflow_async_sm.core.rounds.{name}", seconds)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    yield
    assert Watcher._all == {}


@pytest.fixture
def proxy(world, monkeypatch):
    proxy = Proxy(world.emulator.url)
    proxy.start()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(proxy.url))
    yield proxy
    proxy.stop()


def own_folder():
    return f"watched/{uuid.uuid4()}"


def starts(waits):
    return [asyncio.create_task(wait.outcome()) for wait in waits]


async def ends(tasks, *, within=60.0):
    """Return how waits ended; ``within`` is in seconds, and only says when somebody was forgotten."""
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks), within)
    failed = {outcome.detail for outcome in outcomes if outcome.end is End.LOOK_FAILED}
    assert not failed
    return [outcome.end for outcome in outcomes]


async def holds(condition, *, within=60.0):
    """Wait until a condition holds, and let others go on meanwhile."""
    give_up_at = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up_at, "did not happen in time"
        await asyncio.sleep(0.02)


class TestRequests:
    @pytest.mark.parametrize("shape", ["{folder}/{n}.out", "{folder}/{n}/answer.out"])
    async def test_a_folder_is_listed_for_all(self, calls, shape):
        folder = own_folder()
        keys = [shape.format(folder=folder, n=uuid.uuid4()) for _ in range(60)]
        began_at = time.monotonic()
        tasks = starts(Wait(key) for key in keys)
        await holds(lambda: calls["ListObjectsV2"] >= 3)
        place(*keys[:30])
        assert await ends(tasks[:30]) == [End.SUCCEEDED] * 30
        # Nobody was looked at alone. The few may be that a listing misses while the last are placed.
        assert set(calls) == {"ListObjectsV2"}
        place(*keys[30:])
        assert await ends(tasks[30:]) == [End.SUCCEEDED] * 30
        lasted = time.monotonic() - began_at
        assert calls["ListObjectsV2"] <= 5 + 5 * lasted

    async def test_few_keys_are_asked_for_one_by_one(self, calls):
        keys = [f"{own_folder()}/{n}.out" for n in range(3)]
        tasks = starts(Wait(key) for key in keys)
        await holds(lambda: calls["HeadObject"] >= 6)
        place(*keys)
        assert await ends(tasks) == [End.SUCCEEDED] * 3
        assert set(calls) == {"HeadObject"}

    async def test_a_folder_full_of_what_others_wrote_is_not_listed(self, calls):
        folder = own_folder()
        place(*(f"{folder}/{uuid.uuid4()}.out" for _ in range(5_000)))
        keys = [f"{folder}/{uuid.uuid4()}.out" for _ in range(20)]
        tasks = starts(Wait(key) for key in keys)
        await holds(lambda: calls["HeadObject"] >= 40)
        # It was tried, and given up.
        assert 1 <= calls["ListObjectsV2"] <= 3
        place(*keys)
        assert await ends(tasks) == [End.SUCCEEDED] * 20

    async def test_what_others_wrote_beside_the_waits_does_not_count(self, calls):
        """Only what lies between the first and the last of the keys is brought by a listing."""
        folder = own_folder()
        place(*(f"{folder}/0-{n:04}.out" for n in range(2_000)))
        keys = [f"{folder}/1-{n:04}.out" for n in range(20)]
        tasks = starts(Wait(key) for key in keys)
        await holds(lambda: calls["ListObjectsV2"] >= 3)
        # The few may be looked at alone that a listing misses while they are placed.
        assert set(calls) == {"ListObjectsV2"}
        place(*keys)
        assert await ends(tasks) == [End.SUCCEEDED] * 20

    async def test_a_listing_of_many_pages_finds_all(self, calls):
        folder = own_folder()
        keys = sorted(f"{folder}/{uuid.uuid4()}.out" for _ in range(1_300))
        place(*keys[:-1])
        tasks = starts(Wait(key) for key in keys)
        assert await ends(tasks[:-1]) == [End.SUCCEEDED] * 1_299
        place(keys[-1])
        assert await ends(tasks[-1:]) == [End.SUCCEEDED]
        assert calls["HeadObject"] <= 30

    async def test_every_character_that_a_key_may_have(self, calls, buckets):
        folder = own_folder()
        names = [
            "a b",
            "a+b",
            "50%",
            "%20",
            "a&b",
            "a=b;c",
            "ü",
            "u\u0308",
            "\N{GRINNING FACE}",
            "<a>'\"",
            "a?#~",
        ]
        together = [(BUCKET, f"{folder}/{name}/{n}{name}.out") for name in names for n in range(3)]
        apart = [(buckets[n // 3], f"{folder}/{name}.out") for n, name in enumerate(names)]
        # What is like one of them, if it is decoded twice or not at all, is something else.
        for bucket, key in together + apart:
            for other in (quote(key), unquote_plus(key)):
                if other not in (each for _, each in together + apart):
                    place(other, bucket=bucket)
        tasks = starts(Wait(key, bucket=bucket) for bucket, key in together + apart)
        await holds(lambda: calls["ListObjectsV2"] >= 2 and calls["HeadObject"] >= 2 * len(apart))
        assert not any(task.done() for task in tasks)
        for bucket, key in together + apart:
            place(key, bucket=bucket)
        assert await ends(tasks) == [End.SUCCEEDED] * len(tasks)


class TestEnds:
    async def test_a_failure_is_found(self, calls):
        folder = own_folder()
        waits = [Wait(f"{folder}/out/{n}", failure=f"{folder}/failures/{n}") for n in range(12)]
        tasks = starts(waits)
        await holds(lambda: calls["ListObjectsV2"] >= 2)
        place(f"{folder}/failures/5", f"{folder}/failures/7", f"{folder}/out/7")
        expected = {5: End.FAILED, 7: End.SUCCEEDED}
        assert await ends([tasks[n] for n in expected]) == list(expected.values())
        rest = [n for n in range(12) if n not in expected]
        assert not any(tasks[n].done() for n in rest)
        place(*(f"{folder}/out/{n}" for n in rest))
        assert await ends([tasks[n] for n in rest]) == [End.SUCCEEDED] * len(rest)

    async def test_with_its_endpoint_a_request_is_lost(self, world, calls, monkeypatch):
        for name in ("ENDPOINT_SECONDS", "CLOCKS_DIFFER"):
            monkeypatch.setattr(f"airflow_async_sm.hooks._looks.{name}", 0.5)
        monkeypatch.setattr("airflow_async_sm.triggers._watcher._ENDPOINTS_EVERY", 0.2)
        folder, name = own_folder(), world.deploy()
        tasks = starts(Wait(f"{folder}/{n}", endpoint_name=name) for n in range(12))
        other = starts([Wait(f"{folder}/other")])
        await holds(lambda: calls["DescribeEndpoint"] >= 2)
        assert not any(task.done() for task in tasks)
        await asyncio.to_thread(world.control.delete_endpoint, EndpointName=name)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert {(outcome.end, outcome.detail) for outcome in outcomes} == {
            (End.FAILED, f"Endpoint {name} does not exist any more.")
        }
        assert not other[0].done()
        place(f"{folder}/other")
        assert await ends(other) == [End.SUCCEEDED]

    async def test_many_deadlines_at_once_are_kept(self, calls):
        folder = own_folder()
        began_at = time.time()
        tasks = starts(Wait(f"{folder}/{n}", seconds=2.0) for n in range(60))
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert {outcome.end for outcome in outcomes} == {End.TIMED_OUT}
        assert all(2.0 <= outcome.seen_at - began_at < 30.0 for outcome in outcomes)

    async def test_an_answer_that_came_last_of_all_is_found(self, faults, calls):
        """Nobody could look until the deadline, and one look is made then."""
        folder = own_folder()
        hindered = faults.add(S3SlowDown())
        waits = [Wait(f"{folder}/{n}", seconds=600.0) for n in range(20)]
        tasks = starts(waits)
        place(*(f"{folder}/{n}" for n in range(20)))
        await holds(lambda: calls["ListObjectsV2"] >= 2)
        assert not any(task.done() for task in tasks)
        faults.remove(hindered)
        for wait in waits:
            wait.ahead = 3_600.0
        assert await ends(tasks) == [End.SUCCEEDED] * 20


class TestRefusals:
    async def test_without_the_right_to_list_who_does_not_wait_is_told(self, faults):
        faults.add(ListDenied())
        folder = own_folder()
        tasks = starts(Wait(f"{folder}/{n}") for n in range(20))
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert {outcome.end for outcome in outcomes} == {End.LOOK_FAILED}
        assert all(outcome.detail.startswith(LOOK_REFUSED) for outcome in outcomes)

    async def test_without_the_right_to_list_who_waits_sees_the_answer(self, faults, calls):
        faults.add(ListDenied())
        folder = own_folder()
        waits = [Wait(f"{folder}/{n}", on_403="wait", failure=f"{folder}/e/{n}") for n in range(20)]
        tasks = starts(waits)
        await holds(lambda: calls["HeadObject"] >= 100)
        assert not any(task.done() for task in tasks)
        listings = calls["ListObjectsV2"]
        place(*(f"{folder}/{n}" for n in range(19)), f"{folder}/e/19")
        assert await ends(tasks) == [End.SUCCEEDED] * 19 + [End.FAILED]
        # That it is not allowed is not asked again and again.
        assert calls["ListObjectsV2"] - listings <= 1

    async def test_a_bucket_where_only_listing_is_denied(self, faults, calls):
        """A policy may allow listing of other folders only; HEADs then answer 404 all the same."""
        faults.add(S3Denied(operation="ListObjectsV2"))
        folder = own_folder()
        tasks = starts(Wait(f"{folder}/{n}") for n in range(20))
        await holds(lambda: calls["HeadObject"] >= 40)
        place(*(f"{folder}/{n}" for n in range(20)))
        assert await ends(tasks) == [End.SUCCEEDED] * 20
        assert calls["ListObjectsV2"] <= 3

    async def test_a_bucket_where_only_objects_are_denied(self, faults, calls):
        """What is listed is there; nobody has to read it to know."""
        faults.add(S3Denied(operation="HeadObject"))
        folder = own_folder()
        tasks = starts(Wait(f"{folder}/{n}") for n in range(20))
        await holds(lambda: calls["ListObjectsV2"] >= 2)
        place(*(f"{folder}/{n}" for n in range(20)))
        assert await ends(tasks) == [End.SUCCEEDED] * 20


class TestTroubles:
    """Nobody fails, and all are found as soon as it is over."""

    @pytest.mark.parametrize(
        "fault",
        [
            S3SlowDown(),
            S3SlowDown(rate=0.5),
            ServiceFailed(service="s3"),
            ExpiredCredentials(),
            SlowAnswer(service="s3", seconds=0.7),
        ],
        ids=["busy", "half busy", "500", "expired", "slow"],
    )
    async def test_s3_is_in_trouble(self, faults, calls, buckets, fault):
        folder = own_folder()
        places = [(BUCKET, f"{folder}/{n}") for n in range(30)]
        places += [(buckets[n // 3], f"{folder}/{n}") for n in range(6)]
        tasks = starts(Wait(key, bucket=bucket) for bucket, key in places)
        await holds(lambda: calls["ListObjectsV2"] >= 1 and calls["HeadObject"] >= 6)
        hindered = faults.add(fault)
        calls.clear()
        # What was under way before the fault has come back when each place has been asked for anew.
        await holds(lambda: calls["ListObjectsV2"] >= 2 and calls["HeadObject"] >= 12)
        calls.clear()
        for bucket, key in places[::2]:
            place(key, bucket=bucket)
        began_at = time.monotonic()
        await holds(
            lambda: time.monotonic() - began_at > 1.0 and calls["ListObjectsV2"] and calls["HeadObject"]
        )
        if fault in (S3SlowDown(), ServiceFailed(service="s3")):
            assert not any(task.done() for task in tasks)
            assert calls.total() < 50
        faults.remove(hindered)
        for bucket, key in places[1::2]:
            place(key, bucket=bucket)
        assert await ends(tasks) == [End.SUCCEEDED] * len(places)

    async def test_connections_are_dropped(self, proxy):
        proxy.drops = 0.3
        folder = own_folder()
        keys = [f"{folder}/{n}.out" for n in range(30)]
        tasks = starts(Wait(key) for key in keys)
        for n in range(3):
            place(*keys[n * 10 : n * 10 + 10])
            before = proxy.dropped
            for _ in range(100):
                await asyncio.to_thread(proxy.reset)
                await asyncio.sleep(SHORT)
                if proxy.dropped > before or all(task.done() for task in tasks):
                    break
        assert await ends(tasks) == [End.SUCCEEDED] * 30
        assert proxy.dropped >= 1

    async def test_s3_cannot_be_reached_for_a_while(self, proxy, calls):
        folder = own_folder()
        keys = [f"{folder}/{n}.out" for n in range(40)]
        tasks = starts(Wait(key) for key in keys)
        await holds(lambda: calls["ListObjectsV2"] >= 2)
        await asyncio.to_thread(proxy.stop)
        place(*keys)
        calls.clear()
        await holds(lambda: calls["ListObjectsV2"] >= 2)
        assert not any(task.done() for task in tasks)
        proxy.start()
        assert await ends(tasks) == [End.SUCCEEDED] * 40

    async def test_a_bucket_in_trouble_holds_up_no_other(self, world, faults, calls):
        with contextlib.suppress(world.s3.exceptions.BucketAlreadyOwnedByYou):
            world.s3.create_bucket(Bucket="in-trouble")
        faults.add(S3SlowDown(bucket="in-trouble"))
        folder = own_folder()
        stuck = starts(Wait(f"{folder}/{n}", bucket="in-trouble") for n in range(20))
        tasks = starts(Wait(f"{folder}/{n}") for n in range(20))
        await holds(lambda: calls["ListObjectsV2"] >= 4)
        place(*(f"{folder}/{n}" for n in range(20)))
        assert await ends(tasks) == [End.SUCCEEDED] * 20
        assert not any(task.done() for task in stuck)
        place(*(f"{folder}/{n}" for n in range(20)), bucket="in-trouble")
        faults.clear()
        assert await ends(stuck) == [End.SUCCEEDED] * 20


class TestClocks:
    """Deadlines are points in time. Looks are made all the same, whatever the clock says."""

    @pytest.mark.parametrize("number", [2, 20], ids=["head", "list"])
    async def test_one_that_is_set_back_stops_no_looks(self, calls, number):
        folder = own_folder()
        waits = [Wait(f"{folder}/{n}") for n in range(number)]
        tasks = starts(waits)
        await holds(lambda: calls.total() >= 2)
        for wait in waits:
            wait.ahead = -3_600.0
        calls.clear()
        await holds(lambda: calls.total() >= 4)
        place(*(f"{folder}/{n}" for n in range(number)))
        assert await ends(tasks) == [End.SUCCEEDED] * number

    @pytest.mark.parametrize("number", [2, 20], ids=["head", "list"])
    async def test_one_that_is_put_forward_ends_what_is_over_by_then(self, calls, number):
        folder = own_folder()
        waits = [Wait(f"{folder}/{n}", seconds=600.0) for n in range(number)]
        waits.append(Wait(f"{folder}/long", seconds=7_200.0))
        tasks = starts(waits)
        await holds(lambda: calls.total() >= 2)
        # An answer that came in time is found by the last look.
        place(f"{folder}/0")
        for wait in waits:
            wait.ahead = 3_600.0
        assert await ends(tasks[:-1]) == [End.SUCCEEDED] + [End.TIMED_OUT] * (number - 1)
        assert not tasks[-1].done()
        place(f"{folder}/long")
        assert await ends(tasks[-1:]) == [End.SUCCEEDED]


class TestChange:
    async def test_waits_come_and_go(self, calls):
        """Folders fill and empty, some are cancelled, and nobody is forgotten."""
        draw = random.Random(7)
        folders = [own_folder() for _ in range(4)]
        running, begun, ended = {}, 0, 0
        # However long that takes: what counts is that some end while others begin.
        while begun < 200 or ended < 20:
            assert begun < 5_000, "nobody is told of an answer"
            key = f"{draw.choice(folders)}/{uuid.uuid4()}.out"
            running[key] = asyncio.create_task(Wait(key, seconds=600.0).outcome())
            begun += 1
            if len(running) > 10:
                place(draw.choice(list(running)))
            if draw.random() < 0.1:
                cancelled = running.pop(draw.choice(list(running)))
                cancelled.cancel()
                await asyncio.wait([cancelled])
            await asyncio.sleep(SHORT / 5)
            for key in [key for key, task in running.items() if task.done()]:
                assert running.pop(key).result().end is End.SUCCEEDED
                ended += 1
        place(*running)
        # Who was forgotten is not told at all.
        assert await ends(running.values(), within=120.0) == [End.SUCCEEDED] * len(running)
