"""
Where a task remembers its request between its tries: not in XCom, which Airflow empties when a try begins.

Airflow's task state store (from 3.3) is the first choice, a small object in S3 the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from airflow_async_sm._compat import Context
from airflow_async_sm.core.attempts import Attempt, Phase
from airflow_async_sm.core.handles import InvocationHandle
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
    """

    keeps = True
    """Whether a later try will find what is written."""

    rights = ""
    """What it takes to read, for a reader."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def read(self) -> Attempt | None:
        """
        Return what is remembered, or ``None`` if nothing is.

        :raises RecordUnreadable: there may be something, but it cannot be read.
        """
        try:
            found = self._get()
            return None if found is None else Attempt.from_dict(found)
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

    def note(self, handle: InvocationHandle, phase: Phase) -> None:
        """Remember how far the task came with a request, if it is the one that is remembered."""
        try:
            found = self.read()
            if found is not None and _is_same(found.handle, handle):
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

    def __init__(self, log: Any, store: Any) -> None:
        super().__init__(log)
        self._store = store

    @property
    def place(self) -> str:
        return f"Airflow's task state store (key {_KEY!r})"

    def _get(self) -> Any:
        return self._store.get(_KEY)

    def _put(self, data: dict[str, Any]) -> None:
        self._store.set(_KEY, data)


class _Object(Journal):
    """An object in S3."""

    rights = " (that takes s3:GetObject and, on the bucket, s3:ListBucket)"

    def __init__(self, log: Any, hook: SageMakerAsyncHook, location: str) -> None:
        super().__init__(log)
        self._hook = hook
        self._location = location

    @property
    def place(self) -> str:
        return self._location

    def _get(self) -> Any:
        return self._hook.read_record(self._location)

    def _put(self, data: dict[str, Any]) -> None:
        self._hook.write_record(self._location, data)


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
) -> Journal:
    """
    Return the memory of a task.

    :param context: The context it runs in.
    :param identity: Which task it is.
    :param hook: The way to AWS that it uses itself.
    :param work_prefix: S3 URI of a folder for records; ``None``: there is none.
    :param log: The task's log.
    """
    store = context.get("task_state_store")
    if store is not None:
        return _StateStore(log, store)
    if work_prefix is not None:
        location = S3Uri.parse(work_prefix, argument="work_prefix").join("records", f"{identity.folder}.json")
        return _Object(log, hook, str(location))
    return _Nowhere(log)


def _is_same(remembered: InvocationHandle, handle: InvocationHandle) -> bool:
    """Return whether two handles are of one request. Where the user names requests, two may have one id."""
    place = remembered.output_location.rstrip("/").rpartition("/")[2]
    return remembered.inference_id == handle.inference_id and place in handle.output_location
