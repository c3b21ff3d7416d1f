"""What is put into S3 so that an endpoint can fetch it, and taken away again."""

from __future__ import annotations

from airflow_async_sm.hooks._clients import AwsClients


class UploadCalls(AwsClients):
    """Put objects, and delete them."""
