"""A task's batch: planned anew, or taken up where an earlier try has left it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_async_sm._compat import AirflowSkipException
from airflow_async_sm.core.attempts import BatchAttempt, Phase, Tries, fingerprint, why_anew
from airflow_async_sm.core.handles import BatchHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import EndpointNotReady, RecordUnreadable, RequestRejected
from airflow_async_sm.operators._batch import Batch, BatchLimits
from airflow_async_sm.operators._batch_form import BatchForm
from airflow_async_sm.operators._batch_plan import BatchPlan, digest_of, read_plan, write_plan

if TYPE_CHECKING:
    from airflow_async_sm.batch_inputs import BatchInputs
    from airflow_async_sm.core.identities import TaskIdentity
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._journal import Journal

__all__ = ["BatchOpener"]


@dataclass(frozen=True, kw_only=True)
class BatchOpener:
    """
    Opens a task's batch.

    :param hook: The way to AWS.
    :param journal: The task's memory.
    :param tries: How the task stands with its tries.
    :param on_clear: What clearing the task means for a batch whose end was not seen.
    :param skip_empty: Whether the task is skipped where there are no inputs.
    :param identity: Which task it is.
    :param work_prefix: The folder for all that batches write.
    :param members: What all requests have in common.
    :param wants_inline: Whether payloads may be sent within their requests.
    :param sse_kms_key_id: KMS key for payloads that have to be uploaded; ``None``: as the bucket does.
    :param limits: What the batch may do.
    :param log: The task's log.
    :param clock: Returns the time, in seconds since 1970 (UTC).
    """

    hook: SageMakerAsyncHook
    journal: Journal
    tries: Tries
    on_clear: str
    skip_empty: bool
    identity: TaskIdentity
    work_prefix: S3Uri
    members: dict[str, Any]
    wants_inline: bool
    sse_kms_key_id: str | None
    limits: BatchLimits
    log: Any
    clock: Callable[[], float]

    def open(self, inputs: BatchInputs) -> tuple[Batch, BatchHandle]:
        """
        Return the task's batch, and what it last waited for.

        :param inputs: Its inputs.
        :raises RequestRejected: the inputs are bad, or the endpoint takes no requests.
        :raises RecordUnreadable: it cannot be said whether there is an earlier batch, or not be written down
            that there is one now.
        """
        # The endpoint is looked at before anything is read or written.
        for folder in self._folders_below_output:
            if folder is not None and inputs.overlaps(S3Uri.parse(folder)):
                raise RequestRejected(
                    f"The endpoint writes to {folder}, which lies in input_prefix {inputs.input_prefix}: its "
                    "answers would be inputs the next time. Nothing was submitted."
                )
        found = self.journal.read()
        try:
            if isinstance(found, BatchAttempt) and not self._is_anew(found, inputs):
                return self._take_up(found)
            return self._begin(inputs)
        except InvalidInput as error:
            raise RequestRejected(f"{sentence(str(error))} Nothing was submitted.") from error

    def load(self, location: str) -> Batch:
        """
        Return a batch that was begun.

        :param location: S3 URI of its folder, with a slash at its end.
        :raises RecordUnreadable: its plan or its ledger cannot be read.
        """
        return self._batch(read_plan(self.hook, location))

    def _is_anew(self, found: BatchAttempt, inputs: BatchInputs) -> bool:
        why = why_anew(
            found,
            fingerprint=self._fingerprint(digest_of(inputs.read(self.hook))),
            tries=self.tries,
            on_clear=self.on_clear,
            run_began_at=self.journal.run_began_at,
        )
        if why:
            open_ = found.phase is Phase.OPEN
            self.log.log(
                logging.WARNING if open_ else logging.INFO,
                "A new batch is begun: %s.%s",
                why,
                f" What {found.handle.location} has sent goes on unseen." if open_ else "",
            )
        return bool(why)

    def _begin(self, inputs: BatchInputs) -> tuple[Batch, BatchHandle]:
        # An endpoint that takes nothing is told before the inputs are read.
        self.hook.check_endpoint(self.members["endpoint_name"])
        folder = self.work_prefix.join("batches", self.identity.folder)
        plan = write_plan(self.hook, folder, inputs.read(self.hook))
        self._check(plan)
        now = self.clock()
        handle = BatchHandle(
            endpoint_name=self.members["endpoint_name"],
            location=plan.location,
            submitted_at=now,
            began_at=now,
            sent_at=now,
            items=plan.count,
        )
        mark = self._fingerprint(plan.digest)
        attempt = BatchAttempt(fingerprint=mark, tries=self.tries, handle=handle)
        # The client repeats a write whose reply was lost: what is there may be this.
        if not self.journal.promise(attempt) and self.journal.read() != attempt:
            raise RecordUnreadable(
                f"The batch in {plan.location} was not begun: another process of this task has begun one at "
                f"the same time, in {self.journal.place}. Nothing was submitted; a retry of the task goes on "
                "with that one.",
                endpoint_name=handle.endpoint_name,
            )
        self.log.info(
            "%s is planned in %s; %d of them are the same as one before them, and %d rows are no inputs.",
            handle.subject,
            plan.location,
            plan.duplicates,
            plan.unreadable,
        )
        return self._batch(plan), handle

    def _take_up(self, found: BatchAttempt) -> tuple[Batch, BatchHandle]:
        self.log.info("%s, in %s, is gone on with.", found.handle.subject, found.handle.location)
        batch = self.load(found.handle.location)
        batch.look()
        began_at = self.journal.run_began_at
        same_run = began_at is not None and found.handle.submitted_at > began_at
        if found.phase is Phase.OPEN and batch.has_failed and batch.is_over:
            batch.reopen(all_of_them=not self.tries.is_retry_after(found.tries, same_run=same_run))
        # Being cleared again is to be told from being retried.
        self.journal.write(replace(found, tries=self.tries, phase=Phase.OPEN))
        now = self.clock()
        return batch, replace(found.handle, began_at=now, sent_at=now, done=batch.state.done)

    def _check(self, plan: BatchPlan) -> None:
        rows = plan.count + plan.unreadable
        if plan.unreadable > self.limits.failures_allowed(rows):
            raise RequestRejected(
                f"{plan.unreadable:,} of {rows:,} rows are no inputs, which is more than max_failures "
                f"({self.limits.max_failures:g}). {plan.location}unreadable.jsonl says which, and why. "
                "Nothing was submitted; mend them, or allow for them with max_failures.",
                location=f"{plan.location}unreadable.jsonl",
            )
        if plan.count == 0:
            if self.skip_empty:
                raise AirflowSkipException("There are no inputs: the task is skipped, as on_empty says.")
            raise RequestRejected(
                "There are no inputs. Nothing was submitted; on_empty='skip' skips the task in place of that."
            )

    def _batch(self, plan: BatchPlan) -> Batch:
        folders = self._folders_below_output
        extension = self._extension(plan)
        form = BatchForm(
            members=self.members,
            token=plan.token,
            extension=extension,
            can_inline=self.wants_inline and "Body" in self.hook.invoke_members,
            inputs=f"{plan.location}inputs/",
            sse_kms_key_id=self.sse_kms_key_id,
            is_found=folders[0] is not None,
        )
        return Batch(
            hook=self.hook,
            plan=plan,
            form=form,
            limits=self.limits,
            expected=(_below(folders[0], extension), _below(folders[1], extension)),
            log=self.log,
            clock=self.clock,
        )

    def _extension(self, plan: BatchPlan) -> str | None:
        if {"Filename", "S3OutputPathExtension"} <= self.hook.invoke_members:
            return f"{self.identity.folder}/{plan.token}"
        self.log.warning(
            "The installed boto3 cannot name answers, which takes 1.42.54. If a worker dies, up to 500 "
            "requests that were accepted may be sent again once they have expired, and answers are looked "
            "for one by one."
        )
        return None

    @cached_property
    def _folders_below_output(self) -> tuple[str | None, str | None]:
        """The endpoint's folders for answers and failures, as far as they may be seen."""
        try:
            output = self.hook.check_endpoint(self.members["endpoint_name"])
        except (RequestRejected, EndpointNotReady) as error:
            # What was sent can be collected all the same. It is checked again before more is.
            self.log.info("%s", error)
            output = {}
        return output.get("S3OutputPath"), output.get("S3FailurePath")

    def _fingerprint(self, digest: str) -> str:
        return fingerprint(
            **self.members, inputs=digest, region=self.hook.region, aws_conn_id=self.hook.aws_conn_id
        )


def _below(path: str | None, extension: str | None) -> str | None:
    """Return the folder that an extension makes of an endpoint's; ``None``: it cannot be said."""
    return f"{S3Uri.parse(path).join(extension)}/" if path and extension else None
