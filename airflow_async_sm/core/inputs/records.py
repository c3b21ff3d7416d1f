"""The records of a JSON Lines or a CSV file, and what is wrong with lines that are none."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from airflow_async_sm.core.batches.items import Unreadable
from airflow_async_sm.core.inputs.lines import numbered
from airflow_async_sm.core.limits import INPUT_OBJECT_BYTES, InvalidInput
from airflow_async_sm.core.texts import shortened

__all__ = ["Record", "csv_cells", "csv_records", "json_records", "origin_of", "too_large"]

# What JSON takes for space. Others, such as U+2028, belong to the text that they stand in.
_SPACE: Final = b" \t\r\n"
_REST_OF_QUOTED: Final = re.compile(rb'[^"]*+(?:""[^"]*+)*+')


@dataclass(frozen=True, slots=True)
class Record:
    """
    One record, as it stands in its file.

    :param first: Number of its first line, from 1.
    :param last: Number of its last line: that of a CSV may have quoted line breaks in it.
    :param content: Its bytes, without the line break at the end.
    :param cells: How many cells it has, in a CSV.
    """

    first: int
    last: int
    content: bytes
    cells: int = 0


def json_records(
    lines: Iterable[bytes | str], source: str, *, charset: str = "utf-8", limit: int = INPUT_OBJECT_BYTES
) -> Iterator[Record | Unreadable]:
    """
    Yield the lines that are JSON values, and in place of others why they are none. Blank lines are left out.

    :param lines: The lines. They are read as far as they are needed.
    :param source: Where they are: an S3 URI.
    :param charset: The text's encoding. Default: UTF-8.
    :param limit: Bytes that a record may have. Default: 1,000,000,000.
    """
    for number, line in numbered(lines):
        content = line.strip(_SPACE)
        if content:
            reason = _no_text(content, charset, limit) or _no_json(content, charset)
            yield _unreadable(source, number, number, reason) if reason else Record(number, number, content)


def csv_records(
    lines: Iterable[bytes | str], source: str, *, charset: str = "utf-8", limit: int = INPUT_OBJECT_BYTES
) -> Iterator[Record | Unreadable]:
    """
    Yield the rows of a CSV by the rules of RFC 4180, and in place of a bad one why it is none.

    Blank lines are left out. A quote within a cell that has none around it is taken for what it is.

    :param lines: The lines. They are read as far as they are needed.
    :param source: Where they are: an S3 URI.
    :param charset: The text's encoding, of which ASCII is a part. Default: UTF-8.
    :param limit: Bytes that a row may have. Default: 1,000,000,000.
    """
    row: _Row | None = None
    for number, line in numbered(lines):
        if row is None:
            if not line.strip():
                continue
            row = _Row(number, limit)
        row.add(number, line)
        if not row.is_open:
            yield row.ended(source, charset)
            row = None
    if row is not None:
        yield row.ended(source, charset)


def csv_cells(row: bytes) -> list[str]:
    """
    Return the cells of one row of a CSV in UTF-8, without their quotes.

    :param row: What :func:`csv_records` found.
    :raises InvalidInput: a cell has more characters than Python's ``csv`` takes, 131,072.
    """
    try:
        return next(csv.reader([row.decode()]))
    except csv.Error as error:
        raise InvalidInput(f"It cannot be taken apart: {error}.") from error


class _Row:
    """A row of a CSV, of which there may be more lines to come."""

    def __init__(self, first: int, limit: int) -> None:
        self.is_open = False
        self._first = self._last = first
        self._limit = limit
        self._size = -1
        self._cells = 1
        self._lines: list[bytes] = []
        self._fault = ""

    def add(self, number: int, line: bytes) -> None:
        self._last = number
        self._size += len(line) + 1
        # The rest of what is too long is looked through, but nobody needs it.
        if self._size <= self._limit + 1:
            self._lines.append(line)
        self._scan(line)

    def _scan(self, line: bytes) -> None:
        """Count the cells that end in a line, and see whether it ends within quotes."""
        at = 0
        while True:
            if self.is_open or line.startswith(b'"', at):
                rest = _REST_OF_QUOTED.match(line, at if self.is_open else at + 1)
                at = rest.end() if rest else len(line)
                self.is_open = at == len(line)
                if self.is_open:
                    return
                at += 1
                if line[at : at + 1] not in (b"", b",") and line[at:] != b"\r":
                    self._fault = "has a quote that ends within a cell; double it, or quote the whole cell."
            at = line.find(b",", at) + 1
            if not at:
                return
            self._cells += 1

    def ended(self, source: str, charset: str) -> Record | Unreadable:
        content = b"\n".join(self._lines).removesuffix(b"\r")
        reason = self._fault
        if self.is_open:
            reason = "has a quote that is never closed, so what follows it cannot be told apart."
        elif self._size > self._limit + 1:
            reason = too_large(self._limit)
        reason = reason or _no_text(content, charset, self._limit)
        if reason:
            return _unreadable(source, self._first, self._last, reason)
        return Record(self._first, self._last, content, self._cells)


def _no_text(content: bytes, charset: str, limit: int) -> str:
    if len(content) > limit:
        return too_large(limit)
    try:
        content.decode(charset)
    except UnicodeDecodeError as error:
        name = "UTF-8" if charset.lower() == "utf-8" else charset
        return f"is no text in {name}: {error.reason} at byte {error.start + 1:,}."
    return ""


def _no_json(content: bytes, charset: str) -> str:
    try:
        # Numbers stay text: Python refuses to make an int of very many digits.
        json.loads(content.decode(charset), parse_constant=_no_number, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        return f"is no JSON: {error.msg} at character {error.pos + 1:,}."
    except ValueError as error:
        return f"is no JSON: {error}."
    except RecursionError:
        return "is JSON that is nested too deeply."
    return ""


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of it")


def too_large(limit: int) -> str:
    """
    Return the reason for what no request can have.

    :param limit: Bytes that it may have.
    """
    return f"has more than {limit:,} bytes, which is all that a request may have."


def origin_of(source: str, first: int, last: int) -> str:
    """
    Return the name of a place in a file.

    :param source: The file: an S3 URI.
    :param first: Number of the first line, from 1.
    :param last: Number of the last one.
    """
    return f"{source} line {first}" if first == last else f"{source} lines {first}-{last}"


def _unreadable(source: str, first: int, last: int, reason: str) -> Unreadable:
    return Unreadable(origin_of(source, first, last), shortened(reason))
