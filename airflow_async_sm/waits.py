"""What operators and sensors have in common: how they reach AWS, how they defer, and how they are resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.templates import optional
from airflow_async_sm.exceptions import BadTriggerEvent

if TYPE_CHECKING:
    from airflow_async_sm._compat import Context
    from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["WaitsForAws"]

# The trigger ends the wait by itself, at its deadline. Airflow's own limit is for a triggerer that no longer
# runs, so it comes later.
_BACKSTOP = timedelta(minutes=5)


class WaitsForAws:
    """A task that waits for something at AWS, here or in the triggerer."""

    handle_type: ClassVar[type[Any]]

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: Mapping[str, Any] | None

    # Whether a new try finds out by itself how far the one before it came, and goes on there.
    goes_on_by_itself: ClassVar[bool] = False

    # The number of this try, once the task runs.
    _try_number: int | None = None

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

    def clock(self) -> float:
        """Return the time, in seconds since 1970 (UTC)."""
        return time.time()

    def defer_to(self, trigger: SageMakerAsyncBaseTrigger) -> NoReturn:
        """Let the triggerer wait; the task goes on in :meth:`resumed`'s caller, in a new process."""
        remaining = timedelta(seconds=max(0.0, trigger.engine.ends_at - self.clock()))
        self.defer(  # type: ignore[attr-defined]
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"handle": trigger.handle.to_dict(), "try_number": self._try_number},
            timeout=remaining + _BACKSTOP,
        )
        raise AssertionError("defer() raises")

    def begins(self, context: Context) -> None:
        """Note which try of the task this is."""
        self._try_number = getattr(context.get("ti"), "try_number", None)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Go on after the deferral.

        Airflow 3.0 resumes a retry as well, with what the try before it was told: it does not forget the
        deferral of a try that failed. Such a retry begins anew.
        """
        self.begins(context)
        told = dict(next_kwargs or {})
        if self._failed_before(told.pop("try_number", None), told.get("event"), context):
            return self.execute(context)  # type: ignore[attr-defined]
        return super().resume_execution(next_method, told, context)  # type: ignore[misc]

    def _failed_before(self, deferred_in: int | None, event: object, context: Context) -> bool:
        """
        Return whether an event is what an earlier try was told before it failed.

        A scheduler that is replaced counts a try as well, without a failure: then a success is still to be
        collected, and a task without a retry left must not begin anew.
        """
        if deferred_in is None or self._try_number is None or self._try_number <= deferred_in:
            return False
        if self._try_number > (context["ti"].max_tries or 0) + 1:
            return False
        if self.goes_on_by_itself:
            return True
        try:
            _, outcome = decode_event(event, self.handle_type)
        except InvalidInput:
            return True
        return outcome.end is not End.SUCCEEDED

    def resumed(
        self, event: Mapping[str, Any] | None, handle: Mapping[str, Any] | None
    ) -> tuple[Any, Outcome | None]:
        """
        Return what was waited for and how that ended; ``None`` if that is not known, and to be waited for.

        Not every event is the task's own. Airflow 2 can run a task once more that has just deferred,
        without an event. SQLite gives a new trigger the number of one that was deleted: if that waited for
        a task that was cleared, and the triggerer has not ended it yet, Airflow takes what it says for the
        new one's event.

        :param event: What the trigger said.
        :param handle: What the deferral said is waited for; not every road back to the worker keeps it.
        :raises BadTriggerEvent: the event cannot be read, or there is neither an event nor a handle.
        """
        awaited = None if handle is None else self.handle_type.from_dict(handle)
        told = "without an event"
        if event is not None or awaited is None:
            try:
                seen, outcome = decode_event(event, self.handle_type)
            except InvalidInput as error:
                raise BadTriggerEvent(
                    f"The task was resumed with an event that cannot be read: {error}."
                ) from error
            if awaited in (None, seen):
                return seen, outcome
            told = f"with an event about something else: {seen.subject}"
        self.log.warning(  # type: ignore[attr-defined]
            "The task was resumed %s. It goes on waiting: %s.", told, awaited.subject
        )
        return awaited, None
