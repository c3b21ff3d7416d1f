"""
One endpoint's queue, and who works on it.

Every request goes the same way: it waits in the order of arrival, a free instance takes it, and it ends once
and for all. The queue is the endpoint's; instances come and go.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from airflow_async_sm.emulator.models.containers import Container
from airflow_async_sm.emulator.settings.unknowns import DeletedQueue, LostInstance
from airflow_async_sm.emulator.work.book import Backlog, Book, Entry
from airflow_async_sm.emulator.work.conclusions import Conclusions
from airflow_async_sm.emulator.work.crews import Crew
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.invocation import End, Ended
from airflow_async_sm.emulator.work.runs import Run
from airflow_async_sm.emulator.work.tools import Tools

log = logging.getLogger(__name__)

# How long to leave a machine in peace that has no thread to spare.
_THREAD_PAUSE_SECONDS: Final = 1.0

# What is told to others when the engine's lock is free again.
_Calls = list[Callable[[], None]]


class Instance(Protocol):
    """What the queue needs to know of an instance."""

    name: str
    concurrency: int
    container: Container


@dataclass(slots=True)
class _Post:
    """An instance at work."""

    instance: Instance
    crew: Crew
    running: dict[str, Run] = field(default_factory=dict)
    gone: Callable[[], None] | None = None


class Engine:
    """
    The queue of one endpoint.

    Its lock is held for a moment only: nobody else's code runs under it, and nothing is read or written.

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
        self._lock = threading.Lock()
        self._book = Book()
        self._posts: dict[str, _Post] = {}
        self._former: list[Crew] = []
        self._closed = False
        self._shut_at = 0.0
        self._keep = False

    # What callers and clients do.

    def submit(self, request: Request) -> bool:
        """Enter a request into the log and at the end of the queue; return whether the queue is open."""
        with self._changing() as calls:
            if self._closed:
                return False
            self._tools.requests.accept(request)
            self._queue_up(Entry(request), calls)
        return True

    def restore(self, request: Request) -> None:
        """Put a request of an earlier run of the emulator, which the log knows, at the end of the queue."""
        self._conclusions.requeue(request)
        with self._changing() as calls:
            self._queue_up(Entry(request), calls)

    def backlog(self) -> Backlog:
        """Return what has not ended."""
        with self._lock:
            return self._book.backlog()

    # What fleets do.

    def attach(self, instance: Instance) -> bool:
        """Let an instance work on the queue. Return whether it does: not twice, and not on a closed one."""
        with self._changing() as calls:
            if self._closed or instance.name in self._posts:
                return False
            crew = Crew(f"emulator-{self._name}-{instance.name}", instance.concurrency, self._dispatch)
            self._posts[instance.name] = _Post(instance, crew)
            self._hand_out(calls)
        return True

    def detach(self, instance: Instance, gone: Callable[[], None]) -> None:
        """
        Give an instance nothing more.

        :param instance: Which one. One that is not attached is gone already.
        :param gone: Called when it has finished what it works on.
        """
        with self._changing() as calls:
            post = self._posts.get(instance.name)
            if post is None:
                calls.append(gone)
            else:
                post.gone = gone
                self._leave_if_idle(post, calls)

    def lose(self, instance: Instance, *, requeue: bool = False) -> None:
        """
        Take an instance away in the middle of what it does.

        :param instance: Which one.
        :param requeue: Whether its requests go back into the queue in any case; otherwise that is one of the
            things which are not known about the service.
        """
        why = End.REPLACED if requeue else End.LOST
        with self._changing() as calls:
            post = self._posts.pop(instance.name, None)
            if post is None:
                return
            self._dismiss(post)
            calls.extend(partial(run.end, why) for run in post.running.values())
            if post.gone is not None:
                calls.append(post.gone)
                post.gone = None

    # How it ends.

    def shut(self, *, keep: bool = False) -> None:
        """
        Take nothing more, drop what is queued, and end what is running, without waiting for it.

        A second call does nothing.

        :param keep: Leave the requests open: they go on when the emulator is started again.
        """
        with self._changing() as calls:
            if self._closed:
                return
            self._closed, self._keep = True, keep
            # Threads end in real time, whatever the emulator's clock does.
            self._shut_at = time.monotonic()
            waiting = self._book.clear_queue()
            calls.extend(partial(run.end, End.DROPPED) for run in self._book.runs())
            for post in self._posts.values():
                self._dismiss(post)
            self._posts.clear()
        for entry in waiting:
            self._cancel_expiry(entry)
            self._drop(entry.request)

    def close(self, join_timeout: float) -> None:
        """
        Do what :meth:`shut` does, and wait for the threads.

        :param join_timeout: Seconds to wait for all of them together. They count from the first call of
            :meth:`shut`: whoever shuts many queues and then closes one after the other waits no longer than
            for one.
        """
        self.shut()
        for crew in self._former:
            crew.join(self._shut_at + join_timeout)

    # How requests move.

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Calls]:
        """Hold the lock. What is put into the list is called when it is free again."""
        calls: _Calls = []
        with self._lock:
            yield calls
        for call in calls:
            call()

    def _queue_up(self, entry: Entry, calls: _Calls) -> None:
        request_id = entry.request_id
        self._plan_expiry(entry)
        self._book.wait(entry)
        delay = self._tools.knobs.behaviour.queue_seconds
        if delay > 0:
            self._tools.clock.after(delay, lambda: self._make_ready(request_id))
        else:
            self._book.make_ready(request_id)
            self._hand_out(calls)

    def _make_ready(self, request_id: str) -> None:
        with self._changing() as calls:
            self._book.make_ready(request_id)
            self._hand_out(calls)

    def _plan_expiry(self, entry: Entry) -> None:
        request_id = entry.request_id
        # Its time counts from its acceptance also when it comes back; it may be over by now.
        entry.expiry = self._tools.clock.at(entry.request.expires_at, lambda: self._expire(request_id))

    def _expire(self, request_id: str) -> None:
        with self._lock:
            entry = self._book.take(request_id)
        if entry is not None:
            try:
                self._conclusions.expire(entry.request)
            finally:
                self._end(entry)

    def _dispatch(self) -> None:
        with self._changing() as calls:
            self._hand_out(calls)

    def _hand_out(self, calls: _Calls) -> None:
        """Give what is ready to who is free."""
        for busy in list(self._posts.values()):
            self._leave_if_idle(busy, calls)
        while (entry := self._book.first_ready()) is not None:
            post = self._free_post(calls)
            if post is None or not self._begin(entry, post):
                return

    def _free_post(self, calls: _Calls) -> _Post | None:
        free = [post for post in self._posts.values() if post.crew.is_free and post.gone is None]
        for post in sorted(free, key=lambda post: post.crew.busy):
            if post.instance.container.ended is None:
                return post
            del self._posts[post.instance.name]
            self._dismiss(post)
            calls.append(partial(self._broken, post.instance, False))
        return None

    def _begin(self, entry: Entry, post: _Post) -> bool:
        """Let an instance take a request; return whether there is a thread for it."""
        work = self._tools.clock.working()
        run = Run(
            entry.request,
            attempt=entry.runs + 1,
            container=post.instance.container,
            tools=self._tools,
            work=work,
            lost=partial(self._vanish, post.instance),
        )
        try:
            post.crew.run(partial(self._perform, entry, run, post), work)
        except RuntimeError as error:
            work.end()
            log.warning("Endpoint %s waits for a thread: %s", self._name, error)
            self._tools.clock.after(_THREAD_PAUSE_SECONDS, self._dispatch)
            return False
        self._book.take(entry.request_id)
        self._cancel_expiry(entry)
        entry.runs += 1
        entry.run = post.running[entry.request_id] = run
        return True

    def _perform(self, entry: Entry, run: Run, post: _Post) -> None:
        try:
            self._conclude(entry, run)
        finally:
            with self._changing() as calls:
                post.running.pop(entry.request_id, None)
                self._leave_if_idle(post, calls)
                if entry.run is run:  # It has not gone back into the queue.
                    self._book.end(entry)

    def _conclude(self, entry: Entry, run: Run) -> None:
        request = entry.request
        try:
            self._conclusions.begin(request)
            ending = run.perform()
        except Ended as ended:
            self._end_early(entry, ended.why)
        except Exception:  # A bug of ours must not look like a success.
            log.exception("The emulator failed on request %s", request.request_id)
            self._conclusions.our_fault(request)
        else:
            self._conclusions.conclude(request, ending)

    def _end_early(self, entry: Entry, why: End) -> None:
        if why is End.DROPPED:
            self._drop(entry.request)
        elif why is End.REPLACED:
            self._requeue(entry)
        elif why is End.LOST:
            self._take_loss(entry)

    def _take_loss(self, entry: Entry) -> None:
        unknowns = self._tools.knobs.unknowns
        if unknowns.lost_instance is LostInstance.LOST:
            self._conclusions.vanish(entry.request)
        elif unknowns.lost_instance is LostInstance.FAILED or entry.losses >= unknowns.lost_instance_requeues:
            self._conclusions.lose(entry.request)
        else:
            entry.losses += 1
            self._requeue(entry)

    def _requeue(self, entry: Entry) -> None:
        with self._changing() as calls:
            if not self._closed:
                self._conclusions.requeue(entry.request)
                self._plan_expiry(entry)
                self._book.wait(entry, first=True)
                self._hand_out(calls)
                return
        self._drop(entry.request)

    def _drop(self, request: Request) -> None:
        """End a request that a closed queue does not get to, unless it is kept for a later run."""
        if self._keep:
            return
        if self._tools.knobs.unknowns.deleted_queue is DeletedQueue.FAILED:
            self._conclusions.fail_deleted(request)
        else:
            self._conclusions.vanish(request)

    def _end(self, entry: Entry) -> None:
        with self._lock:
            self._book.end(entry)

    def _vanish(self, instance: Instance) -> None:
        self.lose(instance)
        self._broken(instance, True)

    def _leave_if_idle(self, post: _Post, calls: _Calls) -> None:
        if post.gone is not None and not post.running:
            calls.append(post.gone)
            post.gone = None
            self._posts.pop(post.instance.name, None)
            self._dismiss(post)

    def _dismiss(self, post: _Post) -> None:
        post.crew.dismiss()
        self._former = [crew for crew in self._former if not crew.has_ended]
        self._former.append(post.crew)

    def _cancel_expiry(self, entry: Entry) -> None:
        if entry.expiry is not None:
            entry.expiry.cancel()
