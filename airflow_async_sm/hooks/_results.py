"""What a request left in S3: its answer, or the text of its failure."""

from __future__ import annotations

import contextlib
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig

from airflow_async_sm._compat import storage_path
from airflow_async_sm.core.answers import ObjectFacts, copy_address, copy_target
from airflow_async_sm.core.failures import MAX_FAILURE_BYTES, failure_text
from airflow_async_sm.core.texts import sentence, shortened
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, ResultUnreadable, SageMakerAsyncError
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import BinaryIO

    from botocore.response import StreamingBody

_MIB: Final = 1024 * 1024
_BLOCK: Final = _MIB
_COPYING: Final = TransferConfig(
    multipart_threshold=64 * _MIB, multipart_chunksize=64 * _MIB, max_concurrency=4
)


class ResultCalls(AwsClients):
    """Read what is there, and copy it."""

    def describe_result(self, location: str) -> ObjectFacts:
        """
        Return what S3 says about an object, without reading it.

        :param location: S3 URI, as in the ``output_location`` that the operator returns.
        :raises ResultUnreadable: it is not there, or rights or a key are missing.
        """
        with self._reading(location) as uri:
            reply = self._s3.head_object(Bucket=uri.bucket, Key=uri.key)
        return ObjectFacts(
            size=int(reply["ContentLength"]),
            content_type=reply.get("ContentType", ""),
            last_modified=reply["LastModified"].timestamp(),
            etag=reply.get("ETag", "").strip('"'),
        )

    def read_result(self, location: str) -> bytes:
        """
        Return the content of an output object.

        :param location: S3 URI, as in the ``output_location`` that the operator returns.
        :raises ResultUnreadable: it is not there, or rights or a key are missing.
        """
        with self.open_result(location) as body:
            return body.read()

    @contextmanager
    def open_result(self, location: str) -> Iterator[StreamingBody]:
        """
        Open an output object, to be read in parts: ``with hook.open_result(location) as body: body.read(n)``.

        :param location: S3 URI, as in the ``output_location`` that the operator returns.
        :raises ResultUnreadable: it is not there, or rights or a key are missing.
        """
        with self._reading(location) as uri:
            body = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"]
            with contextlib.closing(body):
                yield body

    def copy_result(self, location: str, target: str) -> str:
        """
        Copy an output object, and return where the copy is.

        S3 copies to S3 by itself. Anything else is streamed in blocks of 1 MiB, and a copy that breaks off is
        taken away again; a local file appears under its name only when it is complete.

        :param location: S3 URI, as in the ``output_location`` that the operator returns.
        :param target: ``s3://bucket/key``, an absolute local path, or a URL that Airflow's
            ``ObjectStoragePath`` takes. One that ends with a slash, is a bucket, or is an existing local
            folder gets the object's file name.
        :raises ResultUnreadable: the object is not there, or rights or a key are missing.
        :raises RequestRejected: S3 refused to write the copy.
        :raises SageMakerAsyncError: another store could not be written.
        """
        address = copy_address(target)
        if address.startswith("/") and Path(address).is_dir():
            address = f"{address.rstrip('/')}/"
        place = copy_target(address, location)
        if place.startswith("s3://"):
            self._copy_within_s3(location, place)
        else:
            self._stream(location, place)
        return place

    def read_failure(self, location: str) -> str:
        """
        Return the text of a failure object: its last 4,096 bytes, however large it is.

        :param location: S3 URI, as in the ``failure_location`` of a handle.
        :raises ResultUnreadable: it is not there, or rights or a key are missing.
        """
        with self._reading(location) as uri:
            reply = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)
            total = int(reply["ContentLength"])
            if total > MAX_FAILURE_BYTES:
                reply["Body"].close()
                end = f"bytes=-{MAX_FAILURE_BYTES}"
                reply = self._s3.get_object(Bucket=uri.bucket, Key=uri.key, Range=end)
            return failure_text(reply["Body"].read(), total_bytes=total)

    def _copy_within_s3(self, location: str, place: str) -> None:
        source = S3Uri.parse(location, argument="location", needs_key=True)
        target = S3Uri.parse(place, argument="target", needs_key=True)
        if source == target:
            return
        facts = self.describe_result(location)
        try:
            with translated(f"copy {location} to {place}"):
                self._s3.copy(
                    {"Bucket": source.bucket, "Key": source.key},
                    target.bucket,
                    target.key,
                    # A copy in parts is a new object, and older boto3 does not tell it what it is.
                    ExtraArgs={"ContentType": facts.content_type},
                    Config=_COPYING,
                )
        except RequestRejected as error:
            raise RequestRejected(
                f"{error} Check that the role of the connection may read the one (s3:GetObject), write the "
                "other (s3:PutObject), and use the keys of both (kms:Decrypt, kms:GenerateDataKey). The "
                f"answer stays at {location}.",
                location=location,
            ) from error.__cause__

    def _stream(self, location: str, place: str) -> None:
        blocks = self._blocks(location)
        with contextlib.closing(blocks):
            # Opened before anything is written: an answer that cannot be read leaves no empty copy.
            first = next(blocks, b"")
            try:
                with _target(place) as file:
                    file.write(first)
                    for block in blocks:
                        file.write(block)
            except SageMakerAsyncError:
                raise
            except Exception as error:
                # A store raises whatever its own client does.
                raise SageMakerAsyncError(
                    f"Could not copy {location} to {place}: {type(error).__name__}: "
                    f"{sentence(shortened(str(error)))} The answer stays at {location}.",
                    location=location,
                ) from error

    def _blocks(self, location: str) -> Generator[bytes]:
        """Yield the content. What goes wrong with the copy happens outside, and is no failed read."""
        with self.open_result(location) as body:
            yield from body.iter_chunks(_BLOCK)

    @contextmanager
    def _reading(self, location: str) -> Iterator[S3Uri]:
        uri = S3Uri.parse(location, argument="location", needs_key=True)
        try:
            with translated(f"read {location}"):
                yield uri
        except RequestRejected as error:
            raise ResultUnreadable(
                f"Could not read {location}: {sentence(str(error.__cause__))} Check that the role of the "
                "connection may read the object (s3:GetObject) and decrypt it (kms:Decrypt).",
                location=location,
            ) from error.__cause__


def _target(place: str) -> contextlib.AbstractContextManager[BinaryIO]:
    return _local_file(Path(place)) if place.startswith("/") else _stored_file(place)


@contextmanager
def _local_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file beside ``path`` that takes its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def _stored_file(place: str) -> Iterator[BinaryIO]:
    """Yield a file in another store. Closing it is what makes it appear there, also after an error."""
    path = storage_path(place)
    file = path.open("wb")
    # From here on what stands there is ours.
    try:
        with file:
            yield file
    except BaseException:
        with contextlib.suppress(Exception):
            path.fs.rm(path.path)
        raise
