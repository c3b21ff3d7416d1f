"""The page of errors has each error and each outcome, and says of each what Airflow does about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_async_sm._compat import AirflowFailException
from airflow_async_sm.core.batches.manifest import ItemEnd
from airflow_async_sm.core.failures import FailureKind
from airflow_async_sm.core.outcomes import End
from airflow_async_sm.exceptions import SageMakerAsyncError
from tests.shape.discovery import classes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
ERRORS = classes(SageMakerAsyncError, "exceptions")
QUESTIONS = ["Means", "Likely cause", "A retry", "What to do"]


def section(title):
    """Return what stands below a heading, up to the next one."""
    found = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"errors.md has {len(found)} headings {title!r}"
    return found[0]


def rows(text):
    """Return the cells of each row of the tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_heading_of_an_error_is_one_of_an_error_that_there_is():
    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == [error.__name__ for error in ERRORS]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_has_an_answer_to_each_question(error):
    answers = dict(row for row in rows(section(error.__name__)) if len(row) == 2 and row[0].strip())
    assert [question for question in answers if answers[question]] == QUESTIONS


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_whether_an_error_is_retried_is_what_airflow_does(error):
    answers = dict(row for row in rows(section(error.__name__)) if len(row) == 2)
    wanted = "Not retried" if issubclass(error, AirflowFailException) else "Retried"
    assert re.match(rf"{wanted}\b", answers["A retry"]), answers["A retry"]


def test_each_outcome_of_a_wait_and_of_an_input_has_a_row():
    named = [row[0] for row in rows(section("Outcomes"))]
    for end in (*End, *ItemEnd):
        assert f"`{end}`" in named
    assert named.count("`Succeeded`") == 2


def test_each_kind_of_failure_is_named():
    # One that expired is told of as an end, and has a row there.
    metric = section("Surprises with Airflow").split("`sagemaker_async.failed`")[1]
    for kind in set(FailureKind) - {FailureKind.EXPIRED}:
        assert f"`{kind}`" in metric
