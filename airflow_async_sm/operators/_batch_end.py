"""The end of a batch: what became of each input is written down, and the answers are put together."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_async_sm.core.batches.answers import merged_line, unanswered_line
from airflow_async_sm.core.batches.manifest import (
    COLUMNS,
    FED_BACK,
    ItemEnd,
    Row,
    dead_letter_row,
    manifest_rows,
)
from airflow_async_sm.core.batches.summary import BatchSummary
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import ResultUnreadable

if TYPE_CHECKING:
    from logging import Logger

    from airflow_async_sm.core.batches.items import BatchItem
    from airflow_async_sm.core.batches.state import BatchState
    from airflow_async_sm.core.batches.summary import SummaryFacts
    from airflow_async_sm.hooks._outputs import OutputCalls

_MANIFEST: Final = "manifest.jsonl"
_DEAD_LETTER: Final = "dead-letter.jsonl"
_PARQUET: Final = "manifest.parquet"
_SUMMARY: Final = "summary.json"
_RESULTS: Final = "results.jsonl"

_JSON_LINES: Final = "application/jsonlines"
_PARQUET_TYPE: Final = "application/vnd.apache.parquet"

# Stands in a merged line where an answer was seen, and cannot be read.
_UNREADABLE: Final = "ResultUnreadable"

# So many rows are in memory at the same time.
_ROW_GROUP: Final = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchEnd:
    """
    Where it is written what became of a batch: S3 URIs.

    :param manifest: A row for each input.
    :param summary: The counts. It is written last.
    :param parquet: The manifest once more; ``None``: pyarrow is not installed.
    :param dead_letter: The inputs without an answer; ``None``: there are none.
    :param results: The merged answers; ``None``: they were not asked for.
    :param counts: How many inputs ended in which way. All ways are there, and they add up to the inputs.
    """

    manifest: str
    summary: str
    parquet: str | None
    dead_letter: str | None
    results: str | None
    counts: dict[str, int]


def write_manifest(
    hook: OutputCalls,
    folder: S3Uri,
    items: Callable[[], Iterator[BatchItem]],
    state: BatchState,
    *,
    output_folders: str | None,
    extra: SummaryFacts,
    log: Logger,
    merge_to: str | None = None,
) -> BatchEnd:
    """
    Write down what became of a batch, and return where.

    All of it is made on the worker's disk first. Nothing is uploaded before each input is known to have its
    row, and the summary comes last. What an earlier try has written is replaced.

    :param hook: What reaches S3.
    :param folder: The folder of the batch.
    :param items: Returns the planned inputs, in their order.
    :param state: What the ledger says of them.
    :param output_folders: S3 URI of the folder of the outputs; ``None``: the ledger says where each is.
    :param extra: What the summary says and the rows do not tell.
    :param log: The task's log.
    :param merge_to: S3 URI of the merged answers. One that ends with a slash, or is a bucket, is a folder.
        Default: they are not merged.
    :raises ManifestIncomplete: the inputs are not all there. Nothing was written.
    :raises ResultUnreadable: answers were to be merged, and S3 lets none of them be read.
    :raises RequestRejected: something may not be listed or written.
    :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
    """
    target = None if merge_to is None else _target(merge_to)
    listing = iter(()) if output_folders is None else hook.listed_objects(output_folders)
    summary = BatchSummary(state.count)
    with tempfile.TemporaryDirectory(prefix="sagemaker-batch-") as made:
        disk = Path(made)
        _write_rows(disk, manifest_rows(items(), state, listing, folder=output_folders), summary)
        summary.check()
        has_parquet = _write_parquet(disk, log)
        if target is not None:
            _write_results(disk, hook, log)
            hook.write_file(disk / _RESULTS, target, content_type=_JSON_LINES)
        place = {name: str(folder.join(name)) for name in (_DEAD_LETTER, _PARQUET, _MANIFEST, _SUMMARY)}
        # One without lines is written as well, in place of an earlier one.
        hook.write_file(disk / _DEAD_LETTER, place[_DEAD_LETTER], content_type=_JSON_LINES)
        if has_parquet:
            hook.write_file(disk / _PARQUET, place[_PARQUET], content_type=_PARQUET_TYPE)
        hook.write_file(disk / _MANIFEST, place[_MANIFEST], content_type=_JSON_LINES)
        end = BatchEnd(
            manifest=place[_MANIFEST],
            summary=place[_SUMMARY],
            parquet=place[_PARQUET] if has_parquet else None,
            dead_letter=place[_DEAD_LETTER] if (disk / _DEAD_LETTER).stat().st_size else None,
            results=target,
            counts=dict(summary.counts),
        )
        told = summary.to_dict(extra) | {"objects": _objects(end)}
        (disk / _SUMMARY).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
        hook.write_file(disk / _SUMMARY, place[_SUMMARY], content_type="application/json")
    return end


def _target(merge_to: str) -> str:
    uri = S3Uri.parse(merge_to, argument="merge_to")
    if not uri.key or uri.key.endswith("/"):
        return f"s3://{uri.bucket}/{uri.key}{_RESULTS}"
    return str(uri)


def _objects(end: BatchEnd) -> dict[str, str | None]:
    """Return what belongs to this end. What else has such a name was left by an earlier one."""
    return {
        "manifest": end.manifest,
        "parquet": end.parquet,
        "dead_letter": end.dead_letter,
        "results": end.results,
    }


def _write_rows(disk: Path, rows: Iterator[tuple[BatchItem, Row]], summary: BatchSummary) -> None:
    with (disk / _MANIFEST).open("wb") as manifest, (disk / _DEAD_LETTER).open("wb") as dead_letter:
        for item, row in rows:
            summary.add(row)
            manifest.write(_line(row))
            if row["end"] in FED_BACK:
                dead_letter.write(_line(dead_letter_row(item, row)))


def _line(row: Row) -> bytes:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _rows(disk: Path) -> Iterator[Row]:
    with (disk / _MANIFEST).open("rb") as manifest:
        yield from map(json.loads, manifest)


def _write_parquet(disk: Path, log: Logger) -> bool:
    """Write the manifest once more for those who query it, and return whether that can be done here."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        log.info("The manifest is not written as Parquet: %s.", error)
        return False
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    rows = _rows(disk)
    with parquet.ParquetWriter(disk / _PARQUET, schema) as writer:
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
    return True


def _write_results(disk: Path, hook: OutputCalls, log: Logger) -> None:
    """
    Put the answers together, in the order of the inputs.

    :raises ResultUnreadable: none of them can be read.
    """
    read, unread, why = 0, 0, None
    answers = hook.read_many(row["output_location"] for row in _rows(disk) if _is_answered(row))
    with closing(answers), (disk / _RESULTS).open("wb") as results:
        for row in _rows(disk):
            if not _is_answered(row):
                results.write(unanswered_line(row, row["class"] or _UNREADABLE))
                continue
            _, answer = next(answers)
            if isinstance(answer, ResultUnreadable):
                unread, why = unread + 1, why or answer
                results.write(unanswered_line(row, _UNREADABLE))
            else:
                read += 1
                results.writelines(merged_line(row, answer))
    if why is not None and read == 0:
        raise why
    if why is not None:
        log.warning("%s of the answers could not be read, and are not merged. The first: %s", unread, why)


def _is_answered(row: Row) -> bool:
    return row["end"] == ItemEnd.SUCCEEDED and row["output_location"] is not None
