"""Waits in the clothes of Airflow's sensors: its words, our looks and our engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_async_sm._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperatorLink,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
    first_poked_at,
)
from airflow_async_sm.core.handles import Handle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.waiting import Finish, Sleep
from airflow_async_sm.exceptions import RequestRejected, SageMakerAsyncError, outcome_error
from airflow_async_sm.links import ENDPOINT_LINKS, store_pages
from airflow_async_sm.waits import WaitsForAws

if TYPE_CHECKING:
    from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["SageMakerAsyncBaseSensor"]

# The wait engine looks at a young wait once a second, so it cannot be asked for more.
_SHORTEST_INTERVAL = 1


class SageMakerAsyncBaseSensor(WaitsForAws, BaseSensorOperator):
    """
    Wait for something that this task did not begin.

    A subclass says how to wait (:meth:`trigger`) and what to return (:meth:`collect`). Airflow's own loop
    asks ``poke``, in its two modes; a deferred wait is the trigger's. Each look is made, judged and
    logged by the trigger's wait engine, so all three come to the same end.

    :param poke_interval: Seconds between two looks, at least 1. Longest pause where the wait is deferred.
    :param timeout: Seconds to wait, from the first look. Default: Airflow's ``[sensors] default_timeout``.
    :param mode: ``"poke"`` holds the worker between the looks, ``"reschedule"`` gives it back.
    :param soft_fail: Skip the task instead of failing it.
    :param deferrable: Wait in the triggerer and hold no worker; ``mode`` has no effect then. Default:
        Airflow's ``[operators] default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = ENDPOINT_LINKS
    template_fields: Sequence[str] = ("aws_conn_id", "region_name", "verify")

    # The wait that goes on in this process.
    _wait: SageMakerAsyncBaseTrigger | None = None

    def __init__(
        self,
        *,
        poke_interval: float | timedelta = 30.0,
        timeout: float | timedelta | None = None,
        mode: str = "poke",
        soft_fail: bool = False,
        deferrable: bool | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if timeout is not None:
            kwargs["timeout"] = timeout
        super().__init__(poke_interval=poke_interval, mode=mode, soft_fail=soft_fail, **kwargs)
        if self.poke_interval < _SHORTEST_INTERVAL:
            raise InvalidInput(
                f"poke_interval is {self.poke_interval:g} s; at least {_SHORTEST_INTERVAL} s is needed."
            )
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    @abstractmethod
    def trigger(self, began_at: float) -> SageMakerAsyncBaseTrigger:
        """
        Return the wait of a sensor that looked first at a moment. Nothing is asked yet.

        :param began_at: The moment, in seconds since 1970 (UTC).
        :raises InvalidInput: an argument is bad.
        """

    @abstractmethod
    def collect(self, handle: Any, context: Context) -> Any:
        """Return what the task returns after a success: a small value that JSON can hold."""

    def execute(self, context: Context) -> Any:
        """Look, and go on looking as Airflow's sensors do, or defer after the first look."""
        self.begins(context)
        self._wait = wait = self._begin(context)
        if not self.deferrable:
            return super().execute(context)
        step = wait.decide(wait.observe())
        if isinstance(step, Finish):
            return self._finish(wait.handle, step.outcome, context)
        return self.defer_to(wait)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once; return whether that was the end, and raise if it was a bad one."""
        self._wait = wait = self._wait or self._begin(context)
        step = wait.decide(wait.observe())
        if isinstance(step, Sleep):
            return False
        # With ``silent_fail`` Airflow asks again after an error, which begins anew.
        self._wait = None
        return PokeReturnValue(True, xcom_value=self._finish(wait.handle, step.outcome, context))

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        handle: Mapping[str, Any] | None = None,
    ) -> Any:
        """Go on after the deferral. Everything needed comes with the event: this is a new object."""
        seen, outcome = self.resumed(event, handle)
        if outcome is None:
            # With a timeout that begins anew: when the first look was, no event has told.
            return self.execute(context)
        return self._finish(seen, outcome, context)

    def _begin(self, context: Context) -> SageMakerAsyncBaseTrigger:
        """Return the wait, with its arguments checked: a mistake in them is no reason to skip the task."""
        first = first_poked_at(self, context) if self.reschedule and not self.deferrable else None
        try:
            wait = self.trigger(self.clock() if first is None else first.timestamp())
            # Made here, because a bad botocore_config is bad input too.
            _ = wait.hook
        except InvalidInput as error:
            raise RequestRejected(f"{sentence(str(error))} A retry would be refused as well.") from error
        store_pages(self, wait.hook, wait.handle, context)
        return wait

    def _finish(self, handle: Handle, outcome: Outcome, context: Context) -> Any:
        """The one ending: return the result, skip the task, or raise what happened."""
        if isinstance(handle, InvocationHandle):
            handle = handle.found(outcome.location, answer=outcome.end is End.SUCCEEDED)
        if outcome.end is End.SUCCEEDED:
            self.log.info(
                "%s is %s after %.1f s.", handle.subject, handle.aim, outcome.seen_at - handle.submitted_at
            )
            return self.collect(handle, context)
        error = self.error(handle, outcome)
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from error
        if outcome.end is End.TIMED_OUT:
            raise AirflowSensorTimeout(str(error)) from error
        raise error

    def error(self, handle: Handle, outcome: Outcome) -> SageMakerAsyncError:
        """Return the error for a wait that did not succeed."""
        return outcome_error(handle, outcome)
