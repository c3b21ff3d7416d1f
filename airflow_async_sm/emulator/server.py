"""The emulator as a whole: what it starts, in order, and what it ends, in reverse order."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.models.images import Images, Stand
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import Fault
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.work.records import RequestRecord
from airflow_async_sm.emulator.work.request_log import RequestLog

if TYPE_CHECKING:
    from airflow_async_sm.emulator.assembly import Assembly

_only_one = threading.Lock()


class SageMakerAsyncEmulator:
    """
    A local account with SageMaker Asynchronous Inference, S3, SNS, SQS, CloudWatch, Application Auto
    Scaling and STS.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. It begins empty, or with what is in
    ``state``. One emulator can run in a process at a time, because moto's state belongs to the process.

    :param host: Address to listen on. Default 127.0.0.1: only this machine.
    :param port: Port to listen on. Default 0: a free one.
    :param images: What stands for a container image, by its address or repository name: a command as a list
        of strings, the address of a running server, a Python callable, or a ``Docker`` image.
        ``sagemaker-scikit-learn`` is known by default.
    :param behaviour: Waits and limits. Default: the defaults.
    :param unknowns: Positions on what is not known about the service. Default: the defaults.
    :param faults: What is to go wrong. Default: nothing.
    :param seed: A whole number that makes chance and generated ids repeatable. Default: every run differs.
    :param state: A folder that keeps everything over a restart, open requests too. It is made if it is not
        there, must be the user's own, and serves one emulator at a time. Default: nothing is kept.
    :param clock: Where time comes from. Default: real time. ``Clock(speed=60)`` is sixty times as fast, and
        ``SteppedClock()`` stands until a test moves it.
    :raises ValueError: an image stands for something that it cannot stand for.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        images: Mapping[str, Stand] | None = None,
        behaviour: Behaviour | None = None,
        *,
        unknowns: Unknowns | None = None,
        faults: Iterable[Fault] = (),
        seed: int | None = None,
        state: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._images = Images(images)
        self._state = None if state is None else Path(state)
        self._first_faults = tuple(faults)
        self.knobs = Knobs(behaviour, unknowns)
        self.faults = FaultBoard(self._first_faults, seed=seed)
        self.clock = clock or Clock()
        self._requests = RequestLog()
        self._assembly: Assembly | None = None
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
        return self._assembled().url

    def start(self) -> None:
        """
        Begin to serve, with no state from before but that of the ``state`` folder.

        :raises RuntimeError: an emulator runs in this process already.
        :raises OSError: the address cannot be bound.
        :raises StateError: the ``state`` folder cannot be used, or was made by another version.
        """
        if not _only_one.acquire(blocking=False):
            raise RuntimeError(
                "An emulator is running in this process; stop it before another one is started."
            )
        self._process = os.getpid()
        with contextlib.ExitStack() as running:
            running.callback(_only_one.release)
            running.callback(self._take_apart)
            # Not a TemporaryDirectory: that one would also remove itself at the exit of a forked child.
            folder = Path(tempfile.mkdtemp(prefix="sagemaker-async-emulator-"))
            running.callback(shutil.rmtree, folder, ignore_errors=True)
            self._assemble(folder, running)
            atexit.register(self.stop)
            running.callback(atexit.unregister, self.stop)
            self._running = running.pop_all()

    def stop(self) -> None:
        """
        End everything. Open requests are dropped, unless a ``state`` folder keeps them.

        A second call does nothing. Neither does one in a forked child: what runs is its parent's.
        """
        if os.getpid() != self._process:
            return
        running, self._running = self._running, contextlib.ExitStack()
        running.close()

    def reset(self) -> None:
        """Forget everything but the address: endpoints, requests, objects, counters, faults and settings."""
        self._assembled().reset()
        self.knobs.reset()
        self.faults.reset(self._first_faults)

    def client(self, service: str, region_name: str = "us-east-1") -> Any:
        """
        Return a boto3 client of this emulator. It is closed with the emulator.

        :param service: boto3's name of the service, for example ``"sagemaker-runtime"``.
        :param region_name: Region. Endpoints of different regions do not see each other.
        """
        return self._assembled().clients.get(service, region_name)

    def requests(self) -> list[RequestRecord]:
        """Return every accepted request, in order of acceptance; also after :meth:`stop`."""
        return self._requests.all()

    def counters(self) -> dict[str, Any]:
        """Return how often what was called: calls, errors, S3 calls, submissions and calls of models."""
        return self._assembled().counters.as_data()

    def _assembled(self) -> Assembly:
        if self._assembly is None:
            raise RuntimeError("The emulator is not running.")
        return self._assembly

    def _assemble(self, folder: Path, running: contextlib.ExitStack) -> None:
        # This brings in boto3, moto and werkzeug, which nobody shall wait for who only asks for the
        # command's help.
        with _no_profile():
            from airflow_async_sm.emulator.assembly import Assembly

        self._assembly = running.enter_context(
            Assembly(
                host=self._host,
                port=self._port,
                folder=folder,
                images=self._images,
                knobs=self.knobs,
                board=self.faults,
                clock=self.clock,
                state=self._state,
                reset=self.reset,
            )
        )
        self._requests = self._assembly.requests

    def _take_apart(self) -> None:
        self._assembly = None


@contextlib.contextmanager
def _no_profile() -> Iterator[None]:
    """Hide the user's AWS profile: moto makes a session while it is imported, which needs its file."""
    names = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
