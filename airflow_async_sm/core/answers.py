"""What an answer becomes as the value of a task. Nothing is read from S3 or written here."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.serializers import JSON_LINES
from airflow_async_sm.core.texts import shortened
from airflow_async_sm.core.uris import S3Uri

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import InvocationHandle

__all__ = [
    "MAX_RESULT_BYTES",
    "MODES",
    "ObjectFacts",
    "Unfit",
    "answer_of",
    "as_json",
    "copy_address",
    "copy_target",
    "read_as",
]

MODES: Final = ("location", "json", "text", "bytes")
"""What a result can be, besides what a function makes of it."""

MAX_RESULT_BYTES: Final = 49_152
"""Default size limit of a value in XCom: 48 KiB, which is 64 KiB as base64."""

_URL: Final = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]*)://(?P<rest>.*)", re.DOTALL)
_S3_SCHEMES: Final = frozenset({"s3", "s3a", "s3n"})
_WITH_BUCKET: Final = frozenset({"gs", "gcs", "abfs", "abfss", "adl", "az", "wasb", "wasbs", "oss"})


class Unfit(ValueError):
    """The answer cannot be the value that is wanted. The text holds no part of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """
    What S3 says about an object without sending it.

    :param size: Its size, in bytes.
    :param content_type: Its content type; S3's default is ``binary/octet-stream``.
    :param last_modified: When it was written, in seconds since 1970 (UTC). S3 tells whole seconds.
    :param etag: Its entity tag, without quotes.
    """

    size: int
    content_type: str
    last_modified: float
    etag: str


def answer_of(handle: InvocationHandle, facts: ObjectFacts, copied_to: str | None = None) -> dict[str, Any]:
    """
    Return the small JSON value that tells of an answer without holding it.

    :param handle: The request.
    :param facts: What S3 says about its output object.
    :param copied_to: Where a copy was put; ``None``: there is none.
    """
    answer = {
        "endpoint_name": handle.endpoint_name,
        "inference_id": handle.inference_id,
        "output_location": handle.output_location,
        "content_type": facts.content_type,
        "size": facts.size,
        "submitted_at": handle.submitted_at,
        "answered_at": facts.last_modified,
        # S3's clock tells whole seconds, and a worker's clock may be ahead of it.
        "seconds": round(max(0.0, facts.last_modified - handle.submitted_at), 3),
    }
    if copied_to is not None:
        answer["copied_to"] = copied_to
    if handle.input_location is not None:
        answer["input_location"] = handle.input_location
    return answer


def read_as(mode: str, data: bytes, content_type: str) -> Any:
    """
    Return the content of an output object as the value that is wanted.

    :param mode: ``json``: what it says; JSON lines become a list. ``text``: a text. ``bytes``: base64 text.
    :param data: The content.
    :param content_type: Its content type. Whether it says JSON does not matter, containers often do not tell.
    :raises Unfit: it is no such thing.
    """
    if mode == "bytes":
        return base64.b64encode(data).decode("ascii")
    if mode == "text":
        return _decoded(data, _charset(content_type) or "utf-8")
    text = _json_text(data, content_type)
    if _main_type(content_type) in JSON_LINES:
        # A line of JSON may hold other marks that Python takes for the end of a line.
        lines = enumerate(text.split("\n"), start=1)
        return [_parsed(line, f"line {number}") for number, line in lines if line.strip()]
    if not text.strip():
        raise Unfit("it is empty, and so no JSON.")
    return _parsed(text, "it")


def as_json(value: Any) -> tuple[Any, int]:
    """
    Return a value as JSON holds it, with lists for tuples and texts for keys, and its size as JSON in bytes.

    :param value: Any value.
    :raises Unfit: JSON cannot hold it.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return json.loads(text), len(text.encode())
    except UnicodeEncodeError:
        raise Unfit("it holds half a surrogate pair, which is no character.") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Unfit(f"JSON cannot hold it: {shortened(str(error))}.") from None


def copy_address(copy_to: Any) -> str:
    """
    Return the address to copy to: an absolute local path, ``s3://bucket/key``, or another store's URL.

    :param copy_to: A text, a ``pathlib.Path`` or an ``ObjectStoragePath``.
    :raises InvalidInput: it is none of these, or nothing can be written there.
    """
    if not isinstance(copy_to, str) and not hasattr(copy_to, "parts"):
        raise InvalidInput(f"copy_to is {copy_to!r}; a text or a path is needed.")
    text = str(copy_to)
    if not text.strip():
        raise InvalidInput("copy_to is empty; leave it out, or say where the copy is to be.")
    url = _URL.fullmatch(text)
    if url is None:
        return _local(text, text)
    scheme, rest = url["scheme"].lower(), url["rest"]
    if scheme in ("file", "local"):
        return _local(text, rest)
    if scheme in ("http", "https"):
        raise InvalidInput(
            f"copy_to is {text!r}; nothing can be written there. S3 is written s3://bucket/key."
        )
    place, slash, path = rest.partition("/")
    bucket = place.rpartition("@")[2]
    if scheme in _S3_SCHEMES:
        # S3 makes the copy by itself, asked for through the task's own connection.
        S3Uri.parse(f"s3://{bucket}/{path}", argument="copy_to")
        return f"s3://{bucket}{slash}{path}"
    if scheme in _WITH_BUCKET and not bucket:
        raise InvalidInput(f"copy_to is {text!r}; it names no bucket, expected {scheme}://bucket/path.")
    return text


def copy_target(address: str, location: str) -> str:
    """
    Return where a copy goes. What that ends with a slash, or is a bucket, gets the object's name.

    :param address: What :func:`copy_address` returned.
    :param location: S3 URI of the object.
    :raises InvalidInput: the object has no name that can be used.
    """
    url = _URL.fullmatch(address)
    is_bucket = url is not None and "/" not in url["rest"]
    if not is_bucket and not address.endswith("/"):
        return address
    name = S3Uri.parse(location, argument="location", needs_key=True).key.rpartition("/")[2]
    if name in (".", ".."):
        raise InvalidInput(f"{location} cannot be copied into a folder under its own name, {name!r}.")
    return f"{address}/{name}" if is_bucket else f"{address}{name}"


def _local(given: str, path: str) -> str:
    if not path.startswith("/"):
        # A forgotten s3:// looks just like this, and a task's working directory is nobody's choice.
        raise InvalidInput(
            f"copy_to is {given!r}; expected an absolute local path, or a URL such as s3://bucket/key."
        )
    return path


def _header(content_type: str) -> Message:
    message = Message()
    message["Content-Type"] = content_type
    return message


def _main_type(content_type: str) -> str:
    return _header(content_type).get_content_type()


def _charset(content_type: str) -> str | None:
    return _header(content_type).get_content_charset()


def _json_text(data: bytes, content_type: str) -> str:
    """JSON tells its own encoding. Only where that fails is the content type asked."""
    try:
        return _decoded(data, json.detect_encoding(data))
    except Unfit:
        charset = _charset(content_type)
        if charset is None:
            raise
        return _decoded(data, charset)


def _decoded(data: bytes, charset: str) -> str:
    try:
        # A byte order mark is no part of the text.
        return data.decode("utf-8-sig" if charset.lower() in ("utf-8", "utf8") else charset)
    except LookupError:
        raise Unfit(
            f"its content type names an unknown charset, {shortened(charset)!r}. result='bytes' or a "
            "function takes it as it is."
        ) from None
    except ValueError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else type(error).__name__
        raise Unfit(
            f"it is no text in {charset} ({reason}). result='bytes' or a function takes it as it is."
        ) from None


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"{where} is no JSON: {shortened(str(error))}.") from None
