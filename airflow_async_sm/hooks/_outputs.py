"""The answers of a batch: listed, read many at a time, and what is made of them written."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from botocore.exceptions import HTTPClientError, IncompleteReadError

from airflow_async_sm.core.batches.manifest import ObjectSeen
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, ResultUnreadable
from airflow_async_sm.hooks._translate import is_denial, translated
from airflow_async_sm.hooks._uploads import UploadCalls

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from botocore.response import StreamingBody

Content = bytes | BinaryIO

_MIB: Final = 1024 * 1024
_BLOCK: Final = _MIB
# So many bytes are held in memory; what is larger lies in a temporary file.
_IN_MEMORY: Final = _MIB
# What is larger still is read when its turn comes, and not beside others: the disk has an end too.
_READ_AHEAD: Final = 16 * _MIB
_AHEAD_OF_EACH: Final = 2
# The client does not try again where a connection breaks while an object is read.
_BROKEN_OFF: Final = (HTTPClientError, IncompleteReadError)
_ATTEMPTS: Final = 3


class OutputCalls(UploadCalls):
    """None of these has more in memory for more objects."""

    def listed_objects(self, folder: str, after: str = "") -> Iterator[ObjectSeen]:
        """
        Yield the objects in a folder, in the order of their keys, a page of a thousand at a time.

        :param folder: S3 URI, with or without its last slash. Objects in folders below it are seen as well.
        :param after: Only names that sort after this. Default: all.
        :raises RequestRejected: it may not be listed, or there is no such bucket.
        :raises ServiceUnavailable: S3 could not be reached or is busy.
        """
        place = S3Uri.parse(folder, argument="folder")
        below = f"{place.key.rstrip('/')}/" if place.key else ""
        pages = iter(
            self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=place.bucket, Prefix=below, StartAfter=f"{below}{after}" if after else ""
            )
        )
        while True:
            with self._listing(folder):
                page = next(pages, None)
            if page is None:
                return
            for one in page.get("Contents", ()):
                yield ObjectSeen(one["Key"][len(below) :], one["Size"], one["LastModified"].timestamp())

    def write_file(self, path: Path, location: str, *, content_type: str) -> None:
        """
        Put a local file into S3, in parts if it is large. The object appears whole, or not at all.

        :param path: The file.
        :param location: S3 URI of the object. One that is there already is replaced.
        :param content_type: Type of the object.
        :raises RequestRejected: it is not allowed, or there is no such bucket.
        :raises ServiceUnavailable: S3 could not be reached or is busy.
        """
        with path.open("rb") as file:
            self.upload(file, location, content_type=content_type)

    def read_many(
        self, locations: Iterable[str], threads: int = 8
    ) -> Generator[tuple[str, Content | ResultUnreadable]]:
        """
        Yield the content of objects, in the order that they are asked for, or why one cannot be read.

        They are read ahead, two for each thread. Up to 1 MiB is held as bytes. What is larger comes as a file
        on disk, open until the next one is asked for; what has more than 16 MiB is not read ahead.

        :param locations: S3 URIs of the objects.
        :param threads: How many are read at the same time. The client has ten connections. Default 8.
        :raises ServiceUnavailable: S3 could not be reached or is busy.
        """
        _ = self._s3  # made before threads ask for it
        asked = iter(locations)
        waiting = deque[tuple[str, Future[Content | ResultUnreadable | None]]]()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="outputs")
        try:
            while True:
                while len(waiting) < threads * _AHEAD_OF_EACH and (location := next(asked, None)) is not None:
                    waiting.append((location, pool.submit(self._content, location, _READ_AHEAD)))
                if not waiting:
                    return
                location, reading = waiting.popleft()
                content = reading.result()
                if content is None:
                    content = self._content(location, None)
                try:
                    yield location, cast("Content | ResultUnreadable", content)
                finally:
                    _put_away(content)
        finally:
            pool.shutdown(cancel_futures=True)
            for _, left in waiting:
                if not left.cancelled() and left.exception() is None:
                    _put_away(left.result())

    def _content(self, location: str, most: int | None) -> Content | ResultUnreadable | None:
        """Return what an object holds, or why that cannot be read; ``None``: it is larger than ``most``."""
        uri = S3Uri.parse(location, argument="location", needs_key=True)
        try:
            with translated(f"read {location}"):
                return self._read_object(uri, most)
        except RequestRejected as error:
            unreadable = ResultUnreadable(
                f"Could not read {location}: {sentence(str(error.__cause__))} Check that the role of the "
                "connection may read the object (s3:GetObject) and decrypt it (kms:Decrypt).",
                location=location,
            )
            unreadable.__cause__ = error.__cause__
            return unreadable

    def _read_object(self, uri: S3Uri, most: int | None, attempts: int = _ATTEMPTS) -> Content | None:
        try:
            reply = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)
            size = int(reply["ContentLength"])
            with contextlib.closing(reply["Body"]) as body:
                if most is not None and size > most:
                    return None
                return body.read() if size <= _IN_MEMORY else _stored(body)
        except _BROKEN_OFF:
            if attempts == 1:
                raise
            return self._read_object(uri, most, attempts - 1)

    @contextlib.contextmanager
    def _listing(self, folder: str) -> Iterator[None]:
        try:
            with translated(f"list {folder}"):
                yield
        except RequestRejected as error:
            if error.__cause__ is None or not is_denial(error.__cause__):
                raise
            raise RequestRejected(
                f"{error} The role of the connection needs s3:ListBucket on the bucket.", location=folder
            ) from error.__cause__


def _stored(body: StreamingBody) -> BinaryIO:
    """Return a file with what is read. It has no name, so it is gone when it is closed."""
    file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - who gets it closes it
    try:
        for block in body.iter_chunks(_BLOCK):
            file.write(block)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _put_away(content: object) -> None:
    if isinstance(content, io.IOBase):
        content.close()
