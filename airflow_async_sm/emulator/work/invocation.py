"""One run of a model: the POST to the container, and what counts as an answer. Bodies pass in pieces."""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Final, cast

from airflow_async_sm.emulator.models.callables import Called, ModelExited
from airflow_async_sm.emulator.models.containers import Address, Container
from airflow_async_sm.emulator.work.texts import (
    ANSWER_TOO_LARGE,
    HEADERS_TOO_LARGE,
    NO_CONTENT_LENGTH,
    connection_lost,
    model_error,
    no_response,
)

# The platform refuses an answer whose headers are larger than this many bytes.
_MAX_HEADER_BYTES: Final = 4096
_MAX_ANSWER_BYTES: Final = 1024**3
_CHUNK_BYTES: Final = 256 * 1024
# A body up to this size stays in memory, a larger one lies in a temporary file.
_SPOOL_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a container answered. Whoever has it closes it.

    :param status: HTTP status.
    :param content_type: The content type that the container gave, if any.
    :param body: The body, to be read from its beginning.
    :param length: Size of the body in bytes.
    """

    status: int
    content_type: str | None
    body: BinaryIO
    length: int

    def close(self) -> None:
        """Let go of the body."""
        self.body.close()


class InvocationFailed(Exception):
    """
    A request that ends in failure.

    :param reason: One line about what went wrong.
    :param answer: The container's own answer; without one the failure object holds ``reason``.
    :param notice: The line that a notification has. Default: ``reason``.
    """

    def __init__(self, reason: str, answer: Answer | None = None, *, notice: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer
        self.notice = notice or reason


class End(StrEnum):
    """Why an exchange was ended from outside."""

    TIMED_OUT = "timed out"
    DROPPED = "dropped"
    LOST = "lost"
    REPLACED = "replaced"


class Ended(Exception):
    """The exchange was ended from outside."""

    def __init__(self, why: End) -> None:
        super().__init__(why.value)
        self.why = why


class Exchange:
    """
    One call of a container that another thread can end at any moment.

    The time limit of an invocation covers all of its parts, however slowly the bytes come. So no socket
    timeout ends the wait: a timer does, by shutting the connection down, and so does the loss of the instance
    or of the endpoint. Only a function of this process cannot be interrupted; there the end comes when it
    has returned.

    :param connect_timeout: Seconds that the container has to take the connection.
    """

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._why: End | None = None

    def end(self, why: End) -> None:
        """Make the call, or its next step, raise :class:`Ended`. The first reason counts."""
        with self._lock:
            self._why = self._why or why
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise :class:`Ended` if the exchange was ended."""
        with self._lock:
            if self._why is not None:
                raise Ended(self._why)

    def post(
        self,
        container: Container,
        body: BinaryIO,
        length: int,
        headers: Mapping[str, str],
        *,
        endpoint: str,
        calling: Callable[[], None],
    ) -> Answer:
        """
        Call the container and return its answer, whatever its status.

        :param container: Whom to call.
        :param body: The payload, read from where it stands.
        :param length: Size of the payload in bytes.
        :param headers: Headers of the call.
        :param endpoint: Name of the endpoint, for the texts of failures.
        :param calling: Called right before the request is sent, and not if there is no connection.
        :raises InvocationFailed: it answered in a form that the platform refuses, or not at all.
        :raises Ended: see :meth:`end`.
        """
        self.check()
        if container.ended is not None:
            raise _lost(endpoint)
        if isinstance(container, Called):
            answer = _call(container, body, length, headers, endpoint=endpoint, calling=calling)
        elif container.address is not None:
            answer = self._send(container.address, body, length, headers, endpoint=endpoint, calling=calling)
        else:
            raise _lost(endpoint)
        try:
            self.check()
            # The end of a process cuts its connections; other kinds answer as if nothing had happened.
            if container.crashed:
                raise _lost(endpoint)
        except (Ended, InvocationFailed):
            answer.close()
            raise
        return answer

    def _send(
        self,
        address: Address,
        body: BinaryIO,
        length: int,
        headers: Mapping[str, str],
        *,
        endpoint: str,
        calling: Callable[[], None],
    ) -> Answer:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=self._connect_timeout)
        try:
            with self._talking(endpoint):
                self._connect(connection, endpoint)
            calling()
            with self._talking(endpoint):
                connection.putrequest("POST", f"{address.base_path}/invocations")
                for name, value in {**headers, "Content-Length": str(length)}.items():
                    connection.putheader(name, value)
                connection.endheaders()
            self._upload(connection, body, length)
            with self._talking(endpoint):
                response = connection.getresponse()
            with contextlib.closing(response):
                return self._download(response, endpoint)
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection, endpoint: str) -> None:
        try:
            connection.connect()
        except TimeoutError as error:
            raise InvocationFailed(no_response(endpoint)) from error
        connection.sock.settimeout(None)
        with self._lock:
            self._socket = connection.sock
        self.check()

    @contextmanager
    def _talking(self, endpoint: str) -> Iterator[None]:
        """Turn what goes wrong with the connection into the platform's words."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.check()
            # http.client has limits of its own, far beyond the platform's: a line's length, and the number of
            # headers, for which it has no class.
            if isinstance(error, http.client.LineTooLong) or type(error) is http.client.HTTPException:
                raise InvocationFailed(HEADERS_TOO_LARGE) from error
            raise _lost(endpoint) from error

    def _upload(self, connection: http.client.HTTPConnection, body: BinaryIO, length: int) -> None:
        left = length
        while left:
            chunk = body.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise RuntimeError(f"The payload ended {left} bytes early.")
            left -= len(chunk)
            try:
                connection.send(chunk)
            except OSError:
                # It may have answered without hearing us out, for example that the payload is too large.
                return

    def _download(self, response: http.client.HTTPResponse, endpoint: str) -> Answer:
        # The lines on the wire: name, colon, space, value, line end.
        if sum(len(name) + len(value) + 4 for name, value in response.getheaders()) > _MAX_HEADER_BYTES:
            raise InvocationFailed(HEADERS_TOO_LARGE)
        length = response.length
        if length is None:
            raise InvocationFailed(NO_CONTENT_LENGTH)
        if length > _MAX_ANSWER_BYTES:
            raise InvocationFailed(ANSWER_TOO_LARGE)
        body = spool()
        try:
            left = length
            while left:
                with self._talking(endpoint):
                    # Past the response's own reading, which would throw away what comes after the end.
                    chunk = response.fp.read(min(left, _CHUNK_BYTES))
                    if not chunk:
                        raise http.client.IncompleteRead(b"", left)
                body.write(chunk)
                left -= len(chunk)
            if self._has_more(response):
                raise _lost(endpoint)
            body.seek(0)
        except BaseException:
            body.close()
            raise
        return Answer(response.status, response.getheader("Content-Type"), body, length)

    def _has_more(self, response: http.client.HTTPResponse) -> bool:
        """Return whether the container has sent more than it announced, as far as that is here by now."""
        sock = self._socket
        if sock is None:
            return False
        try:
            sock.settimeout(0)
            return bool(response.fp.peek(1))
        except OSError:
            return False


def spool() -> BinaryIO:
    """Return an empty temporary file that takes to the disk when it grows beyond 1 MiB."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))


def _call(
    container: Called,
    body: BinaryIO,
    length: int,
    headers: Mapping[str, str],
    *,
    endpoint: str,
    calling: Callable[[], None],
) -> Answer:
    content = body.read(length)
    calling()
    try:
        reply = container.call(content, headers)
    except ModelExited as exited:
        raise _lost(endpoint) from exited
    if sum(len(name) + len(value) + 4 for name, value in reply.headers.items()) > _MAX_HEADER_BYTES:
        raise InvocationFailed(HEADERS_TOO_LARGE)
    answered = spool()
    answered.write(reply.content)
    answered.seek(0)
    return Answer(reply.status, reply.content_type, answered, len(reply.content))


def _lost(endpoint: str) -> InvocationFailed:
    # Notifications have been seen to call it a server error with the status 0.
    return InvocationFailed(connection_lost(endpoint), notice=model_error(0))
