"""
What a failure object says: made readable, and sorted by what can be done about it.

The object holds what the container answered, without its status, or one sentence of the service. So a
status is looked for where the common model servers write it into their answers. A text that fits nothing
stays unexplained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

__all__ = ["LOOK_REFUSED", "MAX_FAILURE_BYTES", "Failure", "FailureKind", "classify", "failure_text"]

LOOK_REFUSED: Final = "S3 refuses to say whether"
"""How the detail of a look begins that was refused, and so what tells it from one that failed."""

MAX_FAILURE_BYTES: Final = 4_096
"""How much of a failure object is shown. The end is kept: there a traceback names its cause."""


class FailureKind(StrEnum):
    """What went wrong with a request."""

    MODEL_REJECTED = "ModelRejected"
    """The model answered that the request is bad (4xx)."""
    MODEL_BROKE = "ModelBroke"
    """The model answered that it failed (5xx), gave no answer, or ran out of memory."""
    BAD_ANSWER = "BadAnswer"
    """The container answered in a way that the service does not take."""
    INPUT_UNREADABLE = "InputUnreadable"
    """The service could not read the input object."""
    OUTPUT_UNWRITABLE = "OutputUnwritable"
    """The service could not write the output object."""
    INVOCATION_TIMED_OUT = "InvocationTimedOut"
    """Download, model and upload together took longer than they may."""
    EXPIRED = "Expired"
    """The request was in the queue for longer than it may."""
    UNKNOWN = "Unknown"
    """The model's own text, which says nothing that is known."""

    @property
    def is_permanent(self) -> bool:
        """Whether the same request would fail in the same way, until somebody mends something."""
        return self in _PERMANENT


_PERMANENT: Final = frozenset(
    {
        FailureKind.MODEL_REJECTED,
        FailureKind.BAD_ANSWER,
        FailureKind.INPUT_UNREADABLE,
        FailureKind.OUTPUT_UNWRITABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """
    What a failure object tells.

    :param kind: What went wrong.
    :param advice: What can be done about it, in sentences. May be empty.
    """

    kind: FailureKind
    advice: str = ""

    @property
    def permanent(self) -> bool:
        """Whether the same request would fail in the same way, until somebody mends something."""
        return self.kind.is_permanent


def failure_text(data: bytes, *, total_bytes: int) -> str:
    """
    Return the text of a failure object: perhaps JSON, perhaps a sentence, perhaps no text at all.

    :param data: The object, or its last :data:`MAX_FAILURE_BYTES` bytes.
    :param total_bytes: Size of the whole object, in bytes.
    """
    text = data.decode("utf-8", errors="replace").strip()
    if not text:
        return "(the failure object is empty)"
    return text if total_bytes <= len(data) else f"(the last {len(data):,} of {total_bytes:,} bytes) …{text}"


def classify(text: str) -> Failure:
    """
    Return what a failure object tells, as far as that is known.

    :param text: Its text, as :func:`failure_text` returns it.
    """
    # A server that reports such trouble as a bad request is wrong about that.
    if found := _first(_TROUBLE, text):
        return found
    body = _parsed(text)
    if isinstance(body, str) and (found := _first(_SERVICE, body)):
        return found
    status = _status(body)
    if status is None:
        return _first(_WORDING, text) or Failure(FailureKind.UNKNOWN)
    kind = FailureKind.MODEL_REJECTED if _is_rejection(status) else FailureKind.MODEL_BROKE
    said = _first(_WORDING, text)
    advice = said.advice if said and said.kind is kind else ""
    return Failure(kind, advice or _STATUS_ADVICE.get(status, ""))


# What stands for a 4xx in which the request is not what is bad: time, order, load, another server.
_NOT_THE_REQUEST: Final = frozenset({408, 424, 425, 429, 499})


def _is_rejection(status: int) -> bool:
    return status < 500 and status not in _NOT_THE_REQUEST


_Sign = tuple[re.Pattern[str], Failure]


def _sign(pattern: str, kind: FailureKind, advice: str = "") -> _Sign:
    return re.compile(pattern, re.IGNORECASE), Failure(kind, advice)


def _first(signs: tuple[_Sign, ...], text: str) -> Failure | None:
    return next((failure for pattern, failure in signs if pattern.search(text)), None)


_TOO_LARGE: Final = (
    "The model server has a limit of its own for the size of a request, which is often 2 to 6 MB: raise it "
    "(for example TS_MAX_REQUEST_SIZE or MMS_MAX_REQUEST_SIZE in the model's environment), or send less."
)
_OVERLOADED: Final = (
    "The model server was busy or not ready: lower the endpoint's max_concurrent_invocations_per_instance, "
    "or give the server more workers."
)
_SERVER_TIMEOUT: Final = (
    "The model server has a time limit of its own, which is often 60 s: raise it (for example "
    "SAGEMAKER_MODEL_SERVER_TIMEOUT or TS_DEFAULT_RESPONSE_TIMEOUT in the model's environment)."
)
_STATUS_ADVICE: Final[Mapping[int, str]] = {
    404: "The model server does not know the path or the model.",
    408: _SERVER_TIMEOUT,
    413: _TOO_LARGE,
    415: "Check content_type and accept: the model does not take one of them.",
    429: _OVERLOADED,
    503: _OVERLOADED,
    504: _SERVER_TIMEOUT,
}

# Trouble of the machine, wherever it is said and whatever status came with it.
_TROUBLE: Final = (
    _sign(
        r"\b(cuda|hip|gpu|xla|resource_exhausted)\b.{0,60}\bout of memory|\bCUDA_ERROR_OUT_OF_MEMORY\b"
        r"|OutOfMemoryError|\bMemoryError\b|\bstd::bad_alloc\b|\bcan(no|')t allocate memory"
        r"|\bCUBLAS_STATUS_ALLOC_FAILED\b|\bOOM when allocating|\bunable to allocate [\d.]+ [KMGT]iB",
        FailureKind.MODEL_BROKE,
        "The model ran out of memory: send less at once, lower the endpoint's "
        "max_concurrent_invocations_per_instance, or use an instance type with more memory.",
    ),
    _sign(
        r"no space left on device",
        FailureKind.MODEL_BROKE,
        "The instance's disk is full: use a larger volume or instance type, and let the model clean up after "
        "itself.",
    ),
    _sign(
        r"\bCUDA error\b|\bCUDNN_STATUS_|\bNCCL error\b",
        FailureKind.MODEL_BROKE,
        "The GPU reported an error; until the container is restarted, requests may go on failing.",
    ),
)

# Sentences of the service itself. A model's answer may quote them, but does not begin with them.
_SERVICE: Final = (
    _sign(
        r"\A(clienterror: )?timed out (up|down)loading object\b|\A(your )?invocation timed out\b",
        FailureKind.INVOCATION_TIMED_OUT,
        "Whatever the text says, the limit is for download, model and upload together: raise "
        "invocation_timeout (900 s unless the request says otherwise, at most 3,600 s), or give the model "
        "less to do.",
    ),
    _sign(
        r"\A(clienterror: )?failed to download object\b",
        FailureKind.INPUT_UNREADABLE,
        "Check that the object is there, and that the endpoint's execution role may read it (s3:GetObject, "
        "and kms:Decrypt if it is encrypted with a key).",
    ),
    _sign(
        r"\A(clienterror: )?failed to upload object\b",
        FailureKind.OUTPUT_UNWRITABLE,
        "Check that the endpoint's output bucket exists, and that the endpoint's execution role may write "
        "there (s3:PutObject, s3:AbortMultipartUpload, and kms:GenerateDataKey if a key is set).",
    ),
    _sign(
        r"\A(the )?response (received )?from .{1,80}\bcontent-length\b",
        FailureKind.BAD_ANSWER,
        "Let the container send a Content-Length, and not a chunked or streamed answer.",
    ),
    _sign(
        r"\A(the )?response (received )?from .{1,80}\bheaders\b",
        FailureKind.BAD_ANSWER,
        "Let the container send shorter headers: 4,096 bytes in all are the most.",
    ),
    _sign(
        r"\A(the )?response (received )?from .{1,80}\blarger than\b",
        FailureKind.BAD_ANSWER,
        "Let the model answer less, or write to S3 itself and answer where.",
    ),
    _sign(
        r"\Aconnection reset by peer for the\b"
        r"|\A(clienterror: )?received server error \(0\) from\b",
        FailureKind.MODEL_BROKE,
        "The container closed the connection, as one does that crashes or is killed for its memory: its log "
        "tells more.",
    ),
    _sign(
        r"\Aamazon sagemaker could not get a response from the\b",
        FailureKind.MODEL_BROKE,
        "The container did not answer in time, as one does whose CPU or memory is used up: use a larger "
        "instance type, or lower the endpoint's max_concurrent_invocations_per_instance.",
    ),
    # Nobody has reported what the service writes about a request that expired, if it writes anything.
    _sign(
        r"\A.{0,200}\bRequestTTLSeconds\b|\A((the|this|inference) )*request\b.{0,80}\bexpired\b",
        FailureKind.EXPIRED,
        "Raise request_ttl (at most 21,600 s), or let the endpoint have more instances sooner.",
    ),
)

# What known servers say where they give no status. With one, only the advice counts.
_WORDING: Final = (
    _sign(
        r"length limit exceeded|content length exceeded|request entity too large|payload too large"
        r"|content too large",
        FailureKind.MODEL_REJECTED,
        _TOO_LARGE,
    ),
    _sign(
        r"maximum context length|context_length_exceeded"
        r"|\binput validation error.{0,80}\btokens\b",
        FailureKind.MODEL_REJECTED,
        "Shorten the prompt, or ask for fewer tokens.",
    ),
    _sign(
        r"content type \S{1,100} is not supported by this framework",
        FailureKind.MODEL_REJECTED,
        _STATUS_ADVICE[415],
    ),
    # The built-in XGBoost answers 400 and 415 so.
    _sign(
        r"\Aunable to evaluate payload provided|\ALoading \S{1,20} data failed with exception",
        FailureKind.MODEL_REJECTED,
        "Check that the payload has the format and the columns that the model was trained with.",
    ),
    # The Hugging Face toolkit gives every error of its handler the status 400.
    _sign(
        r'"code"\s*:\s*400\b.{0,80}"InternalServerException"',
        FailureKind.MODEL_REJECTED,
        "This model server calls every error of its handler a bad request: see the container's log for the "
        "cause.",
    ),
    _sign(
        r"traceback \(most recent call last\)|\bworker died\b",
        FailureKind.MODEL_BROKE,
        "The model's own code failed: see the container's log.",
    ),
)

_STATUS_KEYS: Final = ("code", "status", "statusCode", "status_code")
_WORD_KEYS: Final = (*_STATUS_KEYS, "type", "error_type", "error_code")
# Where servers put what is wrong into a part of their answer.
_INNER_KEYS: Final = ("error", "detail")
_NUMBER: Final = re.compile(r"\s*([45]\d\d)\b")
_TITLE: Final = re.compile(r"<title>([^<]{1,80})</title>", re.IGNORECASE)
# What the service says of an answer in its notifications and logs.
_RECEIVED: Final = re.compile(r"\A(?:ClientError: )?Received (?:client|server) error \(([45]\d\d)\) from")
# What a server says of itself, in an answer that is for bad requests by custom.
_OWN_TROUBLE: Final = re.compile(
    r"\b(internal|unavailable|overloaded|busy|loading|not (yet )?(ready|available)"
    r"|timed? ?out|exception|traceback|errno"
    r"|(inference|prediction|generation|processing) (failed|error))\b",
    re.IGNORECASE,
)


def _bare(text: str) -> str:
    """Return a word as all servers would write it: ``Bad Request`` and ``BadRequestException`` are one."""
    return re.sub(r"[^a-z]", "", text.lower()).removesuffix("exception").removesuffix("error")


_WORDS: Final[Mapping[str, int]] = {
    **{_bare(status.phrase): status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST},
    # The names of these have changed, with Python and with servers.
    "requestentitytoolarge": 413,
    "payloadtoolarge": 413,
    "contenttoolarge": 413,
    "unprocessableentity": 422,
    "unprocessablecontent": 422,
    # The names of errors in Python, in OpenAI's answers, MLflow, and the servers of Hugging Face.
    "invalidrequest": 400,
    "contextlengthexceeded": 400,
    "invalidparametervalue": 400,
    "malformedrequest": 400,
    "empty": 400,
    "authentication": 401,
    "permission": 403,
    "permissiondenied": 403,
    "modelnotfound": 404,
    "validation": 422,
    "tokenizer": 422,
    "backend": 424,
    "generation": 424,
    "ratelimit": 429,
    "overloaded": 429,
    "server": 500,
    "api": 500,
    "internalserver": 500,
    "incompletegeneration": 500,
    "unhealthy": 503,
}


def _parsed(text: str) -> Any:
    """Return the JSON value of an answer; where it is none, the text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    if isinstance(body, list) and len(body) == 1:
        return body[0]
    return body


def _status(body: Any) -> int | None:
    """Return the status that stands in an answer, or that it has by custom."""
    if isinstance(body, str):
        return _status_of_text(body)
    if not isinstance(body, dict):
        return None
    parts = [body, *(body[key] for key in _INNER_KEYS if isinstance(body.get(key), dict))]
    return next(_numbers(parts), None) or next(_words(parts), None) or _status_of_detail(body.get("detail"))


def _numbers(parts: list[dict[str, Any]]) -> Iterator[int]:
    for part in parts:
        for key in _STATUS_KEYS:
            if isinstance(part.get(key), int | str) and (match := _NUMBER.match(str(part[key]))):
                yield int(match[1])


def _words(parts: list[dict[str, Any]]) -> Iterator[int]:
    for part in parts:
        for key in _WORD_KEYS:
            if isinstance(part.get(key), str) and (status := _WORDS.get(_bare(part[key]))):
                yield status


def _status_of_text(text: str) -> int | None:
    """Return the status of an answer that is nothing but the name of one, as text or as a page."""
    if match := _RECEIVED.match(text):
        return int(match[1])
    page = _TITLE.search(text)
    return _WORDS.get(_bare(page[1] if page else text[:80]))


def _status_of_detail(detail: Any) -> int | None:
    """
    Return the status of an answer of FastAPI that has a detail and no status.

    A list says what is wrong with the input. A text is whatever the model's author wrote, for a bad request
    by custom.
    """
    if isinstance(detail, list) and detail:
        return HTTPStatus.UNPROCESSABLE_ENTITY.value
    if not isinstance(detail, str) or not detail:
        return None
    named = _WORDS.get(_bare(detail))
    if named is None and not _OWN_TROUBLE.search(detail):
        return HTTPStatus.BAD_REQUEST.value
    return named
