"""The form that all requests of a batch have in common, and the request that it makes of an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_async_sm.core.limits import BODY_BYTES
from airflow_async_sm.core.requests import InvocationRequest

if TYPE_CHECKING:
    from airflow_async_sm.core.batches.items import BatchItem

__all__ = ["BatchForm"]


@dataclass(frozen=True, kw_only=True)
class BatchForm:
    """
    What all requests of a batch have in common.

    :param members: Members of a request, as ``InvocationRequest`` names them.
    :param token: What tells the batch from all others.
    :param extension: The folder of its own below the endpoint's output path; ``None``: boto3 cannot send it.
    :param can_inline: Whether boto3 can send a payload within a request, and the user wants that.
    :param inputs: S3 URI of the folder for payloads that have to be uploaded, with a slash at its end.
    :param sse_kms_key_id: KMS key to encrypt these with; ``None``: as the bucket does.
    :param is_found: Whether it is known before the first reply where answers will be.
    """

    members: dict[str, Any]
    token: str
    extension: str | None
    can_inline: bool
    inputs: str
    sse_kms_key_id: str | None = None
    is_found: bool = True

    def is_inline(self, item: BatchItem) -> bool:
        """Return whether an item's payload is sent within its request."""
        return item.body is not None and self.can_inline and len(item.body) <= BODY_BYTES.maximum

    def request(self, item: BatchItem, attempt: int) -> InvocationRequest:
        """
        Return the request of an item.

        :param item: The item.
        :param attempt: Which attempt, from 1.
        :raises InvalidInput: a member is outside its limits.
        """
        inline = self.is_inline(item)
        members = {**self.members, "content_type": item.content_type or self.members.get("content_type")}
        return InvocationRequest(
            **members,
            body=item.body if inline else None,
            input_location=None if inline else item.input_location or f"{self.inputs}{item.item_id}",
            inference_id=f"{self.token}-{item.item_id}-{attempt}",
            s3_output_path_extension=self.extension,
            filename=item.filename(attempt) if self.extension else None,
        )
