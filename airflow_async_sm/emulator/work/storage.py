"""The objects that requests read and leave behind."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.aws import LocalClients


class StorageError(Exception):
    """An object cannot be read or written."""


class Storage:
    """Reads and writes objects through the emulator's own S3."""

    def __init__(self, clients: LocalClients) -> None:
        self._clients = clients

    @property
    def s3(self) -> Any:
        """The S3 client. The buckets of all regions are reached through one."""
        return self._clients.get("s3")

    def read(self, location: str) -> bytes:
        """
        Return the object at ``location``.

        :raises StorageError: it is not there, or the address is none.
        """
        try:
            place = S3Uri.parse(location, argument="InputLocation", needs_key=True)
            content: bytes = self.s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        except (InvalidInput, ClientError, BotoCoreError) as error:
            raise StorageError(str(error)) from error
        return content

    def write(self, place: S3Uri, content: bytes, content_type: str | None) -> None:
        """
        Write an object. It is visible as a whole or not at all.

        :raises StorageError: there is no such bucket.
        """
        described = {"ContentType": content_type} if content_type else {}
        try:
            self.s3.put_object(Bucket=place.bucket, Key=place.key, Body=content, **described)
        except (ClientError, BotoCoreError) as error:
            raise StorageError(str(error)) from error
