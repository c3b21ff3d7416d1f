"""One accepted request, and how it ended: what the parts of the emulator tell each other about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.submissions import Submission

# A notification holds a model's response up to this size.
RESPONSE_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One accepted request. Times are epoch seconds of the emulator's clock.

    :param request_id: The emulator's own id, which is also the id in the default object keys.
    :param endpoint: Name of the endpoint.
    :param region: Region of the endpoint.
    :param variant: Name of the endpoint's production variant.
    :param submission: What the caller sent.
    :param output: Where a result goes.
    :param failure: Where a failure goes, or ``None`` if nothing is written then.
    :param config: The endpoint's ``AsyncInferenceConfig`` when the request was accepted.
    :param submitted_at: When it was accepted.
    :param expires_at: When it may no longer be taken from the queue.
    """

    request_id: str
    endpoint: str
    region: str
    variant: str
    submission: Submission
    output: S3Uri
    failure: S3Uri | None
    config: Mapping[str, Any]
    submitted_at: float
    expires_at: float

    @property
    def kms_key_id(self) -> str | None:
        """The key that objects are encrypted with, or ``None``."""
        key: str | None = self.config["OutputConfig"].get("KmsKeyId")
        return key


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered, as far as a notification may repeat it."""

    content: bytes
    content_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """
    How a request ended.

    :param state: The end that it came to.
    :param status: HTTP status of the model's answer, if there was one.
    :param reason: Why it failed, as one line: what a failure object says without an answer of the model.
    :param notice: The same for a notification, where it says it in other words; ``None`` where it does not.
    :param response: The model's answer if it has at most 128 KB; ``None`` without one, or for a larger one.
    :param content_type: The content type of the model's answer, whatever its size.
    :param started_at: When an instance took it from the queue for the last time, or ``None``.
    :param finished_at: When it ended.
    :param download_seconds: How long the input's download took, or ``None`` if there was none.
    :param model_seconds: How long the model took, or ``None`` if it gave no answer.
    :param upload_seconds: How long the output's upload took, or ``None`` if there was none.
    :param failed_step: ``"download"``, ``"model"`` or ``"upload"``: what went wrong; ``None`` if nothing did.
    """

    state: RequestState
    status: int | None = None
    reason: str | None = None
    notice: str | None = None
    response: Response | None = None
    content_type: str | None = None
    started_at: float | None = None
    finished_at: float
    download_seconds: float | None = None
    model_seconds: float | None = None
    upload_seconds: float | None = None
    failed_step: str | None = None
