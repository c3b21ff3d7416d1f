"""The emulator and the AWS CLI as processes of their own, as somebody outside of Python meets them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

NO_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PAGER": "",
}


class NotReady(Exception):
    """What was asked for cannot begin."""


class NotAsExpected(Exception):
    """Something was not as in the service."""


def expect(holds, sentence):
    if not holds:
        raise NotAsExpected(sentence)


def eventually(look, sentence, *, within=60.0, pause=0.1):
    """Return the first true value of ``look()``; say what was expected after ``within`` real seconds."""
    give_up_at = time.monotonic() + within
    while not (value := look()):
        expect(time.monotonic() < give_up_at, f"{sentence}: not within {within:g} s")
        time.sleep(pause)
    return value


def find_aws_cli(environment):
    """
    Return the path of an AWS CLI that knows inline payloads.

    :raises NotReady: there is none.
    """
    path = environment.get("AIRFLOW_ASYNC_SM_AWS_CLI") or shutil.which("aws", path=environment.get("PATH"))
    if not path:
        raise NotReady(
            "There is no AWS CLI: install it (pip install awscli, in an environment of its own), and put aws "
            "on PATH or its path into AIRFLOW_ASYNC_SM_AWS_CLI."
        )
    command = [path, "sagemaker-runtime", "invoke-endpoint-async", "--generate-cli-skeleton", "input"]
    try:
        asked = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**environment, **NO_ACCOUNT},
        )
        knows_body = '"Body"' in asked.stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NotReady(f"The AWS CLI at {path} does not work: {error}") from error
    if not knows_body:
        raise NotReady(f"The AWS CLI at {path} is too old for inline payloads: 1.45.29 or newer is needed.")
    return path


class AwsCli:
    """
    The AWS CLI, pointed at an emulator and at no account of its user.

    :param path: Of the program.
    :param url: The emulator's address.
    """

    def __init__(self, path, url):
        self._path = path
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        host = urlsplit(url).hostname
        self._environment = {
            **own,
            **NO_ACCOUNT,
            "AWS_ENDPOINT_URL": url,
            "NO_PROXY": host,
            "no_proxy": host,
        }

    def __call__(self, *arguments, timeout=60):
        """Run a command and return what it printed, read as JSON where it is JSON."""
        done = self._run(arguments, timeout)
        expect(done.returncode == 0, f"aws {' '.join(arguments)} failed: {done.stderr.strip()}")
        with contextlib.suppress(ValueError):
            return json.loads(done.stdout)
        return done.stdout

    def refused(self, *arguments):
        """Run a command that the service refuses, and return the CLI's words for it."""
        done = self._run(arguments, 60)
        expect(done.returncode != 0, f"a refusal of aws {' '.join(arguments)}")
        return done.stderr.strip()

    def _run(self, arguments, timeout):
        try:
            return subprocess.run(
                [self._path, *arguments, "--output", "json"],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )
        except subprocess.TimeoutExpired as slow:
            raise NotAsExpected(f"aws {' '.join(arguments)} took longer than {timeout} s") from slow


@contextlib.contextmanager
def emulator(folder, *options):
    """
    Run the emulator's command, yield its address and its process id, and end it.

    :param folder: For what it logs.
    :param options: Of the command, beside the port.
    """
    command = [sys.executable, "-m", "airflow_async_sm.emulator", "--port", "0", *options]
    errors = folder / "emulator.log"
    with (
        errors.open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield _address(process, errors), process.pid
        finally:
            # It is asked also after a failure: only then it ends its containers and removes its folder.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    expect(process.returncode == 0, f"the emulator ended with {process.returncode}")


def _address(process, errors):
    lines = queue.SimpleQueue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    give_up_at = time.monotonic() + 60
    with contextlib.suppress(queue.Empty):
        while (line := lines.get(timeout=max(0.0, give_up_at - time.monotonic()))) is not None:
            if line.startswith("AWS_ENDPOINT_URL="):
                return line.strip().partition("=")[2]
    raise NotReady(f"The emulator did not start: {errors.read_text().strip() or 'it said nothing'}")
