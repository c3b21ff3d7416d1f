"""
The contents of S3 objects, beside the file that holds everything else.

An object never changes: writing to its key makes a new one. So each large content is written once, in pieces,
to a file of its own, and a later save only mentions it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from moto.s3.models import FakeKey

# Below this size a content is cheaper in the file that holds everything else than in one of its own.
INLINE_BYTES: Final = 16 * 1024

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that is in a file of its own."""

    name: str


class Contents:
    """
    The folder with the large contents.

    :param folder: Where the files are. It exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: WeakKeyDictionary[FakeKey, str] = WeakKeyDictionary()
        self._mentioned: set[str] = set()
        self._unsynced: set[str] = set()

    def begin(self) -> None:
        """Begin a new save, in which nothing has been mentioned yet."""
        self._mentioned = set()

    def describe(self, key: FakeKey) -> dict[str, Any]:
        """Return what makes ``key`` again, with its content or the mention of it."""
        state = {name: value for name, value in vars(key).items() if name not in ("_value_buffer", "lock")}
        return {**state, "content": self._keep(key)}

    def fill(self, key: FakeKey, state: dict[str, Any]) -> None:
        """
        Make ``key`` what :meth:`describe` was told.

        :raises OSError: the file with its content cannot be read.
        """
        content = state.pop("content")
        vars(key).update(state)
        key.lock = threading.Lock()
        # moto closes it with the key.
        key._value_buffer = tempfile.SpooledTemporaryFile(key._max_buffer_size)  # noqa: SIM115
        if isinstance(content, Stored):
            with (self._folder / content.name).open("rb") as file:
                shutil.copyfileobj(file, key._value_buffer, _BLOCK)
            self._names[key] = content.name
        else:
            key._value_buffer.write(content)

    def sync(self) -> None:
        """Wait until every file is on the disk."""
        for name in list(self._unsynced):
            with (self._folder / name).open("rb") as file:
                os.fsync(file.fileno())
            self._unsynced.discard(name)
        sync_folder(self._folder)

    def sweep(self) -> None:
        """Remove the files that this save has not mentioned."""
        for path in self._folder.iterdir():
            if path.name not in self._mentioned:
                path.unlink()

    def _keep(self, key: FakeKey) -> bytes | Stored:
        with key.lock:
            try:
                key._value_buffer.seek(0)
            except ValueError:  # The object was deleted, and its content with it.
                return b""
            if key.contentsize <= INLINE_BYTES:
                content: bytes = key._value_buffer.read()
                return content
            name = self._names.get(key) or self._write(key)
        self._mentioned.add(name)
        return Stored(name)

    def _write(self, key: FakeKey) -> str:
        path = self._folder / uuid.uuid4().hex
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(key._value_buffer, file, _BLOCK)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._unsynced.add(path.name)
        self._names[key] = path.name
        return path.name


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
