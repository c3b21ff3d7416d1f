"""Sending the requests of a batch: part by part, by many threads, each part written down before and after."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm import metrics
from airflow_async_sm.core.batches.failures import REJECTED, ItemFailure
from airflow_async_sm.core.batches.state import Phase, Place
from airflow_async_sm.core.limits import BODY_BYTES, InvalidInput
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.core.texts import sentence, shortened
from airflow_async_sm.exceptions import (
    RequestRejected,
    SageMakerAsyncError,
    ServiceUnavailable,
    SubmissionUnconfirmed,
    Throttled,
)

if TYPE_CHECKING:
    from airflow_async_sm.core.batches.items import BatchItem
    from airflow_async_sm.core.batches.pace import SubmissionRate
    from airflow_async_sm.core.handles import InvocationHandle
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._batch_ledger import BatchLedger
    from airflow_async_sm.operators._batch_plan import BatchPlan

__all__ = ["BatchForm", "PartSender"]

# So many requests are written down at once. That many may have to be waited for when a worker dies.
_PART: Final = 500
# A part takes at most about so many seconds: until its end nobody knows when each of its requests was sent.
_SECONDS: Final = 60.0
# So many payloads for each thread are in memory.
_AHEAD: Final = 2
# So often a request is tried again that was not accepted because of a passing trouble.
_TRIES: Final = 8
_PAUSE: Final = 0.5
# So many refusals, and nothing accepted, mean that it is not the items that are refused.
_REFUSALS: Final = 10
_ACCEPTED: Final = (Phase.OPEN, Phase.SUCCEEDED, Phase.FAILED, Phase.EXPIRED, Phase.WAITING)


@dataclass(frozen=True, kw_only=True)
class BatchForm:
    """
    What all requests of a batch have in common.

    :param members: Members of a request, as ``InvocationRequest`` names them.
    :param token: What tells the batch from all others.
    :param extension: The folder of its own below the endpoint's output path; ``None``: boto3 cannot send it.
    :param can_inline: Whether boto3 can send a payload within a request, and the user wants that.
    :param inputs: S3 URI of the folder for payloads that have to be uploaded, with a slash at its end.
    :param sse_kms_key_id: KMS key to encrypt these with; ``None``: as the bucket does.
    :param is_found: Whether it is known before the first reply where answers will be.
    """

    members: dict[str, Any]
    token: str
    extension: str | None
    can_inline: bool
    inputs: str
    sse_kms_key_id: str | None = None
    is_found: bool = True

    def is_inline(self, item: BatchItem) -> bool:
        """Return whether an item's payload is sent within its request."""
        return item.body is not None and self.can_inline and len(item.body) <= BODY_BYTES.maximum

    def request(self, item: BatchItem, attempt: int) -> InvocationRequest:
        """
        Return the request of an item.

        :param item: The item.
        :param attempt: Which attempt, from 1.
        :raises InvalidInput: a member is outside its limits.
        """
        inline = self.is_inline(item)
        members = {**self.members, "content_type": item.content_type or self.members.get("content_type")}
        return InvocationRequest(
            **members,
            body=item.body if inline else None,
            input_location=None if inline else item.input_location or f"{self.inputs}{item.item_id}",
            inference_id=f"{self.token}-{item.item_id}-{attempt}",
            s3_output_path_extension=self.extension,
            filename=item.filename(attempt) if self.extension else None,
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """What came of one request: accepted, if there is a handle."""

    handle: InvocationHandle | None = None
    refused: ItemFailure | None = None
    is_unknown: bool = False
    error: SageMakerAsyncError | None = None


@dataclass(slots=True)
class _Part:
    """What came of a part so far. Each thread adds what came of its requests."""

    accepted: dict[int, InvocationHandle] = field(default_factory=dict)
    refused: dict[int, ItemFailure] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    errors: list[SageMakerAsyncError] = field(default_factory=list)

    def add(self, index: int, sent: _Sent) -> None:
        if sent.handle is not None:
            self.accepted[index] = sent.handle
        elif sent.is_unknown:
            self.unknown.append(index)
        elif sent.refused is not None:
            self.refused[index] = sent.refused
        if sent.error is not None:
            self.errors.append(sent.error)


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
        self._plan = plan
        self._ledger = ledger
        self._form = form
        self._rate = rate
        self._threads = threads
        self._log = log
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(_AHEAD * threads)
        self._stopped = threading.Event()
        self._ends_at = 0.0

    def send(self, allowed: int) -> None:
        """
        Send requests until so many are in flight, or none is left that may be sent now.

        What another worker may have sent, which nobody knows, is not counted: else a part that was never sent
        would be waited for until it had expired.

        :param allowed: How many the service may have at the same time.
        :raises RequestRejected: the service takes none of them.
        :raises ServiceUnavailable: none could be sent.
        :raises BatchTakenOver: another process of the task goes on with the batch.
        """
        state = self._ledger.state
        with ThreadPoolExecutor(self._threads, thread_name_prefix="batch") as pool:
            while (most := min(self._most(), allowed - state.number(Phase.OPEN))) > 0:
                attempt, indexes = state.next_part(most, self._clock())
                if not indexes:
                    return
                self._ledger.write(state.sending(attempt, indexes, self._clock()))
                self._ends_at = self._ticks() + _SECONDS + len(indexes) / self._rate.rate
                if not self._send_part(pool, attempt, indexes):
                    return
                self._ledger.checkpoint()

    def _most(self) -> int:
        """Return how many requests make a part."""
        if self._form.extension and not self._form.is_found and self._ledger.state.folders[0] is None:
            # Were this worker to die, nobody would know where to look for them.
            return 1
        return max(1, int(min(_PART, self._rate.rate * _SECONDS / 2)))

    def _send_part(self, pool: ThreadPoolExecutor, attempt: int, indexes: list[int]) -> bool:
        """Send a part, and return whether more can be sent now."""
        part, futures = _Part(), list[Future[None]]()
        try:
            for item in self._plan.chosen(self._hook, indexes):
                self._slots.acquire()
                futures.append(pool.submit(self._send_one, item, attempt, part))
            for future in futures:
                future.result()
        except BaseException:
            # No more are sent. What comes of those on their way is known when their threads have ended.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
            self._write(indexes, part)
            raise
        hopeless = self._hopeless(part)
        if hopeless is not None:
            # It is not the items that are refused.
            part.refused.clear()
        self._write(indexes, part)
        if hopeless is None:
            return True
        if isinstance(hopeless, ServiceUnavailable) and self._ledger.state.number(Phase.OPEN):
            self._log.warning("Nothing more can be sent now; it is tried again later. %s", hopeless)
            return False
        raise hopeless

    def _write(self, indexes: Iterable[int], part: _Part) -> None:
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
            unsent=[index for index in indexes if index not in taken],
            unknown=sorted(part.unknown),
            refused=part.refused,
            places=places,
            folders=folders,
            times={**times, **dict.fromkeys(part.unknown, now)},
        )
        self._ledger.write(event)
        metrics.count("submitted", len(part.accepted))

    def _hopeless(self, part: _Part) -> SageMakerAsyncError | None:
        """Return why nothing can be sent at all; ``None``: something can, as far as is known."""
        if part.accepted or part.unknown or not part.errors:
            return None
        is_first = self._ledger.state.number(*_ACCEPTED) == 0
        if not part.refused or is_first or len(part.refused) >= _REFUSALS:
            return part.errors[0]
        return None

    def _send_one(self, item: BatchItem, attempt: int, part: _Part) -> None:
        try:
            sent = self._outcome(item, attempt)
        except BaseException:
            # Nobody knows how far it came.
            part.add(item.index, _Sent(is_unknown=True))
            raise
        finally:
            self._slots.release()
        part.add(item.index, sent)

    def _outcome(self, item: BatchItem, attempt: int) -> _Sent:
        error: SageMakerAsyncError | None = None
        try:
            request = self._form.request(item, attempt)
            if item.body is not None and request.body is None:
                self._upload(item, str(request.input_location))
            for tries in range(_TRIES):
                pause = self._pause(tries, error)
                if self._ticks() + pause > self._ends_at:
                    return _Sent(error=error)
                if self._stopped.wait(pause):
                    return _Sent()
                try:
                    return _Sent(handle=self._hook.invoke_endpoint_async(request))
                except Throttled as busy:
                    error = busy
                    with self._lock:
                        self._rate.turned_away(self._ticks())
                except ServiceUnavailable as unavailable:
                    error = unavailable
            return _Sent(error=error)
        except SubmissionUnconfirmed as lost:
            self._log.warning("%s It is waited for, and not sent again before it has expired.", lost)
            return _Sent(is_unknown=True)
        except ServiceUnavailable as unavailable:
            return _Sent(error=unavailable)
        except (RequestRejected, InvalidInput) as refusal:
            failure = ItemFailure(REJECTED, shortened(str(refusal)))
            return _Sent(refused=failure, error=_as_ours(refusal))

    def _pause(self, tries: int, error: SageMakerAsyncError | None) -> float:
        with self._lock:
            pause = self._rate.take(self._ticks())
        # What is busy is asked as often as its rate says; what cannot be reached, ever more seldom.
        return pause if error is None or isinstance(error, Throttled) else pause + _PAUSE * 2.0**tries

    def _upload(self, item: BatchItem, location: str) -> None:
        self._hook.upload(
            io.BytesIO(item.body or b""),
            location,
            content_type=item.content_type,
            sse_kms_key_id=self._form.sse_kms_key_id,
        )


def _folders(handle: InvocationHandle, name: str) -> Place:
    """Return the folders of a request's objects, of those that go by the name that was asked for."""

    def folder(location: str | None) -> str | None:
        before, _, last = (location or "").rpartition("/")
        return f"{before}/" if last.startswith(name) else None

    return folder(handle.output_location), folder(handle.failure_location)


def _as_ours(refusal: InvalidInput | RequestRejected) -> SageMakerAsyncError:
    if isinstance(refusal, SageMakerAsyncError):
        return refusal
    return RequestRejected(f"{sentence(str(refusal))} Nothing was submitted.")
