"""The records of a JSON Lines or a CSV file become requests: each one, or so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.records import Record, csv_records, json_records, origin_of, too_large
from airflow_async_sm.core.limits import INPUT_OBJECT_BYTES, InvalidInput

__all__ = ["csv_requests", "json_requests"]

_JSON: Final = "application/json"
_JSON_LINES: Final = "application/jsonlines"
_CSV: Final = "text/csv"


def json_requests(
    lines: Iterable[bytes | str],
    source: str,
    *,
    size: int = 1,
    content_type: str | None = None,
    charset: str = "utf-8",
    limit: int = INPUT_OBJECT_BYTES,
) -> Iterator[BatchInput | Unreadable]:
    """
    Yield what the lines of a JSON Lines file are to be sent as.

    :param lines: The lines. They are read as far as they are needed.
    :param source: Where they are: an S3 URI.
    :param size: How many records a request has, at most. Where so many would be too large, it has fewer.
        Default: 1.
    :param content_type: Type of the requests. Default: ``application/json`` for one record, else
        ``application/jsonlines``.
    :param charset: The text's encoding. Default: UTF-8.
    :param limit: Bytes that a request may have. Default: 1,000,000,000.
    """
    records = json_records(lines, source, charset=charset, limit=limit)
    if size == 1:
        for record in records:
            yield (
                record
                if isinstance(record, Unreadable)
                else BatchInput(
                    origin=origin_of(source, record.first, record.last),
                    body=record.content,
                    content_type=content_type or _JSON,
                )
            )
        return
    yield from _grouped(records, source, b"", size, content_type or _JSON_LINES, limit)


def csv_requests(
    lines: Iterable[bytes | str],
    source: str,
    *,
    header: bool = True,
    size: int = 1,
    content_type: str | None = None,
    charset: str = "utf-8",
    limit: int = INPUT_OBJECT_BYTES,
) -> Iterator[BatchInput | Unreadable]:
    """
    Yield what the rows of a CSV file are to be sent as. Each needs as many cells as the first.

    :param lines: The lines. They are read as far as they are needed.
    :param source: Where they are: an S3 URI.
    :param header: Whether the first row is the names of the columns, which each request begins with.
        Default: ``True``.
    :param size: How many rows a request has besides, at most. Where so many would be too large, it has fewer.
        Default: 1.
    :param content_type: Type of the requests. Default: ``text/csv``.
    :param charset: The text's encoding, of which ASCII is a part. Default: UTF-8.
    :param limit: Bytes that a request may have. Default: 1,000,000,000.
    :raises InvalidInput: the header cannot be read, so no row can.
    """
    records = csv_records(lines, source, charset=charset, limit=limit)
    head, cells = b"", None
    if header:
        names = next(records, None)
        if isinstance(names, Unreadable):
            raise InvalidInput(f"The header of the CSV cannot be read: {names.origin} {names.reason}")
        if names is not None:
            head, cells = names.content + b"\n", names.cells
    rows = _of_one_width(records, source, cells)
    yield from _grouped(rows, source, head, size, content_type or _CSV, limit)


def _of_one_width(
    records: Iterable[Record | Unreadable], source: str, cells: int | None
) -> Iterator[Record | Unreadable]:
    for record in records:
        if isinstance(record, Record):
            cells = cells or record.cells
            if record.cells != cells:
                reason = f"has {record.cells:,} cells where the first row has {cells:,}."
                yield Unreadable(origin_of(source, record.first, record.last), reason)
                continue
        yield record


def _grouped(
    records: Iterable[Record | Unreadable],
    source: str,
    head: bytes,
    size: int,
    content_type: str,
    limit: int,
) -> Iterator[BatchInput | Unreadable]:
    """Yield requests of so many records, and at once what is none."""
    group: list[Record] = []
    total = len(head)
    for record in records:
        if isinstance(record, Unreadable):
            yield record
            continue
        more = len(record.content) + 1
        if len(head) + more > limit:
            yield Unreadable(origin_of(source, record.first, record.last), too_large(limit))
            continue
        if total + more > limit:
            yield _request(group, source, head, content_type)
            group, total = [], len(head)
        group.append(record)
        total += more
        if len(group) == size:
            yield _request(group, source, head, content_type)
            group, total = [], len(head)
    if group:
        yield _request(group, source, head, content_type)


def _request(group: list[Record], source: str, head: bytes, content_type: str) -> BatchInput:
    return BatchInput(
        origin=origin_of(source, group[0].first, group[-1].last),
        body=head + b"".join(record.content + b"\n" for record in group),
        content_type=content_type,
    )
