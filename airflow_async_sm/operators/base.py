"""Submit, wait, collect: the road that every operator of this package takes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_async_sm._compat import AirflowException, BaseOperator, BaseOperatorLink, Context, conf
from airflow_async_sm.core.deadlines import before_airflow
from airflow_async_sm.core.handles import BatchHandle, EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.waiting import Pace, Sleep
from airflow_async_sm.exceptions import RequestRejected, SageMakerAsyncError, outcome_error
from airflow_async_sm.links import ENDPOINT_LINKS, store_pages
from airflow_async_sm.waits import WaitsForAws

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["HANDLE_KEY", "AnyHandle", "SageMakerAsyncBaseOperator"]

AnyHandle = TypeVar("AnyHandle", InvocationHandle, EndpointHandle, BatchHandle)

HANDLE_KEY = "handle"

# What Airflow calls instead of our method when the trigger raised, or outlived its limit.
_DEFERRAL_FAILED = "__fail__"


class SageMakerAsyncBaseOperator(WaitsForAws, BaseOperator, Generic[AnyHandle]):
    """
    Submit something, wait for its end, and return what came of it.

    A subclass says what is asked for (:meth:`request`), how to ask (:meth:`submit`), how to wait
    (:meth:`trigger`), whether anything follows (:meth:`follow`) and what to return (:meth:`collect`). Waiting
    on the worker and waiting in the triggerer run the same engine and come to the same end.

    :param timeout: Seconds to wait, kept across triggerer restarts. The subclass says from when they count,
        and what ``None`` means.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. A young wait is looked at
        more often.
    :param wait_for_completion: Wait for the end. If ``False``, return the handle at once, and ``deferrable``
        has no effect.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    """

    template_fields: Sequence[str] = ("aws_conn_id", "region_name", "verify")

    # When this try of the task began; ``None`` in the process that goes on after a deferral.
    _began_at: float | None = None
    operator_extra_links: Sequence[BaseOperatorLink] = ENDPOINT_LINKS

    def __init__(
        self,
        *,
        timeout: float | None,
        poll_interval: float,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if timeout is not None and not 0 < timeout < float("inf"):
            raise InvalidInput(f"timeout is {timeout!r} s; a positive number of seconds is needed.")
        Pace(longest=poll_interval)
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    @abstractmethod
    def request(self, context: Context) -> Any:
        """Return the checked request. Nothing is sent yet: bad input costs nothing."""

    @abstractmethod
    def submit(self, request: Any, context: Context) -> AnyHandle:
        """Ask AWS for the work, unless that was done before, and return its handle."""

    @abstractmethod
    def trigger(self, handle: AnyHandle) -> SageMakerAsyncBaseTrigger:
        """Return the wait for ``handle``."""

    @abstractmethod
    def collect(self, handle: AnyHandle, context: Context) -> Any:
        """Return what the task returns after a success: a small value that JSON can hold."""

    def follow(self, handle: AnyHandle, context: Context) -> AnyHandle | None:  # noqa: ARG002 - for subclasses
        """Do what follows a wait that succeeded; return what to wait for next, or ``None``."""
        return None

    def failure(self, handle: AnyHandle) -> str:  # noqa: ARG002 - for subclasses that can say more
        """Clean up after work that failed, and return what there is to say about it."""
        return ""

    def handed_on(self, handle: AnyHandle, context: Context) -> dict[str, Any]:  # noqa: ARG002 - for subclasses
        """Return what a task returns that does not wait."""
        return handle.to_dict()

    def error(self, handle: AnyHandle, outcome: Outcome, context: Context) -> SageMakerAsyncError:  # noqa: ARG002
        """Return the error for a wait that did not succeed."""
        failure = self.failure(handle) if outcome.end is End.FAILED else ""
        return outcome_error(handle, outcome, failure=failure)

    def execute(self, context: Context) -> Any:
        """Submit, and wait unless told not to."""
        self.begins(context)
        self._began_at = self.clock()
        return self._see_through(self.submit(self.checked(context), context), context)

    def checked(self, context: Context) -> Any:
        """
        Return the request.

        :raises RequestRejected: the input is bad.
        """
        try:
            request = self.request(context)
            # Made here, because a bad botocore_config is bad input too.
            _ = self.hook
        except InvalidInput as error:
            raise RequestRejected(
                f"{sentence(str(error))} Nothing was submitted; a retry would be refused as well."
            ) from error
        return request

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        handle: Mapping[str, Any] | None = None,
    ) -> Any:
        """Go on after the deferral. Everything needed comes with the event: this is a new object."""
        seen, outcome = self.resumed(event, handle)
        if outcome is None:
            return self._see_through(seen, context)
        seen, following = self._go_on(seen, outcome, context)
        return self.collect(seen, context) if following is None else self._see_through(following, context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral; where the triggerer broke or was gone, say what it waited for."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            if next_method != _DEFERRAL_FAILED:
                raise
            stored = context["ti"].xcom_pull(
                task_ids=self.task_id, key=HANDLE_KEY, map_indexes=context["ti"].map_index
            )
            if stored is None:
                raise
            detail = f"the triggerer did not see the wait through ({type(error).__name__}: {error})"
            outcome = Outcome(end=End.LOOK_FAILED, seen_at=self.clock(), detail=detail)
            raise self.error(self.handle_type.from_dict(stored), outcome, context) from error

    def on_kill(self) -> None:
        """Stop waiting. What was submitted goes on: AWS has no way to take it back."""
        self.log.info("The task stops waiting. What it submitted goes on.")

    @cached_property
    def hook(self) -> SageMakerAsyncHook:
        """The hook, made on first use: importing it loads boto3, which parsing a DAG must not."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        return SageMakerAsyncHook.from_params(self.aws_params)

    def sleep(self, seconds: float) -> None:
        """Sleep on the worker, between two looks of a wait that is not deferred."""
        time.sleep(seconds)

    def linger(self, handle: AnyHandle) -> float:  # noqa: ARG002 - for subclasses
        """Return for how many seconds the worker looks itself before the triggerer does."""
        return 0.0

    def latest(self, deadline_at: float, *, began_at: float) -> float:
        """Return a deadline that passes before Airflow's ``execution_timeout`` does."""
        limit = self.execution_timeout
        return before_airflow(
            deadline_at,
            began_at=began_at,
            execution_timeout=None if limit is None else limit.total_seconds(),
        )

    def _see_through(self, handle: AnyHandle, context: Context) -> Any:
        following: AnyHandle | None = handle
        while following is not None:
            handle = following
            self._show(handle, context)
            if not self.wait_for_completion:
                return self.handed_on(handle, context)
            handle, following = self._go_on(handle, self._wait(handle), context)
        return self.collect(handle, context)

    def _wait(self, handle: AnyHandle) -> Outcome:
        """Look once; then defer, or go on looking here."""
        trigger = self.trigger(handle)
        # One session, and one role assumed, for the task and for its looks.
        trigger.hook = self.hook
        step = trigger.decide(trigger.observe())
        defers_at = self.clock() + self.linger(handle)
        while isinstance(step, Sleep):
            if self.deferrable and self.clock() >= defers_at:
                self.defer_to(trigger)
            self.sleep(step.seconds)
            step = trigger.decide(trigger.observe())
        return step.outcome

    def _show(self, handle: AnyHandle, context: Context) -> None:
        """Put the handle into XCom, where it is seen while the task waits, and found when that ends badly."""
        try:
            context["ti"].xcom_push(key=HANDLE_KEY, value=handle.to_dict())
        except Exception as error:  # noqa: BLE001 - the work is paid for: no notice of it is worth losing it
            self.log.warning("%s is not in XCom: %s", handle.subject, error)
        store_pages(self, self.hook, handle, context)

    def _go_on(
        self, handle: AnyHandle, outcome: Outcome, context: Context
    ) -> tuple[AnyHandle, AnyHandle | None]:
        """The one ending of a wait: raise what happened, or return what it was for and what follows."""
        if isinstance(handle, InvocationHandle) and outcome.location:
            handle = handle.found(outcome.location, answer=outcome.end is End.SUCCEEDED)
            store_pages(self, self.hook, handle, context)
        if outcome.end is not End.SUCCEEDED:
            raise self.error(handle, outcome, context)
        self.log.info(
            "%s is %s after %.1f s.", handle.subject, handle.aim, outcome.seen_at - handle.submitted_at
        )
        return handle, self.follow(handle, context)
