"""What ends the wait for a request, whoever sent it: its answer is taken over, or its failure told."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm import metrics
from airflow_async_sm._compat import BaseOperator, Context
from airflow_async_sm.assets import describe_outlets
from airflow_async_sm.core.outcomes import End
from airflow_async_sm.core.templates import optional
from airflow_async_sm.exceptions import SageMakerAsyncError, outcome_error
from airflow_async_sm.lineage import lineage
from airflow_async_sm.results import ResultSpec

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import InvocationHandle
    from airflow_async_sm.core.outcomes import Outcome
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["ANSWER_KEY", "CollectsAnswer"]

ANSWER_KEY: Final = "answer"


class CollectsAnswer(BaseOperator):
    """A task that waits for the answer to a request. What is asked of it is named as in ``ResultSpec``."""

    result: Any
    result_schema: Any
    max_result_bytes: int
    on_large_result: Any
    copy_to: Any

    _collected: tuple[InvocationHandle, str | None] | None = None

    def check_result(self) -> None:
        """
        Check what is asked of the answer, before anybody waits for it.

        :raises InvalidInput: an argument is bad.
        """
        self._result_spec.check()

    def collect_answer(
        self,
        hook: SageMakerAsyncHook,
        handle: InvocationHandle,
        context: Context,
        *,
        knows_submission: bool = True,
    ) -> Any:
        """
        Return what the task is to return of an answer, and tell all others of it who are to know.

        :param hook: The way to AWS.
        :param handle: The request, with the exact location of its answer.
        :param context: The context the task runs in.
        :param knows_submission: Whether ``handle.submitted_at`` is the moment of the submission. Else it is
            when the wait began, and not told to anybody.
        """
        log: Any = self.log
        collected = self._result_spec.collect(hook, handle, log)
        answer = collected.answer
        if not knows_submission:
            answer.update(submitted_at=None, seconds=None)
        self._collected = (handle, answer.get("copied_to"))
        describe_outlets(context, self.outlets, answer)
        if self.do_xcom_push and collected.value is not answer and "ti" in context:
            context["ti"].xcom_push(key=ANSWER_KEY, value=answer)
        metrics.count("succeeded")
        if knows_submission:
            metrics.timing("wait_seconds", answer["seconds"])
        return collected.value

    def answer_error(
        self,
        hook: SageMakerAsyncHook,
        handle: InvocationHandle,
        outcome: Outcome,
        *,
        again: str | None = None,
    ) -> SageMakerAsyncError:
        """
        Return the error for a request without an answer, with the text of its failure object.

        :param hook: The way to AWS.
        :param handle: The request.
        :param outcome: How the wait for it ended.
        :param again: What a retry of the task does, as a sentence. Default: as it is for a task that
            sends requests.
        """
        # Without a failure object it is the endpoint that failed, and the outcome says how.
        told = outcome.end is End.FAILED and not outcome.detail
        failure = _failure_text(hook, handle) if told else ""
        error = outcome_error(handle, outcome, failure=failure, again=again)
        metrics.count("failed", kind=error.kind or type(error).__name__)
        return error

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - its protocol
        """
        Return what OpenLineage is told: which object was made of which.

        :param task_instance: The task, as Airflow ran it.
        """
        return None if self._collected is None else lineage(*self._collected)

    @cached_property
    def _result_spec(self) -> ResultSpec:
        return ResultSpec(
            result=self.result,
            result_schema=self.result_schema,
            max_result_bytes=self.max_result_bytes,
            on_large_result=self.on_large_result,
            copy_to=optional("copy_to", self.copy_to),
        )


def _failure_text(hook: SageMakerAsyncHook, handle: InvocationHandle) -> str:
    try:
        return hook.read_failure(str(handle.failure_location))
    except SageMakerAsyncError as error:
        return f"(it could not be read: {error})"
