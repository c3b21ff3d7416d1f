"""
Objects that name the inputs of a batch: which of four kinds one is, and what stands in it.

What it is can be seen from how it begins, so nobody has to say. Nothing is held of it but the row at hand.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.arrays import array_entries
from airflow_async_sm.core.inputs.inventories import Inventory
from airflow_async_sm.core.inputs.lines import split_lines
from airflow_async_sm.core.inputs.locations import located
from airflow_async_sm.core.inputs.records import csv_cells, csv_records, json_records, origin_of
from airflow_async_sm.core.limits import CONTENT_TYPE, InvalidInput
from airflow_async_sm.core.texts import sentence, shortened

__all__ = ["read_manifest"]

_COLUMN: Final = "input_location"
# A document that is not an array is held as a whole. It has at most so many bytes.
_DOCUMENT: Final = 64 * 1024 * 1024


def read_manifest(
    blocks: Iterable[bytes], source: str, *, content_type: str | None = None
) -> Inventory | Iterator[BatchInput | Unreadable]:
    """
    Return the inputs that an object names, or the inventory that it is, whose files name them.

    :param blocks: The object's content, in blocks of any size.
    :param source: Where it is: an S3 URI. A name that ends with ``.csv``, ``.jsonl`` or ``.ndjson`` says what
        it is; any other is looked into.
    :param content_type: Type of the inputs, where a row does not say. Default: not known.
    :raises InvalidInput: it is none of the kinds, or breaks off. Found out when the rows are read.
    """
    arriving, head = iter(blocks), b""
    for block in arriving:
        head += block
        if head.removeprefix(codecs.BOM_UTF8).strip():
            break
    content = chain([head], arriving)
    name = source.lower().removesuffix(".gz").rpartition(".")[2]
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"[" and name not in ("csv", "jsonl", "ndjson"):
        return _from_array(content, source, content_type)
    lines = split_lines(content)
    if name in ("jsonl", "ndjson"):
        return _from_json_lines(lines, source, content_type)
    if start == b"{" and name != "csv":
        return _from_objects(lines, source, content_type)
    first = _first(lines)
    everything = chain(first, lines)
    # In quotes there may be a JSON text or a cell. The name of a column has no slash in it.
    if name != "csv" and b"/" in first[-1] and isinstance(_parsed(first[-1]), str):
        return _from_json_lines(everything, source, content_type)
    return _from_csv(everything, source, content_type)


def _first(lines: Iterator[bytes]) -> list[bytes]:
    """Return the lines up to the first that is not blank."""
    held = [b""]
    for line in lines:
        held.append(line)
        if line.removeprefix(codecs.BOM_UTF8).strip():
            break
    return held[1:] or held


def _from_objects(
    lines: Iterator[bytes], source: str, content_type: str | None
) -> Inventory | Iterator[BatchInput | Unreadable]:
    """Tell an inventory, which is one object on one line or on many, from many objects, each on a line."""
    held = _first(lines)
    document = _parsed(b"\n".join(held))
    if document is None:
        size = 0
        for line in lines:
            held.append(line)
            size += len(line)
            if size > _DOCUMENT:
                break
        else:
            document = _parsed(b"\n".join(held))
    if isinstance(document, Mapping) and Inventory.is_one(document):
        return Inventory.of(document, source)
    return _from_json_lines(chain(held, lines), source, content_type)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _from_json_lines(
    lines: Iterable[bytes], source: str, content_type: str | None
) -> Iterator[BatchInput | Unreadable]:
    for found in json_records(lines, source):
        if isinstance(found, Unreadable):
            yield found
        else:
            origin = origin_of(source, found.first, found.last)
            # Python refuses to make an int of very many digits. No number counts here.
            yield _from_row(json.loads(found.content, parse_int=float), origin, content_type)


def _from_row(row: Any, origin: str, content_type: str | None) -> BatchInput | Unreadable:
    if isinstance(row, str):
        return located(row, origin=origin, content_type=content_type)
    given = [name for name in (_COLUMN, "text", "base64") if isinstance(row, Mapping) and name in row]
    if len(given) != 1:
        has = " and ".join(given) or "none of them"
        return Unreadable(origin, f"has to have {_COLUMN}, text or base64, and has {has}.")
    name, kind, found_at = given[0], row.get("content_type") or content_type, row.get("origin")
    found = _payload(name, row[name], origin)
    if isinstance(found, Unreadable):
        return found
    try:
        kind = None if kind is None else CONTENT_TYPE.check("content_type", kind)
    except InvalidInput as error:
        return Unreadable(origin, str(error))
    # What failed before is known by where it was found first.
    return replace(found, origin=found_at if isinstance(found_at, str) else origin, content_type=kind)


def _payload(name: str, value: Any, origin: str) -> BatchInput | Unreadable:
    if not isinstance(value, str):
        return Unreadable(origin, f"has {name} that is no text.")
    if name == _COLUMN:
        return located(value, origin=origin)
    try:
        body = value.encode() if name == "text" else base64.b64decode(value, validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        return Unreadable(origin, f"has {name} that cannot be read: {sentence(shortened(str(error)))}")
    if not body:
        return Unreadable(origin, f"has {name} that is empty; there is nothing to send.")
    return BatchInput(origin=origin, body=body)


def _from_csv(
    lines: Iterable[bytes], source: str, content_type: str | None
) -> Iterator[BatchInput | Unreadable]:
    column: int | None = None
    cells = 0
    for found in csv_records(lines, source):
        if isinstance(found, Unreadable):
            yield found
            continue
        origin = origin_of(source, found.first, found.last)
        try:
            row = csv_cells(found.content)
        except InvalidInput as error:
            yield Unreadable(origin, str(error))
            continue
        if column is None:
            column, is_header = _column(row, source)
            cells = len(row)
            if is_header:
                continue
        if len(row) != cells:
            yield Unreadable(origin, f"has {len(row):,} cells where the first row has {cells:,}.")
        else:
            yield located(row[column].strip(), origin=origin, content_type=content_type)


def _column(row: list[str], source: str) -> tuple[int, bool]:
    """Return which column has the locations, and whether this row is its header, by the first row."""
    names = [cell.strip() for cell in row]
    if _COLUMN in names:
        return names.index(_COLUMN), True
    if len(names) > 1:
        raise InvalidInput(
            f"{source} is a CSV with {len(names):,} columns, none of which is named {_COLUMN}. Name the one "
            "with the locations so, in a first line."
        )
    # An address has a slash in it, even a wrong one. The name of a column has none.
    return 0, "/" not in names[0]


def _from_array(
    blocks: Iterable[bytes], source: str, content_type: str | None
) -> Iterator[BatchInput | Unreadable]:
    prefix: str | None = None
    for number, entry in enumerate(array_entries(blocks, source), start=1):
        origin = f"{source} entry {number}"
        if isinstance(entry, Mapping) and isinstance(entry.get("prefix"), str):
            prefix = str(entry["prefix"])
        elif prefix is None:
            raise InvalidInput(
                f'{source} is a JSON array that does not begin with {{"prefix": "s3://bucket/folder/"}}. '
                "Locations of their own are given as JSON Lines, one a line."
            )
        elif not isinstance(entry, str):
            yield Unreadable(origin, "is no text: each entry after the prefix is the rest of a key.")
        else:
            yield located(prefix + entry, origin=origin, content_type=content_type)
