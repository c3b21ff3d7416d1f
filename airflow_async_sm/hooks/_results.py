"""What a request left in S3: its answer, or the text of its failure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_async_sm.core.failures import MAX_FAILURE_BYTES, failure_text
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, ResultUnreadable
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import translated

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResultCalls(AwsClients):
    """Read what is there."""

    def read_result(self, location: str) -> bytes:
        """
        Return the content of an output object.

        :param location: S3 URI, as in the ``output_location`` that the operator returns.
        :raises ResultUnreadable: it is not there, or rights or a key are missing.
        """
        with self._reading(location) as uri:
            return self._s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()

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
