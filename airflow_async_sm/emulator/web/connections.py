"""HTTP/1.1 on one connection: it stays open from one request to the next."""

from __future__ import annotations

import functools
import io
import logging
import socketserver
import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote_to_bytes, urlsplit

from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, should_preserve_original_header_name
from werkzeug.serving import DechunkedInput

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_LONGEST_LINE: Final = 65_536
_MOST_HEADERS: Final = 200
_BLOCK: Final = 65_536
_NO_BODY: Final = ("1", "204", "304")


class ReplyWithheld(Exception):
    """Raised by the application: the connection is to be closed without an answer."""


class _BadRequest(Exception):
    """What came is no HTTP."""


class _Body(io.RawIOBase):
    """The part of a connection that is the body of one request."""

    def __init__(self, connection: io.BufferedIOBase, length: int) -> None:
        self._connection = connection
        self.left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        content = self._connection.read(wanted) if wanted else b""
        if len(content) < wanted:
            raise ConnectionError("The client closed the connection within a request.")
        self.left -= len(content)
        return content


class Connection(socketserver.StreamRequestHandler):
    """
    Answers the requests that come over one connection, one after the other.

    The server has the WSGI application as ``app``. A connection is never closed for being idle: a client that
    sends at that very moment would not know whether its request was carried out.
    """

    # The header and the body of a large answer are two writes; without this the second one can wait for the
    # client.
    disable_nagle_algorithm = True
    rbufsize = _BLOCK

    def handle(self) -> None:
        """Answer until one side has enough."""
        try:
            while self._one_request():
                pass
        except _BadRequest as problem:
            log.debug("No HTTP: %s", problem)
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        except OSError as gone:
            log.debug("A client is gone: %s", gone)

    def _one_request(self) -> bool:
        """Answer a request, and return whether there may be another one."""
        line = self.rfile.readline(_LONGEST_LINE + 1)
        if not line:
            return False
        if line in (b"\r\n", b"\n"):
            return True
        environ = self._environ(line)
        keep = (
            environ["SERVER_PROTOCOL"] == "HTTP/1.1" and environ.get("HTTP_CONNECTION", "").lower() != "close"
        )
        if environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = environ["wsgi.input"]
        answer = _Answer(self.wfile.write, environ, keep=keep)
        try:
            answer.run(cast("Any", self.server).app)
        except ReplyWithheld:
            return False
        _drain(body)
        return answer.keep

    def _environ(self, line: bytes) -> WSGIEnvironment:
        parts = line.decode("latin-1").split()
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _BadRequest(repr(line[:100]))
        method, target, version = parts
        host, port = cast("Any", self.server).server_address[:2]
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": method,
            "RAW_URI": target,
            "REQUEST_URI": target,
            "SCRIPT_NAME": "",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        self._read_headers(environ)
        _enter_target(environ, target)
        self._enter_body(environ)
        return environ

    def _read_headers(self, environ: WSGIEnvironment) -> None:
        names: dict[str, str] = {}
        for _ in range(_MOST_HEADERS):
            line = self.rfile.readline(_LONGEST_LINE + 1)
            if line in (b"\r\n", b"\n"):
                environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = names
                return
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n") or name != name.strip():
                raise _BadRequest(repr(line[:100]))
            key, keep_name = _environ_key(name)
            if key is None:
                continue
            if keep_name:
                names[key] = name
            text = value.strip()
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        raise _BadRequest("too many headers")

    def _enter_body(self, environ: WSGIEnvironment) -> None:
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            environ["wsgi.input_terminated"] = True
            environ["wsgi.input"] = DechunkedInput(cast("Any", self.rfile))
            return
        length: str = environ.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal():
            raise _BadRequest(f"Content-Length {length!r}")
        environ["wsgi.input"] = _Body(self.rfile, int(length))


@functools.lru_cache(maxsize=512)
def _environ_key(name: str) -> tuple[str | None, bool]:
    """Return where a header goes in the environment, and whether its spelling has to be kept."""
    keep_name = should_preserve_original_header_name(name)
    if "_" in name and not keep_name:
        # It could pose as the header with dashes.
        return None, False
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", keep_name


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _enter_target(environ: WSGIEnvironment, target: str) -> None:
    if not target.startswith("/") and "://" in target:
        address = urlsplit(target)
        environ["HTTP_HOST"] = address.netloc
        target = f"{address.path or '/'}?{address.query}"
    path, _, environ["QUERY_STRING"] = target.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path.encode("latin-1")).decode("latin-1") if "%" in path else path


def _drain(body: Any) -> None:
    """Read what the application left, so that the next request begins where it should."""
    while body.read(_BLOCK):
        pass


class _Answer:
    """One answer, from the application to the client."""

    def __init__(self, write: Callable[[bytes], Any], environ: WSGIEnvironment, *, keep: bool) -> None:
        self._write = write
        self._environ = environ
        self._head = b""
        self._chunked = False
        self._bodiless = environ["REQUEST_METHOD"] == "HEAD"
        self.keep = keep

    def run(self, application: WSGIApplication) -> None:
        """Let the application answer. A bug of it costs this answer and the connection, and nothing else."""
        begun = False
        try:
            content = application(self._environ, self._start)
            try:
                for block in content:
                    if block:
                        self._send(block)
                        begun = True
                self._end()
            finally:
                if (close := getattr(content, "close", None)) is not None:
                    close()
        except (ReplyWithheld, ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception(
                "The emulator failed on %s %s", self._environ["REQUEST_METHOD"], self._environ["RAW_URI"]
            )
            self.keep = False
            if not begun:
                self._write(
                    b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                )

    def _start(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        # An application may change its mind about an answer of which nothing has left; it need not be told
        # why.
        del exc_info
        lines = [f"HTTP/1.1 {status}", f"Date: {_date(int(time.time()))}"]
        measured = False
        for name, value in headers:
            if name.lower() != "date":
                lines.append(f"{name}: {value}")
            measured = measured or name.lower() == "content-length"
        self._bodiless = self._bodiless or status.startswith(_NO_BODY)
        if not measured and not self._bodiless:
            # An older client knows the end of such an answer by the end of the connection.
            self._chunked = self._environ["SERVER_PROTOCOL"] == "HTTP/1.1"
            self.keep = self.keep and self._chunked
            lines += ["Transfer-Encoding: chunked"] if self._chunked else []
        if not self.keep:
            lines.append("Connection: close")
        self._head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return self._send

    def _send(self, block: bytes) -> None:
        if self._bodiless:
            return
        if self._chunked:
            block = b"%x\r\n%b\r\n" % (len(block), block)
        head, self._head = self._head, b""
        if head and len(block) > _BLOCK:
            self._write(head)
            head = b""
        self._write(head + block if head else block)

    def _end(self) -> None:
        last = b"0\r\n\r\n" if self._chunked else b""
        if self._head or last:
            self._write(self._head + last)
