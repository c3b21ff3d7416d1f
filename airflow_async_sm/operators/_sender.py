"""One request, sent once: take up the one there is, or write down what is asked for, and ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm import metrics
from airflow_async_sm.core.attempts import Attempt, Phase, Tries, why_anew
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.outcomes import Pending, Settled
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import (
    RecordUnreadable,
    SageMakerAsyncError,
    SubmissionUnconfirmed,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_async_sm.core.requests import InvocationRequest
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.operators._drafts import Draft
    from airflow_async_sm.operators._journal import Journal
    from airflow_async_sm.sources import Source

__all__ = ["Sender"]

# Pauses, in seconds, after the service said that it is too busy to take the request.
_THROTTLED: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
# Pauses, in seconds, after another process of the task has written the record.
_OVERTAKEN: Final = (0.1, 0.5, 1.0, 2.0)


class Sender:
    """
    Sends a task's request, unless an earlier try has done so.

    :param hook: The way to AWS.
    :param journal: The task's memory.
    :param tries: How the task stands with its tries.
    :param on_clear: What clearing the task means for a request whose end was not seen.
    :param on_403: What a look that is refused means.
    :param log: The task's log.
    :param clock: Returns the time, in seconds since 1970 (UTC).
    :param sleep: Sleeps for so many seconds.
    """

    def __init__(
        self,
        *,
        hook: SageMakerAsyncHook,
        journal: Journal,
        tries: Tries,
        on_clear: str,
        on_403: str,
        log: Any,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._hook = hook
        self._journal = journal
        self._tries = tries
        self._on_clear = on_clear
        self._on_403 = on_403
        self._log = log
        self._clock = clock
        self._sleep = sleep

    def send(self, draft: Draft) -> InvocationHandle:
        """
        Return the handle of the request: of an earlier try's, or of a new one.

        :param draft: What is asked for.
        :raises RecordUnreadable: it cannot be said whether there is an earlier request, or not be written
            down what is asked for.
        :raises SubmissionUnconfirmed: the reply was lost, and it is not known in which folder of its own the
            request could be found.
        """
        found = self._journal.read()
        if found is not None and not self._is_anew(found, draft.fingerprint):
            handle = self._take_up(found, "an earlier try")
            # Being cleared again is to be told from being retried.
            self._write(replace(found, tries=self._tries, phase=Phase.OPEN))
            return handle
        return self._ask(draft)

    def _is_anew(self, found: Attempt, fingerprint: str, *, meanwhile: bool = False) -> bool:
        """Return whether a new request is made in spite of one that is remembered, and log why."""
        why = why_anew(
            found,
            fingerprint=fingerprint,
            tries=self._tries,
            on_clear=self._on_clear,
            run_began_at=self._journal.run_began_at,
            meanwhile=meanwhile,
        )
        if not why and self._came_to_nothing(found.handle):
            why = f"the earlier one, {found.handle.inference_id}, expired"
        if why:
            self._log.info("A new request is made: %s.", why)
        return bool(why)

    def _take_up(self, found: Attempt, whose: str) -> InvocationHandle:
        handle = found.handle
        self._log.info(
            "%s was submitted by %s, %.0f s ago; nothing is submitted now.%s",
            handle.subject,
            whose,
            self._clock() - handle.submitted_at,
            "" if handle.is_confirmed else " Its reply was not seen: the answer is looked for in its folder.",
        )
        metrics.count("reattached")
        return handle

    def _came_to_nothing(self, handle: InvocationHandle) -> bool:
        """Return whether an earlier request left nothing, and nothing can come any more."""
        if handle.expires_at > self._clock():
            return False
        seen = self._hook.look_at_result(handle, on_403=self._on_403)
        # With a detail, it is the endpoint that has failed: there is no object either.
        return isinstance(seen, Pending) or (isinstance(seen, Settled) and bool(seen.detail))

    def _ask(self, draft: Draft) -> InvocationHandle:
        request = draft.request
        output = self._hook.check_endpoint(request.endpoint_name)
        if draft.transport:
            self._log.info("%s", draft.transport)
        if draft.upload is not None:
            self._upload(draft.upload, draft)
        intent = self._intent(draft, output)
        self._name_the_gaps(intent)
        attempt = (
            None
            if intent is None
            else Attempt(fingerprint=draft.fingerprint, tries=self._tries, handle=intent)
        )
        if attempt is not None and (other := self._promise(attempt)) is not None:
            # Its maker writes down how it goes on.
            return self._take_up(other, "another process of this task")
        return self._submit(draft, attempt)

    def _submit(self, draft: Draft, attempt: Attempt | None) -> InvocationHandle:
        request = draft.request
        try:
            handle = self._invoke(request)
        except SubmissionUnconfirmed as error:
            if attempt is None:
                raise
            self._log.warning(
                "Whether %s was accepted is not known (%s), so it is not sent again: until it would have "
                "expired, its answer is looked for in its own folder, %s.",
                attempt.handle.subject,
                error.__cause__,
                attempt.handle.output_location,
            )
            return attempt.handle
        except SageMakerAsyncError:
            if attempt is not None:
                self._write(attempt.at(Phase.ENDED))
            raise
        handle = replace(handle, input_location=request.input_location, uploaded=draft.upload is not None)
        self._write(Attempt(fingerprint=draft.fingerprint, tries=self._tries, handle=handle))
        metrics.count("submitted")
        return handle

    def _name_the_gaps(self, intent: InvocationHandle | None) -> None:
        if not self._journal.keeps:
            self._log.info(
                "Nothing remembers this request between tries, because there is neither Airflow's task "
                "state store (3.3) nor a work_prefix: a retry of the task submits a new request."
            )
        if intent is None:
            self._log.info(
                "If the worker dies, or the reply is lost, after the submission and before the reply is "
                "recorded, the request cannot be found again: it has no output folder of its own, or it is "
                "not known where that is (sagemaker:DescribeEndpoint)."
            )

    def _upload(self, source: Source, draft: Draft) -> None:
        location = str(draft.request.input_location)
        with source.open() as content:
            self._hook.upload(
                content,
                location,
                content_type=draft.request.content_type,
                sse_kms_key_id=draft.sse_kms_key_id,
            )

    def _intent(self, draft: Draft, output: Mapping[str, str]) -> InvocationHandle | None:
        """Return the handle that the request has until its reply is there, if it can be found without one."""
        extension = draft.request.s3_output_path_extension
        if not draft.own_folder or not extension or not output.get("S3OutputPath"):
            return None

        def folder(path: str) -> str:
            # A slash at the path's end may be doubled by the service: the look takes either.
            place = S3Uri.parse(path)
            return f"{place}/{extension}/" if place.key else f"{place.join(extension)}/"

        now = self._clock()
        failures = output.get("S3FailurePath")
        return InvocationHandle(
            endpoint_name=draft.request.endpoint_name,
            inference_id=draft.request.inference_id,
            output_location=folder(output["S3OutputPath"]),
            failure_location=folder(failures) if failures else None,
            submitted_at=now,
            expires_at=draft.request.expires_at(now),
            input_location=draft.request.input_location,
            uploaded=draft.upload is not None,
            endpoint_region=self._hook.region,
        )

    def _invoke(self, request: InvocationRequest) -> InvocationHandle:
        for pause in _THROTTLED:
            try:
                return self._hook.invoke_endpoint_async(request)
            except Throttled as error:
                self._log.info(
                    "The service is too busy (%s); asking again in %.0f s.", error.__cause__, pause
                )
            self._sleep(pause)
        return self._hook.invoke_endpoint_async(request)

    def _promise(self, attempt: Attempt) -> Attempt | None:
        """
        Write down what is about to be asked for; or return what is to be taken up instead.

        Where Airflow gives up a try whose process still lives, as 2.11 may, two processes come here at the
        same time. One of them writes, and asks.
        """
        for pause in _OVERTAKEN:
            if self._is_promised(attempt):
                return None
            self._sleep(pause)
            found = self._journal.read()
            if found is None:
                continue
            if found.handle == attempt.handle:
                # The client has repeated a write that had arrived.
                return None
            if not self._is_anew(found, attempt.fingerprint, meanwhile=True):
                return found
        raise self._unrecorded(attempt, "other processes of the task write there again and again")

    def _is_promised(self, attempt: Attempt) -> bool:
        """Return whether it is written down. Without that nothing is asked for: a crash could lose it."""
        try:
            return self._journal.promise(attempt)
        except Exception as error:
            raise self._unrecorded(attempt, str(error)) from error

    def _unrecorded(self, attempt: Attempt, why: str) -> RecordUnreadable:
        return RecordUnreadable(
            f"{attempt.handle.subject} was not submitted, because it could not be recorded first in "
            f"{self._journal.place}: {sentence(why)} A retry of the task tries again.",
            endpoint_name=attempt.handle.endpoint_name,
            inference_id=attempt.handle.inference_id,
        )

    def _write(self, attempt: Attempt) -> None:
        try:
            self._journal.write(attempt)
        except Exception as error:  # noqa: BLE001 - the request is there, whether that is recorded or not
            self._log.warning(
                "%s is not recorded in %s: %s", attempt.handle.subject, self._journal.place, error
            )
