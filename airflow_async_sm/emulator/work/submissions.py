"""``InvokeEndpointAsync``: the request as it comes in, held against the service's limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput, NumberLimit
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.errors import runtime_refusal
from airflow_async_sm.emulator.settings.unknowns import Unknowns

_PREFIX: Final = "x-amzn-sagemaker-"
# The members whose header is not just their name.
_HEADERS: Final = {
    "ContentType": "content-type",
    "CustomAttributes": "custom-attributes",
    "InferenceId": "inference-id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The members of one request. What the caller left out is ``None``, or the service's default."""

    body: bytes | None
    input_location: str | None
    content_type: str | None
    accept: str | None
    custom_attributes: str | None
    inference_id: str
    output_path_extension: str | None
    filename: str | None
    request_ttl: int
    invocation_timeout: int

    @classmethod
    def parse(
        cls, headers: Mapping[str, str], body: bytes, *, unknowns: Unknowns, new_id: Callable[[], str]
    ) -> Submission:
        """
        Read a request.

        :param headers: HTTP headers, their names in lower case.
        :param body: The HTTP payload. An empty one means that the caller sent none.
        :param unknowns: How refusals read.
        :param new_id: Makes an inference id where the caller gave none.
        :raises AwsError: a member breaks a limit, or there is not exactly one of payload and
            ``InputLocation``.
        """
        try:
            return cls._parse(headers, body, new_id)
        except InvalidInput as refusal:
            raise runtime_refusal(unknowns.refusal_text(str(refusal))) from refusal

    @classmethod
    def _parse(cls, headers: Mapping[str, str], body: bytes, new_id: Callable[[], str]) -> Submission:
        def given(name: str) -> str | None:
            return headers.get(_PREFIX + _HEADERS.get(name, name.lower()))

        def text(name: str, check: Callable[[str, object], str]) -> str | None:
            value = given(name)
            return None if value is None else check(name, value)

        def number(name: str, limit: NumberLimit, default: int) -> int:
            value = given(name)
            return default if value is None else limit.check(name, _whole(name, value))

        # Whether the object exists, or can exist, is found out when it is downloaded.
        input_location = text("InputLocation", limits.INPUT_LOCATION.check)
        if bool(body) == (input_location is not None):
            raise InvalidInput("exactly one of 'Body' and 'InputLocation' must be given.")
        limits.BODY_BYTES.check("Body", len(body))
        return cls(
            body=body or None,
            input_location=input_location,
            content_type=text("ContentType", limits.CONTENT_TYPE.check),
            accept=text("Accept", limits.ACCEPT.check),
            custom_attributes=text("CustomAttributes", limits.CUSTOM_ATTRIBUTES.check),
            inference_id=text("InferenceId", limits.INFERENCE_ID.check) or new_id(),
            output_path_extension=text("S3OutputPathExtension", limits.S3_OUTPUT_PATH_EXTENSION.check),
            filename=text("Filename", limits.FILENAME.check),
            request_ttl=number("RequestTTLSeconds", limits.REQUEST_TTL, limits.DEFAULT_REQUEST_TTL),
            invocation_timeout=number(
                "InvocationTimeoutSeconds", limits.INVOCATION_TIMEOUT, limits.DEFAULT_INVOCATION_TIMEOUT
            ),
        )

    def container_headers(self) -> dict[str, str]:
        """Return the headers that the container gets: only what the caller gave."""
        given = {
            "Content-Type": self.content_type,
            "Accept": self.accept,
            "X-Amzn-SageMaker-Custom-Attributes": self.custom_attributes,
        }
        return {name: value for name, value in given.items() if value is not None}

    def places(
        self, output: S3Uri, failure: S3Uri | None, *, request_id: str, unknowns: Unknowns
    ) -> tuple[S3Uri, S3Uri | None]:
        """
        Return where the output and the failure object go.

        :param output: The endpoint's output path.
        :param failure: The endpoint's failure path, or ``None``.
        :param request_id: What the keys are made of where the caller gave no file name. It is not the
            inference id.
        :param unknowns: How the extension and the file name enter the keys.
        """
        extension, filename = self.output_path_extension, self.filename
        object_place = output.join(extension or "", unknowns.output_name(filename, request_id))
        if failure is None:
            return object_place, None
        name = unknowns.failure_name(filename, request_id)
        return object_place, failure.join(unknowns.failure_folder(extension), name)


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise InvalidInput(f"{name} is {value!r}; it must be a whole number.")
    return int(value)
