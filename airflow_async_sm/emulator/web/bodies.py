"""Reading what a request carries, in a way that moto can read it again."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.emulator.errors import AwsError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_KEPT: Final = "emulator.body"


def check_length(environ: WSGIEnvironment) -> None:
    """
    Refuse a request that does not say how long it is. Reading it would fail, or never end.

    :raises AwsError: its ``Content-Length`` is no whole number.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal() and len(length) < 19):
        raise AwsError("MalformedRequest", "Content-Length is not a whole number of bytes.")


def read_body(environ: WSGIEnvironment) -> bytes:
    """Return a request's whole body. Who reads it after this gets the same."""
    if _KEPT not in environ:
        source = environ["wsgi.input"]
        ends_itself = environ.get("wsgi.input_terminated", False)
        environ[_KEPT] = (
            source.read() if ends_itself else source.read(int(environ.get("CONTENT_LENGTH") or 0))
        )
    body: bytes = environ[_KEPT]
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def members(environ: WSGIEnvironment) -> dict[str, Any]:
    """
    Return the members of a call of the JSON protocol.

    :param environ: The request.
    :raises AwsError: it carries no JSON object.
    """
    try:
        found = json.loads(read_body(environ) or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object.")
    return found


def replace_members(environ: WSGIEnvironment, changed: dict[str, Any]) -> None:
    """Let a request of the JSON protocol carry other members."""
    content = json.dumps(changed).encode()
    environ[_KEPT] = content
    environ["CONTENT_LENGTH"] = str(len(content))
    environ["wsgi.input"] = io.BytesIO(content)


def endpoint_name(environ: WSGIEnvironment) -> str | None:
    """Return the endpoint that a call of SageMaker's control plane is about, if it names one."""
    try:
        found = members(environ).get("EndpointName")
    except AwsError:
        return None
    return found if isinstance(found, str) else None
