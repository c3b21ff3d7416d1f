"""
One endpoint's queue and the workers that empty it.

Every request goes the same way: it waits in the order of arrival, a worker of some instance takes it,
downloads its input, calls the model, and writes one object. Two timers watch it: one ends its time in the
queue, the other its time with the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.models.containers import Address
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.timers import Timer, Timers
from airflow_async_sm.emulator.work.invocation import (
    Answer,
    End,
    Ended,
    Exchange,
    InvocationFailed,
    download_failed,
    timed_out,
    upload_failed,
)
from airflow_async_sm.emulator.work.records import RequestLog, RequestRecord, RequestState
from airflow_async_sm.emulator.work.storage import Storage, StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted request, with everything that is needed to work on it."""

    request_id: str
    endpoint: str
    payload: bytes | None
    input_location: str | None
    headers: dict[str, str]
    output: S3Uri
    failure: S3Uri | None
    ready_at: float
    expires_at: float
    invocation_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all engines of an emulator share."""

    behaviour: Behaviour
    clock: Clock
    timers: Timers
    requests: RequestLog
    storage: Storage


class Engine:
    """
    The queue of one endpoint.

    :param name: The endpoint's name, for thread names and log lines.
    :param tools: What it shares with the other engines.
    """

    def __init__(self, name: str, tools: Tools) -> None:
        self._name = name
        self._tools = tools
        self._changed = threading.Condition()
        self._queue: OrderedDict[str, tuple[Job, Timer]] = OrderedDict()
        self._running: dict[str, Exchange] = {}
        self._closed = False
        self._workers: list[threading.Thread] = []

    def add_instance(self, address: Address, concurrency: int) -> None:
        """
        Start the workers of one instance.

        :param address: Where its container listens.
        :param concurrency: How many invocations it takes at a time; there is one thread for each.
        """
        for _ in range(concurrency):
            name = f"emulator-{self._name}-worker-{len(self._workers) + 1}"
            worker = threading.Thread(target=self._work, args=(address,), name=name, daemon=True)
            worker.start()
            # Only what has started can be joined.
            self._workers.append(worker)

    def submit(self, job: Job, record: RequestRecord) -> bool:
        """Enter a request into the log and at the end of the queue; return whether the queue is open."""
        with self._changed:
            if self._closed:
                return False
            self._tools.requests.add(record)
            timer = self._tools.timers.at(job.expires_at, lambda: self._expire(job.request_id))
            self._queue[job.request_id] = (job, timer)
            self._changed.notify()
            return True

    def shut(self) -> None:
        """Take nothing more, drop what is queued, and end what is running, without waiting for it."""
        with self._changed:
            self._closed = True
            dropped = list(self._queue.values())
            self._queue.clear()
            running = list(self._running.values())
            self._changed.notify_all()
        for job, timer in dropped:
            timer.cancel()
            self._finish(job.request_id, RequestState.DROPPED)
        for exchange in running:
            exchange.end(End.DROPPED)

    def close(self, join_timeout: float) -> None:
        """
        Do what :meth:`shut` does, and wait for the workers.

        :param join_timeout: Seconds to wait for all of them together.
        """
        self.shut()
        # Threads end in real time, whatever the emulator's clock does.
        until = time.monotonic() + join_timeout
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
            if worker.is_alive():
                log.warning("Thread %s did not end within %g seconds", worker.name, join_timeout)

    def _expire(self, request_id: str) -> None:
        with self._changed:
            waiting = self._queue.pop(request_id, None)
        if waiting is not None:
            self._finish(request_id, RequestState.EXPIRED)

    def _work(self, address: Address) -> None:
        while (taken := self._take()) is not None:
            job, exchange = taken
            try:
                self._perform(job, exchange, address)
            except (
                Exception
            ):  # A bug of ours must cost one request, not a worker, and must not look like a success.
                log.exception("The emulator failed on request %s", job.request_id)
                self._finish(
                    job.request_id, RequestState.FAILED, reason="The emulator itself failed; see its log."
                )

    def _take(self) -> tuple[Job, Exchange] | None:
        with self._changed:
            while (ready_at := self._next_ready_at()) is None or ready_at > self._tools.clock.now():
                if self._closed:
                    return None
                self._tools.clock.wait(self._changed, ready_at)
            _, (job, timer) = self._queue.popitem(last=False)
            timer.cancel()
            exchange = Exchange(self._tools.behaviour.connect_timeout)
            self._running[job.request_id] = exchange
        now = self._tools.clock.now()
        self._tools.requests.note(job.request_id, state=RequestState.RUNNING, started_at=now)
        return job, exchange

    def _next_ready_at(self) -> float | None:
        """Return when the first request of the queue may be taken; ``None`` if there is none."""
        return next((job.ready_at for job, _ in self._queue.values()), None)

    def _perform(self, job: Job, exchange: Exchange, address: Address) -> None:
        with self._limited(job, exchange):
            try:
                answer = self._answer(job, exchange, address)
                self._upload(job, answer, exchange)
            except Ended as ended:
                if ended.why is End.DROPPED:
                    return self._finish(job.request_id, RequestState.DROPPED)
                return self._fail(job, InvocationFailed(timed_out(job.output)))
            except InvocationFailed as failure:
                return self._fail(job, failure)
        return self._finish(job.request_id, RequestState.SUCCEEDED, status=answer.status)

    @contextmanager
    def _limited(self, job: Job, exchange: Exchange) -> Iterator[None]:
        deadline = self._tools.clock.now() + job.invocation_timeout
        timer = self._tools.timers.at(deadline, lambda: exchange.end(End.TIMED_OUT))
        try:
            yield
        finally:
            timer.cancel()
            with self._changed:
                del self._running[job.request_id]

    def _answer(self, job: Job, exchange: Exchange, address: Address) -> Answer:
        if job.input_location is None:
            payload = job.payload or b""
        else:
            try:
                payload = self._tools.storage.read(job.input_location)
            except StorageError as error:
                raise InvocationFailed(download_failed(job.input_location)) from error
        exchange.check()
        return exchange.post(
            address,
            payload,
            job.headers,
            endpoint=job.endpoint,
            calling=lambda: self._tools.requests.count_invocation(job.request_id),
        )

    def _upload(self, job: Job, answer: Answer, exchange: Exchange) -> None:
        exchange.check()
        try:
            self._tools.storage.write(job.output, answer.body, answer.content_type)
        except StorageError as error:
            raise InvocationFailed(upload_failed(job.output)) from error

    def _fail(self, job: Job, failure: InvocationFailed) -> None:
        answer = failure.answer
        if job.failure is not None:
            body = answer.body if answer else failure.reason.encode()
            content_type = answer.content_type if answer else "text/plain"
            try:
                self._tools.storage.write(job.failure, body, content_type)
            except StorageError as error:
                log.warning("The failure object of request %s cannot be written: %s", job.request_id, error)
        status = answer.status if answer else None
        self._finish(job.request_id, RequestState.FAILED, status=status, reason=failure.reason)

    def _finish(
        self, request_id: str, state: RequestState, *, status: int | None = None, reason: str | None = None
    ) -> None:
        now = self._tools.clock.now()
        self._tools.requests.note(request_id, state=state, finished_at=now, status=status, reason=reason)
        log.debug("Request %s of endpoint %s %s", request_id, self._name, state)
