"""Containers in Docker, through its command."""

from __future__ import annotations

import contextlib
import logging
import math
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from airflow_async_sm.emulator.models.containers import (
    LOG_TAIL_BYTES,
    Address,
    ListeningContainer,
    ProvisioningFailed,
)
from airflow_async_sm.emulator.settings.behaviours import Behaviour

log = logging.getLogger(__name__)

# `docker ps --all --filter label=<this>` finds what an emulator left behind that was killed.
LABEL: Final = "airflow-async-sm.emulator"
MODEL_FOLDER: Final = "/opt/ml/model"
PORT: Final = 8080
# Docker's own calls are short, but for the one that may have to fetch an image.
_CALL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Docker:
    """
    An image that runs in Docker stands for the image of a model.

    :param image: The address of the image. Default ``None``: the address in the model.
    :param options: Further options of ``docker run``, for example ``("--gpus", "all")``. Default: none.
    """

    image: str | None = None
    options: Sequence[str] = ()


class DockerContainer(ListeningContainer):
    """
    A container of this machine's Docker, run as the service does it: ``<image> serve`` with port 8080.

    It stays after its end, for its output and exit code, until :meth:`stop` or :meth:`kill` removes it.

    :param name: What to call it in the log.
    :param image: The image's address.
    :param options: Further options of ``docker run``.
    :param environment: Variables for the program in it.
    :param model_folder: The folder with the unpacked model; it is read-only in the container.
    :param behaviour: Time limits.
    """

    def __init__(
        self,
        *,
        name: str,
        image: str,
        options: Sequence[str],
        environment: Mapping[str, str],
        model_folder: Path,
        behaviour: Behaviour,
    ) -> None:
        super().__init__(name=name, behaviour=behaviour)
        self._image = image
        self._options = list(options)
        self._environment = environment
        self._model_folder = model_folder
        self._container = f"airflow-async-sm-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._over = False
        self._address: Address | None = None
        self._runner: subprocess.Popen[str] | None = None
        self._waiter: subprocess.Popen[str] | None = None
        self._stopper: subprocess.Popen[str] | None = None
        self._ended: str | None = None

    @property
    def address(self) -> Address | None:
        return self._address

    @property
    def ended(self) -> str | None:
        with self._lock:
            if self._ended is None:
                self._ended = self._look()
            return self._ended

    def _look(self) -> str | None:
        if self._waiter is None:
            return "a stop before its start" if self._over else None
        if self._waiter.poll() is None:
            return None
        code = self._waiter.communicate()[0].strip()
        return f"exit code {code}" if code else "the loss of its container"

    def start(self) -> None:
        """
        Fetch the image if it is not there, and start it. That takes as long as Docker does.

        :raises ProvisioningFailed: Docker is not there, or cannot start the image.
        """
        with self._lock:
            if self._over:
                return
            self._runner = self._begin("run", *self._run_arguments())
        _, complaint = self._runner.communicate()
        if self._runner.returncode:
            raise self._refused(complaint)
        with self._lock:
            self._waiter = self._begin("wait", self._container)
        self._address = self._find_address()

    def _run_arguments(self) -> list[str]:
        variables = {
            **self._environment,
            "SAGEMAKER_BIND_TO_PORT": str(PORT),
            "SM_MODEL_DIR": MODEL_FOLDER,
        }
        return [
            *("--detach", "--init", "--name", self._container, "--label", f"{LABEL}={self._name}"),
            *("--publish", f"127.0.0.1::{PORT}"),
            *("--mount", f"type=bind,source={self._model_folder},target={MODEL_FOLDER},readonly"),
            *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
            *self._options,
            *(self._image, "serve"),
        ]

    def _find_address(self) -> Address | None:
        # One line for each address family, such as 127.0.0.1:49153.
        for line in self._call("port", self._container, f"{PORT}/tcp").splitlines():
            host, _, port = line.strip().rpartition(":")
            if host == "127.0.0.1" and port.isdigit():
                return Address(host, int(port))
        # A container that has ended has no port. Whoever waits for its health hears of that.
        return None

    def _refused(self, complaint: str) -> ProvisioningFailed:
        log.warning("Docker did not start container %s:\n%s", self._name, complaint)
        if self._over:
            return ProvisioningFailed("The container was stopped before its start.")
        reason = _last_line(complaint)
        lower = reason.lower()
        if "connect" in lower and "daemon" in lower and "error response from daemon" not in lower:
            return ProvisioningFailed(
                f'The image "{self._image}" is to run in Docker, whose engine cannot be reached: {reason}'
            )
        return ProvisioningFailed(f'Docker cannot run the image "{self._image}": {reason}')

    def ask_to_stop(self) -> None:
        """See :meth:`Container.ask_to_stop`."""
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._runner is None:
                return
            if self._waiter is None:  # The image is still being fetched.
                self._runner.terminate()
                return
            grace = str(math.ceil(self._behaviour.container_stop_grace))
            with contextlib.suppress(ProvisioningFailed):
                self._stopper = self._begin("stop", "--time", grace, self._container)

    def stop(self) -> None:
        """See :meth:`Container.stop`."""
        self.ask_to_stop()
        if self._runner is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._runner.wait(_CALL_SECONDS)
        if self._stopper is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._stopper.communicate(timeout=self._behaviour.container_stop_grace + _CALL_SECONDS)
        self._remove()

    def kill(self) -> None:
        """See :meth:`Container.kill`."""
        self._over = True
        if self._runner is not None:
            self._runner.kill()
            self._remove()

    def _remove(self) -> None:
        self._call("rm", "--force", "--volumes", self._container)
        for process in (self._waiter, self._stopper, self._runner):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    def crash(self) -> None:
        """See :meth:`Container.crash`."""
        self._crashed = True
        if self._waiter is not None:
            self._call("kill", "--signal", "KILL", self._container)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._waiter.wait(_CALL_SECONDS)

    def log_tail(self) -> str:
        """See :meth:`Container.log_tail`."""
        return self._call("logs", "--tail", "200", self._container, both=True)[-LOG_TAIL_BYTES:]

    def _begin(self, *arguments: str) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                ["docker", *arguments],  # noqa: S607 - whichever the user's PATH has
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # A Ctrl-C in the terminal is for the emulator, which then stops its containers.
                start_new_session=True,
            )
        except OSError as error:
            raise ProvisioningFailed(
                f'The image "{self._image}" is to run in Docker, and the docker command cannot be started: '
                f"{error}. Install it, or let a command or a running server stand for the image."
            ) from error

    def _call(self, *arguments: str, both: bool = False) -> str:
        """Return what a call of Docker wrote; its failure is no more than a line in the log."""
        try:
            process = self._begin(*arguments)
        except ProvisioningFailed as failure:
            log.warning("%s", failure)
            return ""
        try:
            output, complaint = process.communicate(timeout=_CALL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            log.warning("docker %s took longer than %g seconds", arguments[0], _CALL_SECONDS)
            return ""
        if process.returncode:
            log.info("docker %s %s: %s", arguments[0], self._name, complaint.strip())
        return output + complaint if both else output


def _last_line(complaint: str) -> str:
    """Return the engine's last word. The command itself adds a hint at its help."""
    lines = [line.strip() for line in complaint.splitlines()]
    said = [line for line in lines if line and "docker run --help" not in line]
    return said[-1].removeprefix("docker: ") if said else "it gave no reason."
