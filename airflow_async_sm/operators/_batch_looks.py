"""Finding out what became of the requests of a batch, from the objects that they left."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.batches.failures import ItemFailure
from airflow_async_sm.core.batches.items import attempt_of, index_of, is_failure
from airflow_async_sm.core.batches.pace import again_at
from airflow_async_sm.core.batches.state import Phase
from airflow_async_sm.core.failures import FailureKind, classify
from airflow_async_sm.core.handles import NEVER, InvocationHandle
from airflow_async_sm.core.outcomes import Settled
from airflow_async_sm.core.texts import shortened
from airflow_async_sm.exceptions import ResultUnreadable

if TYPE_CHECKING:
    from airflow_async_sm.core.batches.state import BatchState
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._batch_ledger import BatchLedger

__all__ = ["MOST_ATTEMPTS", "BatchLooker", "Patience"]

# So many failure objects are read at the same time.
_READERS: Final = 16
_IN_FLIGHT: Final = (Phase.SENDING, Phase.OPEN)

MOST_ATTEMPTS: Final = 200
"""The number of an attempt has no place beyond that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """
    How long an item is waited for, and how often it is tried.

    :param request_ttl: Seconds a request may stay queued.
    :param invocation_timeout: Seconds it may take then.
    :param max_attempts: How often an item is sent at most.
    :param retry_delay: Pause before it is sent again, in seconds; it doubles each time.
    """

    request_ttl: int
    invocation_timeout: int
    max_attempts: int
    retry_delay: float

    @property
    def seconds(self) -> float:
        """How long after its submission something can come of a request."""
        return float(self.request_ttl + self.invocation_timeout + limits.EXPIRY_SLACK)


class BatchLooker:
    """
    Looks for what has come since the last look, and writes it down.

    :param hook: The way to AWS.
    :param ledger: The batch's ledger.
    :param expected: The folders in which objects are found by name, where no reply has told them yet.
    :param patience: How long an item is waited for, and how often it is tried.
    :param clock: Returns the time, in seconds since 1970 (UTC).
    """

    def __init__(
        self,
        *,
        hook: SageMakerAsyncHook,
        ledger: BatchLedger,
        expected: tuple[str | None, str | None],
        patience: Patience,
        clock: Callable[[], float],
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._expected = expected
        self._patience = patience
        self._clock = clock
        self._seen = array("q")
        self._first = 0

    @property
    def folders(self) -> tuple[str | None, str | None]:
        """Where answers and failures are found by name; ``None``: nowhere."""
        told = self._ledger.state.folders
        return told if any(told) else self._expected

    @property
    def is_blind(self) -> bool:
        """Whether something may come that no folder shows."""
        output, failure = self.folders
        # An endpoint without a failure path tells of no failure at all.
        return output is None or (failure is None and self._expected[1] is not None)

    def look(self, *, from_the_start: bool = False) -> None:
        """
        Write down what became of items since the last look.

        :param from_the_start: Whether also those are looked for that are at their end. Their answers may have
            come late.
        :raises RequestRejected: the folders may not be listed.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        state, now = self._ledger.state, self._clock()
        self._first = 0 if from_the_start else state.first_unsettled
        # Failures first: an answer that comes meanwhile is what counts.
        failed = self._failures_by_name(state)
        succeeded = self._answers_by_name(state)
        self._look_elsewhere(state, failed, succeeded)
        failures = self._read({index: failed[index] for index in failed if index not in succeeded})
        late = state.expired(now - self._patience.seconds)
        expired = [index for index in late if index not in succeeded and index not in failures]
        if succeeded or failures or expired:
            again = self._tried_again(state, failures, expired, now)
            event = state.ended(succeeded=sorted(succeeded), failed=failures, expired=expired, again=again)
            self._ledger.write(event)

    def counted_after(self, index: int) -> int:
        """Return how many objects the last look has seen of the items from an index on."""
        return sum(1 for seen in self._seen if seen >= index)

    def _failures_by_name(self, state: BatchState) -> dict[int, str]:
        self._seen, folder = array("q"), self.folders[1]
        found: dict[int, str] = {}
        for name, index in self._named(folder, state, answers=False):
            if state.phase(index) in _IN_FLIGHT and attempt_of(name) == state.attempts(index):
                found[index] = f"{folder}{name}"
        return found

    def _answers_by_name(self, state: BatchState) -> set[int]:
        return {
            index
            for _, index in self._named(self.folders[0], state, answers=True)
            if state.phase(index) is not Phase.SUCCEEDED
        }

    def _named(self, folder: str | None, state: BatchState, *, answers: bool) -> Iterable[tuple[str, int]]:
        if folder is None:
            return
        # An endpoint may write both to the same folder.
        shared = self.folders[0] == self.folders[1]
        for name in self._hook.names_in(folder, f"{self._first:08d}" if self._first else ""):
            index = index_of(name)
            if shared and answers is is_failure(name):
                continue
            if index is not None and index < state.count:
                self._seen.append(index)
                yield name, index

    def _look_elsewhere(self, state: BatchState, failed: dict[int, str], succeeded: set[int]) -> None:
        """Look for those one by one whose objects do not go by their names."""
        handles = [(index, _handle(*place)) for index, place in state.elsewhere() if index not in succeeded]
        if not handles:
            return
        with ThreadPoolExecutor(_READERS) as pool:
            looks = pool.map(lambda one: self._hook.look_at_result(one[1], on_403="wait"), handles)
            for (index, handle), seen in zip(handles, looks, strict=True):
                if isinstance(seen, Settled) and seen.succeeded:
                    succeeded.add(index)
                elif isinstance(seen, Settled):
                    failed[index] = str(handle.failure_location)

    def _read(self, failed: dict[int, str]) -> dict[int, ItemFailure]:
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(failed, pool.map(self._failure, failed.values()), strict=True))

    def _failure(self, location: str) -> ItemFailure:
        try:
            text = self._hook.read_failure(location)
        except ResultUnreadable as error:
            return ItemFailure(FailureKind.UNKNOWN, shortened(f"(it could not be read: {error})"), location)
        return ItemFailure(classify(text).kind, shortened(text), location)

    def _tried_again(
        self, state: BatchState, failures: dict[int, ItemFailure], expired: list[int], now: float
    ) -> dict[int, float]:
        """Return when those are tried again whom that may help."""
        helped = [index for index, failure in failures.items() if not failure.is_permanent] + expired
        again = {
            index: again_at(now, attempt=state.attempts(index), retry_delay=self._patience.retry_delay)
            for index in helped
            if state.attempts(index) < self._patience.max_attempts
        }
        # What may never have been sent has not failed.
        never = [index for index in expired if state.phase(index) is Phase.SENDING]
        return again | {index: now for index in never if state.attempts(index) < MOST_ATTEMPTS}


def _handle(output: str | None, failure: str | None) -> InvocationHandle:
    return InvocationHandle(
        output_location=str(output), failure_location=failure, submitted_at=0.0, expires_at=NEVER
    )
