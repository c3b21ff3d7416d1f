"""A small fast HTTP server: one request at a time on each of many connections that stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """
    One request.

    :param method: ``GET``, ``HEAD``, ``PUT``, ``POST`` or ``DELETE``.
    :param path: The path, as it came.
    :param query: What follows the question mark, as it came.
    :param headers: Headers by their names in small letters.
    :param body: The content.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer.

    :param status: HTTP status.
    :param body: The content. What answers a HEAD says its length only.
    :param content_type: The type of the content.
    :param headers: Further headers.
    :param after: How long it takes, in seconds.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/xml"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0

    def wire(self, *, with_body: bool) -> bytes:
        """Return what goes over the connection."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "x-amz-request-id: 0123456789ABCDEF",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + _END_OF_HEAD + (self.body if with_body else b"")


class HttpProtocol(asyncio.Protocol):
    """
    One connection.

    :param answer: Answers a request.
    """

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self._answer = answer
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._told_to_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no type of asyncio's.

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End: what is still to be answered is dropped."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come in full."""
        self._buffer += data
        while (end := self._buffer.find(_END_OF_HEAD)) >= 0:
            method, target, headers = _head(self._buffer[:end])
            begin = end + len(_END_OF_HEAD)
            until = begin + int(headers.get("content-length", "0"))
            if len(self._buffer) < until:
                self._tell_to_continue(headers)
                return
            body, self._buffer = self._buffer[begin:until], self._buffer[until:]
            self._told_to_continue = False
            path, _, query = target.partition("?")
            answer = self._answer(Asked(method, path, query, headers, body))
            self._send(answer.wire(with_body=method != "HEAD"), answer.after)

    def _tell_to_continue(self, headers: Mapping[str, str]) -> None:
        if "expect" in headers and not self._told_to_continue:
            self._told_to_continue = True
            self._write(b"HTTP/1.1 100 Continue" + _END_OF_HEAD)

    def _send(self, data: bytes, after: float) -> None:
        if after > 0:
            asyncio.get_running_loop().call_later(after, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    return method, target, {name.strip().lower(): value.strip() for name, _, value in pairs}
