from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import boto3
import pytest
from airflow.models.connection import Connection

from airflow_async_sm.emulator.command import _introduction
from tests.world import PROGRAM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_interrupted(number, tmp_path):
    program = PROGRAM[1]
    command = [sys.executable, "-m", "airflow_async_sm.emulator", "--creation-seconds", "0"]
    command += ["--image", f"mine={sys.executable} {program}"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            said = [process.stdout.readline() for _ in range(5)]
            url = re.fullmatch(r"AWS_ENDPOINT_URL=(http://127\.0\.0\.1:\d+)\n", said[3])[1]
            client = boto3.client(
                "s3",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id="a",
                aws_secret_access_key="b",
            )
            assert client.list_buckets()["Buckets"] == []
            client.close()
            assert len(list(tmp_path.iterdir())) == 1
        finally:
            process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_connection_line_can_be_pasted_into_a_shell():
    line = next(
        line for line in _introduction("http://127.0.0.1:1").splitlines() if line.startswith("AIRFLOW_")
    )
    script = f'{line}\nprintf %s "$AIRFLOW_CONN_AWS_DEFAULT"'
    pasted = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    connection = Connection.from_json(pasted)
    assert connection.conn_type == "aws"
    assert connection.extra_dejson == {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}
