"""An address that somebody wrote down as an input of a batch."""

from __future__ import annotations

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.records import too_large
from airflow_async_sm.core.limits import INPUT_LOCATION, INPUT_OBJECT_BYTES, InvalidInput
from airflow_async_sm.core.uris import S3Uri

__all__ = ["located"]


def located(
    location: str, *, origin: str, size: int = 0, version: str = "", content_type: str | None = None
) -> BatchInput | Unreadable:
    """
    Return the input at an address, or why the service would not take it. Nothing is looked at.

    :param location: S3 URI of the payload.
    :param origin: Where the address was found.
    :param size: Bytes of the object. Default: not known.
    :param version: Its ETag. Default: not known.
    :param content_type: Its type. Default: not known.
    """
    if size > INPUT_OBJECT_BYTES:
        return Unreadable(origin, f"{location} {too_large(INPUT_OBJECT_BYTES)}")
    try:
        uri = str(S3Uri.parse(INPUT_LOCATION.check("input_location", location), needs_key=True))
        INPUT_LOCATION.check("input_location", uri)
    except InvalidInput as error:
        return Unreadable(origin, str(error))
    return BatchInput(origin=origin, input_location=uri, version=version, content_type=content_type)
