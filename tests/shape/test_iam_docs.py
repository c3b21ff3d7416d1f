"""The page about rights is whole: every operator and sensor has a policy, and every statement a reason."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from airflow_async_sm._compat import BaseOperator
from tests.shape.discovery import classes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "iam.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
TASKS = [cls for cls in classes(BaseOperator, "operators", "sensors") if not inspect.isabstract(cls)]
PASSED = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def policies(title):
    return [json.loads(text) for text in re.findall(r"^```json$(.*?)^```$", SECTIONS[title], re.M | re.S)]


def statements(title):
    return {one["Sid"]: one for policy in policies(title) for one in policy["Statement"] if "Sid" in one}


@pytest.mark.parametrize("task", TASKS, ids=lambda cls: cls.__name__)
def test_every_operator_and_sensor_has_a_section_with_a_policy(task):
    (title,) = (title for title, text in SECTIONS.items() if f"For `{task.__name__}`" in text)
    assert len(policies(title)) == 1


@pytest.mark.parametrize("title", [title for title in SECTIONS if "```json" in SECTIONS[title]])
def test_every_statement_is_explained_and_nothing_else(title):
    rows = re.findall(r"^\| (`.*?) \| (.+) \|$", SECTIONS[title], re.MULTILINE)
    assert [sid for sids, _ in rows for sid in re.findall(r"`(\w+)`", sids)] == list(statements(title))


def test_the_right_to_list_is_on_the_bucket_itself_where_alone_it_has_an_effect():
    found = [
        one for title in SECTIONS for one in statements(title).values() if "s3:ListBucket" in one["Action"]
    ]
    assert len(found) == 8
    buckets = ("BUCKET", "INPUT_BUCKET", "WORK_BUCKET")
    assert {one["Resource"] for one in found} == {f"arn:aws:s3:::{bucket}" for bucket in buckets}


def test_the_execution_role_is_handed_to_sagemaker_only_and_may_be_taken_by_it_only():
    assert statements("Deploy")["ExecutionRole"]["Condition"] == PASSED
    (trust,) = policies("Execution role")[0]["Statement"]
    assert (trust["Action"], trust["Principal"]) == ("sts:AssumeRole", {"Service": "sagemaker.amazonaws.com"})
