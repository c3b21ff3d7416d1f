"""The objects of the pretended S3, and who of the waits has been asked for."""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

_LISTED = "%Y-%m-%dT%H:%M:%S.000Z"


class StoredObject:
    """
    An object that is there from a moment on.

    :param key: Its key.
    :param body: Its content.
    :param visible_at: From when on it is there, on the monotonic clock that all processes of a machine share.
    """

    __slots__ = ("body", "changed_at", "etag", "row", "visible_at")

    def __init__(self, key: str, body: bytes, visible_at: float) -> None:
        self.body = body
        self.visible_at = visible_at
        self.etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.changed_at = time.time() + visible_at - time.monotonic()
        # Rendered once: a benchmark of those who list must not become one of the listing.
        self.row = (
            f"<Contents><Key>{escape(key)}</Key>"
            f"<LastModified>{time.strftime(_LISTED, time.gmtime(self.changed_at))}</LastModified>"
            f"<ETag>&quot;{self.etag}&quot;</ETag><Size>{len(body)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


@dataclass(slots=True)
class Page:
    """
    One page of a listing.

    :param rows: The objects, as XML.
    :param folders: The common prefixes, where a delimiter was given.
    :param last: The last key or folder of the page, where there are more; empty otherwise.
    """

    rows: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    last: str = ""


@dataclass(slots=True)
class Bucket:
    """Objects by key, in S3's order when they are listed."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    _sorted: list[str] | None = None

    def put(self, key: str, body: bytes, visible_at: float) -> StoredObject:
        """Store one object."""
        if key not in self.objects:
            self._sorted = None
        stored = self.objects[key] = StoredObject(key, body, visible_at)
        return stored

    def get(self, key: str) -> StoredObject | None:
        """Return the object, if it is there by now."""
        found = self.objects.get(key)
        return found if found is not None and found.visible_at <= time.monotonic() else None

    def add_history(self, folder: str, count: int, *, seed: int) -> None:
        """Put ``count`` old objects of somebody else into a folder, between those that are to come."""
        draw = random.Random(seed)
        long_ago = time.monotonic() - 86_400.0
        for _ in range(count):
            self.put(f"{folder}{uuid.UUID(int=draw.getrandbits(128), version=4)}.out", b"old", long_ago)

    def page(self, prefix: str, after: str, delimiter: str, most: int) -> Page:
        """Return up to ``most`` objects and folders under ``prefix`` that come after ``after``."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        page, now, passed = Page(), time.monotonic(), ""
        start = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, after) if after else 0)
        for index in range(start, len(self._sorted)):
            key = self._sorted[index]
            if not key.startswith(prefix):
                break
            if self.objects[key].visible_at > now:
                continue
            folder = _folder(key, prefix, delimiter)
            if folder and (folder == after or (page.folders and page.folders[-1] == folder)):
                continue
            if len(page.rows) + len(page.folders) >= most:
                page.last = passed
                break
            passed = folder or key
            if folder:
                page.folders.append(folder)
            else:
                page.rows.append(self.objects[key].row)
        return page


def _folder(key: str, prefix: str, delimiter: str) -> str:
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: end + len(delimiter)] if end >= 0 else ""


class Coverage:
    """
    Which of the expected objects nobody has asked for yet.

    A HEAD asks for one key, a LIST for all that could have been on its page. A LIST counts from a moment on
    only: one that came before a wait had begun was not made for it.
    """

    def __init__(self) -> None:
        self._expected: dict[str, list[str]] = {}
        self.lists_count_from = float("inf")

    @property
    def left(self) -> int:
        """How many have not been asked for."""
        return sum(len(keys) for keys in self._expected.values())

    def expect(self, bucket: str, keys: Iterable[str]) -> None:
        """Begin anew, with these objects."""
        self._expected = {bucket: sorted(keys)}

    def head(self, bucket: str, key: str) -> None:
        """Note that one key was asked for."""
        keys = self._expected.get(bucket, [])
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            del keys[index]

    def listed(self, bucket: str, prefix: str, after: str, last: str) -> None:
        """Note that a page was asked for; ``last`` is where it ends, empty at the end of the prefix."""
        keys = self._expected.get(bucket, [])
        if not keys or time.monotonic() < self.lists_count_from:
            return
        begin = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        end = bisect_right(keys, last) if last else bisect_left(keys, prefix + "\U0010ffff")
        del keys[begin:end]
