"""Wait until a batch's task has something to do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from airflow_async_sm.core.aws import AwsParams
from airflow_async_sm.core.batches.items import index_of
from airflow_async_sm.core.batches.progress import Progress
from airflow_async_sm.core.handles import BatchHandle, InvocationHandle
from airflow_async_sm.core.outcomes import Observation, Pending, Settled
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

__all__ = ["SageMakerAsyncBatchTrigger"]

# After so many seconds without progress it is told what the endpoint does.
_QUIET_SECONDS: Final = 60.0
# Its own figures are published once a minute, and some minutes late.
_FIGURES_SECONDS: Final = 300.0


class SageMakerAsyncBatchTrigger(SageMakerAsyncBaseTrigger):
    """
    Wait until enough requests of a batch are at their end, or until a moment has come.

    It counts the objects in the batch's own folders, behind those that are done with, and keeps no names: one
    LIST for each thousand of them. How far the batch is goes to the task's log when the percentage changes,
    and into ``progress.json`` beside the ledger.

    :param endpoint_name: The endpoint that the requests were sent to.
    :param location: S3 URI of the folder with the batch's plan and ledger, with a slash at its end.
    :param submitted_at: When the batch was planned, in seconds since 1970 (UTC).
    :param began_at: When this try of its task began, in seconds since 1970 (UTC).
    :param items: How many inputs it has.
    :param output_folder: S3 URI of the folder of its own for answers; ``None``: it has none.
    :param failure_folder: S3 URI of the folder of its own for failures; ``None``: it has none.
    :param after: Only objects are counted whose names sort after this. Default: all.
    :param counted: So many of them were there when the wait began. Default 0.
    :param enough: The wait is over when so many more are there. Default 0.
    :param wake_at: It is over then at the latest, in seconds since 1970 (UTC). Default 0.
    :param done: How many inputs were at their end when the wait began. Default 0.
    :param failed: How many of those have no answer. Default 0.
    :param in_flight: How many the service had. Default 0.
    :param sent_at: When the last of them was sent, in seconds since 1970 (UTC). Default 0.
    :param oldest_at: When the oldest of them was sent, in seconds since 1970 (UTC). Default 0.
    :param deadline_at: When to give up, in seconds since 1970 (UTC).
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 10.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``.
    :param region_name: AWS region. Default: the connection's, then boto3's.
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting.
    :param botocore_config: Arguments of ``botocore.config.Config``. Default: the connection's.
    """

    handle: BatchHandle

    def __init__(
        self,
        *,
        endpoint_name: str,
        location: str,
        submitted_at: float,
        began_at: float,
        items: int,
        output_folder: str | None = None,
        failure_folder: str | None = None,
        after: str = "",
        counted: int = 0,
        enough: int = 0,
        wake_at: float = 0.0,
        done: int = 0,
        failed: int = 0,
        in_flight: int = 0,
        sent_at: float = 0.0,
        oldest_at: float = 0.0,
        deadline_at: float,
        poll_interval: float = 10.0,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            handle=BatchHandle(
                endpoint_name=endpoint_name,
                location=location,
                submitted_at=submitted_at,
                began_at=began_at,
                items=items,
                output_folder=output_folder,
                failure_folder=failure_folder,
                after=after,
                counted=counted,
                enough=enough,
                wake_at=wake_at,
                done=done,
                failed=failed,
                in_flight=in_flight,
                sent_at=sent_at,
                oldest_at=oldest_at,
            ),
            params=AwsParams(
                aws_conn_id=aws_conn_id,
                region_name=region_name,
                verify=verify,
                botocore_config=botocore_config,
            ),
            deadline_at=deadline_at,
            poll_interval=poll_interval,
        )
        self._percent = -1
        self._told = ""
        self._endpoint = Pending()
        self._changed_at = self._looked_at = self.clock()

    def look(self) -> Observation:
        """Count the objects that have come, and look at the endpoint now and then."""
        more, now = self._count() - self.handle.counted, self.clock()
        if more >= self.handle.enough or now >= self.handle.wake_at:
            return Settled(succeeded=True)
        endpoint = self._look_at_endpoint()
        if not isinstance(endpoint, Pending):
            return endpoint
        if endpoint != self._endpoint:
            self._endpoint, self._changed_at = endpoint, now
        return Pending(self._text_of(self._progress(max(0, more), now), now))

    def _count(self) -> int:
        # An endpoint may write answers and failures to the same folder, and under names of its own.
        folders = {folder for folder in (self.handle.output_folder, self.handle.failure_folder) if folder}
        names = (self.hook.names_in(folder, self.handle.after, patiently=False) for folder in folders)
        return sum(index_of(name) is not None for name in itertools.chain.from_iterable(names))

    def _look_at_endpoint(self) -> Observation:
        """A batch is lost with its endpoint. It is looked at once a minute, however often this is called."""
        request = InvocationHandle(
            endpoint_name=self.handle.endpoint_name,
            output_location=self.handle.location,
            submitted_at=self.handle.sent_at,
            expires_at=self.handle.wake_at,
            endpoint_region=self.hook.region,
        )
        return self.hook.look_at_endpoint_of(request)

    def _progress(self, more: int, now: float) -> Progress:
        # The wait may have moved from another triggerer: it is as old as its handle.
        handle, seconds = self.handle, now - self.handle.sent_at
        return Progress(
            items=handle.items,
            done=min(handle.items, handle.done + more),
            failed=handle.failed,
            in_flight=max(0, handle.in_flight - more),
            seconds=now - handle.submitted_at,
            rate=more / seconds if more and seconds >= 1.0 else None,
        )

    def _text_of(self, progress: Progress, now: float) -> str:
        """Return what to tell of it. That is done when it changes."""
        if progress.percent != self._percent:
            self._percent, self._told, self._looked_at = progress.percent, f"{progress}.", now
            self._publish(progress)
        elif now - self._looked_at >= _QUIET_SECONDS:
            self._looked_at = now
            self._told = f"{progress}. {self._what_holds_up(now)}".strip()
        return self._told

    def _publish(self, progress: Progress) -> None:
        """Let others see how far it is. Nothing depends on it."""
        try:
            self.hook.write_record(f"{self.handle.location}progress.json", progress.to_dict())
        except SageMakerAsyncError as error:
            self.log.debug("The progress is not in S3: %s", error)

    def _what_holds_up(self, now: float) -> str:
        """Return what the endpoint does while nothing comes, as far as it tells; else an empty text."""
        minutes = int((now - self._changed_at) / 60)
        parts = [f"{self._endpoint.status} for {minutes} min"] if self._endpoint.status and minutes else []
        try:
            backlog = self.hook.backlog(self.handle.endpoint_name, since=now - _FIGURES_SECONDS)
        except SageMakerAsyncError as error:
            self.log.debug("The backlog is not known: %s", error)
            backlog = None
        parts += [] if backlog is None else [f"its backlog is {backlog:,}"]
        if self.handle.oldest_at:
            # It may have been answered since.
            parts.append(f"the oldest request was sent {(now - self.handle.oldest_at) / 60:,.0f} min ago")
        text = ", ".join(parts)
        return f"{text[:1].upper()}{text[1:]}." if text else ""
