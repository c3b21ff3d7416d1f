"""Two models, the second of which is asked about what the first has found."""

from __future__ import annotations

import json

import pytest

from tests.dags.playbill import states

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "example_pipeline_chain"
DETECTOR_TASKS = ["begin", "deploy", "send", "wait", "delete"]


def test_the_second_model_reads_what_the_first_has_found(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    both = [f"{group}.{task}" for group in ("detector", "progression") for task in DETECTOR_TASKS]
    alone = ["prepare", "is_anybody_at_risk", "report"]
    assert states(report) == {**dict.fromkeys([*alone, *both], "success"), "all_clear": "skipped"}
    assert stage.deferred(report) >= {"detector.deploy", "detector.delete", "progression.deploy"}
    # Who sends does not wait.
    assert not stage.deferred(report) & {"detector.send", "progression.send"}

    (first,) = stage.requests("example-chain-detector")
    (second,) = stage.requests("example-chain-progression")
    assert (first.invocations, second.invocations) == (1, 1)
    assert stage.xcom(report, "detector.send")["output_location"] == first.output_location
    assert second.input_location == first.output_location

    patients = json.loads(stage.world.body(first.input_location))
    at_risk = json.loads(stage.world.body(first.output_location))
    progression = json.loads(stage.world.body(second.output_location))
    assert len(patients) == 100
    assert 0 < len(at_risk) < 100
    assert all(patient in patients for patient in at_risk)
    assert set(progression) == {patient["id"] for patient in at_risk}
    assert stage.xcom(report, "detector.wait") == len(at_risk)
    assert stage.xcom(report, "progression.wait") == progression

    told = stage.xcom(report, "report")
    assert (told["patients"], told["at_risk"]) == (100, len(at_risk))
    worst = [one["progression"] for one in told["worst"]]
    assert worst == sorted(progression.values(), reverse=True)[:3]
    assert all(progression[one["patient"]] == one["progression"] for one in told["worst"])
    assert stage.left_over("example-chain") == []


def test_without_anybody_at_risk_there_is_no_second_endpoint(stage):
    report = stage.run(EXAMPLE, threshold=350, endpoint_name="example-nobody")
    assert report.succeeded, states(report)
    found = states(report)
    assert {found[f"detector.{task}"] for task in DETECTOR_TASKS} == {"success"}
    assert {found[f"progression.{task}"] for task in DETECTOR_TASKS} == {"skipped"}
    assert found["report"] == "skipped"
    assert stage.xcom(report, "all_clear") == {"patients": 100, "at_risk": 0}
    assert len(stage.requests("example-nobody-detector")) == 1
    assert stage.left_over("example-nobody") == []
