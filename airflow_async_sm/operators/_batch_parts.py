"""Sending the requests of a batch: part by part, by many threads, each part written down before and after."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm import metrics
from airflow_async_sm.core.batches.state import Phase, Place
from airflow_async_sm.exceptions import (
    EndpointNotReady,
    RequestRejected,
    SageMakerAsyncError,
    ServiceUnavailable,
)
from airflow_async_sm.operators._batch_requests import ItemSender, Sent

if TYPE_CHECKING:
    from airflow_async_sm.core.batches.failures import ItemFailure
    from airflow_async_sm.core.batches.items import BatchItem
    from airflow_async_sm.core.batches.pace import SubmissionRate
    from airflow_async_sm.core.handles import InvocationHandle
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._batch_form import BatchForm
    from airflow_async_sm.operators._batch_ledger import BatchLedger
    from airflow_async_sm.operators._batch_plan import BatchPlan

__all__ = ["PartSender"]

# So many requests are written down at once. A part begins before what came of the one before is written down:
# twice as many may have to be waited for when a worker dies.
_PART: Final = 250
# A part takes at most about so many seconds: until its end nobody knows when each of its requests was sent.
_SECONDS: Final = 60.0
# So many refusals, and nothing accepted, mean that it is not the items that are refused.
_REFUSALS: Final = 10
_ACCEPTED: Final = (Phase.OPEN, Phase.SUCCEEDED, Phase.FAILED, Phase.EXPIRED, Phase.WAITING)


@dataclass(slots=True)
class _Part:
    """
    Items that are sent together, and what came of them so far. Threads take one after the other.

    ``ends_at``: nothing of it is sent any more from then on. ``for_all``: an error that any other would meet.
    """

    attempt: int
    indexes: list[int]
    items: Iterator[BatchItem]
    ends_at: float
    workers: list[Future[None]] = field(default_factory=list)
    accepted: dict[int, InvocationHandle] = field(default_factory=dict)
    refused: dict[int, ItemFailure] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    errors: list[SageMakerAsyncError] = field(default_factory=list)
    for_all: SageMakerAsyncError | None = None
    is_accounted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> BatchItem | None:
        """Return the next item; ``None``: there is none left."""
        with self.lock:
            return next(self.items, None)

    def add(self, index: int, sent: Sent) -> None:
        if sent.handle is not None:
            self.accepted[index] = sent.handle
        elif sent.is_unknown:
            self.unknown.append(index)
        elif sent.refused is not None:
            self.refused[index] = sent.refused
        if sent.error is not None:
            self.errors.append(sent.error)
        if sent.is_for_all:
            self.for_all = sent.error


class PartSender:
    """
    Sends parts of a batch. What was accepted, refused or left unsent is written down, whatever happens.

    :param hook: The way to AWS.
    :param plan: The batch.
    :param ledger: Its ledger.
    :param form: What its requests have in common.
    :param rate: How many are sent each second.
    :param threads: How many are sent at the same time.
    :param log: The task's log.
    :param clock: Returns the time, in seconds since 1970 (UTC).
    :param ticks: Returns seconds of a clock that is never set.
    """

    def __init__(
        self,
        *,
        hook: SageMakerAsyncHook,
        plan: BatchPlan,
        ledger: BatchLedger,
        form: BatchForm,
        rate: SubmissionRate,
        threads: int,
        log: Any,
        clock: Callable[[], float],
        ticks: Callable[[], float],
    ) -> None:
        self._hook = hook
        self._inputs = plan.reader(hook)
        self._ledger = ledger
        self._form = form
        self._rate = rate
        self._threads = threads
        self._log = log
        self._clock = clock
        self._ticks = ticks
        self._stopped = threading.Event()
        self._hopeless: SageMakerAsyncError | None = None
        self._items = ItemSender(hook=hook, form=form, rate=rate, stopped=self._stopped, log=log, ticks=ticks)

    def send(self, allowed: int) -> None:
        """
        Send requests until so many are in flight, or none is left that may be sent now.

        What another worker may have sent, which nobody knows, is not counted: else a part that was never sent
        would be waited for until it had expired.

        :param allowed: How many the service may have at the same time.
        :raises RequestRejected: the service takes none of them, or no more.
        :raises EndpointNotReady: the endpoint is being created anew.
        :raises ServiceUnavailable: none could be sent.
        :raises BatchTakenOver: another process of the task goes on with the batch.
        """
        parts = deque[_Part]()
        self._begin_turn()
        with (
            ThreadPoolExecutor(self._threads, thread_name_prefix="batch") as pool,
            self._accounting(pool, parts),
        ):
            while True:
                part = None if self._stopped.is_set() else self._begun(allowed, parts)
                if not parts:
                    break
                if part is not None:
                    for _ in range(min(self._threads, len(part.indexes))):
                        part.workers.append(pool.submit(self._work, part))
                    if len(parts) <= self._ahead():
                        continue
                for worker in parts[0].workers:
                    worker.result()
                self._ask_for_endpoint(parts[0])
                self._account(parts[0])
                self._ledger.flush()
                parts.popleft()
                self._ledger.checkpoint()
        hopeless = self._hopeless
        if hopeless is None:
            return
        if not isinstance(hopeless, ServiceUnavailable) or not self._ledger.state.number(Phase.OPEN):
            raise hopeless
        self._log.warning("Nothing more can be sent now; it is tried again later. %s", hopeless)

    def _begin_turn(self) -> None:
        self._hopeless = None
        self._stopped.clear()

    def _begun(self, allowed: int, parts: deque[_Part]) -> _Part | None:
        """Write down the next part, and add it to those on their way; ``None``: there is none now."""
        # Threads of the part before may change it at any moment.
        state, now, rate = self._ledger.state, self._clock(), self._rate.rate
        room = allowed - state.number(Phase.OPEN) - sum(len(part.indexes) for part in parts)
        attempt, indexes = state.next_part(min(self._most(rate), room), now)
        if not indexes:
            return None
        ends_at = self._ticks() + _SECONDS + len(indexes) / rate
        part = _Part(attempt, indexes, self._inputs.chosen(indexes), ends_at)
        self._ledger.note(state.sending(attempt, indexes, now))
        parts.append(part)
        self._ledger.flush()
        return part

    def _most(self, rate: float) -> int:
        """Return how many requests make a part."""
        if self._is_blind():
            return 1
        return max(1, int(min(_PART, rate * _SECONDS / 2)))

    def _ahead(self) -> int:
        """Return how many parts may be on their way when the next begins."""
        return int(self._ledger.state.number(*_ACCEPTED) > 0 and self._most(self._rate.rate) > 1)

    def _is_blind(self) -> bool:
        """Return whether, were this worker to die, nobody would know where to look for its requests."""
        form, folder = self._form, self._ledger.state.folders[0]
        return form.extension is not None and not form.is_found and folder is None

    @contextmanager
    def _accounting(self, pool: ThreadPoolExecutor, parts: deque[_Part]) -> Iterator[None]:
        """If something goes wrong, write down what came of all that is on its way."""
        try:
            yield
        except BaseException:
            # No more are sent. What comes of those on their way is known when their threads have ended.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
            for part in parts:
                self._account(part)
            self._ledger.flush()
            raise

    def _ask_for_endpoint(self, part: _Part) -> None:
        """Find out whether requests were refused because the endpoint takes none any more."""
        if not part.refused or part.for_all is not None:
            return
        try:
            self._hook.check_endpoint(self._form.members["endpoint_name"])
        except (RequestRejected, EndpointNotReady) as error:
            part.for_all = error
        except ServiceUnavailable as error:
            self._log.info("The endpoint is not looked at after refusals: %s", error)

    def _account(self, part: _Part) -> None:
        """Note what came of a part, once."""
        if part.is_accounted:
            return
        part.is_accounted = True
        self._hopeless = self._hopeless or self._why_hopeless(part)
        if self._hopeless is not None:
            # It is not the items that are refused, nor would those on their way be taken.
            part.refused.clear()
            self._stopped.set()
        state, places = self._ledger.state, dict[int, Place]()
        folders = state.folders
        for index, handle in sorted(part.accepted.items()):
            found = _folders(handle, f"{index:08d}-")
            folders = folders[0] or found[0], folders[1] or found[1]
            is_named = found[0] is not None and (found[1] is not None or handle.failure_location is None)
            if not is_named or found != folders:
                places[index] = handle.output_location, handle.failure_location
        taken = part.accepted.keys() | part.refused.keys() | set(part.unknown)
        now = self._clock()
        times = {index: handle.submitted_at for index, handle in part.accepted.items()}
        event = state.sent(
            sorted(part.accepted),
            unsent=[index for index in part.indexes if index not in taken],
            unknown=sorted(part.unknown),
            refused=part.refused,
            places=places,
            folders=folders,
            times={**times, **dict.fromkeys(part.unknown, now)},
        )
        self._ledger.note(event)
        metrics.count("submitted", len(part.accepted))

    def _why_hopeless(self, part: _Part) -> SageMakerAsyncError | None:
        """Return why nothing can be sent at all; ``None``: something can, as far as is known."""
        if part.for_all is not None:
            return part.for_all
        if part.accepted or part.unknown or not part.errors:
            return None
        is_first = self._ledger.state.number(*_ACCEPTED) == 0
        if not part.refused or is_first or len(part.refused) >= _REFUSALS:
            return part.errors[0]
        return None

    def _work(self, part: _Part) -> None:
        """Send items of a part until none is left, as one of many threads."""
        while not self._stopped.is_set() and (item := part.take()) is not None:
            try:
                sent = self._items.send(item, part.attempt, ends_at=part.ends_at)
            except BaseException:
                # Nobody knows how far it came.
                part.add(item.index, Sent(is_unknown=True))
                raise
            part.add(item.index, sent)
            if sent.is_for_all:
                self._stopped.set()


def _folders(handle: InvocationHandle, name: str) -> Place:
    """Return the folders of a request's objects, of those that go by the name that was asked for."""

    def folder(location: str | None) -> str | None:
        before, _, last = (location or "").rpartition("/")
        return f"{before}/" if last.startswith(name) else None

    return folder(handle.output_location), folder(handle.failure_location)
