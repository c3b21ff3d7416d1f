"""Small JSON objects under the work prefix: what a task remembers where Airflow cannot."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import status_code, translated


class RecordCalls(AwsClients):
    """Read and write them. One that is absent is not one that cannot be read."""

    def read_record(self, location: str) -> Any:
        """
        Return what is recorded, or ``None`` if nothing is.

        :param location: S3 URI of the record.
        :raises RequestRejected: the bucket refuses it; without ``s3:ListBucket`` it does so for what is not
            there as well.
        :raises ServiceUnavailable: S3 could not be asked.
        :raises ValueError: it is no JSON.
        """
        uri = S3Uri.parse(location, needs_key=True)
        with translated(f"read the record {location}"):
            try:
                content = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
            except ClientError as error:
                if status_code(error) != 404:
                    raise
                return None
        return json.loads(content)

    def write_record(self, location: str, record: dict[str, Any]) -> None:
        """
        Record something in place of what was there.

        :param location: S3 URI of the record.
        :param record: JSON values.
        :raises RequestRejected: the bucket refuses it.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        uri = S3Uri.parse(location, needs_key=True)
        content = json.dumps(record, separators=(",", ":")).encode()
        with translated(f"write the record {location}"):
            self._s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=content, ContentType="application/json")
