"""Models that are Python functions of this process: the quickest container there is."""

from __future__ import annotations

import importlib
import json
import logging
import operator
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from airflow_async_sm.emulator.models.containers import IMITATED_CRASH

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    What a model answers, with everything said.

    :param status: HTTP status. Default 200.
    :param body: The body; text is sent as UTF-8. Default: an empty one.
    :param content_type: The content type, or ``None`` for none.
    :param headers: Further headers of the answer. Nobody sees them, but their size counts for the platform's
        limit. Default: none.
    """

    status: int = 200
    body: bytes | str = b""
    content_type: str | None = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return self.body.encode() if isinstance(self.body, str) else self.body


# A bare body gets a content type after its kind: text/plain for text, application/octet-stream for bytes.
Result = bytes | str | tuple[bytes | str, str] | Reply
Model = Callable[[bytes, Mapping[str, str]], Result]


class ModelExited(Exception):
    """The model ended its program, as it believed, instead of answering."""


@runtime_checkable
class Called(Protocol):
    """A container that is called in this process."""

    def call(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """
        Return what the model answers.

        :raises ModelExited: there is no answer.
        """


class CallableContainer:
    """
    A Python function as a container. It is ready at once, and every instance calls the same function.

    The function is called in the thread of the worker that has the request, several times at once if the
    endpoint allows that, and nothing can interrupt it. A request whose time limit passes, or that is dropped,
    ends when the function has returned, and its answer is thrown away; stopping the emulator waits some
    seconds for it. A function that may hang belongs into a program of its own. An exception is an answer with
    status 500 and its text; ``SystemExit`` ends the container.

    :param name: What to call it in the log.
    :param model: The function: it gets the body and the headers of the request.
    """

    address = None

    def __init__(self, *, name: str, model: Model) -> None:
        self._name = name
        self._model = model
        self._ended: str | None = None
        self._crashed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def ended(self) -> str | None:
        return self._ended

    @property
    def crashed(self) -> bool:
        return self._crashed

    def call(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """See :meth:`Called.call`."""
        try:
            return _reply(self._model(body, headers))
        except SystemExit as exited:
            # As Python does it: no code is a success, and a text is a failure.
            code = exited.code if isinstance(exited.code, int) else int(exited.code is not None)
            self._ended = f"exit code {code}"
            raise ModelExited(self._ended) from exited
        except Exception as error:
            log.info("The model of %s failed", self._name, exc_info=True)
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            return Reply(status=500, body=text, content_type="application/json")

    def start(self) -> None:
        """Do nothing: it is there."""

    def wait_until_healthy(self, limit: float, stopping: threading.Event) -> None:
        """Return at once: it is always healthy."""

    def ask_to_stop(self) -> None:
        """Do nothing: a function cannot be interrupted."""

    def stop(self) -> None:
        """Do nothing: a function cannot be interrupted."""

    def kill(self) -> None:
        """Do nothing: a function cannot be interrupted."""

    def crash(self) -> None:
        """Take no further calls; those under way are lost when the function returns."""
        self._crashed = True
        self._ended = IMITATED_CRASH

    def log_tail(self) -> str:
        return "(a function in the emulator's process)"


def load_model(name: str) -> Model:
    """
    Import a model.

    :param name: ``module:attribute``.
    :raises ValueError: there is no such thing, or it cannot be called.
    """
    module, _, attribute = name.partition(":")
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The model {name!r} cannot be loaded: {error}.") from error
    if not callable(found):
        raise ValueError(f"The model {name!r} is {found!r}; it must be something that can be called.")
    model: Model = found
    return model


def _reply(result: Result) -> Reply:
    if isinstance(result, Reply):
        return result
    if isinstance(result, tuple):
        body, content_type = result
        return _checked(Reply(body=body, content_type=content_type))
    kind = "text/plain; charset=utf-8" if isinstance(result, str) else "application/octet-stream"
    return _checked(Reply(body=result, content_type=kind))


def _checked(reply: Reply) -> Reply:
    body: object = reply.body
    if not isinstance(body, bytes | str):
        raise TypeError(
            f"the model returned {type(body).__name__}; it must return bytes, text, a body with its content "
            "type, or a Reply"
        )
    return reply
