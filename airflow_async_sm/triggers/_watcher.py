"""
The one who looks for all: the waits of a triggerer that reach AWS in the same way share a watcher.

A client for each wait would cost a tenth of a second and ten megabytes, and a request for each look is most
of what waiting costs. The watcher has one client, made for the first wait and closed after the last, and a
few threads; the rounds decide what it asks, and when. It lives in one event loop.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from asgiref.sync import sync_to_async

from airflow_async_sm.core.buckets import Ask, Heads, Listing, Look, Seen
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import LookError, Observation, Outcome, Pending
from airflow_async_sm.core.rounds import Rounds
from airflow_async_sm.core.waiting import Finish, Sleep
from airflow_async_sm.exceptions import RequestRejected
from airflow_async_sm.triggers._figures import Figures
from airflow_async_sm.triggers._troubles import look_error, tells_of_credentials

if TYPE_CHECKING:
    from airflow_async_sm.core.aws import AwsParams
    from airflow_async_sm.core.uris import S3Uri
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["Watcher"]

Result = TypeVar("Result")

_Key = tuple[asyncio.AbstractEventLoop, str]

# So many threads look at the same time. Of these, so many at most are busy with one bucket: another one may
# be slow, or out of order.
_THREADS: Final = 16
_EACH_BUCKET: Final = 6
# What has not come after so many seconds is not waited for.
_PATIENCE: Final = 30.0
# A hook is made anew at most so often, in seconds.
_MADE_EVERY: Final = 10.0
# How often somebody thinks of the endpoints, in seconds. Each is looked at less often than that.
_ENDPOINTS_EVERY: Final = 15.0
# For so long, in seconds, waits are dealt with before the event loop turns to others. What a wait logs can
# take much of it: a triggerer reads its log a few lines at a time, and asks its database after each time.
_IN_ONE_GO: Final = 0.02
# Where more than these wait, a status that all of them have is not news for the log of each: with thousands,
# the triggerer would be busy with these lines for half a minute.
_MANY: Final = 200


class _Watched:
    """A trigger that waits, as the rounds know it. What it logs belongs to its task."""

    __slots__ = ("_context", "_watcher", "ended", "trigger")

    def __init__(self, trigger: SageMakerAsyncBaseTrigger, watcher: Watcher) -> None:
        self.trigger = trigger
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._watcher = watcher
        self._context = copy_context()

    @property
    def ends_in(self) -> float:
        return self.trigger.engine.ends_at - self.trigger.clock()

    def unanswered(self) -> Pending | None:
        hook = self._watcher.hook
        return Pending() if hook is None else self.trigger.unanswered(hook)

    def after(self, seen: Observation, stretch: float) -> Sleep | Finish:
        decide = partial(self.trigger.decide, seen, stretch, quietly=self._watcher.is_crowded)
        return self._context.run(decide)


class Watcher:
    """
    Looks for all waits of one event loop that reach AWS in the same way.

    :param params: How that is.
    :param loop: The event loop.
    """

    _all: ClassVar[dict[_Key, Watcher]] = {}

    def __init__(self, params: AwsParams, loop: asyncio.AbstractEventLoop) -> None:
        self._params = params
        self._loop = loop
        self._key = _key(params, loop)
        self._rounds = Rounds(draw=random.random)
        self._watched: dict[int, _Watched] = {}
        self._figures = Figures(loop.time())
        self._woken = asyncio.Event()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sagemaker-async-look")
        self._turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_EACH_BUCKET))
        # When looks at a bucket last failed, and why.
        self._troubles: dict[str, tuple[float, LookError]] = {}
        # What all looks are made with, as soon as it is made.
        self.hook: SageMakerAsyncHook | None = None
        self._made_at = float("-inf")
        self._is_outdated = False
        self._made: asyncio.Future[SageMakerAsyncHook] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._run())
        self._start(self._look_at_endpoints())

    @classmethod
    def of(cls, params: AwsParams) -> Watcher:
        """Return the watcher of the running event loop."""
        loop = asyncio.get_running_loop()
        key = _key(params, loop)
        if key not in cls._all:
            cls._all[key] = cls(params, loop)
        return cls._all[key]

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait that their logs are to be short."""
        return len(self._watched) > _MANY

    async def outcome_of(self, trigger: SageMakerAsyncBaseTrigger) -> Outcome:
        """
        Return how a wait ended. To be awaited at once: a watcher is closed when its last wait has left.

        :param trigger: The wait. It may be cancelled.
        """
        watched = _Watched(trigger, self)
        name = self._rounds.add(watched, *_places(trigger), now=self._loop.time())
        self._watched[name] = watched
        self._woken.set()
        try:
            return await watched.ended
        finally:
            self._rounds.remove(name)
            del self._watched[name]
            if not self._watched:
                self._close()

    async def _run(self) -> None:
        while True:
            now = self._loop.time()
            with self._figures.turn():
                asks = self._rounds.begin(now)
            for ask in asks:
                self._start(self._put(ask, now))
            self._figures.rounds += bool(asks)
            self._figures.tell(waits=len(self._watched), now=now)
            await self._nap(self._rounds.next_at)

    async def _look_at_endpoints(self) -> None:
        """Look at them now and then: what was submitted to one that is lost has no answer, ever."""
        while True:
            await asyncio.sleep(_ENDPOINTS_EVERY)
            handles = [watched.trigger.handle for watched in self._watched.values()]
            requests = [handle for handle in handles if isinstance(handle, InvocationHandle)]
            if self.hook is not None and requests:
                # What hinders this is told by the looks at the requests.
                with suppress(Exception):
                    await self._in_thread(self.hook.look_at_endpoints, requests)

    async def _nap(self, until: float | None) -> None:
        """Sleep until somebody is due, has come, or was looked at."""
        self._woken.clear()
        timer = None if until is None else self._loop.call_at(until, self._woken.set)
        await self._woken.wait()
        if timer is not None:
            timer.cancel()

    async def _put(self, ask: Ask, asked_at: float) -> None:
        """Ask, and deal with the answer."""
        async with self._turns[ask.bucket]:
            answer = self._trouble_since(asked_at, ask) or await self._answer(ask)
        absorbed = self._rounds.absorb(ask, answer, self._loop.time())
        while self._deal_with(absorbed):  # noqa: ASYNC110 - others have a turn
            await asyncio.sleep(0)
        self._woken.set()

    def _trouble_since(self, asked_at: float, ask: Ask) -> LookError | None:
        """
        Return what has failed in a bucket since an ask was made, and would fail again.

        A bucket that is too busy is not asked for each of those who were due together. A look at one request
        may be its last, so it is made, unless many before it have taken all the time.
        """
        failed_at, trouble = self._troubles.get(ask.bucket, (float("-inf"), None))
        patience = _PATIENCE if isinstance(ask, Look) else 0.0
        waited = self._loop.time() - asked_at
        return trouble if failed_at >= asked_at and waited >= patience else None

    async def _answer(self, ask: Ask) -> Seen | Observation:
        reached = self._reached()
        try:
            hook = await _within_reason(reached)
            if self.hook is not None and self.hook is not hook:
                self._threads.submit(self.hook.close)
            self.hook = hook
            answer: Seen | Observation
            match ask:
                case Heads():
                    answer = await self._in_thread(hook.heads, ask)
                case Listing():
                    answer = await self._in_thread(hook.listed, ask)
                case Look():
                    answer = await self._looked(hook, ask)
        except Exception as error:  # noqa: BLE001 - whatever hinders a look, the requests themselves go on
            trouble, now = look_error(error), self._loop.time()
            failed = reached.done() and (reached.cancelled() or reached.exception() is not None)
            if self._made is reached and (failed or tells_of_credentials(error)):
                # The next looks are made with the connection as it is then.
                self._is_outdated = True
            if not isinstance(error, RequestRejected):
                self._troubles[ask.bucket] = (now, trouble)
            self._figures.errors += 1
            return trouble
        self._figures.count(ask, answer)
        return answer

    async def _looked(self, hook: SageMakerAsyncHook, ask: Look) -> Observation:
        watched = self._watched.get(ask.spots[0].name)
        if watched is None:
            return Pending()
        watched.trigger.hook = hook
        return await self._in_thread(watched.trigger.look)

    def _in_thread(self, call: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
        return self._loop.run_in_executor(self._threads, call, *args)

    def _reached(self) -> asyncio.Future[SageMakerAsyncHook]:
        """Return the hook, or what becomes of making it: all who need it wait for one."""
        now = self._loop.time()
        if self._made is None or (self._is_outdated and now - self._made_at >= _MADE_EVERY):
            self._made_at, self._is_outdated = now, False
            # Airflow's own way into a thread: fetching a connection may come back to this event loop.
            make = sync_to_async(self._make, thread_sensitive=False, executor=self._threads)
            self._made = asyncio.ensure_future(make())
        return self._made

    def _make(self) -> SageMakerAsyncHook:
        # Importing it loads boto3, which defining a trigger must not.
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        hook = SageMakerAsyncHook.from_params(self._params)
        hook.connect()
        return hook

    def _deal_with(self, dealt: Iterator[tuple[int, Outcome] | None]) -> bool:
        """Tell the waits that have ended, for a short time; return whether there may be more."""
        until = time.perf_counter() + _IN_ONE_GO
        with self._figures.turn():
            for ended in dealt:
                if ended is not None:
                    name, outcome = ended
                    self._figures.hits += 1
                    if not self._watched[name].ended.done():
                        self._watched[name].ended.set_result(outcome)
                if time.perf_counter() >= until:
                    return True
        return False

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # What the watcher logs is nobody's in particular.
        task = self._loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._stopped)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """Let a mistake of the watcher end the waits, in place of leaving them to wait forever."""
        self._tasks.discard(task)
        stopped = RuntimeError("The watcher was stopped by somebody else.")
        error = stopped if task.cancelled() else task.exception()
        if error is not None:
            # Who comes now gets another watcher.
            self._leave()
            for watched in self._watched.values():
                if not watched.ended.done():
                    watched.ended.set_exception(error)

    def _leave(self) -> None:
        """Let others not find it any more. Event loops of other threads have theirs in the same place."""
        if self._all.get(self._key) is self:
            del self._all[self._key]

    def _close(self) -> None:
        self._leave()
        for task in self._tasks:
            task.remove_done_callback(self._stopped)
            task.cancel()
        self._figures.tell(waits=0, now=self._loop.time(), is_last=True)
        if self.hook is not None:
            self._threads.submit(self.hook.close)
        self._threads.shutdown(wait=False)


async def _within_reason(reached: asyncio.Future[SageMakerAsyncHook]) -> SageMakerAsyncHook:
    """Return the hook when it is made; waits have deadlines, however long a connection takes to be had."""
    await asyncio.wait({reached}, timeout=_PATIENCE)
    if not reached.done() or reached.cancelled():
        raise TimeoutError("The connection could not be had in time.")
    return reached.result()


def _key(params: AwsParams, loop: asyncio.AbstractEventLoop) -> _Key:
    return loop, json.dumps(params.to_dict(), sort_keys=True)


def _places(trigger: SageMakerAsyncBaseTrigger) -> tuple[S3Uri | None, S3Uri | None]:
    try:
        return trigger.places
    except InvalidInput:
        # Its look says so.
        return None, None
