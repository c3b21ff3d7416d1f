"""The emulator as a whole: what it starts, in order, and what it ends, in reverse order."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.models.images import Images, Stand
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.timers import Timers
from airflow_async_sm.emulator.work.records import RequestLog, RequestRecord

if TYPE_CHECKING:
    from airflow_async_sm.emulator.aws import LocalClients
    from airflow_async_sm.emulator.web.http_server import HttpServer

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound

_only_one = threading.Lock()


class SageMakerAsyncEmulator:
    """
    A local account with SageMaker Asynchronous Inference, S3, SNS, SQS, CloudWatch, Application Auto
    Scaling and STS.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. It begins empty. One emulator can
    run in a process at a time, because moto's state belongs to the process.

    :param host: Address to listen on. Default 127.0.0.1: only this machine.
    :param port: Port to listen on. Default 0: a free one.
    :param images: What stands for a container image, by its address or repository name: a command as a list
        of strings, or the address of a running server. ``sagemaker-scikit-learn`` is known by default.
    :param behaviour: Waits and limits.
    :param clock: Where time comes from. Default: real time.
    :raises ValueError: an image stands for something that is neither a command nor an address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        images: Mapping[str, Stand] | None = None,
        behaviour: Behaviour | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._images = Images(images)
        self._behaviour = behaviour or Behaviour()
        self._clock = clock or Clock()
        self._requests = RequestLog()
        self._url: str | None = None
        self._clients: LocalClients | None = None
        self._running = contextlib.ExitStack()
        self._process = os.getpid()

    def __enter__(self) -> SageMakerAsyncEmulator:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address, to be used as the endpoint URL of every AWS client."""
        if self._url is None:
            raise RuntimeError("The emulator is not running.")
        return self._url

    def start(self) -> None:
        """
        Begin to serve, with no state from before.

        :raises RuntimeError: an emulator runs in this process already.
        :raises OSError: the address cannot be bound.
        """
        if not _only_one.acquire(blocking=False):
            raise RuntimeError(
                "An emulator is running in this process; stop it before another one is started."
            )
        self._process = os.getpid()
        with contextlib.ExitStack() as running:
            running.callback(_only_one.release)
            self._assemble(running)
            atexit.register(self.stop)
            running.callback(atexit.unregister, self.stop)
            self._running = running.pop_all()

    def stop(self) -> None:
        """
        End containers, threads and the server, and drop every open request.

        A second call does nothing. Neither does one in a forked child: what runs is its parent's.
        """
        if os.getpid() != self._process:
            return
        running, self._running = self._running, contextlib.ExitStack()
        running.close()

    def client(self, service: str, region_name: str = "us-east-1") -> Any:
        """
        Return a boto3 client of this emulator. It is closed with the emulator.

        :param service: boto3's name of the service, for example ``"sagemaker-runtime"``.
        :param region_name: Region. Endpoints of different regions do not see each other.
        """
        if self._clients is None:
            raise RuntimeError("The emulator is not running.")
        return self._clients.get(service, region_name)

    def requests(self) -> list[RequestRecord]:
        """Return every accepted request, in order of acceptance; also after :meth:`stop`."""
        return self._requests.all()

    def _assemble(self, running: contextlib.ExitStack) -> None:
        # These bring in boto3, moto and werkzeug, which nobody shall wait for who only asks for the
        # command's help.
        from airflow_async_sm.emulator.account.backend import Backend
        from airflow_async_sm.emulator.account.endpoints import Site
        from airflow_async_sm.emulator.account.plans import Plans
        from airflow_async_sm.emulator.aws import LocalClients
        from airflow_async_sm.emulator.web import http_server
        from airflow_async_sm.emulator.web.gate import Gate
        from airflow_async_sm.emulator.web.responses import FrontDoor
        from airflow_async_sm.emulator.work.engine import Tools
        from airflow_async_sm.emulator.work.storage import Storage

        http_server.reset_moto()
        running.callback(http_server.reset_moto)
        running.enter_context(http_server.every_instance_type())
        # Not a TemporaryDirectory: that one would also remove itself at the exit of a forked child.
        folder = tempfile.mkdtemp(prefix="sagemaker-async-emulator-")
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        server = http_server.HttpServer(self._host, self._port)
        running.callback(server.stop)
        url = self._enter_address(server, running)
        clients = self._clients = LocalClients(url)
        running.callback(clients.close)
        timers = Timers(self._clock)
        timers.start()
        running.callback(timers.stop)
        self._requests = RequestLog()
        tools = Tools(
            behaviour=self._behaviour,
            clock=self._clock,
            timers=timers,
            requests=self._requests,
            storage=Storage(clients),
        )
        site = Site(url=url, folder=Path(folder), images=self._images, tools=tools)
        backend = Backend(account_id=http_server.ACCOUNT_ID, plans=Plans(clients), site=site)
        running.callback(backend.close)
        door = FrontDoor(
            backend=backend,
            requests=self._requests,
            moto=http_server.moto_application(),
            account_id=http_server.ACCOUNT_ID,
            gate=Gate(host=self._host, url=url),
        )
        server.start(door)

    def _enter_address(self, server: HttpServer, running: contextlib.ExitStack) -> str:
        self._url = f"http://{_WILDCARDS.get(self._host, self._host)}:{server.port}"
        running.callback(self._leave_address)
        return self._url

    def _leave_address(self) -> None:
        self._url = self._clients = None
