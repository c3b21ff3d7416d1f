"""
The awaited driver of the wait engine, and the wait itself.

A trigger here is one wait: a handle, a way to look, and an engine that decides. The worker's blocking driver
steps through the very same object.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_async_sm import metrics
from airflow_async_sm._compat import BaseTrigger, TriggerEvent, conf
from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import Handle, InvocationHandle
from airflow_async_sm.core.outcomes import LookError, Observation, Pending
from airflow_async_sm.core.rounds import AT_EASE
from airflow_async_sm.core.waiting import Finish, Pace, Sleep, WaitEngine
from airflow_async_sm.triggers._troubles import look_error, tells_of_credentials
from airflow_async_sm.triggers._watcher import Watcher

if TYPE_CHECKING:
    from airflow_async_sm.core.uris import S3Uri
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["SageMakerAsyncBaseTrigger"]

# Airflow 2.11 has no such setting, and nothing to wait for.
_NO_HEARTBEAT = -1.0

# How long the scheduler may take to hear of the end of the old process; a busy one takes longer.
_SCHEDULER_SECONDS = 2.0


class SageMakerAsyncBaseTrigger(BaseTrigger):
    """
    Wait for one handle: look, then sleep or finish, until the engine says how it ended.

    Yields one event and returns. It only reads, so it may run twice, be restarted or be moved to another
    triggerer without harm: its deadline is a point in time. Killing the task stops the waiting, not the work.

    :param handle: What is waited for.
    :param params: How AWS is reached.
    :param deadline_at: When to give up, in seconds since 1970 (UTC).
    :param poll_interval: Longest pause between two looks, in seconds.
    """

    def __init__(
        self, *, handle: Handle, params: AwsParams, deadline_at: float, poll_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.handle = handle
        self.params = params
        self.deadline_at = deadline_at
        self.poll_interval = poll_interval
        self._status = ""
        self.engine = WaitEngine(
            started_at=handle.submitted_at,
            deadline_at=deadline_at,
            expires_at=handle.expires_at if isinstance(handle, InvocationHandle) else None,
            pace=Pace(longest=poll_interval),
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class and arguments. Airflow stores them in clear text: locations and numbers only."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        waiting = {"deadline_at": self.deadline_at, "poll_interval": self.poll_interval}
        return path, {**self.handle.to_dict(), **self.params.to_dict(), **waiting}

    def clock(self) -> float:
        """Return the time, in seconds since 1970 (UTC)."""
        return time.time()

    async def asleep(self, seconds: float) -> None:
        """Sleep without holding up the event loop."""
        await asyncio.sleep(seconds)

    @abstractmethod
    def look(self) -> Observation:
        """Look once, blocking. What it raises counts as a failed look."""

    @cached_property
    def hook(self) -> SageMakerAsyncHook:
        """The hook that all waits share, got on first use: importing it loads boto3, unlike parsing."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        return SageMakerAsyncHook.shared(self.params)

    @property
    def places(self) -> tuple[S3Uri | None, S3Uri | None]:
        """Where the answer and a failure will be, where these can be looked for together with others."""
        return None, None

    def unanswered(self, hook: SageMakerAsyncHook) -> Pending | None:  # noqa: ARG002 - for subclasses
        """Return what it means that neither is there; ``None``: :meth:`look` has to tell. Asks nothing."""
        return Pending()

    def observe(self) -> Observation:
        """Look once, blocking; a look that cannot be made is an observation too."""
        metrics.count("looks")
        try:
            return self.look()
        except Exception as error:  # noqa: BLE001 - whatever hinders a look, the request itself goes on
            if tells_of_credentials(error):
                # The next look is made with the connection as it is then.
                self.hook.retire()
                del self.hook
            return look_error(error)

    def decide(self, seen: Observation, stretch: float = AT_EASE, *, quietly: bool = False) -> Sleep | Finish:
        """
        Return what to do after a look, and log what is new in it.

        :param seen: What it saw.
        :param stretch: How many times as long as :class:`Pace` says the pause is. Default: as for a wait that
            has a triggerer to itself.
        :param quietly: Whether a change of status is logged for debugging only, since many have the same.
        """
        self._tell(seen, quietly=quietly)
        return self.engine.after(seen, now=self.clock(), stretch=stretch)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait without holding up the event loop, and yield how it ended."""
        # The worker looked just before it deferred.
        await self.asleep(_settling_time())
        outcome = await Watcher.of(self.params).outcome_of(self)
        yield TriggerEvent(encode_event(self.handle, outcome))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """
        Say what killing the task means: the wait ends, the work does not.

        Airflow (from 3.3) also calls this where the wait has only moved to another triggerer, so nothing
        else is done here.
        """
        self.log.info("%s is not waited for here any more. It goes on by itself.", self.handle.subject)

    def _tell(self, seen: Observation, *, quietly: bool) -> None:
        """Log each failed look, and a status when it changes."""
        if isinstance(seen, LookError):
            self.log.warning("%s could not be looked at: %s", self.handle.subject, seen.detail)
        elif isinstance(seen, Pending) and seen.status != self._status:
            self._status = seen.status
            log = self.log.debug if quietly else self.log.info
            log("%s: %s", self.handle.subject, seen.status)


def _settling_time() -> float:
    """
    Return for how many seconds after a deferral Airflow must not be told that the task can go on.

    The process that ran the task lingers until its next heartbeat. Where the task is resumed before that, the
    scheduler takes the end of the old process for a failure of the new one.
    """
    interval = conf.getfloat("workers", "min_heartbeat_interval", fallback=_NO_HEARTBEAT)
    return 0.0 if interval == _NO_HEARTBEAT else interval + _SCHEDULER_SECONDS
