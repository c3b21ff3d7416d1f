"""One batch as a worker carries it on: look what has come, send what there is room for, wait for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.batches.pace import SubmissionRate, room, window
from airflow_async_sm.core.batches.progress import Progress
from airflow_async_sm.core.batches.state import Phase
from airflow_async_sm.core.batches.summary import SummaryFacts
from airflow_async_sm.core.handles import BatchHandle
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.operators._batch_end import BatchEnd, write_manifest
from airflow_async_sm.operators._batch_form import BatchForm
from airflow_async_sm.operators._batch_ledger import BatchLedger
from airflow_async_sm.operators._batch_looks import MOST_ATTEMPTS, BatchLooker, Patience
from airflow_async_sm.operators._batch_parts import PartSender

if TYPE_CHECKING:
    from airflow_async_sm.core.batches.state import BatchState
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._batch_plan import BatchPlan

__all__ = ["Batch", "BatchLimits"]

# How often the worker looks itself, in seconds, where no folder tells the triggerer what has come.
_BLIND: Final = 120.0
# An item that is to be tried again wakes the worker at most so often, in seconds, while others are in flight.
_AGAIN: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """
    What a batch may do.

    :param max_in_flight: How many requests the service may have at the same time.
    :param max_submissions_per_second: How many are sent each second at most; ``None``: as many as it takes.
    :param submission_threads: How many are sent at the same time.
    :param max_failures: How many items may have no answer: a number, or a share below 1.
    :param stop_early: Whether nothing is sent any more once there are more than that.
    :param patience: How long an item is waited for, and how often it is tried.
    """

    max_in_flight: int
    max_submissions_per_second: float | None
    submission_threads: int
    max_failures: float
    stop_early: bool
    patience: Patience

    def failures_allowed(self, count: int) -> int:
        """Return how many of so many items may have no answer."""
        return int(self.max_failures * count) if 0 < self.max_failures < 1 else int(self.max_failures)


class Batch:
    """
    A batch that was planned, with what is known of it.

    :param hook: The way to AWS.
    :param plan: Its plan.
    :param form: What its requests have in common.
    :param limits: What it may do.
    :param expected: Its folders of its own for answers and failures, as far as they can be said beforehand.
    :param log: The task's log.
    :param clock: Returns the time, in seconds since 1970 (UTC).
    """

    def __init__(
        self,
        *,
        hook: SageMakerAsyncHook,
        plan: BatchPlan,
        form: BatchForm,
        limits: BatchLimits,
        expected: tuple[str | None, str | None],
        log: Any,
        clock: Callable[[], float],
    ) -> None:
        self.plan = plan
        self._hook = hook
        self._form = form
        self._limits = limits
        self._log = log
        self._clock = clock
        self._allowed = 1
        self._told = ""
        self._ledger = BatchLedger(hook, plan.location, plan.count)
        self._looker = BatchLooker(
            hook=hook, ledger=self._ledger, expected=expected, patience=limits.patience, clock=clock
        )

    @property
    def state(self) -> BatchState:
        """How far each item is."""
        return self._ledger.state

    @property
    def has_failed(self) -> bool:
        """Whether more items have no answer than may."""
        allowed = self._limits.failures_allowed(self.plan.count + self.plan.unreadable)
        return self.state.unsuccessful + self.plan.unreadable > allowed

    @property
    def is_lost(self) -> bool:
        """Whether more have failed for good than may, so that no retry can make it succeed."""
        allowed = self._limits.failures_allowed(self.plan.count + self.plan.unreadable)
        permanent = sum(failure.is_permanent for _, failure in self.state.failures())
        return permanent + self.plan.unreadable > allowed

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do, or nothing may be done any more."""
        return self.state.done == self.state.count or (self._limits.stop_early and self.has_failed)

    def reopen(self, *, all_of_them: bool) -> None:
        """
        Let items of a batch that was over be tried again.

        :param all_of_them: Whether also those are that would fail in the same way, unless somebody has
            mended something.
        """
        again = [
            index
            for index, failure in self.state.failures()
            if (all_of_them or not failure.is_permanent) and self.state.attempts(index) < MOST_ATTEMPTS
        ]
        if again:
            self._log.info("%d inputs that had failed are tried again.", len(again))
            self._ledger.write(self.state.reopened(again, self._clock()))
            # Their answers may have come late.
            self.look()

    def look(self) -> None:
        """Write down what has become of the items in flight."""
        self._looker.look()

    def send(self, before: BatchHandle) -> None:
        """
        Send what there is room for.

        :param before: What was waited for last: what has come since tells how fast the endpoint is.
        :raises RequestRejected: the endpoint takes no requests, or the service takes none of these.
        :raises EndpointNotReady: the endpoint is still being created.
        :raises ServiceUnavailable: nothing can be sent now, and nothing is in flight.
        :raises BatchTakenOver: another process of the task goes on with the batch.
        """
        allowed = window(
            self._limits.max_in_flight,
            answered=self.state.done - before.done,
            seconds=self._clock() - before.sent_at,
            request_ttl=self._limits.patience.request_ttl,
        )
        self._allowed = allowed
        if not self.is_over and self.state.number(Phase.PLANNED, Phase.WAITING):
            self._hook.check_endpoint(before.endpoint_name)
            self._sender.send(allowed)

    def handle(self, before: BatchHandle) -> BatchHandle:
        """
        Return what to wait for now.

        :param before: What was waited for last.
        """
        state, now = self.state, self._clock()
        # One that may never have been sent is looked for by the worker only: all behind it would be listed
        # again and again, until it had expired.
        opened = state.first(Phase.OPEN)
        first = state.first_unsettled if opened is None else opened
        self._end_turn(before.endpoint_name, now)
        output, failure = self._looker.folders
        handle = replace(
            before,
            output_folder=output,
            failure_folder=failure,
            after=f"{first:08d}",
            counted=self._looker.counted_after(first),
            enough=self._enough(),
            wake_at=self._wake_at(now),
            done=state.done,
            failed=state.unsuccessful,
            in_flight=state.in_flight,
            sent_at=now,
            oldest_at=state.oldest_sent_at() or 0.0,
        )
        self._tell(handle, now)
        return handle

    def finish(self, handle: BatchHandle, merge_to: str | None) -> BatchEnd:
        """
        Write down what became of all items, and return where.

        :param handle: What was waited for last.
        :param merge_to: S3 URI to put all answers together at; ``None``: they are not.
        """
        if self.state.unsuccessful:
            self._looker.look(from_the_start=True)
        self._end_turn(handle.endpoint_name, self._clock())
        state = self.state
        ended = replace(handle, done=state.done, failed=state.unsuccessful, in_flight=state.in_flight)
        self._tell(ended, self._clock())
        return write_manifest(
            self._hook,
            S3Uri.parse(self.plan.location),
            lambda: self.plan.items(self._hook),
            self.state,
            output_folders=self._looker.folders[0],
            extra=SummaryFacts(
                calls=self.state.calls,
                duplicates=self.plan.duplicates,
                unreadable=self.plan.unreadable,
                instance_seconds=self.state.instance_seconds,
                started_at=handle.submitted_at,
            ),
            log=self._log,
            merge_to=merge_to,
        )

    def _end_turn(self, endpoint_name: str, now: float) -> None:
        instances = self._hook.instances_of(endpoint_name)
        self._ledger.write(self.state.turn(now, self._hook.take_calls(), instances))

    def _enough(self) -> int:
        if self.is_over:
            return 0
        # Of those that may never have been sent, nobody can say how many will come.
        sent = self.state.number(Phase.OPEN)
        if sent and self.state.number(Phase.PLANNED):
            return room(self._allowed, sent)
        return max(1, sent or self.state.in_flight)

    def _wake_at(self, now: float) -> float:
        state = self.state
        moments = [now + self._limits.patience.seconds]
        if (oldest := state.oldest_sent_at()) is not None:
            moments.append(oldest + self._limits.patience.seconds + 1.0)
        if (again := state.next_again_at()) is not None:
            moments.append(max(again, now + _AGAIN) if state.in_flight else again)
        if self._looker.is_blind and state.in_flight:
            moments.append(now + _BLIND)
        return max(now, min(moments))

    def _tell(self, handle: BatchHandle, now: float) -> None:
        """Let others see how far it is. Nothing depends on it."""
        progress = Progress(
            items=handle.items,
            done=handle.done,
            failed=handle.failed,
            in_flight=handle.in_flight,
            seconds=now - handle.submitted_at,
        )
        if str(progress) != self._told:
            self._told = str(progress)
            self._log.info("%s: %s.", handle.subject, progress)
        try:
            self._hook.write_record(f"{handle.location}progress.json", progress.to_dict())
        except SageMakerAsyncError as error:
            self._log.info("The progress is not in S3: %s", error)

    @cached_property
    def _sender(self) -> PartSender:
        return PartSender(
            hook=self._hook,
            plan=self.plan,
            ledger=self._ledger,
            form=self._form,
            rate=SubmissionRate(self._limits.max_submissions_per_second),
            threads=self._limits.submission_threads,
            log=self._log,
            clock=self._clock,
            ticks=time.monotonic,
        )
