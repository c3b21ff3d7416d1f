"""The checked input of one asynchronous invocation, and the API arguments it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

__all__ = ["InvocationRequest"]

_MEMBERS: Final = {
    "endpoint_name": "EndpointName",
    "body": "Body",
    "input_location": "InputLocation",
    "content_type": "ContentType",
    "accept": "Accept",
    "custom_attributes": "CustomAttributes",
    "inference_id": "InferenceId",
    "request_ttl": "RequestTTLSeconds",
    "invocation_timeout": "InvocationTimeoutSeconds",
    "s3_output_path_extension": "S3OutputPathExtension",
    "filename": "Filename",
}
_LIMITS: Final[dict[str, limits.TextLimit | limits.NumberLimit]] = {
    "endpoint_name": limits.ENDPOINT_NAME,
    "input_location": limits.INPUT_LOCATION,
    "content_type": limits.CONTENT_TYPE,
    "accept": limits.ACCEPT,
    "custom_attributes": limits.CUSTOM_ATTRIBUTES,
    "inference_id": limits.INFERENCE_ID,
    "request_ttl": limits.REQUEST_TTL,
    "invocation_timeout": limits.INVOCATION_TIMEOUT,
    "s3_output_path_extension": limits.S3_OUTPUT_PATH_EXTENSION,
    "filename": limits.FILENAME,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class InvocationRequest:
    """
    One request to an asynchronous endpoint. Making one checks all that can be checked without a network.

    :param endpoint_name: Name of the endpoint, at most 63 characters.
    :param body: Inline payload of at most 128,000 bytes. Give this or ``input_location``, not both.
    :param input_location: S3 URI of the payload, at most 1,024 ASCII characters.
    :param content_type: Type of the payload, at most 1,024 ASCII characters. ``None``: the service's default.
    :param accept: Type wanted for the answer, at most 1,024 ASCII characters. ``None``: the model's default.
    :param custom_attributes: Text handed to the model as it is, at most 1,024 visible ASCII characters.
    :param inference_id: Name of the request, at most 64 visible ASCII characters. ``None``: the service
        makes one.
    :param request_ttl: Seconds it may stay queued, 60 to 21,600. ``None``: the service's default, 21,600.
    :param invocation_timeout: Seconds for download, model and upload, 1 to 3,600. ``None``: the service's
        default, 900.
    :param s3_output_path_extension: Folder below the endpoint's output path, at most 512 characters.
    :param filename: Name of the output object, at most 32 characters with at most one dot.
    :raises InvalidInput: an argument is outside its limits, or both or neither payload is given.
    """

    endpoint_name: str
    body: bytes | None = field(default=None, repr=False)
    input_location: str | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = field(default=None, repr=False)
    inference_id: str | None = None
    request_ttl: int | None = None
    invocation_timeout: int | None = None
    s3_output_path_extension: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        for name, limit in _LIMITS.items():
            if (value := getattr(self, name)) is not None:
                limit.check(name, value)
        if (self.body is None) == (self.input_location is None):
            given = "neither is given" if self.body is None else "both are given"
            raise InvalidInput(f"Give either a payload or an input_location for the request: {given}.")
        if self.body is not None:
            limits.BODY_BYTES.check("body", len(self.body))
            if not self.body:
                raise InvalidInput("The payload is empty; the service takes that for no payload at all.")
        if self.input_location is not None:
            S3Uri.parse(self.input_location, argument="input_location", needs_key=True)

    def to_api(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``invoke_endpoint_async``; what was not given is left out."""
        values = ((member, getattr(self, name)) for name, member in _MEMBERS.items())
        return {member: value for member, value in values if value is not None}

    def expires_at(self, submitted_at: float) -> float:
        """Return the moment after which nothing can arrive any more, in the unit of ``submitted_at``."""
        ttl = self.request_ttl or limits.DEFAULT_REQUEST_TTL
        run = self.invocation_timeout or limits.DEFAULT_INVOCATION_TIMEOUT
        return submitted_at + ttl + run + limits.EXPIRY_SLACK
