"""The emulator's HTTP server and the part of it that is moto. Importing this module imports moto."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sagemaker.models import FakeEndpointConfig
from werkzeug.serving import LISTEN_QUEUE, ThreadedWSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

ACCOUNT_ID: str = DEFAULT_ACCOUNT_ID

_JOIN_SECONDS = 10.0


def moto_application() -> WSGIApplication:
    """Return moto as one application that tells services apart by the request's signature."""
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


def reset_moto() -> None:
    """Forget everything that moto stores. Its state belongs to the process and not to a server."""
    moto_api_backend.reset()


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

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug('"%s %s" %s %s', self.command, self.path, code, size)


class HttpServer(ThreadedWSGIServer):
    """
    werkzeug's threaded server, which can also be stopped without a trace.

    The original leaves the threads of open connections alone, and ends the program if its port is taken.

    :param host: Address to bind.
    :param port: Port to bind; 0 for a free one.
    :raises OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int) -> None:
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        with socket.create_server((host, port), backlog=LISTEN_QUEUE) as bound:
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
        with self._open_lock:
            left = dict(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left.values():
            thread.join(_JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="emulator-http-request",
            daemon=True,
        )
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - called by position
        log.warning("A request failed", exc_info=sys.exception())


def _no_application(_environ: Any, _start_response: Any) -> Any:
    raise RuntimeError("The server answers only after start().")
