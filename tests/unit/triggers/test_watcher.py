"""The watcher that waits share: time and answers come from the test; triggers and rounds are real."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import time
import weakref
from collections import Counter
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm import metrics
from airflow_async_sm.core.buckets import Listing, Seen
from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.outcomes import End, Pending, Settled
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.triggers import _watcher
from airflow_async_sm.triggers._watcher import Watcher
from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger
from tests.stepped import in_no_time
from tests.world import eventually

WHEN = 1_000.0


class Store:
    """What there is to see, and the hooks that were made to see it."""

    def __init__(self):
        self.keys = set()
        self.hooks = []
        self.hinders_hooks = []
        self.hinders_asks = lambda ask: None
        self.asks = []
        self.asked_at = []
        self.time = lambda: None
        self.looks = []

    def put(self, *keys):
        self.keys.update(keys)

    def make(self, watcher):
        if self.hinders_hooks:
            raise self.hinders_hooks.pop(0)
        self.hooks.append(Hook(self))
        return self.hooks[-1]


class Hook:
    def __init__(self, store):
        self.store = store
        self.closed = 0

    def close(self):
        self.closed += 1

    def unanswered(self, handle):
        return Pending()

    def look_at_endpoints(self, handles):
        pass

    def _asked(self, ask):
        self.store.asks.append((ask, self))
        self.store.asked_at.append(self.store.time())
        self.store.hinders_asks(ask)
        return Seen(frozenset(keys_of(ask)) & self.store.keys)

    heads = listed = _asked

    def look_at_result(self, handle, on_403):
        self.store.looks.append((handle.inference_id, self))
        key = handle.output_location.partition("/bucket/")[2]
        return Settled(True) if key in self.store.keys else Pending()


class Wait(SageMakerAsyncInferenceTrigger):
    """A wait in the time of its loop, which is 1000 when it is made."""

    def __init__(self, key, *, bucket="bucket", seconds=600.0, **more):
        super().__init__(
            endpoint_name="model",
            inference_id=key,
            output_location=f"s3://{bucket}/{key}",
            submitted_at=WHEN,
            expires_at=WHEN + 9_000,
            deadline_at=WHEN + seconds,
            **more,
        )
        self.loop = asyncio.get_running_loop()
        self.ahead = WHEN - self.loop.time()

    def clock(self):
        return self.loop.time() + self.ahead

    async def outcome(self):
        (event,) = [event.payload async for event in self.run()]
        return decode_event(event, type(self.handle))[1]


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    store = Store()
    monkeypatch.setattr(Watcher, "_make", lambda watcher: store.make(watcher))
    yield store
    assert Watcher._all == {}
    eventually(lambda: all(hook.closed for hook in store.hooks[-1:]))


def keys_of(ask):
    return ask.keys if isinstance(ask, Listing) else [spot.key for spot in ask.spots]


def starts(*waits):
    return [asyncio.create_task(wait.outcome()) for wait in waits]


async def ends(*tasks):
    return [outcome.end for outcome in await asyncio.gather(*tasks)]


async def passes(seconds):
    await asyncio.sleep(seconds)


def watchers():
    return list(Watcher._all.values())


def refusal(code, status):
    error = RequestRejected("no")
    error.__cause__ = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "HeadObject"
    )
    return error


BUSY = ServiceUnavailable("S3 is busy")


def busy(ask):
    raise BUSY


class TestSharing:
    @in_no_time
    async def test_one_hook_looks_for_all_and_is_closed_after_the_last(self, store):
        tasks = starts(*(Wait(f"out/{n}") for n in range(5)))
        await passes(5)
        assert len(watchers()) == len(store.hooks) == 1
        for n in range(5):
            assert store.hooks[0].closed == 0
            store.put(f"out/{n}")
            assert await ends(tasks[n]) == [End.SUCCEEDED]
        assert watchers() == []
        eventually(lambda: store.hooks[0].closed == 1)
        assert Listing in {type(ask) for ask, _ in store.asks}
        assert store.looks == []

    @in_no_time
    async def test_waits_in_one_folder_are_asked_for_together(self, store):
        starts_at = asyncio.get_running_loop().time()
        tasks = starts(*(Wait(f"out/{n}", seconds=60.0) for n in range(300)))
        assert await ends(*tasks) == [End.TIMED_OUT] * 300
        rounds = {type(ask) for ask, _ in store.asks}
        assert rounds == {Listing}
        assert len(store.asks) < 60
        # The last look of each was its own, and at most one shortly before.
        assert 300 <= len(store.looks) <= 600
        assert asyncio.get_running_loop().time() - starts_at < 64.0

    @in_no_time
    async def test_ways_to_reach_aws_are_not_mixed(self, store):
        ways = [{}, {"region_name": "eu-west-1"}, {"aws_conn_id": "other"}, {"botocore_config": {"a": 1}}, {}]
        tasks = starts(*(Wait(f"out/{n}", **way) for n, way in enumerate(ways)))
        await passes(5)
        assert len(watchers()) == len(store.hooks) == 4
        store.put(*(f"out/{n}" for n in range(5)))
        assert await ends(*tasks) == [End.SUCCEEDED] * 5
        eventually(lambda: [hook.closed for hook in store.hooks] == [1] * 4)

    @in_no_time
    async def test_who_comes_after_the_last_has_left_gets_another(self, store):
        store.put("out/1")
        for number in (1, 2):
            assert await ends(*starts(Wait("out/1"))) == [End.SUCCEEDED]
            assert watchers() == []
            assert len(store.hooks) == number
            eventually(lambda: [hook.closed for hook in store.hooks] == [1] * len(store.hooks))

    @in_no_time
    async def test_the_same_place_may_be_awaited_twice(self, store):
        tasks = starts(Wait("out/1"), Wait("out/1"))
        await passes(3)
        store.put("out/1")
        assert await ends(*tasks) == [End.SUCCEEDED] * 2

    def test_event_loops_have_their_own(self, store):
        """Two at once, in threads of their own; each begins and ends many watchers."""
        both = threading.Barrier(2, timeout=20)
        ended = []

        async def wait(name):
            for n in range(20):
                tasks = starts(Wait(f"out/{name}"))
                await passes(0.05)
                if n == 0:
                    await asyncio.to_thread(both.wait)
                    # Those of the other loop are not this one's.
                    assert len([loop for loop, _ in Watcher._all if loop is asyncio.get_running_loop()]) == 1
                    assert len(Watcher._all) == 2
                    await asyncio.to_thread(both.wait)
                store.put(f"out/{name}")
                ended.extend(await ends(*tasks))

        def run(name):
            in_no_time(wait)(name)

        threads = [threading.Thread(target=run, args=[name], daemon=True) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert ended == [End.SUCCEEDED] * 40


class TestLeaving:
    @in_no_time
    async def test_a_cancelled_wait_leaves_no_trace(self, store):
        wait = Wait("out/1", failure_location="s3://bucket/failures/1")
        gone = weakref.ref(wait)
        (task,) = starts(wait)
        await passes(10)
        (watcher,) = watchers()
        assert len(watcher._rounds) == len(watcher._watched) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert Watcher._all == {}
        assert (len(watcher._rounds), watcher._watched, watcher._rounds._buckets) == (0, {}, {})
        del wait, task
        await passes(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        eventually(lambda: gc.collect() >= 0 and gone() is None)
        eventually(lambda: not any(thread.is_alive() for thread in watcher._threads._threads))

    @in_no_time
    async def test_one_that_goes_before_anything_was_asked_is_forgotten(self, store):
        (task,) = starts(Wait("out/1"))
        await passes(0)
        await passes(0)
        assert len(watchers()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await passes(5)
        assert (store.hooks, store.asks) == ([], [])

    @in_no_time
    async def test_others_go_on_when_one_is_cancelled(self, store):
        tasks = starts(*(Wait(f"out/{n}") for n in range(8)))
        await passes(10)
        for task in tasks[::2]:
            task.cancel()
        await passes(0)
        store.asks.clear()
        await passes(10)
        assert {key for ask, _ in store.asks for key in keys_of(ask)} == {f"out/{n}" for n in (1, 3, 5, 7)}
        store.put(*(f"out/{n}" for n in range(8)))
        assert await ends(*tasks[1::2]) == [End.SUCCEEDED] * 4

    @in_no_time
    async def test_one_that_is_cancelled_while_it_is_asked_for_is_no_trouble(self, store):
        begun, over, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

        def hold(ask):
            loop.call_soon_threadsafe(begun.set)
            assert over.wait(15)

        store.hinders_asks = hold
        tasks = starts(Wait("out/1"), Wait("out/2"))
        await begun.wait()
        tasks[0].cancel()
        store.put("out/1", "out/2")
        over.set()
        assert await ends(tasks[1]) == [End.SUCCEEDED]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    def test_an_event_loop_that_ends_takes_its_watchers_along(self, store):
        async def leave():
            starts(Wait("out/1"), Wait("out/2"))
            await passes(10)
            assert len(watchers()) == 1

        in_no_time(leave)()
        assert Watcher._all == {}


class TestTroubles:
    @in_no_time
    async def test_a_hook_that_cannot_be_made_is_tried_again(self, store, caplog):
        """A connection that was deleted by mistake may be restored."""
        store.hinders_hooks = [KeyError("no such connection")] * 3
        store.put("out/1", "out/2")
        tasks = starts(Wait("out/1"), Wait("out/2"))
        assert await ends(*tasks) == [End.SUCCEEDED] * 2
        assert len(store.hooks) == 1
        assert store.hinders_hooks == []

    @in_no_time
    async def test_an_outage_is_borne_however_many_come_meanwhile(self, store):
        """Each wait counts the looks that it would have made, and not those that younger ones need."""
        tasks = starts(*(Wait(f"out/{n}", seconds=3_000.0) for n in range(10)))
        await passes(30)
        store.hinders_asks = busy
        for n in range(10, 130):
            tasks += starts(Wait(f"out/{n}", seconds=3_000.0))
            await passes(5)
        assert not any(task.done() for task in tasks)
        store.hinders_asks = lambda ask: None
        store.put(*(f"out/{n}" for n in range(130)))
        assert await ends(*tasks) == [End.SUCCEEDED] * 130

    @in_no_time
    async def test_a_hook_that_can_never_be_made_ends_the_wait_as_failed_looks_do(self, store):
        store.hinders_hooks = [KeyError("no such connection")] * 1_000
        (outcome,) = await asyncio.gather(*starts(Wait("out/1", seconds=8_000.0)))
        assert outcome.end is End.LOOK_FAILED
        assert outcome.detail == "KeyError: 'no such connection'"
        # The second look came too soon after the first.
        assert len(store.hinders_hooks) == 1_000 - 20

    @pytest.mark.parametrize(
        ("code", "status", "renewed"),
        [("ExpiredToken", 400, True), ("400", 400, True), ("SlowDown", 503, False), ("503", 503, False)],
    )
    @in_no_time
    async def test_credentials_that_have_expired_are_fetched_anew(self, store, code, status, renewed):
        def hinder(ask):
            if store.hooks[-1] is store.hooks[0] and len(store.asks) < 4:
                raise refusal(code, status)

        store.hinders_asks = hinder
        (task,) = starts(Wait("out/1"))
        await passes(60)
        assert len(store.hooks) == (2 if renewed else 1)
        assert store.asks[-1][1] is store.hooks[-1]
        store.put("out/1")
        assert await ends(task) == [End.SUCCEEDED]

    @in_no_time
    async def test_the_hook_before_is_closed(self, store):
        def hinder(ask):
            if len(store.hooks) == 1 and len(store.asks) > 1:
                raise refusal("ExpiredToken", 400)

        store.hinders_asks = hinder
        tasks = starts(Wait("out/1"), Wait("out/"))
        await passes(60)
        assert len(store.hooks) == 2
        eventually(lambda: store.hooks[0].closed == 1)
        store.put("out/1", "out/")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @in_no_time
    async def test_a_place_that_cannot_be_read_ends_its_own_wait_only(self, store, monkeypatch):
        monkeypatch.setattr(Wait, "look", lambda self: self.places and Settled(True))
        wrong = Wait("out/1")
        object.__setattr__(wrong.handle, "output_location", "nowhere")
        tasks = starts(wrong, Wait("out/2"))
        await passes(5)
        store.put("out/2")
        assert await ends(*tasks) == [End.LOOK_FAILED, End.SUCCEEDED]

    @in_no_time
    async def test_a_mistake_of_the_watcher_ends_the_waits(self, store, monkeypatch):
        tasks = starts(Wait("out/1"), Wait("out/2"))
        await passes(5)
        (watcher,) = watchers()

        def break_down(now):
            raise ZeroDivisionError("a mistake")

        monkeypatch.setattr(watcher._rounds, "begin", break_down)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ZeroDivisionError)
        assert watchers() == []
        store.put("out/3")
        assert await ends(*starts(Wait("out/3"))) == [End.SUCCEEDED]

    @in_no_time
    async def test_who_comes_right_after_a_mistake_does_not_wait_for_ever(self, store, monkeypatch):
        tasks = starts(Wait("out/1"))
        await passes(5)
        (watcher,) = watchers()
        late = []

        async def awake(self, seconds):
            pass

        monkeypatch.setattr(Wait, "asleep", awake)

        def break_down(now):
            # Its turn comes when the others know of their end, and have not left yet.
            asyncio.get_running_loop().call_soon(lambda: late.extend(starts(Wait("out/2"))))
            raise ZeroDivisionError("a mistake")

        monkeypatch.setattr(watcher._rounds, "begin", break_down)
        store.put("out/2")
        with pytest.raises(ZeroDivisionError):
            await tasks[0]
        assert await ends(*late) == [End.SUCCEEDED]

    @in_no_time
    async def test_a_mistake_in_an_answer_ends_the_waits(self, store):
        tasks = starts(Wait("out/1"), Wait("out/2"))
        await passes(5)
        (watcher,) = watchers()
        watcher._rounds.absorb = lambda *_: 1 / 0
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ZeroDivisionError)

    @in_no_time
    async def test_endpoints_that_cannot_be_looked_at_hinder_nothing(self, store, monkeypatch):
        looks = []

        def look(self, handles):
            looks.append([handle.inference_id for handle in handles])
            raise OSError("no route")

        monkeypatch.setattr(Hook, "look_at_endpoints", look)
        tasks = starts(Wait("out/1"), Wait("out/2"))
        await passes(40)
        assert looks == [["out/1", "out/2"]] * 2
        store.put("out/1", "out/2")
        assert await ends(*tasks) == [End.SUCCEEDED] * 2


class TestBuckets:
    @staticmethod
    def each_is_asked_for(monkeypatch):
        """Listing is not allowed, so a thread asks for ten keys at most."""
        denied = Seen(frozenset(), is_whole=False, cost=float("inf"))
        monkeypatch.setattr(Hook, "listed", lambda self, ask: denied)

    async def test_one_that_does_not_answer_holds_up_no_other(self, store, monkeypatch):
        """This takes its time: threads that hang keep the clock of the other tests from going on."""
        over, begun, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()
        hanging = []

        def hold(ask):
            if ask.bucket == "stuck":
                hanging.append(ask)
                loop.call_soon_threadsafe(begun.set)
                assert over.wait(15)

        store.hinders_asks = hold
        self.each_is_asked_for(monkeypatch)
        stuck = starts(*(Wait(f"{n}/a/out", bucket="stuck") for n in range(300)))
        await asyncio.wait_for(begun.wait(), 10)
        others = starts(*(Wait(f"out/{n}") for n in range(100)))
        await asyncio.wait_for(begun.wait(), 10)
        store.put(*(f"out/{n}" for n in range(100)), *(f"{n}/a/out" for n in range(300)))
        assert await asyncio.wait_for(ends(*others), 10) == [End.SUCCEEDED] * 100
        assert len(hanging) == _watcher._EACH_BUCKET
        assert not any(task.done() for task in stuck)
        over.set()
        assert await asyncio.wait_for(ends(*stuck), 15) == [End.SUCCEEDED] * 300

    @in_no_time
    async def test_one_that_is_too_busy_is_not_asked_for_each(self, store, monkeypatch):
        """What fails for some keys fails for all that were to be asked with them."""
        self.each_is_asked_for(monkeypatch)
        store.time = asyncio.get_running_loop().time
        store.hinders_asks = busy
        tasks = starts(*(Wait(f"out/{n}") for n in range(200)))
        await passes(90)
        # The threads that had begun before one of them failed, and no others.
        rounds = Counter(store.asked_at)
        assert max(rounds.values()) <= _watcher._EACH_BUCKET
        assert 3 <= len(rounds) <= 8
        store.hinders_asks = lambda ask: None
        store.put(*(f"out/{n}" for n in range(200)))
        assert await ends(*tasks) == [End.SUCCEEDED] * 200
        assert store.looks == []

    @in_no_time
    async def test_the_last_look_of_a_wait_is_made_all_the_same(self, store):
        """An object that came just before the deadline is found, though other looks failed meanwhile."""
        store.hinders_asks = busy
        tasks = starts(*(Wait(f"out/{n}", seconds=30.0) for n in range(50)))
        store.put("out/7")
        outcomes = await ends(*tasks)
        assert outcomes[7] is End.SUCCEEDED
        assert outcomes[:7] + outcomes[8:] == [End.TIMED_OUT] * 49

    @in_no_time
    async def test_one_last_look_that_fails_is_no_reason_not_to_make_the_others(self, store, monkeypatch):
        look = Hook.look_at_result

        def look_at_result(self, handle, on_403):
            if handle.inference_id == "out/0":
                raise BUSY
            return look(self, handle, on_403)

        monkeypatch.setattr(Hook, "look_at_result", look_at_result)
        store.hinders_asks = busy
        store.put(*(f"out/{n}" for n in range(50)))
        tasks = starts(*(Wait(f"out/{n}", seconds=30.0) for n in range(50)))
        assert await ends(*tasks) == [End.LOOK_FAILED] + [End.SUCCEEDED] * 49


class TestTelling:
    @in_no_time
    async def test_what_a_wait_logs_belongs_to_its_task(self, store, monkeypatch, caplog):
        task_of = contextvars.ContextVar("task_of", default="nobody")
        lines = []

        class Taken(logging.Handler):
            def emit(self, record):
                lines.append((task_of.get(), record.name, record.getMessage()))

        taken = Taken()
        logger = logging.getLogger("airflow_async_sm")
        logger.addHandler(taken)
        monkeypatch.setattr(Wait, "log", logging.getLogger("airflow_async_sm.waits"), raising=False)
        caplog.set_level(logging.DEBUG, logger="airflow_async_sm")

        async def wait(name):
            task_of.set(name)
            return await Wait(name).outcome()

        def hinder(ask):
            if len(store.asks) == 2:
                raise BUSY

        store.hinders_asks = hinder
        try:
            tasks = [asyncio.create_task(wait(name)) for name in ("out/a", "out/b", "out/c")]
            await passes(130)
        finally:
            logger.removeHandler(taken)
        store.put("out/a", "out/b", "out/c")
        await asyncio.gather(*tasks)
        of_waits = [line for line in lines if line[1] == "airflow_async_sm.waits"]
        assert {name for name, _, _ in of_waits} == {"out/a", "out/b", "out/c"}
        assert all(name in text for name, _, text in of_waits)
        others = [line for line in lines if line[1] != "airflow_async_sm.waits"]
        assert [name for name, _, text in others if "waits" in text] == ["nobody", "nobody"]

    @in_no_time
    @pytest.mark.parametrize(("waits", "level"), [(3, "INFO"), (4, "DEBUG")])
    async def test_where_many_wait_what_all_have_in_common_is_for_debugging(
        self, store, monkeypatch, caplog, waits, level
    ):
        monkeypatch.setattr(_watcher, "_MANY", 3)
        monkeypatch.setattr(Hook, "unanswered", lambda hook, handle: Pending("the endpoint is busy"))
        monkeypatch.setattr(Wait, "log", logging.getLogger("airflow_async_sm.waits"), raising=False)
        caplog.set_level(logging.DEBUG, logger="airflow_async_sm.waits")
        keys = [f"out/{n}" for n in range(waits)]
        tasks = starts(*(Wait(key) for key in keys))
        await passes(20)
        told = [record for record in caplog.records if "the endpoint is busy" in record.getMessage()]
        assert [record.levelname for record in told] == [level] * waits
        store.put(*keys)
        assert await ends(*tasks) == [End.SUCCEEDED] * waits

    @in_no_time
    async def test_its_figures_are_told_once_a_minute(self, store, monkeypatch, caplog):
        told = []
        stats = SimpleNamespace(
            incr=lambda name, count, tags=None: told.append((name, count, tags)),
            gauge=lambda name, value: told.append((name, value, None)),
            timing=lambda name, took: told.append((name, took.total_seconds(), None)),
        )
        monkeypatch.setattr(metrics, "_stats", lambda: stats)
        caplog.set_level(logging.DEBUG, logger="airflow_async_sm.triggers._figures")
        tasks = starts(*(Wait(f"out/{n}") for n in range(20)))
        tasks += starts(Wait("folder/"))
        await passes(30)
        asks, looks = len(store.asks), len(store.looks)
        assert told == []
        store.put("out/1", "out/2")
        await passes(40)

        def lines():
            # Where Airflow lets it, what the waits log is here as well.
            return [record.getMessage() for record in caplog.records if record.name.endswith("_figures")]

        (line,) = lines()
        assert ": 19 waits, " in line
        assert ", 2 ended, 0 failed looks, " in line
        figures = {(name, *(tags or {}).values()): value for name, value, tags in told}
        assert figures.pop(("sagemaker_async.watcher.waits",)) == 19
        assert figures.pop(("sagemaker_async.watcher.hits",)) == 2
        assert figures.pop(("sagemaker_async.watcher.errors",)) == 0
        assert asks < figures.pop(("sagemaker_async.watcher.looks", "listing")) <= len(store.asks)
        assert looks < figures.pop(("sagemaker_async.watcher.looks", "look")) <= len(store.looks)
        assert figures.pop(("sagemaker_async.watcher.rounds",)) > 10
        assert 0 < figures.pop(("sagemaker_async.watcher.turn",)) < 10
        assert figures == {}
        told.clear()
        store.hinders_asks = busy
        await passes(60)
        assert len(lines()) == 2
        errors = [value for name, value, _ in told if name == "sagemaker_async.watcher.errors"]
        assert len(errors) == 1
        assert errors[0] > 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_it_works_in_the_event_loop_that_airflow_may_have(store, monkeypatch):
    uvloop = pytest.importorskip("uvloop")

    async def wait():
        tasks = starts(*(Wait(f"out/{n}") for n in range(30)))
        await asyncio.to_thread(eventually, lambda: len(store.asks) >= 1)
        tasks[0].cancel()
        store.put(*(f"out/{n}" for n in range(30)))
        assert await ends(*tasks[1:]) == [End.SUCCEEDED] * 29
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]

    began_at = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait())
    assert time.monotonic() - began_at < 20


@in_no_time
async def test_waits_whose_lines_take_long_do_not_hold_up_the_others(store, monkeypatch):
    loop, turns, decide = asyncio.get_running_loop(), [0], Wait.decide

    def slowly(wait, *args, **more):
        time.sleep(0.004)
        if turns[-1] == 0:
            loop.call_soon(turns.append, 0)
        turns[-1] += 1
        return decide(wait, *args, **more)

    monkeypatch.setattr(Wait, "decide", slowly)
    keys = [f"out/{n}" for n in range(60)]
    tasks = starts(*(Wait(key) for key in keys))
    await passes(1)
    store.put(*keys)
    assert await ends(*tasks) == [End.SUCCEEDED] * 60
    assert sum(turns) >= 60
    assert max(turns) <= 10
