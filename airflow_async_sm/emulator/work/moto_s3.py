"""
The objects in moto's S3, reached without HTTP.

Everything that depends on the inside of moto's S3 is here. A test holds each function of moto that is relied
on to what it was when this was written.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final, cast

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal import mock_random
from moto.s3 import notifications
from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends
from moto.utilities.utils import md5_hash

_PARTITION: Final = "aws"
_CHUNK_BYTES: Final = 256 * 1024

# moto changes the list of an object's versions without one; two of our own writes at least do not get lost.
_writing = threading.Lock()


def open_object(bucket: str, key: str) -> tuple[BinaryIO, int]:
    """
    Return an object's content, independent of what happens to the object later, and its size in bytes.

    :raises LookupError: there is no such bucket or object.
    """
    try:
        found = _backend(bucket).get_object(bucket, key)
    except S3ClientError as error:
        raise LookupError(_text(error)) from error
    if found is None:
        raise LookupError("The specified key does not exist.")
    try:
        return _content(found), found.size
    except ValueError as closed:  # It was deleted a moment ago.
        raise LookupError("The specified key does not exist any more.") from closed


def put_object(
    bucket: str,
    key: str,
    content: BinaryIO,
    *,
    content_type: str | None,
    metadata: Mapping[str, str],
    kms_key_id: str | None,
    changing: Callable[[], AbstractContextManager[Any]],
) -> None:
    """
    Write an object as a PUT of a client would, but for the whole content in memory.

    :param bucket: Name of the bucket.
    :param key: The object's key.
    :param content: What it holds, read to its end.
    :param content_type: Its content type, or ``None`` for moto's default.
    :param metadata: The user's metadata, by names without prefix.
    :param kms_key_id: The key that it is encrypted with, or ``None`` for the bucket's default.
    :param changing: Entered for the moment in which moto's state changes.
    :raises LookupError: there is no such bucket.
    """
    backend = _backend(bucket)
    try:
        home = backend.get_bucket(bucket)
    except S3ClientError as error:
        raise LookupError(_text(error)) from error
    new = _new_key(home, key, backend, kms_key_id)
    try:
        _fill(new, content)
    except BaseException:
        new.dispose()
        raise
    described = {f"x-amz-meta-{name.lower()}": value for name, value in metadata.items()}
    new.set_metadata(described | ({"Content-Type": content_type} if content_type is not None else {}))
    new.set_acl(home.acl)
    with changing():
        with _writing:
            before = home.keys.getlist(key, []) if home.is_versioned else []
            home.keys.setlist(key, [*before, new])
        event = notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT
        notifications.send_event(backend.account_id, event, home, new)
        # Takes away the tags of an object that was replaced.
        backend.put_object_tagging(new, {})


def _backend(bucket: str) -> S3Backend:
    """Return the part of moto that has the bucket; any part for one that is not there."""
    partition, account_id = s3_backends.bucket_accounts.get(bucket, (_PARTITION, DEFAULT_ACCOUNT_ID))
    return s3_backends[account_id][partition]


def _new_key(bucket: FakeBucket, name: str, backend: S3Backend, kms_key_id: str | None) -> FakeKey:
    rule: dict[str, Any] = bucket.encryption["Rule"] if bucket.encryption else {}
    default: dict[str, Any] = rule.get("ApplyServerSideEncryptionByDefault", {})
    locked = bucket.object_lock_enabled and bucket.has_default_lock
    return FakeKey(
        name=name,
        value=b"",
        account_id=backend.account_id,
        region_name=backend.region_name,
        is_versioned=bucket.is_versioned,
        version_id=str(mock_random.uuid4()) if bucket.is_versioned else "null",
        bucket_name=bucket.name,
        encryption="aws:kms" if kms_key_id else default.get("SSEAlgorithm"),
        kms_key_id=kms_key_id or default.get("KMSMasterKeyID"),
        bucket_key_enabled=rule.get("BucketKeyEnabled", False) if bucket.encryption else None,
        lock_mode=bucket.default_lock_mode if locked else None,
        lock_until=bucket.default_retention() if locked else None,
    )


def _fill(key: FakeKey, content: BinaryIO) -> None:
    digest, size = md5_hash(), 0
    while chunk := content.read(_CHUNK_BYTES):
        key._value_buffer.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    key.contentsize = size
    key._etag = digest.hexdigest()


def _content(key: FakeKey) -> BinaryIO:
    """
    Return a reader of its own: moto moves the position of the buffer, at times without taking its lock.

    :raises ValueError: the object is gone.
    """
    with key.lock:
        buffer: Any = key._value_buffer._file
        if isinstance(buffer, io.BytesIO):
            # Shares the memory as long as nobody writes, and nobody writes a second time.
            return io.BytesIO(buffer.getvalue())
        buffer.flush()
        return cast("BinaryIO", io.BufferedReader(_FileReader(os.dup(buffer.fileno())), _CHUNK_BYTES))


class _FileReader(io.RawIOBase):
    """Reads a file from positions of its own, whatever others do with the same file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: os.fstat(self._descriptor).st_size,
        }
        self._position = origin[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _text(error: S3ClientError) -> str:
    return str(error.message)
