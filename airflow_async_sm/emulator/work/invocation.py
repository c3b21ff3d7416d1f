"""One run of a model: the POST to the container, what counts as an answer, and the texts without one."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.models.containers import Address

# The platform refuses an answer whose headers are larger than this many bytes.
_MAX_HEADER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container answered."""

    status: int
    body: bytes
    content_type: str | None


class InvocationFailed(Exception):
    """
    A request that ends in failure.

    :param reason: One line about what went wrong.
    :param answer: The container's own answer; without one the failure object holds ``reason``.
    """

    def __init__(self, reason: str, answer: Answer | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class End(StrEnum):
    """Why an exchange was ended from outside."""

    TIMED_OUT = "timed out"
    DROPPED = "dropped"


class Ended(Exception):
    """The exchange was ended from outside."""

    def __init__(self, why: End) -> None:
        super().__init__(why.value)
        self.why = why


class Exchange:
    """
    One call of a container that another thread can end at any moment.

    The time limit of an invocation covers all of its parts, however slowly the bytes come. So no socket
    timeout ends the wait: a timer does, by shutting the connection down, and so does the deletion of the
    endpoint.
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
        address: Address,
        body: bytes,
        headers: Mapping[str, str],
        *,
        endpoint: str,
        calling: Callable[[], None],
    ) -> Answer:
        """
        Call the container and return its answer of 2xx.

        :param address: Where the container listens.
        :param body: The payload.
        :param headers: Headers of the call.
        :param endpoint: Name of the endpoint, for the texts of failures.
        :param calling: Called right before the request is sent, and not if there is no connection.
        :raises InvocationFailed: it answered an error, or in a form that the platform refuses, or not at all.
        :raises Ended: see :meth:`end`.
        """
        connection = http.client.HTTPConnection(address.host, address.port, timeout=self._connect_timeout)
        try:
            self._connect(connection, endpoint)
            calling()
            connection.request("POST", f"{address.base_path}/invocations", body=body, headers=dict(headers))
            answer = _read(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self.check()
            # http.client has limits of its own, far beyond the platform's: a line's length, and the number of
            # headers, for which it has no class.
            if isinstance(error, http.client.LineTooLong) or type(error) is http.client.HTTPException:
                raise InvocationFailed(HEADERS_TOO_LARGE) from error
            raise InvocationFailed(connection_lost(endpoint)) from error
        finally:
            with self._lock:
                self._socket = None
            connection.close()
        self.check()
        if not 200 <= answer.status < 300:
            raise InvocationFailed(model_error(answer.status), answer)
        return answer

    def _connect(self, connection: http.client.HTTPConnection, endpoint: str) -> None:
        try:
            connection.connect()
        except TimeoutError as error:
            raise InvocationFailed(no_response(endpoint)) from error
        connection.sock.settimeout(None)
        with self._lock:
            self._socket = connection.sock
        self.check()


def _read(response: http.client.HTTPResponse) -> Answer:
    try:
        # The lines on the wire: name, colon, space, value, line end.
        if sum(len(name) + len(value) + 4 for name, value in response.getheaders()) > _MAX_HEADER_BYTES:
            raise InvocationFailed(HEADERS_TOO_LARGE)
        if response.getheader("Content-Length") is None:
            raise InvocationFailed(NO_CONTENT_LENGTH)
        return Answer(response.status, response.read(), response.getheader("Content-Type"))
    finally:
        response.close()


# What the platform writes where the model gave no answer, as users of the service have quoted it: from
# failure objects, or only from logs and notifications (a missing length, too large headers, a failed
# download).

NO_CONTENT_LENGTH: Final = (
    "The response from container primary did not specify the required Content-Length header"
)
# The end of this text is not known; the part after "length" is ours.
HEADERS_TOO_LARGE: Final = (
    "Response received from the primary container has headers with length greater than 4096 bytes. "
    "Reduce the length of the response headers."
)


def model_error(status: int) -> str:
    """Return a notification's reason for an error of the model, whose own body is the failure object."""
    side = "client" if status < 500 else "server"
    return (
        f"ClientError: Received {side} error ({status}) from model. See the SageMaker Endpoint logs in your "
        "account for more information."
    )


def connection_lost(endpoint: str) -> str:
    """Return the text for a container that closed the connection, or was not there."""
    return f"Connection reset by peer for the {endpoint} endpoint. Please retry."


def no_response(endpoint: str) -> str:
    """Return the text for a container that did not take the connection."""
    return (
        f"Amazon SageMaker could not get a response from the {endpoint} endpoint. This can occur when CPU or "
        "memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, "
        "use an instance type with more CPU capacity or memory."
    )


def timed_out(output: S3Uri) -> str:
    """Return the text for a spent time limit. It speaks of the upload whichever part took the time."""
    return f"Timed out uploading object (bucket: {output.bucket}, key: {output.key})"


def download_failed(place: str) -> str:
    """Return the text for an input that cannot be read."""
    try:
        uri = S3Uri.parse(place)
    except InvalidInput:  # No address in S3; there is no bucket to name, so it is named as it stands.
        bucket, _, key = place.partition("://")[2].partition("/")
        uri = S3Uri(bucket, key)
    return f"Failed to download object (bucket: {uri.bucket}, key: {uri.key})"


def upload_failed(output: S3Uri) -> str:
    """Return the text for an output that cannot be written: ours, by analogy with the download."""
    return f"Failed to upload object (bucket: {output.bucket}, key: {output.key})"
