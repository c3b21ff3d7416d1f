"""The emulator's HTTP server and the part of it that is moto. Importing this module imports moto."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from moto.sagemaker.models import FakeEndpointConfig
from werkzeug.serving import LISTEN_QUEUE, ThreadedWSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

ACCOUNT_ID: str = DEFAULT_ACCOUNT_ID

# How long all open connections together may take to end.
_JOIN_SECONDS = 3.0


def moto_application() -> WSGIApplication:
    """Return moto as one application that tells services apart by the request's signature."""
    application: WSGIApplication = DomainDispatcherApplication(_service_application)
    return application


def _service_application(service: Any) -> Any:
    if service is None:  # moto would stumble over it, and only say so in a traceback.
        raise NotImplementedError
    return create_backend_app(service)


def reset_moto() -> None:
    """Forget everything that moto stores. Its state belongs to the process and not to a server."""
    moto_api_backend.reset()


def bucket_region(name: str) -> str | None:
    """Return the region of an S3 bucket, or ``None`` if there is no such bucket."""
    owner = s3_backends.bucket_accounts.get(name)
    if owner is None:
        return None
    partition, account_id = owner
    bucket = s3_backends[account_id][partition].buckets.get(name)
    return None if bucket is None else str(bucket.region_name)


def _accept(_config: FakeEndpointConfig, instance_type: str) -> None:
    """Stand in for moto's check of an instance type."""


@contextlib.contextmanager
def every_instance_type() -> Iterator[None]:
    """
    Let moto accept every instance type.

    Its list is a few years old and has none of the current GPU and CPU families, so a configuration that the
    service takes would be refused.
    """
    # A method is replaced on purpose; a test holds its original to what was read when this was written.
    config: Any = FakeEndpointConfig
    original = config.validate_instance_type
    config.validate_instance_type = _accept
    try:
        yield
    finally:
        config.validate_instance_type = original


class _Handler(MotoRequestHandler):
    # The header and the body of an answer are two writes; without this the second one can wait for the
    # client.
    disable_nagle_algorithm = True
    # What is no HTTP is answered before there is a call, so there is no protocol to answer in.
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        """Close the connection: its client is gone, or is to be left without an answer."""
        log.debug("A connection was dropped in %s: %r", (environ or {}).get("PATH_INFO"), error)
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug('"%s %s" %s %s', self.command, self.path, code, size)


class HttpServer(ThreadedWSGIServer):
    """
    werkzeug's threaded server, which can also be stopped without a trace.

    The original leaves the threads of open connections alone, and ends the program if its port is taken.

    A thread that waits inside moto, as in a long poll of a queue, does not see that its connection is gone.
    It is left behind when its time is up: it ends with its poll, and does not keep the program alive.

    :param host: Address to bind.
    :param port: Port to bind; 0 for a free one.
    :raises OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int) -> None:
        # Touched by the thread that takes connections, and by stop() when that thread has ended.
        self._open: list[tuple[threading.Thread, socket.socket]] = []
        self._thread: threading.Thread | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=LISTEN_QUEUE) as bound:
            super().__init__(host, port, _no_application, handler=_Handler, fd=bound.fileno())

    def start(self, application: WSGIApplication) -> None:
        """Begin to answer with ``application``."""
        self.app = application
        # The interval is how often the server looks whether it shall stop, not how quickly it takes a
        # connection.
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="emulator-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, end those that are open, and wait for their threads."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()
        for _, connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + _JOIN_SECONDS
        for thread, _ in self._open:
            thread.join(max(0.0, until - time.monotonic()))
        left = sum(thread.is_alive() for thread, _ in self._open)
        if left:
            log.warning("%d open requests did not end within %g seconds", left, _JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="emulator-http-request",
            daemon=True,
        )
        thread.start()
        # A thread stays in the list until it is really gone, and not only until its connection is closed.
        self._open = [entry for entry in self._open if entry[0].is_alive()]
        self._open.append((thread, request))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - called by position
        log.warning("A request failed", exc_info=sys.exception())


def _no_application(_environ: Any, _start_response: Any) -> Any:
    raise RuntimeError("The server answers only after start().")
