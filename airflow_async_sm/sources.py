"""Where a payload comes from: a value in memory, or a file here or on any object storage."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import re
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from airflow_async_sm._compat import storage_path
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.serializers import BINARY, Serializer, serialize
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri

__all__ = ["Source", "as_input_location", "open_source"]

_BLOCK: Final = 1024 * 1024
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<rest>.*)", re.DOTALL)
# What the amazon provider opens as S3.
_S3: Final = frozenset({"s3", "s3a", "s3n"})
_LOCAL: Final = frozenset({"", "file", "local"})
_TYPES: Final = {
    ".jsonl": "application/jsonlines",
    ".ndjson": "application/x-ndjson",
    ".npy": "application/x-npy",
}


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """
    The bytes of a payload, which are read when they are needed and not before.

    :param name: What errors and logs call it: the path of a file, or ``payload``.
    :param size: Bytes.
    :param content_type: Their type, as given or guessed.
    """

    name: str
    size: int
    content_type: str | None

    @abstractmethod
    def open(self) -> AbstractContextManager[BinaryIO]:
        """Return the content as a binary file for a ``with`` statement."""

    def read(self) -> bytes:
        """
        Return all the content.

        :raises InvalidInput: it is no longer what it was when the source was opened.
        """
        return b"".join(self._blocks())

    def digest(self) -> str:
        """
        Return the SHA-256 of the content in hexadecimal, read 1 MiB at a time.

        :raises InvalidInput: it is no longer what it was when the source was opened.
        """
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes]:
        total = 0
        with self.open() as file:
            # One byte more than there should be is enough to know that the file grows.
            while block := file.read(min(_BLOCK, self.size - total + 1)):
                total += len(block)
                if total > self.size:
                    break
                yield block
        if total != self.size:
            change = "longer" if total > self.size else f"{total:,} bytes long"
            raise InvalidInput(
                f"{self.name} had {self.size:,} bytes and is {change} now: it changes while it is read. "
                "Let it be complete before this task starts."
            )


@dataclass(frozen=True, kw_only=True)
class _Value(Source):
    content: bytes = field(repr=False)

    def open(self) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.content)


@dataclass(frozen=True, kw_only=True)
class _File(Source):
    path: Any

    def open(self) -> AbstractContextManager[BinaryIO]:
        with _naming(self.name):
            file: AbstractContextManager[BinaryIO] = self.path.open("rb")
            return file


def open_source(
    payload: Any = None,
    payload_path: Any = None,
    content_type: str | None = None,
    serializer: Serializer | None = None,
) -> Source:
    """
    Return where the bytes of a payload come from. A file is looked at and opened, but not read.

    :param payload: A value, text or bytes; or a path object, which stands for the content of its file.
    :param payload_path: Path of a file on the worker, or a URL that Airflow's ``ObjectStoragePath`` takes, as
        text or as a path object. Give this or ``payload``.
    :param content_type: Type of the content. Default: what fits the value, or the file's name.
    :param serializer: Makes bytes or text of ``payload``. Not for files, which are sent as they are.
    :raises InvalidInput: both or neither is given, the value cannot be written, or there is no such file.
    """
    argument, given = _the_one(payload, payload_path)
    if given is None:
        raise InvalidInput("There is nothing to send: give payload, payload_path or input_location.")
    path = _path(argument, given)
    if path is None:
        content, content_type = serialize(given, content_type, serializer)
        return _Value(name="payload", size=len(content), content_type=content_type, content=content)
    name = f"{argument} {str(given)!r}"
    if serializer is not None:
        raise InvalidInput(
            f"{name} is a file, which is sent as it is: leave serializer out, or give the file's content as "
            "payload."
        )
    size = _remote_size(path, name) if _is_object_path(path) else _local_size(path, name)
    return _File(name=name, size=size, content_type=content_type or _guess(path.name), path=path)


def as_input_location(payload: Any = None, payload_path: Any = None) -> str | None:
    """
    Return the S3 URI of a payload that is in S3 already, which the service reads itself; else ``None``.

    :param payload: As for :func:`open_source`. Text is a text to send, even if it looks like an S3 URI.
    :param payload_path: As for :func:`open_source`. A connection in ``s3://connection@bucket/key`` is left
        out: the endpoint reads with its own role.
    :raises InvalidInput: both are given, or the URI names no object.
    """
    argument, given = _the_one(payload, payload_path)
    if argument == "payload_path" and isinstance(given, str):
        url = _URL.fullmatch(given)
        if url is None or url["scheme"].lower() not in _S3:
            return None
        netloc, slash, key = url["rest"].partition("/")
        place = f"{netloc.rpartition('@')[2]}{slash}{key}"
    elif getattr(given, "protocol", "") in _S3 and _is_object_path(given):
        # Its parts, bucket and key, leave out what follows a "#" in the key.
        place = given.path
    else:
        return None
    return str(S3Uri.parse(f"s3://{place}", argument=argument, needs_key=True))


def _the_one(payload: Any, payload_path: Any) -> tuple[str, Any]:
    if payload_path is None:
        return "payload", payload
    if payload is not None:
        raise InvalidInput(
            f"payload and payload_path {str(payload_path)!r} are both given: give one of them."
        )
    return "payload_path", payload_path


def _is_object_path(value: Any) -> bool:
    """Whether a value is an ``ObjectStoragePath`` or a path of the library below it."""
    upath: Any = sys.modules.get("upath")
    return upath is not None and isinstance(value, upath.UPath)


def _path(argument: str, given: Any) -> Any:
    """Return the path that is meant, local ones as :class:`pathlib.Path`; ``None``: a value."""
    if argument == "payload_path" and isinstance(given, str):
        given = _object_path(given) if _URL.fullmatch(given) else Path(given)
    if _is_object_path(given):
        return Path(given.path) if given.protocol in _LOCAL else given
    if isinstance(given, os.PathLike):
        return Path(given)
    if argument == "payload_path":
        raise InvalidInput(
            f"payload_path is of type {type(given).__name__}; give the path of a file as text or as a path "
            "object. A value itself is given as payload."
        )
    return None


def _object_path(url: str) -> Any:
    with _naming(f"payload_path {url!r}"):
        return storage_path(url)


def _local_size(path: Path, name: str) -> int:
    with _naming(name):
        found = path.stat()
        # Whoever opened a named pipe would wait for somebody to write into it.
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise InvalidInput(f"{name} is {kind}; give the path of one file.")
        with path.open("rb"):
            return found.st_size


def _remote_size(path: Any, name: str) -> int:
    with _naming(name):
        found = path.fs.info(path.path)
        if found.get("type") == "directory":
            raise InvalidInput(f"{name} is a directory; give the path of one file.")
        if found.get("size") is not None:
            return int(found["size"])
        # Some web servers do not say how long their answer is.
        with path.open("rb") as file:
            return sum(len(block) for block in iter(lambda: file.read(_BLOCK), b""))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Raise what a wrong path causes as an error that names it. What may pass by itself is left as it is."""
    try:
        yield
    except InvalidInput:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"{name} does not exist, as the worker that runs the task sees it.") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{name} is a directory; give the path of one file.") from error
    except PermissionError as error:
        raise InvalidInput(f"{name} may not be read by the worker that runs the task ({error}).") from error
    except (ImportError, ValueError) as error:
        raise InvalidInput(
            f"{name} cannot be opened: {sentence(str(error))} Give a path on the worker, or a URL for "
            "which the provider and the library of its storage are installed."
        ) from error


@cache
def _known_types() -> mimetypes.MimeTypes:
    # Python's own table: what the machine adds to it would differ from worker to worker.
    known = mimetypes.MimeTypes()
    for suffix, content_type in _TYPES.items():
        known.add_type(content_type, suffix)
    return known


def _guess(name: str) -> str:
    kind, encoding = _known_types().guess_type(name)
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else BINARY
    return kind or BINARY
