"""Which task a request belongs to, as the service and S3 are told."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from airflow_async_sm.core import limits

__all__ = ["TaskIdentity"]

# What a folder may be made of, in S3 and in ``S3OutputPathExtension``.
_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9!_.*'()-]")
# Four of these and a token stay well below the 512 characters that the service accepts.
_LONGEST: Final = 100
_MARK: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskIdentity:
    """
    One task of one run. The number of the try is not part of it: a retry is the same work.

    :param dag_id: The DAG.
    :param run_id: Its run.
    :param task_id: The task, with its groups.
    :param map_index: Which of a mapped task's instances; -1: it is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @classmethod
    def of(cls, ti: Any) -> TaskIdentity:
        """
        Return the identity of a task instance.

        :param ti: Whatever has ``dag_id``, ``run_id``, ``task_id`` and ``map_index``; ``None``: somebody runs
            the operator by hand.
        """
        map_index = getattr(ti, "map_index", None)
        return cls(
            dag_id=str(getattr(ti, "dag_id", "by-hand")),
            run_id=str(getattr(ti, "run_id", "by-hand")),
            task_id=str(getattr(ti, "task_id", "by-hand")),
            map_index=map_index if isinstance(map_index, int) else -1,
        )

    @property
    def folder(self) -> str:
        """A folder that is this task's alone, without slashes at its ends: at most 420 characters."""
        parts = [_part(self.dag_id), _part(self.run_id), _part(self.task_id)]
        if self.map_index >= 0:
            parts.append(str(self.map_index))
        return "/".join(("airflow", *parts))

    @property
    def custom_attributes(self) -> str:
        """What the model is told of the task: ``dag_id=...;run_id=...;task_id=...;map_index=...``."""
        values = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id}
        written = self._write({name: quote(value, safe=":+@/") for name, value in values.items()})
        if len(written) > limits.CUSTOM_ATTRIBUTES.max_length:
            written = self._write({name: _part(value) for name, value in values.items()})
        return written

    def _write(self, values: dict[str, str]) -> str:
        mapped = {"map_index": str(self.map_index)} if self.map_index >= 0 else {}
        return ";".join(f"{name}={value}" for name, value in {**values, **mapped}.items())


def _part(text: str) -> str:
    """Return one level of a folder. What cannot stand as it is gets a mark, so that no two become one."""
    safe = _UNSAFE.sub("-", text)
    if safe == text and len(text) <= _LONGEST and text.strip("."):
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:_MARK]
    return f"{safe[: _LONGEST - _MARK - 1]}-{mark}"
