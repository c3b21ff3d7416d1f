#!/usr/bin/env python3
"""
A stand-in for the ``docker`` command: containers are processes, and what is known of them is in a folder.

It knows the calls that the emulator makes, with the command's outputs, exit codes and messages. Images are
``echo`` (tests/container_program.py), ``absent`` (cannot be had), ``slow`` (takes long to be had) and
``portless`` (publishes nothing). ``DOCKER_STATE`` is the folder; every call is noted in ``calls`` there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["DOCKER_STATE"])
PROGRAM = Path(__file__).with_name("container_program.py")
UNREACHABLE = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
)


def fail(message, code=1):
    print(message, file=sys.stderr)
    sys.exit(code)


class Box:
    """One container."""

    def __init__(self, name):
        self.folder = STATE / name
        if not self.folder.is_dir():
            fail(f"Error response from daemon: No such container: {name}")
        self.about = json.loads((self.folder / "about.json").read_text())

    @property
    def exit_code(self):
        """The code that its keeper noted, or ``None`` while it runs."""
        noted = self.folder / "exit"
        return noted.read_text() if noted.exists() else None

    def kill(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.about["pid"], number)

    def wait(self, seconds=3600.0):
        give_up_at = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < give_up_at:
            time.sleep(0.01)
        return self.exit_code


def run(arguments):
    parser = argparse.ArgumentParser()
    for flag in ("--detach", "--init"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("--name", "--label", "--publish", "--mount"):
        parser.add_argument(option, required=True)
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--gpus")
    parser.add_argument("image")
    parser.add_argument("command")
    given = parser.parse_args(arguments)
    assert given.publish == "127.0.0.1::8080"
    assert given.command == "serve"
    if given.image == "absent":
        print("Unable to find image 'absent:latest' locally", file=sys.stderr)
        fail(
            "docker: Error response from daemon: pull access denied for absent, repository does not exist\n"
            "\nRun 'docker run --help' for more information",
            125,
        )
    if given.image == "slow":
        time.sleep(600)
    start(given)
    print("0123456789abcdef" * 4)


def start(given):
    folder = STATE / given.name
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    about = {"port": port, "label": given.label, "mount": given.mount, "image": given.image, "env": given.env}
    # A keeper outlives this call, as the engine does, and notes how the program ended.
    keeper = subprocess.Popen(
        [sys.executable, __file__, "keep", given.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    keeper.stdin.write(json.dumps(about))
    keeper.stdin.close()
    while not (folder / "about.json").exists():
        time.sleep(0.005)


def keep(arguments):
    folder, about = STATE / arguments[0], json.loads(sys.stdin.read())
    given = dict(variable.split("=", 1) for variable in about["env"])
    assert given["SAGEMAKER_BIND_TO_PORT"] == "8080"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env={**given, "SAGEMAKER_BIND_TO_PORT": str(about["port"])},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    write(folder / "about.json", json.dumps({**about, "pid": process.pid}))
    code = process.wait()
    write(folder / "exit", str(code if code >= 0 else 128 - code))


def write(path, text):
    whole = path.with_suffix(".new")
    whole.write_text(text)
    whole.rename(path)


def port(arguments):
    box = Box(arguments[0])
    if box.exit_code is not None or box.about["image"] == "portless":
        fail(f"Error: No public port '{arguments[1]}' published for {arguments[0]}")
    print(f"127.0.0.1:{box.about['port']}")


def wait(arguments):
    print(Box(arguments[0]).wait())


def logs(arguments):
    sys.stderr.write((Box(arguments[-1]).folder / "log").read_text())


def kill(arguments):
    Box(arguments[-1]).kill(signal.Signals[f"SIG{arguments[1]}"])


def stop(arguments):
    box = Box(arguments[-1])
    box.kill(signal.SIGTERM)
    if box.wait(float(arguments[1])) is None:
        box.kill(signal.SIGKILL)
        box.wait()


def rm(arguments):
    box = Box(arguments[-1])
    box.kill(signal.SIGKILL)
    box.wait(10)
    box.folder.rename(box.folder.with_name(f"removed-{box.folder.name}"))


if __name__ == "__main__":
    call, *rest = sys.argv[1:]
    if call == "keep":
        keep(rest)
        sys.exit()
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    if (STATE / "unreachable").exists():
        fail(f"docker: {UNREACHABLE}.\nSee 'docker run --help'.", 125)
    {"run": run, "port": port, "wait": wait, "logs": logs, "kill": kill, "stop": stop, "rm": rm}[call](rest)
