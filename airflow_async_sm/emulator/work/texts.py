"""
What the platform writes where the model gave no answer, and what it says about answers that are errors.

Users of the service have quoted these texts: from failure objects, or only from logs and notifications (a
missing length, too large headers, a failed download).
"""

from __future__ import annotations

from typing import Final

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

NO_CONTENT_LENGTH: Final = (
    "The response from container primary did not specify the required Content-Length header"
)
# The end of this text is not known; the part after "length" is ours.
HEADERS_TOO_LARGE: Final = (
    "Response received from the primary container has headers with length greater than 4096 bytes. "
    "Reduce the length of the response headers."
)
# Ours: nobody has reported what the service does with a larger answer.
ANSWER_TOO_LARGE: Final = "Response received from the primary container is larger than 1073741824 bytes."


def model_error(status: int) -> str:
    """
    Return a notification's reason for an error of the model, whose own body is the failure object.

    :param status: The model's status; 0 stands for no answer at all.
    """
    side = "client" if 0 < status < 500 else "server"
    return (
        f"ClientError: Received {side} error ({status}) from model. See the SageMaker Endpoint logs in your "
        "account for more information."
    )


def connection_lost(endpoint: str) -> str:
    """Return the text for a container that closed the connection, or was not there."""
    return f"Connection reset by peer for the {endpoint} endpoint. Please retry."


def no_response(endpoint: str) -> str:
    """Return the text for a container that did not take the connection."""
    return (
        f"Amazon SageMaker could not get a response from the {endpoint} endpoint. This can occur when CPU or "
        "memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, "
        "use an instance type with more CPU capacity or memory."
    )


def timed_out(output: S3Uri) -> str:
    """Return the text for a spent time limit. It speaks of the upload whichever part took the time."""
    return f"Timed out uploading object (bucket: {output.bucket}, key: {output.key})"


def download_failed(place: str) -> str:
    """Return the text for an input that cannot be read."""
    try:
        uri = S3Uri.parse(place)
    except InvalidInput:  # No address in S3; there is no bucket to name, so it is named as it stands.
        bucket, _, key = place.partition("://")[2].partition("/")
        uri = S3Uri(bucket, key)
    return f"Failed to download object (bucket: {uri.bucket}, key: {uri.key})"


def upload_failed(output: S3Uri) -> str:
    """Return the text for an output that cannot be written: ours, by analogy with the download."""
    return f"Failed to upload object (bucket: {output.bucket}, key: {output.key})"
