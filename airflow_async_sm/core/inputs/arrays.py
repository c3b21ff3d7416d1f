"""The entries of a JSON array that is longer than what should be in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["array_entries"]

_SPACE: Final = " \t\r\n"
# So many characters an entry has at most: what is longer is none, but text whose end is missing.
_ENTRY: Final = 1024 * 1024
_FOLLOWS: Final = re.compile(r"[ \t\r\n]*[,\]]")
_DECODER: Final = json.JSONDecoder()


def array_entries(blocks: Iterable[bytes], source: str) -> Iterator[Any]:
    """
    Yield the entries of a JSON array in UTF-8, parsed as its text arrives.

    :param blocks: The text, in blocks of any size. Its first character that is no space is a bracket.
    :param source: What the error calls it.
    :raises InvalidInput: it is no JSON from some entry on.
    """
    return iter(_Array(blocks, source))


class _Array:
    """The entries of a JSON array, parsed as its text arrives."""

    def __init__(self, blocks: Iterable[bytes], source: str) -> None:
        self._text = codecs.iterdecode(blocks, "utf-8-sig")
        self._source = source
        self._held = ""
        self._at = 0
        self._count = 0

    def __iter__(self) -> Iterator[Any]:
        self._mark()
        self._at += 1
        while self._mark() != "]":
            self._count += 1
            yield self._entry()
            if self._mark() == ",":
                self._at += 1

    def _entry(self) -> Any:
        """Return the next entry, once it can be seen what follows it: a number could still go on."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                wrong = error.msg
            except ValueError as error:
                raise self._broken(str(error)) from None
            except RecursionError:
                raise self._broken("it is nested too deeply") from None
            else:
                if _FOLLOWS.match(self._held, end):
                    self._at = end
                    return value
                wrong = "neither a comma nor a bracket follows it"
            if len(self._held) - self._at > _ENTRY or not self._more():
                raise self._broken(wrong)

    def _mark(self) -> str:
        """Return the next character that is no space, and leave it there; empty: there is none."""
        while True:
            while self._at < len(self._held):
                if (character := self._held[self._at]) not in _SPACE:
                    return character
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        try:
            text = next(self._text, "")
        except UnicodeDecodeError as error:
            raise self._broken(f"what follows is no text in UTF-8: {error.reason}") from error
        self._held, self._at = self._held[self._at :] + text, 0
        return bool(text)

    def _broken(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self._source} is a JSON array that cannot be read from entry {max(self._count, 1)}: {why}."
        )
