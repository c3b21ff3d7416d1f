"""One request of a batch: what it needs is uploaded, and it is sent, in several tries if it takes them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.batches.failures import REJECTED, ItemFailure
from airflow_async_sm.core.limits import InvalidInput
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
    from airflow_async_sm.core.requests import InvocationRequest
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._batch_form import BatchForm

__all__ = ["ItemSender", "Sent"]

# So often a request is tried again that was not accepted because of a passing trouble.
_TRIES: Final = 8
_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    What came of one request. Without a handle it was not accepted, as far as is known.

    :param handle: The request, which was accepted.
    :param refused: Why it was refused.
    :param is_unknown: Whether nobody knows if it was accepted.
    :param error: What it met last.
    :param is_for_all: Whether that error says nothing of this request: any other would meet it.
    """

    handle: InvocationHandle | None = None
    refused: ItemFailure | None = None
    is_unknown: bool = False
    error: SageMakerAsyncError | None = None
    is_for_all: bool = False


class ItemSender:
    """
    Sends items, each as one request. Many threads may use it.

    :param hook: The way to AWS.
    :param form: What the requests have in common.
    :param rate: How many are sent each second.
    :param stopped: Set when nothing is sent any more.
    :param log: The task's log.
    :param ticks: Returns seconds of a clock that is never set.
    """

    def __init__(
        self,
        *,
        hook: SageMakerAsyncHook,
        form: BatchForm,
        rate: SubmissionRate,
        stopped: threading.Event,
        log: Any,
        ticks: Callable[[], float],
    ) -> None:
        self._hook = hook
        self._form = form
        self._rate = rate
        self._stopped = stopped
        self._log = log
        self._ticks = ticks
        self._lock = threading.Lock()

    def send(self, item: BatchItem, attempt: int, *, ends_at: float) -> Sent:
        """
        Send an item, and return what came of it.

        :param item: The item.
        :param attempt: Which attempt, from 1.
        :param ends_at: When it is too late to begin a try.
        """
        try:
            request = self._form.request(item, attempt)
            if item.body is not None and request.body is None:
                self._upload(item, str(request.input_location))
            return self._tried(request, ends_at)
        except SubmissionUnconfirmed as lost:
            self._log.warning("%s It is waited for, and not sent again before it has expired.", lost)
            return Sent(is_unknown=True)
        except ServiceUnavailable as unavailable:
            return Sent(error=unavailable)
        except (RequestRejected, InvalidInput) as refusal:
            if _is_for_all(refusal):
                return Sent(error=_as_ours(refusal), is_for_all=True)
            return Sent(refused=ItemFailure(REJECTED, shortened(str(refusal))), error=_as_ours(refusal))

    def _tried(self, request: InvocationRequest, ends_at: float) -> Sent:
        error: SageMakerAsyncError | None = None
        for tries in range(_TRIES):
            pause = self._pause(tries, error, ends_at)
            if pause is None:
                break
            if self._is_stopped_after(pause):
                return Sent()
            try:
                return Sent(handle=self._hook.invoke_endpoint_async(request))
            except Throttled as busy:
                error = busy
                with self._lock:
                    self._rate.turned_away(self._ticks())
            except ServiceUnavailable as unavailable:
                error = unavailable
        return Sent(error=error)

    def _is_stopped_after(self, seconds: float) -> bool:
        return self._stopped.wait(seconds) if seconds else self._stopped.is_set()

    def _pause(self, tries: int, error: SageMakerAsyncError | None, ends_at: float) -> float | None:
        """Return how long to wait before the next try; ``None``: that would be after the end of the part."""
        # What is busy is asked as often as its rate says; what cannot be reached, ever more seldom.
        more = 0.0 if error is None or isinstance(error, Throttled) else _PAUSE * 2.0**tries
        with self._lock:
            pause = self._rate.take(self._ticks(), ends_at - more)
        return None if pause is None else pause + more

    def _upload(self, item: BatchItem, location: str) -> None:
        self._hook.upload(
            io.BytesIO(item.body or b""),
            location,
            content_type=item.content_type,
            sse_kms_key_id=self._form.sse_kms_key_id,
        )


def _is_for_all(refusal: Exception) -> bool:
    """Return whether a refusal is about rights or credentials, and so not about the one request."""
    # Whoever reads a DAG does not load boto3.
    from airflow_async_sm.hooks._translate import are_no_credentials, is_denial

    error = refusal.__cause__
    return error is not None and (is_denial(error) or are_no_credentials(error))


def _as_ours(refusal: InvalidInput | RequestRejected) -> SageMakerAsyncError:
    if isinstance(refusal, SageMakerAsyncError):
        return refusal
    return RequestRejected(f"{sentence(str(refusal))} Nothing was submitted.")
