"""Submit, wait, collect: the road that every operator of this package takes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from airflow_async_sm._compat import AirflowException, BaseOperator, Context, conf
from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.handles import EndpointHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.templates import optional
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.waiting import Pace, Sleep
from airflow_async_sm.exceptions import BadTriggerEvent, RequestRejected, outcome_error
from airflow_async_sm.links import ENDPOINT_LINKS, store_pages

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
    from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["HANDLE_KEY", "AnyHandle", "SageMakerAsyncBaseOperator"]

AnyHandle = TypeVar("AnyHandle", InvocationHandle, EndpointHandle)

HANDLE_KEY = "handle"

# What Airflow calls instead of our method when the trigger raised, or outlived its limit.
_DEFERRAL_FAILED = "__fail__"

# The trigger ends the wait by itself, at its deadline. Airflow's own limit is for a triggerer that no longer
# runs, so it comes later.
_BACKSTOP = timedelta(minutes=5)


class SageMakerAsyncBaseOperator(BaseOperator, Generic[AnyHandle]):
    """
    Submit something, wait for its end, and return what came of it.

    A subclass says what is asked for (:meth:`request`), how to ask (:meth:`submit`), how to wait
    (:meth:`trigger`), whether anything follows (:meth:`follow`) and what to return (:meth:`collect`). Waiting
    on the worker and waiting in the triggerer run the same engine and come to the same end.

    :param timeout: Seconds to wait, counted from the submission and kept across triggerer restarts. ``None``:
        the subclass says how long.
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
    operator_extra_links = ENDPOINT_LINKS
    handle_type: ClassVar[type[Any]]

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
    def submit(self, request: Any) -> AnyHandle:
        """Ask AWS for the work, and return its handle."""

    @abstractmethod
    def trigger(self, handle: AnyHandle) -> SageMakerAsyncBaseTrigger:
        """Return the wait for ``handle``."""

    @abstractmethod
    def collect(self, handle: AnyHandle) -> dict[str, Any]:
        """Return what the task returns after a success: a small value that JSON can hold."""

    def follow(self, handle: AnyHandle, context: Context) -> AnyHandle | None:  # noqa: ARG002 - for subclasses
        """Do what follows a wait that succeeded; return what to wait for next, or ``None``."""
        return None

    def failure(self, handle: AnyHandle) -> str:  # noqa: ARG002 - for subclasses that can say more
        """Clean up after work that failed, and return what there is to say about it."""
        return ""

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit, and wait unless told not to."""
        return self._see_through(self.submit(self.checked(context)), context)

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
    ) -> dict[str, Any]:
        """Go on after the deferral. Everything needed comes with the event: this is a new object."""
        try:
            seen, outcome = decode_event(event, self.handle_type)
        except InvalidInput as error:
            raise BadTriggerEvent(
                f"The task was resumed with an event that cannot be read: {error}."
            ) from error
        if handle is not None and self.handle_type.from_dict(handle) != seen:
            raise BadTriggerEvent(f"The task was resumed with an event about something else: {seen.subject}.")
        return self._finish(seen, outcome, context)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> dict[str, Any]:
        """Go on after the deferral; where the triggerer broke or was gone, say what it waited for."""
        try:
            result: dict[str, Any] = super().resume_execution(next_method, next_kwargs, context)
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
            raise outcome_error(self.handle_type.from_dict(stored), outcome) from error
        return result

    def on_kill(self) -> None:
        """Stop waiting. What was submitted goes on: AWS has no way to take it back."""
        self.log.info("The task stops waiting. What it submitted goes on.")

    @property
    def aws_params(self) -> AwsParams:
        """How AWS is reached, on the worker and in the triggerer."""
        return AwsParams(
            aws_conn_id=optional("aws_conn_id", self.aws_conn_id),
            region_name=optional("region_name", self.region_name),
            # An empty text would turn the verification off.
            verify=optional("verify", self.verify),
            botocore_config=self.botocore_config,
        )

    @cached_property
    def hook(self) -> SageMakerAsyncHook:
        """The hook, made on first use: importing it loads boto3, which parsing a DAG must not."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        return SageMakerAsyncHook.from_params(self.aws_params)

    def clock(self) -> float:
        """Return the time, in seconds since 1970 (UTC)."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Sleep on the worker, between two looks of a wait that is not deferred."""
        time.sleep(seconds)

    def _see_through(self, handle: AnyHandle, context: Context) -> dict[str, Any]:
        self._show(handle, context)
        if not self.wait_for_completion:
            return handle.to_dict()
        return self._finish(handle, self._wait(handle), context)

    def _wait(self, handle: AnyHandle) -> Outcome:
        """Look once; then defer, or go on looking here."""
        trigger = self.trigger(handle)
        # One session, and one role assumed, for the task and for its looks.
        trigger.hook = self.hook
        step = trigger.decide(trigger.observe())
        if isinstance(step, Sleep) and self.deferrable:
            self._defer(trigger)
        while isinstance(step, Sleep):
            self.sleep(step.seconds)
            step = trigger.decide(trigger.observe())
        return step.outcome

    def _show(self, handle: AnyHandle, context: Context) -> None:
        """Put the handle into XCom, where it is seen while the task waits, and found when that ends badly."""
        try:
            context["ti"].xcom_push(key=HANDLE_KEY, value=handle.to_dict())
        except Exception as error:  # noqa: BLE001 - the work is paid for: no notice of it is worth losing it
            self.log.warning("%s is not in XCom: %s", handle.subject, error)
        store_pages(self, self.hook, handle.endpoint_name, context)

    def _defer(self, trigger: SageMakerAsyncBaseTrigger) -> None:
        remaining = timedelta(seconds=max(0.0, trigger.engine.ends_at - self.clock()))
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"handle": trigger.handle.to_dict()},
            timeout=remaining + _BACKSTOP,
        )

    def _finish(self, handle: AnyHandle, outcome: Outcome, context: Context) -> dict[str, Any]:
        """The one ending: go on to what follows, return the result, or raise what happened."""
        if outcome.end is End.SUCCEEDED:
            self.log.info(
                "%s is %s after %.1f s.", handle.subject, handle.aim, outcome.seen_at - handle.submitted_at
            )
            following = self.follow(handle, context)
            return self.collect(handle) if following is None else self._see_through(following, context)
        failure = self.failure(handle) if outcome.end is End.FAILED else ""
        raise outcome_error(handle, outcome, failure=failure)
