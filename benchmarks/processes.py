"""Processes of the suite: begun, heard and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from benchmarks.environment import ROOT
from benchmarks.fake_aws import CONTROL

_BATCH = 5000
_ENDING_SECONDS = 15.0


class ChildDied(Exception):
    """A process ended, or kept silent, before it said what it should."""


class Child:
    """
    A module of the suite in a process of its own, which says what happens in lines of JSON.

    It ends with its standard input, so it does not outlive this process either.

    :param module: The module.
    :param arguments: Its arguments.
    :param environment: All its variables.
    """

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = _error_file(environment, module)
        self.process = subprocess.Popen(  # noqa: S603 - a module of this suite
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=dict(environment),
            cwd=ROOT,
            start_new_session=True,
        )
        self._said: dict[str, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._silent = False
        threading.Thread(target=self._hear, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        end(self.process)
        self._errors.close()

    def said(self, event: str, *, within: float) -> dict[str, Any]:
        """
        Return what it said of an event.

        :raises ChildDied: it ended, or did not say it in so many seconds.
        """
        with self._news:
            self._news.wait_for(lambda: event in self._said or self._silent, timeout=within)
            if event not in self._said:
                raise ChildDied(f"no {event!r} from the process; its last words: {self._last_words()}")
            return self._said[event]

    def has_said(self, event: str) -> bool:
        """Return whether it has said anything of an event."""
        return event in self._said

    def stop(self) -> None:
        """Let it end by itself."""
        with contextlib.suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()

    def _hear(self) -> None:
        for line in self.process.stdout or ():
            said = json.loads(line)
            with self._news:
                self._said[said["event"]] = said
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def _last_words(self) -> str:
        lines = Path(self._errors.name).read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-5:]) or "none"


def _error_file(environment: Mapping[str, str], module: str) -> IO[str]:
    name = f"{module}-{time.monotonic_ns()}.log"
    return (Path(environment["AIRFLOW_HOME"]) / name).open("w")


def end(process: subprocess.Popen[Any]) -> None:
    """Wait for the end of a process that leads a group of its own; ask it to end; kill the group."""
    for send in (process.terminate, lambda: os.killpg(process.pid, signal.SIGKILL), lambda: None):
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            send()
        else:
            return


class Aws:
    """
    The pretended AWS, seen from this process.

    :param port: Its port on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def tell(self, what: str, **details: object) -> Any:
        """Ask or tell it something that is not counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request("POST", f"{CONTROL}{what}", body=json.dumps(details))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def figures(self) -> dict[str, Any]:
        """Return what was asked so far, and by whom it was not."""
        figures: dict[str, Any] = self.tell("figures")
        return figures

    def add_objects(self, bucket: str, objects: Sequence[tuple[str, float]]) -> None:
        """Let objects be there, each from its moment on."""
        for begin in range(0, len(objects), _BATCH):
            self.tell("objects", bucket=bucket, objects=objects[begin : begin + _BATCH])


@contextlib.contextmanager
def pretended_aws(environment: Mapping[str, str]) -> Iterator[Aws]:
    """Run a pretended AWS."""
    with Child("benchmarks.fake_aws", [], environment) as child:
        yield Aws(child.said("ready", within=60.0)["port"])
