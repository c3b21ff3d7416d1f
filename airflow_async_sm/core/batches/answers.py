"""
The lines of a batch's merged results: an answer of any kind and size becomes part of a line of JSON.

An answer that is JSON is taken over as it stands, so its numbers keep all their digits. Large ones are read
in blocks: what they are is found out in a first pass, and a second one writes them.
"""

from __future__ import annotations

import base64
import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from airflow_async_sm.core.batches.manifest import Row

__all__ = ["JsonCheck", "merged_line", "unanswered_line"]

# A number of bytes that Base64 writes without filling up.
_BLOCK: Final = 3 * 256 * 1024
_NAMED: Final = ("index", "item_id", "origin")

# What Python's own parser takes, so that large answers are no other kind than small ones.
_DEEPEST: Final = 900
_LONGEST_NUMBER: Final = 4_300

_PART_OF_TEXT: Final = re.compile(r'[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPE: Final = 6
_TOKEN: Final = re.compile(r"(?P<space>[ \t\n\r]+)|(?P<mark>[\[\]{}:,\"])|[-+.0-9a-zA-Z]+")
_SCALAR: Final = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_OPENED_BY: Final = {"}": "{", "]": "["}


def merged_line(row: Row, answer: bytes | BinaryIO) -> Iterator[bytes]:
    """
    Yield the parts of the line for an input that has an answer.

    :param row: The row of its manifest.
    :param answer: The answer, or a file that holds it, and can be read more than once.
    """
    head = _json({name: row[name] for name in _NAMED})
    yield head[:-1] + b',"output":'
    yield from _output(answer)
    yield b"}\n"


def unanswered_line(row: Row, error: str) -> bytes:
    """
    Return the line for an input without an answer.

    :param row: The row of its manifest.
    :param error: Why there is none, in one word.
    """
    return _json({name: row[name] for name in _NAMED} | {"output": None, "error": error}) + b"\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _output(answer: bytes | BinaryIO) -> Iterator[bytes]:
    try:
        is_json = _is_json(answer) if isinstance(answer, bytes) else _is_large_json(answer)
    except UnicodeDecodeError:
        yield b'{"base64":"'
        yield from map(base64.b64encode, _blocks(answer))
        yield b'"}'
        return
    if is_json:
        # Outside of its texts JSON may have line ends, and inside of them it has none.
        yield from (text.replace("\n", " ").replace("\r", " ").encode() for text in _texts(answer))
    else:
        yield b'"'
        yield from (_json(text)[1:-1] for text in _texts(answer))
        yield b'"'


def _is_json(answer: bytes) -> bool:
    text = answer.decode("utf-8-sig")
    try:
        json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False
    return True


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _is_large_json(answer: BinaryIO) -> bool:
    check = JsonCheck()
    for text in _texts(answer):
        check.feed(text)
    return check.is_whole()


def _blocks(answer: bytes | BinaryIO) -> Iterator[bytes]:
    file = io.BytesIO(answer) if isinstance(answer, bytes) else answer
    file.seek(0)
    while block := file.read(_BLOCK):
        yield block


def _texts(answer: bytes | BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for block in _blocks(answer):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


class JsonCheck:
    """Whether a text is one JSON value, found out part by part and without building the value."""

    def __init__(self) -> None:
        self._is_wrong = False
        self._in_text = False
        self._rest = ""
        self._opened: list[str] = []
        self._next = "first value"

    def feed(self, text: str) -> None:
        """
        Take in the next part.

        :param text: The part.
        """
        if self._is_wrong:
            return
        text, at = self._rest + text, 0
        self._rest = ""
        while at < len(text) and not self._is_wrong:
            at = self._inside(text, at) if self._in_text else self._outside(text, at)

    def is_whole(self) -> bool:
        """Return whether all of it is one JSON value. Nothing can be fed after that."""
        if self._rest and not self._in_text:
            self._scalar(self._rest)
        return not self._is_wrong and not self._in_text and self._next == "nothing"

    def _inside(self, text: str, at: int) -> int:
        """Read on inside a text, and return how far."""
        if found := _PART_OF_TEXT.match(text, at):
            return found.end()
        if text[at] == '"':
            self._in_text = False
        elif text[at] == "\\" and len(text) - at < _ESCAPE:
            self._rest = text[at:]
            return len(text)
        else:
            self._is_wrong = True
        return at + 1

    def _outside(self, text: str, at: int) -> int:
        """Read what is between texts, and return how far."""
        found = _TOKEN.match(text, at)
        if found is None:
            self._is_wrong = True
            return at
        if found["mark"]:
            self._mark(found["mark"])
        elif not found["space"]:
            # It may go on in the next part.
            if found.end() == len(text) and len(found[0]) <= _LONGEST_NUMBER:
                self._rest = found[0]
            else:
                self._scalar(found[0])
        return found.end()

    def _scalar(self, text: str) -> None:
        self._is_wrong |= len(text) > _LONGEST_NUMBER or not _SCALAR.fullmatch(text)
        self._value()

    def _mark(self, mark: str) -> None:
        match mark:
            case '"':
                self._in_text = True
                if self._next in ("key", "first key"):
                    self._next = "colon"
                else:
                    self._value()
            case "{" | "[":
                self._value()
                self._opened.append(mark)
                self._is_wrong |= len(self._opened) > _DEEPEST
                self._next = "first key" if mark == "{" else "first value"
            case "}" | "]":
                empty = "first key" if mark == "}" else "first value"
                self._is_wrong |= self._opened[-1:] != [_OPENED_BY[mark]] or self._next not in (
                    "comma",
                    empty,
                )
                self._opened = self._opened[:-1]
                self._next = "comma" if self._opened else "nothing"
            case ",":
                self._is_wrong |= self._next != "comma"
                self._next = "key" if self._opened[-1:] == ["{"] else "value"
            case _:
                self._is_wrong |= self._next != "colon"
                self._next = "value"

    def _value(self) -> None:
        """Note that a value begins or stands here."""
        self._is_wrong |= self._next not in ("value", "first value")
        self._next = "comma" if self._opened else "nothing"
