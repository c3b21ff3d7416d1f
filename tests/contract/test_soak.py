"""
Many waits that come and go for a while: none is forgotten, none is kept.

By hand it runs for longer and with more of them, and says what it took:

    AIRFLOW_ASYNC_SM_SOAK_WAITS=10000 AIRFLOW_ASYNC_SM_SOAK_SECONDS=180 pytest -s tests/contract/test_soak.py
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import statistics
import time
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import boto3
import psutil
import pytest

from airflow_async_sm.core.buckets import Listing
from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.outcomes import End
from airflow_async_sm.core.rounds import Rounds
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.triggers._watcher import Watcher
from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger
from tests import outside
from tests.world import BUCKET, eventually

pytestmark = pytest.mark.default_airflow

WAITS = int(os.environ.get("AIRFLOW_ASYNC_SM_SOAK_WAITS", "2000"))
SECONDS = float(os.environ.get("AIRFLOW_ASYNC_SM_SOAK_SECONDS", "15"))
# So many waits end each second, and as many begin.
ENDS_PER_SECOND = 50
# Later than this nobody is told of an end, in seconds. Looks are five seconds apart, and the machine is busy.
SOON = 40.0
FOLDERS = [f"soak/{n}/out" for n in range(4)]
MOST_GROWTH = 15 * 2**20


class Wait(SageMakerAsyncInferenceTrigger):
    def __init__(self, key, *, deadline_at):
        super().__init__(
            output_location=f"s3://{BUCKET}/{key}",
            failure_location=f"s3://{BUCKET}/{failure_of(key)}",
            submitted_at=time.time(),
            expires_at=time.time() + 90_000,
            deadline_at=deadline_at,
        )


def failure_of(key):
    return key.replace("/out/", "/failures/").replace(".out", "-error.out")


class Soak:
    """All waits that are there, and what becomes of each."""

    def __init__(self, s3):
        self._s3 = s3
        self._draw = random.Random(7)
        self._threads = ThreadPoolExecutor(4)
        # Waits by key, as long as they run; and those that nothing was decided on.
        self.running = {}
        self._free = []
        self._ended = []
        # How each is to end, and since when that can be known.
        self._due = {}
        self.waits = weakref.WeakSet()
        self.awaited = set()
        self.strays = []
        self.ends = {end: [] for end in (*End, "cancelled")}
        self.lag = 0.0
        self.begins_more = True

    def begin(self):
        """Begin one wait."""
        key = f"{self._draw.choice(FOLDERS)}/{uuid.UUID(int=self._draw.getrandbits(128))}.out"
        deadline_at = time.time() + 90_000
        if self._draw.random() < 0.1:
            deadline_at = time.time() + self._draw.uniform(2.0, 2 * WAITS / ENDS_PER_SECOND)
            self._due[key] = (End.TIMED_OUT, deadline_at)
        else:
            self._free.append(key)
        self.running[key] = asyncio.create_task(self._wait(key, deadline_at))
        self.running[key].add_done_callback(lambda _: self._ended.append(key))

    async def _wait(self, key, deadline_at):
        wait = Wait(key, deadline_at=deadline_at)
        self.waits.add(wait)
        self.awaited |= {key, failure_of(key)}
        try:
            (event,) = [event.payload async for event in wait.run()]
            return decode_event(event, type(wait.handle))[1]
        finally:
            self.awaited -= {key, failure_of(key)}

    async def decide(self):
        """Let something become of one wait."""
        place = self._draw.randrange(len(self._free))
        self._free[place], key = self._free[-1], self._free[place]
        self._free.pop()
        chance = self._draw.random()
        if chance < 0.3:
            self._due[key] = ("cancelled", time.time())
            self.running[key].cancel()
        elif chance < 0.4:
            await self._put(key, failure_of(key), End.FAILED)
        else:
            await self._put(key, key, End.SUCCEEDED)

    async def _put(self, key, place, end):
        self._due[key] = (end, time.time())
        put = partial(self._s3.put_object, Bucket=BUCKET, Key=place, Body=b"")
        await asyncio.get_running_loop().run_in_executor(self._threads, put)
        if key in self._due:
            self._due[key] = (end, time.time())

    def sweep(self):
        """Hold those that have ended to what was decided, and begin others."""
        ended, self._ended = self._ended, []
        for key in ended:
            task, (expected, since) = self.running.pop(key), self._due.pop(key)
            seen_at = since
            if task.cancelled():
                assert expected == "cancelled"
            else:
                seen_at = task.result().seen_at
                assert task.result().end is expected, task.result()
                assert expected is not End.TIMED_OUT or seen_at >= since
            self.ends[expected].append(max(0.0, seen_at - since))
            if self.begins_more:
                self.begin()

    def check_that_all_are_told(self):
        assert not self.has_due(time.time() - SOON)

    def has_due(self, until):
        """Return whether anybody is left whose end was due at a time."""
        return any(since <= until for _, since in self._due.values())

    async def tick(self):
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            self.lag = max(self.lag, time.monotonic() - before - 0.02)


def memory():
    gc.collect()
    return psutil.Process().memory_info().rss


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """The store is in another process: it takes more memory than all waits."""
    with outside.emulator(tmp_path) as (url, _):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(url))
        monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
        credentials = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        client = boto3.client("s3", "us-east-1", endpoint_url=url, **credentials)
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


async def test_waits_come_and_go(s3, monkeypatch):
    soak = Soak(s3)
    asked = [0, 0]
    begin = Rounds.begin

    def noted(self, now):
        asks = begin(self, now)
        for ask in asks:
            keys = ask.keys if isinstance(ask, Listing) else [spot.key for spot in ask.spots if spot.key]
            asked[isinstance(ask, Listing)] += 1 if isinstance(ask, Listing) else len(ask.spots)
            soak.strays += [key for key in keys if key not in soak.awaited]
        return asks

    monkeypatch.setattr(Rounds, "begin", noted)
    for number in range(WAITS):
        soak.begin()
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    (watcher,) = Watcher._all.values()
    ticking = asyncio.create_task(soak.tick())
    began_at, worked, decided = time.monotonic(), time.process_time(), 0
    at_half = None
    while (passed := time.monotonic() - began_at) < SECONDS:
        soak.sweep()
        if decided < passed * ENDS_PER_SECOND:
            decided += 1
            await soak.decide()
        if at_half is None and passed > SECONDS / 2:
            at_half = memory()
            await asyncio.sleep(0.05)
            soak.lag = 0.0
        await asyncio.sleep(0.001)
    lag, busy = soak.lag, (time.process_time() - worked) / SECONDS
    growth = memory() - at_half
    soak.begins_more = False
    until = time.time()
    while soak.has_due(until):
        soak.sweep()
        soak.check_that_all_are_told()
        await asyncio.sleep(0.02)

    # What has ended is not kept by anybody.
    gc.collect()
    soak.sweep()
    left = len(soak.running)
    assert len(watcher._watched) == len(watcher._rounds) == left
    assert len(soak.waits) <= left + 20
    assert len(watcher._rounds._queue) <= 6 * left + 2_000
    assert soak.strays == []
    ticking.cancel()
    for task in soak.running.values():
        task.cancel()
    await asyncio.wait(soak.running.values())
    await asyncio.sleep(0)
    assert Watcher._all == {}
    assert len(watcher._watched) == len(watcher._rounds) == 0
    eventually(lambda: not any(thread.is_alive() for thread in watcher._threads._threads))
    with contextlib.suppress(asyncio.CancelledError):
        await ticking

    told = soak.ends[End.SUCCEEDED]
    print(
        f"{WAITS} waits for {SECONDS:.0f} s: { ({str(end): len(each) for end, each in soak.ends.items()}) }, "
        f"told after {statistics.median(told):.1f} s, {max(told):.1f} s at most; {asked[1]} listings, "
        f"{asked[0]} other looks; {busy:.0%} of a processor, lag {lag * 1000:.0f} ms, "
        f"{growth / 2**20:+.1f} MB in the second half"
    )
    assert all(soak.ends[end] for end in (End.SUCCEEDED, End.FAILED, End.TIMED_OUT, "cancelled"))
    assert growth < MOST_GROWTH
