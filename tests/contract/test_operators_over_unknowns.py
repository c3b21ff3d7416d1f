"""The operators keep their promises whatever the service does where its documentation is silent."""

from __future__ import annotations

import dataclasses
import json
import uuid
from enum import StrEnum
from typing import get_type_hints

import pytest

from airflow_async_sm.emulator import Unknowns
from airflow_async_sm.emulator.settings.unknowns import BothObjects
from airflow_async_sm.exceptions import InferenceFailed
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from tests.world import BUCKET

# Waiting on the worker and in the triggerer decide alike; one of them is enough here.
pytestmark = [
    pytest.mark.parametrize("run", [True], indirect=True, ids=["deferrable"]),
    pytest.mark.default_airflow,
]

# Whoever looks while there is nothing but a failure object has to take it for the end.
FAILURE_FIRST = BothObjects.OUTPUT_AFTER_FAILURE
# Positions of what is neither yes or no nor one of a few words.
NUMBERS = {"lost_instance_requeues": (0,), "notification_lead_seconds": (0.5,)}


def other_positions():
    """Return every position of every switch but the default ones."""
    kinds = get_type_hints(Unknowns)
    for field in dataclasses.fields(Unknowns):
        kind = kinds[field.name]
        if kind is bool:
            values = (not field.default,)
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            values = tuple(value for value in kind if value is not field.default)
        else:
            values = NUMBERS[field.name]
        for value in values:
            if value is not FAILURE_FIRST:
                yield pytest.param({field.name: value}, id=f"{field.name}={value}")


@pytest.fixture
def turn(world):
    """Return a function that changes positions for one test."""
    before = dataclasses.asdict(world.emulator.knobs.unknowns)
    yield lambda positions: world.emulator.knobs.change(unknowns=positions)
    world.emulator.knobs.change(unknowns=before)


@pytest.mark.parametrize("position", other_positions())
def test_an_answer_is_found_and_a_failure_is_told(position, turn, run, world, echo):
    turn(position)
    result = run(SageMakerAsyncInvokeOperator, endpoint_name=echo, payload=[1], custom_attributes="echo")
    assert world.body(result["output_location"]) == b"[1]"

    with pytest.raises(InferenceFailed) as failed:
        run(SageMakerAsyncInvokeOperator, endpoint_name=echo, payload=[1], custom_attributes="refuse")
    assert '{"message": "Unknown task", "status":  "error"}' in str(failed.value)


# What a batch has to do with: names, and what is there after a failure or an expiry.
OF_BATCHES = ("filename", "failure", "object", "expiry", "lost")


@pytest.mark.parametrize(
    "position", [one for one in other_positions() if any(word in one.id for word in OF_BATCHES)]
)
def test_a_batch_counts_each_input_once(position, turn, run, world, echo, monkeypatch):
    # Where failures lie is not known by name in some positions; then the task looks for itself now and then.
    monkeypatch.setattr("airflow_async_sm.operators._batch._BLIND", 0.5)
    turn(position)
    before = len(world.emulator.requests())
    told = run(
        SageMakerAsyncBatchOperator,
        endpoint_name=echo,
        inputs=[{"do": what, "n": uuid.uuid4().hex} for what in ["echo", "reject", "fail_once"] * 3],
        custom_attributes="obey",
        work_prefix=f"s3://{BUCKET}/work/{uuid.uuid4().hex}",
        retry_delay_seconds=0,
        max_in_flight=4,
        max_failures=3,
    )
    assert (told["counts"]["Succeeded"], told["counts"]["Failed"]) == (6, 3)
    rows = [json.loads(line) for line in world.body(told["manifest"]).splitlines()]
    answers = [json.loads(world.body(row["output_location"])) for row in rows if row["end"] == "Succeeded"]
    assert [answer["do"] for answer in answers] == ["echo", "fail_once"] * 3
    assert len(world.emulator.requests()) - before == 12


def test_a_failure_that_is_there_before_the_output_is_believed(turn, run, world, echo):
    turn({"both_objects": FAILURE_FIRST})
    with pytest.raises(InferenceFailed, match="A failure object beside an output"):
        run(SageMakerAsyncInvokeOperator, endpoint_name=echo, payload=[1], custom_attributes="echo")
