"""The objects that requests read and leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.work import moto_s3


class Storage:
    """
    Reads and writes objects of the emulator's own S3, in pieces and without a detour through HTTP.

    No role's permissions are looked at.

    :param changing: Entered for the moment in which a new object takes its place. Whoever has to see moto's
        state at rest can hold it back there. Default: nobody has to.
    """

    def __init__(self, *, changing: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self._changing = changing

    def open(self, location: str) -> tuple[BinaryIO, int]:
        """
        Return the content of an object and its size in bytes. Whoever has the content closes it.

        It can be read from any position, and stays what it is if the object is replaced or deleted.

        :param location: The object's address.
        :raises StorageError: it is not there, or the address is none.
        """
        try:
            place = S3Uri.parse(location, argument="InputLocation", needs_key=True)
            return moto_s3.open_object(place.bucket, place.key)
        except (InvalidInput, LookupError, OSError) as error:
            raise StorageError(str(error)) from error

    def write(
        self,
        place: S3Uri,
        content: BinaryIO,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        kms_key_id: str | None = None,
    ) -> None:
        """
        Write an object. It is visible as a whole or not at all.

        :param place: Where it goes.
        :param content: What it holds, read from where it stands to its end.
        :param content_type: Its content type. ``None`` is S3's own default, ``binary/octet-stream``.
        :param metadata: The user's metadata, by names without prefix.
        :param kms_key_id: The key that it is encrypted with, as the object says; its content stays as it is.
            ``None`` leaves that to the bucket.
        :raises StorageError: there is no such bucket.
        """
        try:
            moto_s3.put_object(
                place.bucket,
                place.key,
                content,
                content_type=content_type,
                metadata=metadata or {},
                kms_key_id=kms_key_id,
                changing=self._changing,
            )
        except (LookupError, OSError) as error:
            raise StorageError(str(error)) from error
