"""How a payload reaches the endpoint: within the request, or as an object in S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_async_sm.core.limits import BODY_BYTES, INPUT_OBJECT_BYTES, InvalidInput
from airflow_async_sm.core.uris import S3Uri

__all__ = ["TRANSPORTS", "Transport", "plan_transport"]

TRANSPORTS: Final = ("auto", "inline", "s3")
_NO_BODY: Final = "the installed boto3 cannot send a payload within a request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transport:
    """
    The way that was chosen, and why.

    :param inline: Whether the payload goes within the request. Otherwise it is uploaded first.
    :param reason: The rest of "The payload is sent ..., because", for the log.
    """

    inline: bool
    reason: str


def plan_transport(
    size: int | None, *, wanted: str = "auto", can_inline: bool, work_prefix: str | None = None
) -> Transport:
    """
    Choose how a payload is sent.

    :param size: Bytes of the payload, 1 to 1,000,000,000. ``None``: not known, so it is uploaded.
    :param wanted: ``auto``: inline if that is possible. ``inline`` or ``s3``: this way or not at all.
    :param can_inline: Whether the installed boto3 knows a request's ``Body``, as it does from 1.43.29 on.
    :param work_prefix: S3 URI of the folder for uploads.
    :raises InvalidInput: the payload is empty or too large, or cannot be sent in the way that is wanted.
    """
    if wanted not in TRANSPORTS:
        raise InvalidInput(
            f"payload_transport is {wanted!r}; give one of {', '.join(map(repr, TRANSPORTS))}."
        )
    if size is not None:
        _check_size(size)
    obstacle = _obstacle(size, can_inline)
    if wanted == "inline" and obstacle:
        raise InvalidInput(f"payload_transport is 'inline', but {obstacle}. {_ways_out(size)}")
    if wanted != "s3" and size is not None and not obstacle:
        return Transport(
            inline=True, reason=f"it has {size:,} of the {BODY_BYTES.maximum:,} bytes that a request may have"
        )
    reason = obstacle if wanted == "auto" else "payload_transport is 's3'"
    if not work_prefix:
        ways_out = _ways_out(size) if obstacle else "Give work_prefix='s3://bucket/folder', or 'auto'."
        raise InvalidInput(
            f"The payload has to go through S3, because {reason}, and there is no work_prefix to put it "
            f"under. {ways_out}"
        )
    S3Uri.parse(work_prefix, argument="work_prefix")
    return Transport(inline=False, reason=reason)


def _check_size(size: int) -> None:
    if size == 0:
        raise InvalidInput("The payload is empty: it has 0 bytes. Give at least one.")
    if size > INPUT_OBJECT_BYTES:
        raise InvalidInput(
            f"The payload has {size:,} bytes; SageMaker accepts at most {INPUT_OBJECT_BYTES:,}. "
            "Split it into several requests."
        )


def _obstacle(size: int | None, can_inline: bool) -> str:
    if size is None:
        return "its size is not known before it is read"
    if size > BODY_BYTES.maximum:
        return f"it has {size:,} bytes and a request may have at most {BODY_BYTES.maximum:,}"
    return "" if can_inline else _NO_BODY


def _ways_out(size: int | None) -> str:
    upload = "Give work_prefix='s3://bucket/folder' and payload_transport='auto'"
    if size is None or size > BODY_BYTES.maximum:
        return f"{upload}, or put the payload into S3 and give its address as input_location."
    return f"{upload}, or install boto3 1.43.29 or newer."
