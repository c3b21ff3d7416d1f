"""What a batch is to do: its inputs, written down in S3 once, in parts, and read from there ever after."""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from airflow_async_sm.core.batches.items import BatchInput, BatchItem, PlanDigest, Unreadable
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.exceptions import RecordUnreadable

if TYPE_CHECKING:
    from airflow_async_sm.core.uris import S3Uri
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["BatchPlan", "PlanReader", "digest_of", "read_plan", "write_plan"]

_VERSION: Final = 1
_ITEMS_A_PART: Final = 1_000
_BYTES_A_PART: Final = 8 * 1024 * 1024
# Those that are the same as one of so many before them are counted.
_REMEMBERED: Final = 1_000_000
# The number of a part has so many digits, so that parts are listed in order.
_DIGITS: Final = 6


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """
    The inputs of a batch, as they were found when it was planned.

    :param location: S3 URI of the batch's folder, with a slash at its end.
    :param token: What tells this batch from all others of its task.
    :param count: How many inputs there are.
    :param firsts: The index of the first input of each part.
    :param digest: What the inputs are, in short.
    :param duplicates: How many are the same as one before them.
    :param unreadable: How many rows were no inputs.
    """

    location: str
    token: str
    count: int
    firsts: list[int]
    digest: str
    duplicates: int
    unreadable: int

    def items(self, hook: SageMakerAsyncHook) -> Iterator[BatchItem]:
        """Yield all inputs in their order; one part of them is in memory."""
        for part in range(len(self.firsts)):
            yield from self.part(hook, part)

    def part(self, hook: SageMakerAsyncHook, number: int) -> Iterator[BatchItem]:
        """Yield the inputs of a part."""
        lines = hook.read_result(_part_location(self.location, number)).splitlines()
        return map(BatchItem.from_row, lines)

    def reader(self, hook: SageMakerAsyncHook) -> PlanReader:
        """Return what reads some of the inputs again and again."""
        return PlanReader(hook, self)


class PlanReader:
    """
    Reads inputs of a plan. The part that was read last stays in memory: what is wanted next is often in it.

    :param hook: The way to AWS.
    :param plan: The plan.
    """

    def __init__(self, hook: SageMakerAsyncHook, plan: BatchPlan) -> None:
        self._hook = hook
        self._plan = plan
        # Changed as one, for several threads may read.
        self._kept: tuple[int, list[BatchItem]] = -1, []

    def chosen(self, indexes: Iterable[int]) -> Iterator[BatchItem]:
        """
        Yield some of the inputs.

        :param indexes: Which, in ascending order.
        """
        firsts = self._plan.firsts
        for index in indexes:
            part = bisect_right(firsts, index) - 1
            number, items = self._kept
            if number != part:
                items = list(self._plan.part(self._hook, part))
                self._kept = part, items
            yield items[index - firsts[part]]


def digest_of(found: Iterable[BatchInput | Unreadable]) -> str:
    """Return what inputs are, in short, without keeping any."""
    digest = PlanDigest()
    for one in found:
        digest.add(one)
    return str(digest)


def write_plan(hook: SageMakerAsyncHook, below: S3Uri, found: Iterable[BatchInput | Unreadable]) -> BatchPlan:
    """
    Write down the inputs of a new batch, and return its plan.

    :param hook: The way to AWS.
    :param below: The task's folder for batches. The new one gets a folder of its own in it.
    :param found: The inputs.
    :raises InvalidInput: there are too many.
    """
    token = uuid.uuid4().hex[:12]
    writer = _Writer(hook, f"{below.join(token)}/")
    for one in found:
        writer.add(one)
    return writer.finish(token)


def read_plan(hook: SageMakerAsyncHook, location: str) -> BatchPlan:
    """
    Return the plan in a batch's folder.

    :raises RecordUnreadable: there is none, or it is damaged.
    """
    found, _ = hook.read_record(f"{location}plan.json")
    try:
        if found["version"] != _VERSION:
            raise InvalidInput(f"it is of version {found['version']!r}")
        names = BatchPlan.__dataclass_fields__
        return BatchPlan(**{name: found[name] for name in names if name != "location"}, location=location)
    except (InvalidInput, KeyError, TypeError) as error:
        raise RecordUnreadable(
            f"The plan of the batch, {location}plan.json, cannot be read ({type(error).__name__}: {error}). "
            "Nothing was submitted; a retry of the task reads it again. If it was deleted, clear the task "
            "with on_clear='fresh'.",
            location=location,
        ) from error


class _Writer:
    """Writes inputs down as they come, a part at a time."""

    def __init__(self, hook: SageMakerAsyncHook, location: str) -> None:
        self._hook = hook
        self._location = location
        self._digest = PlanDigest()
        self._seen: set[int] = set()
        self._duplicates = 0
        self._lines: list[str] = []
        self._bytes = 0
        self._count = 0
        self._firsts: list[int] = []
        self._unreadable = _Unreadables(hook, location)

    def add(self, one: BatchInput | Unreadable) -> None:
        self._digest.add(one)
        if isinstance(one, Unreadable):
            self._unreadable.add(one)
            return
        item = BatchItem.of(self._count, one)
        self._count += 1
        # Eight bytes of each digest: a batch of millions has none twice by chance, and it is only counted.
        short = int.from_bytes(one.digest[:8])
        self._duplicates += short in self._seen
        if len(self._seen) < _REMEMBERED:
            self._seen.add(short)
        line = item.to_row()
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) == _ITEMS_A_PART or self._bytes >= _BYTES_A_PART:
            self._write()

    def finish(self, token: str) -> BatchPlan:
        self._write()
        plan = BatchPlan(
            location=self._location,
            token=token,
            count=self._count,
            firsts=self._firsts,
            digest=str(self._digest),
            duplicates=self._duplicates,
            unreadable=self._unreadable.finish(),
        )
        written = {name: value for name, value in asdict(plan).items() if name != "location"}
        self._hook.write_record(f"{self._location}plan.json", {"version": _VERSION, **written})
        return plan

    def _write(self) -> None:
        if self._lines:
            self._hook.write_lines(_part_location(self._location, len(self._firsts)), self._lines)
            self._firsts.append(self._count - len(self._lines))
            self._lines, self._bytes = [], 0


class _Unreadables:
    """Writes down the rows that are no inputs, as many of them as somebody may want to read."""

    _MOST: Final = 10_000

    def __init__(self, hook: SageMakerAsyncHook, location: str) -> None:
        self._hook = hook
        self._location = location
        self._rows: list[str] = []
        self._count = 0

    def add(self, one: Unreadable) -> None:
        self._count += 1
        if len(self._rows) < self._MOST:
            self._rows.append(json.dumps(asdict(one), ensure_ascii=False))

    def finish(self) -> int:
        if self._rows:
            self._hook.write_lines(f"{self._location}unreadable.jsonl", self._rows)
        return self._count


def _part_location(location: str, part: int) -> str:
    return f"{location}items/{part:0{_DIGITS}d}.jsonl"
