"""Looks at what became of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from airflow_async_sm.core.outcomes import Observation, Pending, Settled
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import status_code, translated

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import InvocationHandle


class LookCalls(AwsClients):
    """One look at a time; others wait between them."""

    def look_at_result(self, handle: InvocationHandle, *, on_403: str = "fail") -> Observation:  # noqa: ARG002
        """
        Look once for the output object and, if it is not there, for the failure object.

        :param handle: The request, as :meth:`invoke_endpoint_async` returned it.
        :raises RequestRejected: the bucket refuses the look; without ``s3:ListBucket`` it does so for every
            object that is not there yet.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        if self._exists(handle.output_location):
            return Settled(succeeded=True)
        if handle.failure_location is not None and self._exists(handle.failure_location):
            return Settled(succeeded=False)
        return Pending()

    def _exists(self, location: str) -> bool:
        uri = S3Uri.parse(location)
        with translated(f"look at {location}"):
            try:
                self._s3_looking.head_object(Bucket=uri.bucket, Key=uri.key)
            except ClientError as error:
                if status_code(error) != 404:
                    raise
                return False
        return True
