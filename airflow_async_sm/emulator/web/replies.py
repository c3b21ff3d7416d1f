"""Answers over HTTP, and how each protocol of AWS writes an error."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.sax.saxutils import escape

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.web.calls import Call, Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

JSON: Final = "application/json"
AMZ_JSON: Final = "application/x-amz-json-1.1"

_REASONS: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
# A text of up to 23 bytes has its length in its first byte, a longer one in the byte or two after it.
_TEXT_OF_CBOR: Final = 0x60
_LONG_TEXT_OF_CBOR: Final = _TEXT_OF_CBOR + 24

Headers = list[tuple[str, str]]


class ReplyWithheld(ConnectionError):
    """
    Raised by the application to close the connection without an answer.

    The server takes it for a connection that its client has closed.
    """


class Reply(NamedTuple):
    """One answer. Its body is closed by the server where it can be closed."""

    status: int
    headers: Headers
    body: Iterable[bytes]

    def send(self, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with it, as a WSGI application does."""
        start_response(_REASONS.get(self.status, f"{self.status} Unknown"), self.headers)
        return self.body


def new_request_id() -> str:
    """Return an id for an answer. Unlike ``uuid4`` it lets no other thread take its turn."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def reply(
    content: bytes, *, status: int = 200, content_type: str, headers: Iterable[tuple[str, str]] = ()
) -> Reply:
    """
    Return an answer that is in memory.

    :param content: The body.
    :param status: HTTP status. Default 200.
    :param content_type: What the body is.
    :param headers: Further headers.
    """
    own = [("Content-Type", content_type), ("Content-Length", str(len(content)))]
    return Reply(status, [*own, *headers], [content])


def json_reply(
    value: Any, *, status: int = 200, content_type: str = JSON, headers: Iterable[tuple[str, str]] = ()
) -> Reply:
    """
    Return a JSON answer.

    :param value: What is written as JSON.
    :param status: HTTP status. Default 200.
    :param content_type: What the body is said to be. Default ``application/json``.
    :param headers: Further headers.
    """
    own = ("x-amzn-RequestId", new_request_id())
    content = json.dumps(value).encode()
    return reply(content, status=status, content_type=content_type, headers=[own, *headers])


def error_reply(error: AwsError, call: Call | None = None, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """
    Return an error as the clients of the call's service read it.

    :param error: The error.
    :param call: The call that it answers. Default: something that is no call of AWS.
    :param headers: Further headers.
    """
    protocol = call.protocol if call else Protocol.REST_JSON
    if protocol is Protocol.S3:
        return _s3_error(error, head=call is not None and call.head, headers=headers)
    request_id = new_request_id()
    own = [("x-amzn-RequestId", request_id), *headers]
    if protocol is Protocol.QUERY:
        content = _query_error(error, request_id)
        return reply(content, status=error.status, content_type="text/xml", headers=own)
    if protocol is Protocol.CBOR:
        own.append(("smithy-protocol", "rpc-v2-cbor"))
        content = _cbor_map({"__type": error.code, "message": error.message})
        return reply(content, status=error.status, content_type="application/cbor", headers=own)
    # The runtime's clients take the code from the header, the control plane's from "__type".
    own.append(("x-amzn-ErrorType", error.code))
    content = json.dumps({"__type": error.code, "message": error.message}).encode()
    content_type = AMZ_JSON if protocol is Protocol.JSON else JSON
    return reply(content, status=error.status, content_type=content_type, headers=own)


def internal_failure(call: Call | None = None) -> AwsError:
    """Return the error of a service that has failed. S3 has another word for it than the others."""
    code = "InternalError" if call is not None and call.protocol is Protocol.S3 else "InternalFailure"
    return AwsError(code, "We encountered an internal error. Please try again.", status=500)


def access_denied(call: Call | None, message: str) -> AwsError:
    """Return the refusal of a call that its caller may not make; services in XML have the shorter word."""
    short = call is not None and call.protocol in (Protocol.S3, Protocol.QUERY)
    return AwsError("AccessDenied" if short else "AccessDeniedException", message, status=403)


def _s3_error(error: AwsError, *, head: bool, headers: Iterable[tuple[str, str]]) -> Reply:
    request_id = f"{random.getrandbits(64):016X}"
    own = [("x-amz-request-id", request_id), *headers]
    if head:
        # The code is nowhere in it: a client sees the status and nothing else.
        return Reply(error.status, [("Content-Type", "application/xml"), *own], [])
    content = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"<RequestId>{request_id}</RequestId></Error>"
    )
    return reply(content.encode(), status=error.status, content_type="application/xml", headers=own)


def _query_error(error: AwsError, request_id: str) -> bytes:
    kind = "Receiver" if error.status >= 500 else "Sender"
    return (
        f"<ErrorResponse><Error><Type>{kind}</Type><Code>{escape(error.code)}</Code>"
        f"<Message>{escape(error.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _cbor_map(texts: dict[str, str]) -> bytes:
    return bytes([0xA0 + len(texts)]) + b"".join(_cbor_text(text) for pair in texts.items() for text in pair)


def _cbor_text(text: str) -> bytes:
    content = text.encode()
    if len(content) < 24:
        return bytes([_TEXT_OF_CBOR + len(content)]) + content
    return bytes([_LONG_TEXT_OF_CBOR + 1]) + len(content).to_bytes(2, "big") + content


_CODES: Final = (
    re.compile(rb"<Code>([^<]+)</Code>"),
    re.compile(rb'"__type"\s*:\s*"(?:[^"#]*#)?([^":]+)'),
)


def error_code(answer: Reply) -> str:
    """Return the code of an error answer as its client reads it; without one that is the status."""
    for name, value in answer.headers:
        if name.lower() == "x-amzn-errortype":
            return value.partition(":")[0]
    content = b"".join(answer.body) if isinstance(answer.body, list | tuple) else b""
    for pattern in _CODES:
        if found := pattern.search(content):
            return found[1].decode("latin-1")
    return _cbor_code(content) or str(answer.status)


def _cbor_code(content: bytes) -> str | None:
    _, key, value = content.partition(_cbor_text("__type"))
    if not key or not value:
        return None
    start, length = (1, value[0] - _TEXT_OF_CBOR) if value[0] < _LONG_TEXT_OF_CBOR else (2, value[1])
    return value[start : start + length].decode(errors="replace").rpartition("#")[2]
