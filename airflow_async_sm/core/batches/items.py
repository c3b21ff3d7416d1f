"""
One input of a batch: where its payload is, and the name under which it goes all its way.

The name is made of the input's place in the batch and of its content, so that planning the same inputs again
gives the same names. It is the file name of the answer too: what lies in the batch's folder tells which
inputs are answered, also those whose submission nobody saw end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["BatchInput", "BatchItem", "PlanDigest", "Unreadable", "attempt_of", "index_of", "is_failure"]

_DIGITS: Final = 8
_MARK: Final = 10
_NAME: Final = re.compile(r"(?P<index>[0-9]{8})-[0-9a-f]{10}-(?P<attempt>[0-9]+)\.")
# With sixteen bytes of a hash, no two inputs of a batch have the same by chance.
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchInput:
    """
    One thing to be inferred, as it was found.

    :param input_location: S3 URI of the payload, where it is in S3 already. Give this or ``body``.
    :param body: The payload.
    :param content_type: Its type; ``None``: not known.
    :param origin: Where it was found, for a reader: an S3 URI, or one with a line number.
    :param version: What changes when the object at ``input_location`` does: its ETag. May be empty.
    """

    origin: str
    input_location: str | None = None
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    version: str = ""

    def __post_init__(self) -> None:
        if (self.body is None) == (self.input_location is None):
            raise InvalidInput(f"{self.origin} needs a payload or an input_location, and not both.")

    @property
    def digest(self) -> bytes:
        """What its content is, in 16 bytes."""
        content = f"{self.input_location}\n{self.version}".encode() if self.body is None else self.body
        kind = f"{self.content_type or ''}\n{'at' if self.body is None else 'is'}\n"
        return hashlib.blake2b(content, digest_size=_DIGEST_BYTES, person=_person(kind)).digest()


def _person(kind: str) -> bytes:
    """Return what tells the same content of two kinds apart."""
    return hashlib.blake2b(kind.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """
    One row that is no input.

    :param origin: Where it is, with its line number.
    :param reason: What is wrong with it.
    """

    origin: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchItem:
    """
    One input of a planned batch.

    :param index: Its place, from 0.
    :param mark: Ten hexadecimal digits of its content's digest.
    :param origin: Where it was found.
    :param input_location: S3 URI of its payload; ``None``: ``body`` is it.
    :param body: Its payload.
    :param content_type: Its type; ``None``: as the task says.
    """

    index: int
    mark: str
    origin: str
    input_location: str | None = None
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None

    @classmethod
    def of(cls, index: int, found: BatchInput) -> BatchItem:
        """
        Return an input as the one at a place of the batch.

        :raises InvalidInput: a batch has no such place.
        """
        if index >= 10**_DIGITS:
            raise InvalidInput(f"There are more than {10**_DIGITS:,} inputs. Make several batches of them.")
        return cls(
            index=index,
            mark=found.digest.hex()[:_MARK],
            origin=found.origin,
            input_location=found.input_location,
            body=found.body,
            content_type=found.content_type,
        )

    @property
    def item_id(self) -> str:
        """Its name in the manifest: the same whenever the same inputs are planned."""
        return f"{self.index:0{_DIGITS}d}-{self.mark}"

    def filename(self, attempt: int) -> str:
        """
        Return the name of the object that an attempt's answer will be: at most 32 characters, one dot.

        :param attempt: Which attempt, from 1.
        """
        return f"{self.item_id}-{attempt}.out"

    def to_row(self) -> str:
        """Return one line of JSON. A payload that is no text is written as Base64."""
        row: dict[str, Any] = {"index": self.index, "mark": self.mark, "origin": self.origin}
        if self.content_type is not None:
            row["content_type"] = self.content_type
        if self.body is None:
            row["input_location"] = self.input_location
        else:
            try:
                row["text"] = self.body.decode()
            except UnicodeDecodeError:
                row["base64"] = base64.b64encode(self.body).decode()
        return json.dumps(row, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_row(cls, line: str | bytes) -> BatchItem:
        """Return the item of a line that :meth:`to_row` wrote."""
        row = json.loads(line)
        return cls(
            index=row["index"],
            mark=row["mark"],
            origin=row["origin"],
            input_location=row.get("input_location"),
            body=_body(row),
            content_type=row.get("content_type"),
        )


class PlanDigest:
    """What all inputs of a batch are, in short, taken in one after the other."""

    def __init__(self) -> None:
        self._sum = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def add(self, found: BatchInput | Unreadable) -> None:
        """Take in the next input, or what stands where one should."""
        self._sum.update(found.digest if isinstance(found, BatchInput) else b"unreadable".ljust(16))

    def __str__(self) -> str:
        return self._sum.hexdigest()


def index_of(name: str) -> int | None:
    """
    Return which item an object belongs to; ``None``: it is none of a batch's.

    :param name: The last part of its key.
    """
    found = _NAME.match(name)
    return int(found["index"]) if found else None


def is_failure(name: str) -> bool:
    """
    Return whether an object tells of a failure, as far as its name says.

    :param name: The last part of its key.
    """
    return name.endswith("-error.out")


def attempt_of(name: str) -> int:
    """
    Return which attempt an object belongs to; 0: it is none of a batch's.

    :param name: The last part of its key.
    """
    found = _NAME.match(name)
    return int(found["attempt"]) if found else 0


def _body(row: Mapping[str, Any]) -> bytes | None:
    if "text" in row:
        return str(row["text"]).encode()
    return base64.b64decode(row["base64"]) if "base64" in row else None
