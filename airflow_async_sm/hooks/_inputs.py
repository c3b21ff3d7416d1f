"""What the inputs of a batch need of S3: the content of objects, as it is needed, and what is in a folder."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from airflow_async_sm.core.inputs.lines import split_lines, unpacked
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["InputCalls", "Listed"]

_BLOCK: Final = 1024 * 1024
# So many times in a row a connection may break with nothing read in between.
_MOST_BREAKS: Final = 4


class Listed(NamedTuple):
    """
    An object of a folder.

    :param location: Its S3 URI.
    :param size: Bytes.
    :param etag: What changes when its content does.
    """

    location: str
    size: int
    etag: str


class InputCalls(AwsClients):
    """Read objects that say what the inputs of a batch are, or are the inputs themselves."""

    def input_lines(self, location: str) -> Iterator[bytes]:
        r"""
        Yield the lines of an object without the ``\n`` at their ends, unpacked if it is packed with gzip.

        :param location: S3 URI of the object.
        :raises RequestRejected: it is not there, may not be read, or changes while it is read.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        :raises InvalidInput: it begins as gzip, and is not or has no end.
        """
        return split_lines(self.input_blocks(location))

    def input_blocks(self, location: str) -> Iterator[bytes]:
        """
        Yield the content of an object in blocks of at most 1 MiB, unpacked if it is packed with gzip.

        Where the connection breaks, it goes on with what is still missing: of the same object, or not at all.

        :param location: S3 URI of the object.
        :raises RequestRejected: it is not there, may not be read, or changes while it is read.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        :raises InvalidInput: it begins as gzip, and is not or has no end.
        """
        with contextlib.closing(self._blocks_of_input(location)) as blocks:
            yield from unpacked(blocks, location)

    def list_inputs(self, folder: str, *, begin: str = "") -> Iterator[Listed]:
        """
        Yield what is in a folder and below it, by key, a page of a thousand at a time.

        Objects whose keys end with a slash stand for folders, and they and empty objects are left out.

        :param folder: S3 URI of the folder, or of a bucket.
        :param begin: How the keys begin below the folder. Default: in any way.
        :raises RequestRejected: there is no such bucket, or it may not be listed.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        """
        place = S3Uri.parse(folder, argument="folder")
        prefix = f"{place.key.rstrip('/')}/{begin}" if place.key else begin
        more: dict[str, Any] = {}
        while True:
            with _naming("list", folder, "list its bucket (s3:ListBucket)"):
                page = self._s3.list_objects_v2(Bucket=place.bucket, Prefix=prefix, **more)
            for found in page.get("Contents", ()):
                if found["Size"] and not found["Key"].endswith("/"):
                    location = str(S3Uri(place.bucket, found["Key"]))
                    yield Listed(location, found["Size"], found["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _blocks_of_input(self, location: str) -> Generator[bytes]:
        reply = self._input_from(location, 0)
        body, size, etag = reply["Body"], int(reply["ContentLength"]), reply["ETag"]
        done = breaks = 0
        try:
            while done < size:
                try:
                    block = body.read(_BLOCK)
                except (BotoCoreError, HTTPError) as error:
                    breaks += 1
                    if breaks > _MOST_BREAKS:
                        raise ServiceUnavailable(
                            f"Could not read {location}: the connection broke {breaks} times in a row, "
                            f"{done:,} bytes from its beginning: {sentence(str(error))} A retry may succeed.",
                            location=location,
                        ) from error
                    body.close()
                    body = self._input_from(location, done, etag)["Body"]
                    continue
                done += len(block)
                breaks = 0
                yield block
        finally:
            body.close()

    def _input_from(self, location: str, start: int, etag: str = "") -> Any:
        """Return S3's reply with what is at ``start`` and after it, of the object as it was."""
        place = S3Uri.parse(location, argument="location", needs_key=True)
        rest: dict[str, Any] = {"Range": f"bytes={start}-", "IfMatch": etag} if etag else {}
        with _naming("read", location, "read the object (s3:GetObject) and decrypt it (kms:Decrypt)"):
            return self._s3.get_object(Bucket=place.bucket, Key=place.key, **rest)


@contextmanager
def _naming(what: str, location: str, rights: str) -> Iterator[None]:
    """Raise what S3 refuses as an error that says what is needed."""
    try:
        with translated(f"{what} {location}"):
            yield
    except RequestRejected as error:
        cause = error.__cause__
        advice = f"Check that it is there, and that the role of the connection may {rights}."
        if isinstance(cause, ClientError) and error_code(cause) == "PreconditionFailed":
            advice = "It changed while it was read. Let it be complete before this task starts."
        raise RequestRejected(
            f"Could not {what} {location}: {sentence(str(cause))} {advice}", location=location
        ) from cause
