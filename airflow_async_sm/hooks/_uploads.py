"""What is put into S3 so that an endpoint can fetch it, and taken away again."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from boto3.s3.transfer import TransferConfig

from airflow_async_sm.core.limits import KMS_KEY_ID
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import translated

if TYPE_CHECKING:
    from typing import Any

_PART_BYTES: Final = 16 * 1024 * 1024
_PARTS_AT_ONCE: Final = 4


class UploadCalls(AwsClients):
    """Put objects, and delete them."""

    def upload(
        self,
        source: BinaryIO,
        location: str,
        *,
        content_type: str | None = None,
        sse_kms_key_id: str | None = None,
    ) -> None:
        """
        Put the content of a file into S3, in parts of 16 MiB of which at most five are in memory.

        The object appears when all of it is there, or not at all.

        :param source: The file, open for reading bytes.
        :param location: S3 URI of the object. One that is there already is replaced.
        :param content_type: Type of the object. Default: S3's own, ``binary/octet-stream``.
        :param sse_kms_key_id: Id, alias or ARN of the KMS key that the object is encrypted with. Default: as
            the bucket is set up.
        :raises RequestRejected: it is not allowed, or there is no such bucket or key.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        """
        uri = S3Uri.parse(location, argument="location", needs_key=True)
        arguments: dict[str, Any] = {"ContentType": content_type} if content_type else {}
        if sse_kms_key_id is not None:
            KMS_KEY_ID.check("sse_kms_key_id", sse_kms_key_id)
            arguments |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": sse_kms_key_id}
        try:
            with translated(f"upload the payload to {location}"):
                self._s3.upload_fileobj(
                    source, uri.bucket, uri.key, ExtraArgs=arguments, Config=_transfer_config()
                )
        except RequestRejected as error:
            raise RequestRejected(
                f"{error} The role of the connection needs s3:PutObject and s3:AbortMultipartUpload there, "
                "and kms:GenerateDataKey and kms:Decrypt on a KMS key.",
                location=location,
            ) from error.__cause__

    def delete_object(self, location: str) -> None:
        """
        Delete an object. That it is not there is fine.

        :param location: S3 URI of the object.
        :raises RequestRejected: it is not allowed.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        """
        uri = S3Uri.parse(location, argument="location", needs_key=True)
        with translated(f"delete {location}"):
            self._s3.delete_object(Bucket=uri.bucket, Key=uri.key)


def _transfer_config() -> TransferConfig:
    config = TransferConfig(
        multipart_threshold=_PART_BYTES,
        multipart_chunksize=_PART_BYTES,
        max_concurrency=_PARTS_AT_ONCE,
        # The other client takes neither open files that are not on disk nor these bounds.
        preferred_transfer_client="classic",
    )
    # boto3 reads ten parts ahead, and has no argument for it.
    config.max_in_memory_upload_chunks = _PARTS_AT_ONCE
    return config
