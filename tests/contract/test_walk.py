"""The walk with the AWS CLI and boto3, as a stranger runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import given
from tests.outside import find_aws_cli

WALK = Path(__file__).parents[1] / "walk.py"
STEPS = [
    "create",
    "invoke inline",
    "invoke from S3",
    "fail",
    "expire",
    "scale to zero and wake",
    "update",
    "roll back",
    "delete",
]

pytestmark = pytest.mark.default_airflow


def run(environment, *, timeout):
    return subprocess.run(
        [sys.executable, str(WALK)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
        cwd=WALK.parents[1],
    )


def test_every_step_is_as_in_the_service(tmp_path):
    cli = given.ENVIRONMENT.get("AIRFLOW_ASYNC_SM_AWS_CLI", "")
    done = run({**os.environ, "AIRFLOW_ASYNC_SM_AWS_CLI": cli, "TMPDIR": str(tmp_path)}, timeout=300)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    said = [re.fullmatch(r"(.{24}) *\d+\.\d s  (.+)", line) for line in lines[1:-1]]
    assert [step[1].rstrip() for step in said] == STEPS
    assert lines[-1] == "Everything was as in the service."
    assert list(tmp_path.iterdir()) == []


def test_without_a_cli_one_sentence_says_what_is_needed(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "AIRFLOW_ASYNC_SM_AWS_CLI"}
    done = run({**environment, "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("The walk cannot begin: There is no AWS CLI: install it")
    assert list(tmp_path.iterdir()) == []


def test_cli_that_is_too_old_is_named(tmp_path):
    old = tmp_path / "aws"
    old.write_text('#!/bin/sh\necho \'{"InputLocation": ""}\'\n')
    old.chmod(0o755)
    done = run({**os.environ, "AIRFLOW_ASYNC_SM_AWS_CLI": str(old)}, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"The AWS CLI at {old} is too old for inline payloads" in done.stderr


def test_step_that_fails_is_named_and_nothing_is_left_behind(tmp_path):
    cli = tmp_path / "aws"
    cli.write_text(
        '#!/bin/sh\ncase "$*" in *"--body "*) echo "no such option" >&2; exit 2 ;; esac\n'
        f'exec "{find_aws_cli(given.ENVIRONMENT)}" "$@"\n'
    )
    cli.chmod(0o755)
    folder = tmp_path / "tmp"
    folder.mkdir()
    done = run({**os.environ, "AIRFLOW_ASYNC_SM_AWS_CLI": str(cli), "TMPDIR": str(folder)}, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("invoke inline")
    assert "FAILED: " in last
    assert last.endswith("no such option")
    assert list(folder.iterdir()) == []
