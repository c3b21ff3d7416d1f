"""
Where a task remembers its request between its tries: not in XCom, which Airflow empties when a try begins.

Airflow's task state store (from 3.3) is the first choice, a small object in S3 the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.attempts import Attempt, Phase
from airflow_async_sm.core.identities import TaskIdentity
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RecordUnreadable, SageMakerAsyncError

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["Journal", "journal_of"]

# The key in Airflow's store.
_KEY = "sagemaker_async"


class Journal(ABC):
    """
    The memory of one task.

    :param log: The task's log.
    :param attempt_type: What is remembered: a request, or a batch.
    :param run_began_at: When the run of the task began, in seconds since 1970 (UTC); ``None``: not known.
        What is remembered from before is of another run of that name.
    """

    keeps = True
    """Whether a later try will find what is written."""

    rights = ""
    """What it takes to read, for a reader."""

    def __init__(
        self, log: Any, attempt_type: type[Attempt] = Attempt, run_began_at: float | None = None
    ) -> None:
        self.log = log
        self.attempt_type = attempt_type
        self.run_began_at = run_began_at

    def read(self) -> Attempt | None:
        """
        Return what is remembered, or ``None`` if nothing is.

        :raises RecordUnreadable: there may be something, but it cannot be read.
        """
        try:
            found = self._get()
            return None if found is None else self.attempt_type.from_dict(found)
        except InvalidInput as error:
            text = f"is damaged ({error}); delete it if that request is of no account"
            raise RecordUnreadable(self._complaint(text)) from error
        except Exception as error:
            # The hook says what a retry of the call would do; here it is the task that is retried.
            cause = error.__cause__ if isinstance(error, SageMakerAsyncError) and error.__cause__ else error
            text = f"cannot be read{self.rights}: {sentence(str(cause)).removesuffix('.')}"
            raise RecordUnreadable(self._complaint(text)) from error

    def write(self, attempt: Attempt) -> None:
        """
        Remember an attempt in place of what was remembered.

        :raises Exception: it cannot be written.
        """
        self._put(attempt.to_dict())

    def promise(self, attempt: Attempt) -> bool:
        """
        Remember what is about to be asked for, and return whether that could be done.

        It cannot where another process of the task has written since the last read. Airflow's own store
        needs no care for that: it takes nothing from a process whose try is over.

        :raises Exception: it cannot be written.
        """
        self.write(attempt)
        return True

    def note(self, handle: Any, phase: Phase) -> None:
        """Remember how far the task came with a request, if it is the one that is remembered."""
        try:
            found = self.read()
            if found is not None and found.handle.is_same(handle):
                self.write(found.at(phase))
        except Exception as error:  # noqa: BLE001 - the request has ended; no note of that is worth its answer
            self.log.warning(
                "%s is %s, but that is not recorded, so a task that is cleared takes it up again: %s",
                handle.subject,
                phase.value,
                error,
            )

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for a reader."""

    @abstractmethod
    def _get(self) -> Any:
        """Return what is stored, or ``None``."""

    @abstractmethod
    def _put(self, data: dict[str, Any]) -> None:
        """Store it."""

    def _complaint(self, text: str) -> str:
        return (
            f"The record of an earlier request, if there is one, in {self.place}, {text}. Nothing was "
            "submitted, because that could be a second inference; a retry of the task reads it again."
        )


class _StateStore(Journal):
    """Airflow's task state store."""

    def __init__(self, store: Any, *args: Any) -> None:
        super().__init__(*args)
        self._store = store

    @property
    def place(self) -> str:
        return f"Airflow's task state store (key {_KEY!r})"

    def _get(self) -> Any:
        return self._store.get(_KEY)

    def _put(self, data: dict[str, Any]) -> None:
        self._store.set(_KEY, data)


class _Object(Journal):
    """An object in S3. Whoever may write there can do so, also when Airflow has given the try up."""

    rights = " (that takes s3:GetObject and, on the bucket, s3:ListBucket)"

    def __init__(self, hook: SageMakerAsyncHook, location: str, *args: Any) -> None:
        super().__init__(*args)
        self._hook = hook
        self._location = location
        self._version: str | None = None

    @property
    def place(self) -> str:
        return self._location

    def _get(self) -> Any:
        found, self._version = self._hook.read_record(self._location)
        return found

    def _put(self, data: dict[str, Any]) -> None:
        self._hook.write_record(self._location, data)

    def promise(self, attempt: Attempt) -> bool:
        """Remember what is about to be asked for, unless another process has written since the last read."""
        return self._hook.replace_record(self._location, attempt.to_dict(), version=self._version)


class _Nowhere(Journal):
    """No memory: each try makes a request of its own."""

    keeps = False

    @property
    def place(self) -> str:
        return "nowhere"

    def _get(self) -> Any:
        return None

    def _put(self, data: dict[str, Any]) -> None:
        pass


def journal_of(
    context: Context,
    *,
    identity: TaskIdentity,
    hook: SageMakerAsyncHook,
    work_prefix: str | None,
    log: Any,
    attempt_type: type[Attempt] = Attempt,
) -> Journal:
    """
    Return the memory of a task.

    :param context: The context it runs in.
    :param identity: Which task it is.
    :param hook: The way to AWS that it uses itself.
    :param work_prefix: S3 URI of a folder for records; ``None``: there is none.
    :param log: The task's log.
    :param attempt_type: What is remembered: a request, or a batch.
    """
    began_at = getattr(context.get("dag_run"), "start_date", None)
    common = (log, attempt_type, began_at.timestamp() if isinstance(began_at, datetime) else None)
    store = context.get("task_state_store")
    if store is not None:
        return _StateStore(store, *common)
    if work_prefix is not None:
        location = S3Uri.parse(work_prefix, argument="work_prefix").join("records", f"{identity.folder}.json")
        return _Object(hook, str(location), *common)
    return _Nowhere(*common)
