"""Small JSON objects under the work prefix: what a task remembers where Airflow cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from botocore.exceptions import ClientError

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import error_code, status_code, translated


class RecordCalls(AwsClients):
    """Read and write them. One that is absent is not one that cannot be read."""

    def read_record(self, location: str) -> tuple[Any, str | None]:
        """
        Return what is recorded, with its version, for :meth:`replace_record`; ``None`` twice if nothing is.

        :param location: S3 URI of the record.
        :raises RequestRejected: the bucket refuses it; without ``s3:ListBucket`` it does so for what is not
            there as well.
        :raises ServiceUnavailable: S3 could not be asked.
        :raises ValueError: it is no JSON.
        """
        uri = S3Uri.parse(location, needs_key=True)
        with translated(f"read the record {location}"):
            try:
                found = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)
                content = found["Body"].read()
            except ClientError as error:
                if status_code(error) != 404:
                    raise
                return None, None
        return json.loads(content), found["ETag"]

    def write_record(self, location: str, record: dict[str, Any]) -> None:
        """
        Record something in place of what was there.

        :param location: S3 URI of the record.
        :param record: JSON values.
        :raises RequestRejected: the bucket refuses it.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        with translated(f"write the record {location}"):
            self._put_record(location, record)

    def replace_record(self, location: str, record: dict[str, Any], *, version: str | None) -> bool:
        """
        Record something in place of what was read, and return whether that was still there.

        If it was not, nothing is written: somebody else has written meanwhile, or is doing so. The client
        repeats a write whose reply was lost, so that may be this very record. A store that has no conditional
        writes, or a boto3, is written to whatever is there.

        :param location: S3 URI of the record.
        :param record: JSON values.
        :param version: What :meth:`read_record` returned; ``None``: nothing was there.
        :raises RequestRejected: the bucket refuses it.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        if not condition.keys() <= self._put_members:
            condition = {}
        with translated(f"write the record {location}"):
            try:
                self._put_record(location, record, condition)
            except ClientError as error:
                if _is_overtaken(error):
                    return False
                if status_code(error) != 501:
                    raise
                self.log.info("The store of %s has no conditional writes.", location)
                self._put_record(location, record)
        return True

    @property
    def _put_members(self) -> frozenset[str]:
        """The members of a write that the loaded boto3 can send."""
        shape = self._s3.meta.service_model.operation_model("PutObject").input_shape
        return frozenset(shape.members if shape else ())

    def _put_record(
        self, location: str, record: dict[str, Any], condition: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        uri = S3Uri.parse(location, needs_key=True)
        content = json.dumps(record, separators=(",", ":")).encode()
        described: Any = {"ContentType": "application/json", **condition}
        self._s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=content, **described)


def _is_overtaken(error: ClientError) -> bool:
    """Return whether a condition did not hold: something else is there, or nothing, or is being written."""
    return status_code(error) in (409, 412) or error_code(error) == "NoSuchKey"
