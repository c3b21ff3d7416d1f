"""
Model containers: local HTTP servers that keep SageMaker's container contract.

Starting one is the one place where waiting means asking again and again: the contract has nothing but
``GET /ping``. It happens in real time, because the server is a real process.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from airflow_async_sm.emulator.aws import DUMMY_CREDENTIALS
from airflow_async_sm.emulator.models.images import Stand
from airflow_async_sm.emulator.models.model_data import ProvisioningFailed
from airflow_async_sm.emulator.reaching import past_proxies
from airflow_async_sm.emulator.settings.behaviours import Behaviour

log = logging.getLogger(__name__)

_LOG_TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where a container listens."""

    host: str
    port: int
    base_path: str = ""


class Container:
    """
    One instance's model server: a child process with its own session, or somebody else's running server.

    :param name: What to call it in the log.
    :param stand: The command to start, or the address of a running server.
    :param environment: Variables for the process, beyond those that every container gets.
    :param log_path: File for the process's output.
    :param behaviour: Time limits.
    """

    def __init__(
        self, *, name: str, stand: Stand, environment: Mapping[str, str], log_path: Path, behaviour: Behaviour
    ) -> None:
        self._name = name
        self._log_path = log_path
        self._behaviour = behaviour
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_at: float | None = None
        if isinstance(stand, str):
            parts = urlsplit(stand)
            self.address = Address(parts.hostname or "", parts.port or 80, parts.path.rstrip("/"))
        else:
            self.address = Address("127.0.0.1", _free_port())
            self._start(stand, environment)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        variables = {**environment, "SAGEMAKER_BIND_TO_PORT": str(self.address.port)}
        with self._log_path.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProvisioningFailed(f"The container's command cannot be started: {error}.") from error

    def wait_until_healthy(self, limit: float, stopping: threading.Event) -> None:
        """
        Return when ``GET /ping`` answers 200, or when ``stopping`` is set.

        :param limit: Seconds that it has for that.
        :param stopping: Set when nobody is interested any more.
        :raises ProvisioningFailed: it ended, or the limit passed.
        """
        give_up_at = time.monotonic() + limit
        while not self._is_healthy():
            if self._process is not None and self._process.poll() is not None:
                self._report(f"ended with exit code {self._process.returncode} before it was healthy")
            if time.monotonic() >= give_up_at:
                self._report(f"did not answer GET /ping with 200 within {limit:g} seconds")
            if stopping.wait(self._behaviour.ping_interval):
                return

    def ask_to_stop(self) -> None:
        """Tell the process to end, without waiting for it. Its time to do so begins with the first call."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._behaviour.container_stop_grace
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything that it started at once."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End the process and everything that it started; do nothing to somebody else's server."""
        if self._process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, (self._kill_at or 0.0) - time.monotonic()))
        # The leader may have gone and left children behind.
        self.kill()
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(
            self.address.host, self.address.port, timeout=self._behaviour.ping_timeout
        )
        try:
            connection.request("GET", f"{self.address.base_path}/ping")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _report(self, what: str) -> None:
        log.warning("Container %s %s. The end of its output:\n%s", self._name, what, self._log_tail())
        raise ProvisioningFailed(
            f"The primary container {what} and did not pass the ping health check. Its output is in the "
            "emulator's log."
        )

    def _log_tail(self) -> str:
        if self._process is None:
            return "(a server that the emulator did not start)"
        with self._log_path.open("rb") as output:
            output.seek(max(0, self._log_path.stat().st_size - _LOG_TAIL_BYTES))
            return output.read().decode("utf-8", errors="replace")


def container_environment(
    *, url: str, region: str, model_folder: Path, model: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the variables of a container process.

    The user's own AWS settings stay outside: a container that calls AWS reaches the emulator, with
    credentials that open nothing elsewhere, and past any proxy.

    :param url: The emulator's address.
    :param region: The endpoint's region.
    :param model_folder: Where the model's files are.
    :param model: The model's ``Environment``, which wins over everything else.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW"))
    }
    credentials = {name.upper(): value for name, value in DUMMY_CREDENTIALS.items()}
    places = {"AWS_ENDPOINT_URL": url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return {
        **inherited,
        **credentials,
        **places,
        **past_proxies(url),
        "SM_MODEL_DIR": str(model_folder),
        **model,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
