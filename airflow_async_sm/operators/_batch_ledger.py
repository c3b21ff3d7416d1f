"""A batch's ledger: each step is written down before it is taken, or before it is forgotten."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.batches.state import BatchState
from airflow_async_sm.exceptions import BatchTakenOver, RecordUnreadable

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["BatchLedger"]

# After so many parts, one is written that stands for all before it.
_PARTS: Final = 50


class BatchLedger:
    """
    The ledger of one batch, as this process writes it.

    :param hook: The way to AWS.
    :param location: S3 URI of the batch's folder, with a slash at its end.
    :param count: How many items the batch has.
    :raises RecordUnreadable: the ledger is damaged.
    :raises ServiceUnavailable: S3 could not be asked.
    """

    def __init__(self, hook: SageMakerAsyncHook, location: str, count: int) -> None:
        self._hook = hook
        self._folder = f"{location}ledger/"
        self._number = 0
        self._since_checkpoint = 0
        self._noted = deque[dict[str, Any]]()
        self.state = BatchState(count)
        try:
            for number, event in hook.read_ledger(self._folder):
                if number != self._number + 1 and event["event"] != "checkpoint":
                    raise ValueError(f"part {number} follows, and is no checkpoint")
                self.state.apply(event)
                self._number = number
                self._since_checkpoint += 1
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise RecordUnreadable(
                f"The ledger of the batch, {self._folder}, is damaged after part {self._number} "
                f"({type(error).__name__}: {error}). Nothing was submitted; a retry reads it again. "
                "If that batch is of no account, clear the task with on_clear='fresh'.",
                location=self._folder,
            ) from error

    def write(self, event: dict[str, Any]) -> None:
        """
        Write down what the state has taken in.

        :param event: What it returned.
        :raises BatchTakenOver: another process of the task has written meanwhile.
        :raises ServiceUnavailable: S3 could not be asked, or the other errors of a write.
        """
        self.note(event)
        self.flush()

    def note(self, event: dict[str, Any]) -> None:
        """
        Keep in mind what the state has taken in, until it is written down.

        :param event: What it returned.
        """
        self._noted.append(event)

    def flush(self) -> None:
        """
        Write down what is noted: first of all what could not be written before, for no part may be missing.

        :raises BatchTakenOver: another process of the task has written meanwhile.
        :raises ServiceUnavailable: S3 could not be asked, or the other errors of a write.
        """
        while self._noted:
            number = self._number + 1
            if not self._hook.append_to_ledger(self._folder, number, self._noted[0]):
                raise BatchTakenOver(
                    f"Another process of this task goes on with the batch: it has written part {number} of "
                    f"{self._folder}. This one stops, and has submitted nothing that is not written down "
                    "there.",
                    location=self._folder,
                )
            self._noted.popleft()
            self._number = number
            self._since_checkpoint += 1

    def checkpoint(self) -> None:
        """Write down all that is known, if enough was written since that was done last."""
        if self._since_checkpoint >= _PARTS:
            self.write(self.state.checkpoint())
            self._since_checkpoint = 0
