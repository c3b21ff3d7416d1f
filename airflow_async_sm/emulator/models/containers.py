"""
Model containers: what all kinds of them have in common, and the usual kind, a local process.

A container keeps SageMaker's contract: it answers ``GET /ping`` with 200 when it is ready, and
``POST /invocations``. Starting one is the one place where waiting means asking again and again, because the
contract has nothing but the ping. It happens in real time: the server is a real program.
"""

from __future__ import annotations

import http.client
import logging
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from airflow_async_sm.emulator.models.ports import free_port, is_served
from airflow_async_sm.emulator.models.processes import ProcessGroup
from airflow_async_sm.emulator.settings.behaviours import Behaviour

log = logging.getLogger(__name__)

LOG_TAIL_BYTES: Final = 4_000
# Why a container is gone that was told to crash, where there is no process to kill.
IMITATED_CRASH: Final = "signal SIGKILL, imitated"


class ProvisioningFailed(Exception):
    """An endpoint cannot come up. The text is its ``FailureReason``."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a container listens."""

    host: str
    port: int
    base_path: str = ""


class Container(Protocol):
    """One instance's model server. It lives once: what has ended is replaced by another container."""

    @property
    def name(self) -> str:
        """What to call it in the log."""

    @property
    def address(self) -> Address | None:
        """Where it listens once it has started; ``None`` for one that is called in this process."""

    @property
    def ended(self) -> str | None:
        """Why it is gone, such as ``"exit code 17"``; ``None`` while it lives, and before its start."""

    @property
    def crashed(self) -> bool:
        """Whether it was told to crash. Then no call that was under way has an answer."""

    def start(self) -> None:
        """
        Start it, without waiting until it is ready. After :meth:`ask_to_stop` this does nothing.

        :raises ProvisioningFailed: it cannot be started.
        """

    def wait_until_healthy(self, limit: float, stopping: threading.Event) -> None:
        """
        Return when it is ready, or when ``stopping`` is set.

        :param limit: Seconds that it has for that.
        :param stopping: Set when nobody is interested any more.
        :raises ProvisioningFailed: it ended, or the limit passed.
        """

    def ask_to_stop(self) -> None:
        """Tell it to end, without waiting for it. Its time to do so begins with the first call."""

    def stop(self) -> None:
        """End it and everything that it started, politely at first, and wait until it is gone."""

    def kill(self) -> None:
        """End it and everything that it started at once."""

    def crash(self) -> None:
        """End it at once as if the model had died: whoever owns it finds it ended."""

    def log_tail(self) -> str:
        """Return the end of its output."""


class ListeningContainer(ABC):
    """
    A container with an address, and the wait for its first healthy ping.

    :param name: What to call it in the log.
    :param behaviour: Time limits.
    """

    def __init__(self, *, name: str, behaviour: Behaviour) -> None:
        self._name = name
        self._behaviour = behaviour
        self._crashed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def crashed(self) -> bool:
        return self._crashed

    @property
    @abstractmethod
    def address(self) -> Address | None: ...

    @property
    @abstractmethod
    def ended(self) -> str | None: ...

    @abstractmethod
    def log_tail(self) -> str: ...

    def wait_until_healthy(self, limit: float, stopping: threading.Event) -> None:
        """See :meth:`Container.wait_until_healthy`."""
        give_up_at = time.monotonic() + limit
        while not self._is_healthy():
            gone = self.ended
            if gone is not None and not self._start_again():
                raise self._unhealthy(f"ended with {gone} before it was healthy")
            if time.monotonic() >= give_up_at:
                raise self._unhealthy(f"did not answer GET /ping with 200 within {limit:g} seconds")
            if stopping.wait(self._behaviour.ping_interval):
                return

    def _start_again(self) -> bool:
        """Return whether the end was an accident of ours, after which it was started once more."""
        return False

    def _is_healthy(self) -> bool:
        # An answer does not count if it may come from whoever has the port now.
        return self.address is not None and self._answers_ping(self.address) and self.ended is None

    def _answers_ping(self, address: Address) -> bool:
        connection = http.client.HTTPConnection(
            address.host, address.port, timeout=self._behaviour.ping_timeout
        )
        try:
            connection.request("GET", f"{address.base_path}/ping")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _unhealthy(self, what: str) -> ProvisioningFailed:
        log.warning("Container %s %s. The end of its output:\n%s", self._name, what, self.log_tail())
        return ProvisioningFailed(
            f"The primary container {what} and did not pass the ping health check. Its output is in the "
            "emulator's log."
        )


class ProcessContainer(ListeningContainer):
    """
    A child process with a session of its own. It learns its port from ``SAGEMAKER_BIND_TO_PORT``.

    :param name: What to call it in the log.
    :param command: The program and its arguments.
    :param environment: All of its variables but the port.
    :param log_path: File for its output.
    :param behaviour: Time limits.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        behaviour: Behaviour,
    ) -> None:
        super().__init__(name=name, behaviour=behaviour)
        self._command = list(command)
        self._environment = environment
        self._log_path = log_path
        self._lock = threading.Lock()
        self._starts = 0
        self._address: Address | None = None
        self._processes: ProcessGroup | None = None
        self._kill_at: float | None = None
        self._killed = False

    @property
    def address(self) -> Address | None:
        return self._address

    @property
    def ended(self) -> str | None:
        processes = self._processes
        if processes is None:
            return None if self._kill_at is None else "a stop before its start"
        code = processes.code
        if code is None:
            return None
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def start(self) -> None:
        """See :meth:`Container.start`."""
        with self._lock:
            if self._kill_at is None:
                self._launch()

    def _launch(self) -> None:
        self._starts += 1
        self._address = Address("127.0.0.1", free_port())
        variables = {**self._environment, "SAGEMAKER_BIND_TO_PORT": str(self._address.port)}
        with self._log_path.open("ab") as output:
            try:
                processes = ProcessGroup(self._command, environment=variables, output=output)
            except OSError as error:
                raise ProvisioningFailed(f"The container's command cannot be started: {error}.") from error
        self._processes = processes
        if self._killed:  # It came between the decision to start and the start.
            processes.kill()

    def _start_again(self) -> bool:
        """Start it on another port if somebody else took the first one between its choice and its use."""
        with self._lock:
            if self._starts != 1 or self._kill_at is not None:
                return False
            if self._address is None or self._processes is None:
                return False
            # What it may have left behind must not look like somebody else.
            self._processes.end()
            if not is_served(self._address.port):
                return False
            log.info("Container %s found its port %d taken; it gets another", self._name, self._address.port)
            self._launch()
            return True

    def ask_to_stop(self) -> None:
        """See :meth:`Container.ask_to_stop`."""
        with self._lock:
            if self._kill_at is None:
                self._kill_at = time.monotonic() + self._behaviour.container_stop_grace
                if self._processes is not None:
                    self._processes.ask_to_end()

    def kill(self) -> None:
        """See :meth:`Container.kill`."""
        # Without the lock: this is for somebody who has interrupted its holder.
        self._killed = True
        self._kill_at = self._kill_at or time.monotonic()
        if self._processes is not None:
            self._processes.kill()

    def crash(self) -> None:
        """See :meth:`Container.crash`."""
        self._crashed = True
        if self._processes is not None:
            self._processes.end()

    def stop(self) -> None:
        """See :meth:`Container.stop`."""
        self.ask_to_stop()
        if self._processes is not None:
            self._processes.wait(max(0.0, (self._kill_at or 0.0) - time.monotonic()))
            # The leader may have gone and left children behind.
            self._processes.end()

    def log_tail(self) -> str:
        """See :meth:`Container.log_tail`."""
        try:
            with self._log_path.open("rb") as output:
                output.seek(max(0, self._log_path.stat().st_size - LOG_TAIL_BYTES))
                return output.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
