"""
One endpoint's queue, and who works on it.

Every request goes the same way: it waits in the order of arrival, a free instance takes it, and it ends once
and for all. The queue is the endpoint's; instances come and go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from airflow_async_sm.emulator.clock import Timer
from airflow_async_sm.emulator.models.containers import Container
from airflow_async_sm.emulator.settings.unknowns import DeletedQueue, LostInstance
from airflow_async_sm.emulator.work.conclusions import Conclusions
from airflow_async_sm.emulator.work.crews import Crew
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.invocation import End, Ended
from airflow_async_sm.emulator.work.runs import Run
from airflow_async_sm.emulator.work.tools import Tools

log = logging.getLogger(__name__)


class Instance(Protocol):
    """What the queue needs to know of an instance."""

    name: str
    concurrency: int
    container: Container


@dataclass(slots=True)
class _Entry:
    """A request that has not ended."""

    request: Request
    expiry: Timer
    runs: int = 0
    losses: int = 0


@dataclass(slots=True)
class _Post:
    """An instance at work."""

    instance: Instance
    crew: Crew
    running: dict[str, tuple[_Entry, Run]] = field(default_factory=dict)
    gone: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """
    What has not ended.

    :param queued: Requests that wait.
    :param running: Requests that an instance works on.
    :param oldest: When the oldest that waits was accepted, or ``None`` if none does.
    """

    queued: int
    running: int
    oldest: float | None


class Engine:
    """
    The queue of one endpoint.

    :param name: The endpoint's name, for thread names and log lines.
    :param tools: What it shares with the other engines.
    :param broken: Called with an instance whose container is found dead, or that vanishes by a fault; it has
        been detached by then.
    """

    def __init__(self, name: str, tools: Tools, *, broken: Callable[[Instance, bool], None]) -> None:
        self._name = name
        self._tools = tools
        self._broken = broken
        self._conclusions = Conclusions(tools)
        self._lock = threading.RLock()
        self._queue: OrderedDict[str, _Entry] = OrderedDict()
        self._ready: deque[str] = deque()
        self._posts: dict[str, _Post] = {}
        self._former: list[Crew] = []
        self._closed = False

    # What callers and clients do.

    def submit(self, request: Request) -> bool:
        """Enter a request into the log and at the end of the queue; return whether the queue is open."""
        with self._lock:
            if self._closed:
                return False
            self._tools.requests.add(self._conclusions.first_record(request))
            self._enter(request)
        return True

    def restore(self, request: Request) -> None:
        """Put a request of an earlier run of the emulator, which the log knows, at the end of the queue."""
        self._conclusions.requeue(request)
        with self._lock:
            self._enter(request)

    def backlog(self) -> Backlog:
        """Return what has not ended."""
        with self._lock:
            running = sum(len(post.running) for post in self._posts.values())
            oldest = min((entry.request.submitted_at for entry in self._queue.values()), default=None)
            return Backlog(len(self._queue), running, oldest)

    def open_requests(self) -> list[Request]:
        """Return every request that has not ended, in the order of acceptance."""
        with self._lock:
            running = [entry for post in self._posts.values() for entry, _ in post.running.values()]
            found = [entry.request for entry in (*running, *self._queue.values())]
        return sorted(found, key=lambda request: request.number)

    # What fleets do.

    def attach(self, instance: Instance) -> None:
        """Let an instance work on the queue."""
        name = f"emulator-{self._name}-{instance.name}"
        with self._lock:
            crew = Crew(name, instance.concurrency, self._dispatch)
            self._posts[instance.name] = _Post(instance, crew)
            self._dispatch()

    def detach(self, instance: Instance, gone: Callable[[], None]) -> None:
        """
        Give an instance nothing more.

        :param instance: Which one. One that is not attached is gone already.
        :param gone: Called when it has finished what it works on.
        """
        with self._lock:
            post = self._posts.get(instance.name)
            if post is not None:
                post.gone = gone
                self._leave_if_idle(post)
                return
        gone()

    def lose(self, instance: Instance, *, requeue: bool = False) -> None:
        """
        Take an instance away in the middle of what it does.

        :param instance: Which one.
        :param requeue: Whether its requests go back into the queue in any case; otherwise that is one of the
            things which are not known about the service.
        """
        with self._lock:
            post = self._posts.pop(instance.name, None)
            if post is None:
                return
            runs = list(post.running.values())
            gone, post.gone = post.gone, None
            self._dismiss(post)
        for _, run in runs:
            run.end(End.REPLACED if requeue else End.LOST)
        if gone is not None:
            gone()

    # How it ends.

    def shut(self, *, keep: bool = False) -> None:
        """
        Take nothing more, drop what is queued, and end what is running, without waiting for it.

        :param keep: Leave the requests open: they go on when the emulator is started again.
        """
        with self._lock:
            self._closed = True
            dropped = list(self._queue.values())
            self._queue.clear()
            self._ready.clear()
            posts = list(self._posts.values())
            runs = [run for post in posts for _, run in post.running.values()]
            self._posts.clear()
            for post in posts:
                self._dismiss(post)
        for entry in dropped:
            entry.expiry.cancel()
            if not keep:
                self._drop(entry.request)
        for run in runs:
            run.end(End.KEPT if keep else End.DROPPED)

    def close(self, join_timeout: float) -> None:
        """
        Do what :meth:`shut` does, and wait for the threads.

        :param join_timeout: Seconds to wait for all of them together.
        """
        self.shut()
        # Threads end in real time, whatever the emulator's clock does.
        until = time.monotonic() + join_timeout
        for crew in self._former:
            crew.join(until)

    # How requests move.

    def _enter(self, request: Request, *, losses: int = 0, runs: int = 0, first: bool = False) -> None:
        request_id = request.request_id
        expiry = self._tools.clock.at(request.expires_at, lambda: self._expire(request_id))
        self._queue[request_id] = _Entry(request, expiry, runs, losses)
        if first:
            self._queue.move_to_end(request_id, last=False)
            self._ready.appendleft(request_id)
            return self._dispatch()
        delay = self._tools.knobs.behaviour.queue_seconds
        if delay > 0:
            self._tools.clock.after(delay, lambda: self._make_ready(request_id))
        else:
            self._make_ready(request_id)
        return None

    def _make_ready(self, request_id: str) -> None:
        with self._lock:
            self._ready.append(request_id)
            self._dispatch()

    def _expire(self, request_id: str) -> None:
        with self._lock:
            waiting = self._queue.pop(request_id, None)
        if waiting is not None:
            self._conclusions.expire(waiting.request)

    def _dispatch(self) -> None:
        """Give what is ready to who is free."""
        with self._lock:
            for busy in list(self._posts.values()):
                self._leave_if_idle(busy)
            while self._ready and (post := self._free_post()) is not None:
                # Some that were ready have expired since.
                entry = self._queue.pop(self._ready.popleft(), None)
                if entry is not None:
                    self._begin(entry, post)

    def _free_post(self) -> _Post | None:
        free = [post for post in self._posts.values() if post.crew.is_free and post.gone is None]
        for post in sorted(free, key=lambda post: post.crew.busy):
            if post.instance.container.ended is None:
                return post
            del self._posts[post.instance.name]
            self._dismiss(post)
            self._broken(post.instance, False)
        return None

    def _begin(self, entry: _Entry, post: _Post) -> None:
        entry.expiry.cancel()
        entry.runs += 1
        work = self._tools.clock.working()
        run = Run(
            entry.request,
            attempt=entry.runs,
            container=post.instance.container,
            tools=self._tools,
            work=work,
            lost=partial(self._vanish, post.instance),
        )
        post.running[entry.request.request_id] = entry, run
        post.crew.run(partial(self._perform, entry, run, post), work)

    def _perform(self, entry: _Entry, run: Run, post: _Post) -> None:
        request, why = entry.request, None
        try:
            self._conclusions.begin(request)
            ending = run.perform()
        except Ended as ended:
            why = ended.why
        except Exception:  # A bug of ours must not look like a success.
            log.exception("The emulator failed on request %s", request.request_id)
            ending = self._conclusions.our_fault()
        with self._lock:
            post.running.pop(request.request_id, None)
            self._leave_if_idle(post)
        if why is None:
            self._conclusions.conclude(request, ending)
        else:
            self._end_early(entry, why)

    def _end_early(self, entry: _Entry, why: End) -> None:
        if why is End.DROPPED:
            self._drop(entry.request)
        elif why is End.REPLACED:
            self._requeue(entry, losses=entry.losses)
        elif why is End.LOST:
            self._take_loss(entry)

    def _take_loss(self, entry: _Entry) -> None:
        unknowns = self._tools.knobs.unknowns
        if unknowns.lost_instance is LostInstance.LOST:
            self._conclusions.vanish(entry.request)
        elif unknowns.lost_instance is LostInstance.FAILED or entry.losses >= unknowns.lost_instance_requeues:
            self._conclusions.lose(entry.request)
        else:
            self._requeue(entry, losses=entry.losses + 1)

    def _requeue(self, entry: _Entry, *, losses: int) -> None:
        with self._lock:
            if not self._closed:
                self._conclusions.requeue(entry.request)
                self._enter(entry.request, losses=losses, runs=entry.runs, first=True)
                return
        self._drop(entry.request)

    def _drop(self, request: Request) -> None:
        if self._tools.knobs.unknowns.deleted_queue is DeletedQueue.FAILED:
            self._conclusions.fail_deleted(request)
        else:
            self._conclusions.vanish(request)

    def _vanish(self, instance: Instance) -> None:
        self.lose(instance)
        self._broken(instance, True)

    def _leave_if_idle(self, post: _Post) -> None:
        if post.gone is not None and not post.running:
            gone, post.gone = post.gone, None
            self._posts.pop(post.instance.name, None)
            self._dismiss(post)
            gone()

    def _dismiss(self, post: _Post) -> None:
        post.crew.dismiss()
        self._former = [crew for crew in self._former if not crew.has_ended]
        self._former.append(post.crew)
