from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.models.connection import Connection

from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.command import _introduction
from tests.world import PROGRAM, World

COMMAND = [sys.executable, "-m", "airflow_async_sm.emulator", "--creation-seconds", "0"]


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ignoring(ignored):
    """
    Ignore these signals in a program that is started meanwhile, and no others that would end it.

    A program ignores what its parent does, and tests that run in the background of a shell ignore SIGINT.
    """
    before = {
        number: signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        for number in ENDINGS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def serving(tmp_path, *more, command=COMMAND, ignored=(), **changes):
    """Run the command, and yield its process and what it said; kill it if the test does not end it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), **changes}
    with ignoring(ignored):
        started = subprocess.Popen(
            [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
    with started as process:
        try:
            yield process, [process.stdout.readline() for _ in range(7)]
        finally:
            process.kill()


@pytest.mark.parametrize("number", ENDINGS)
def test_command_serves_until_it_is_interrupted(number, tmp_path):
    with serving(tmp_path, "--image", f"mine={shlex.join(PROGRAM)}", no_proxy="intranet") as (process, said):
        url = re.fullmatch(r"AWS_ENDPOINT_URL=(http://127\.0\.0\.1:\d+)\n", said[3])[1]
        assert said[4:6] == ["NO_PROXY=intranet,127.0.0.1\n", "no_proxy=intranet,127.0.0.1\n"]
        client = LocalClients(url)
        assert client.get("s3").list_buckets()["Buckets"] == []
        client.close()
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_hangup_that_is_ignored_stays_ignored(tmp_path):
    with serving(tmp_path, ignored=[signal.SIGHUP]) as (process, _):
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(20) == 0


def test_second_interruption_cuts_the_cleaning_short(tmp_path, eventually):
    pid_file = tmp_path / "pid"
    slow = tmp_path / "slow.py"
    # The command, with a container that ignores the request to end and has a minute for it.
    slow.write_text(
        "import sys\n"
        "from airflow_async_sm.emulator import command\n"
        "from airflow_async_sm.emulator.__main__ import main\n"
        "def patient(creation_seconds, known=command.Behaviour):\n"
        "    return known(creation_seconds=0, container_stop_grace=60)\n"
        "patient.creation_seconds = 0\n"
        "command.Behaviour = patient\n"
        "sys.exit(main())\n"
    )
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = [sys.executable, str(slow), "--image", f"program={shlex.join(PROGRAM)}"]
    with serving(folder, command=command) as (process, said):
        world = World(Remote(LocalClients(said[3].strip().partition("=")[2])))
        world.deploy(environment={"MODE": "stubborn", "PID_FILE": str(pid_file)})
        pid = int(pid_file.read_text())
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        os.kill(pid, 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        world.emulator.clients.close()
    assert list(folder.iterdir()) == []
    eventually(lambda: not is_running(pid))


class Remote:
    """An emulator in another process."""

    def __init__(self, clients):
        self.clients = clients
        self.client = clients.get


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whoever inherits a dead process may take its time to notice.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_connection_line_can_be_pasted_into_a_shell():
    line = next(
        line for line in _introduction("http://127.0.0.1:1").splitlines() if line.startswith("AIRFLOW_")
    )
    script = f'{line}\nprintf %s "$AIRFLOW_CONN_AWS_DEFAULT"'
    pasted = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    connection = Connection.from_json(pasted)
    assert connection.conn_type == "aws"
    assert connection.extra_dejson == {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}
