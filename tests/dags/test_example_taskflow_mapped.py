"""A function's return value is the request, for each of a handful."""

from __future__ import annotations

import json

import pytest

from tests.dags.playbill import states

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "example_taskflow_mapped"
CLINICS = ["north", "east", "south", "west"]


def test_each_clinic_gets_its_scores_and_they_are_brought_together(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    mapped = {f"endpoint.score[{index}]" for index in range(4)}
    assert stage.deferred(report) == {"endpoint.deploy", "endpoint.delete", *mapped}

    requests = {request.output_location: request for request in stage.requests("example-clinics")}
    assert len(requests) == 4
    scores = {}
    for index, clinic in enumerate(CLINICS):
        answer = stage.xcom(report, "endpoint.score", "answer", map_index=index)
        scores[clinic] = stage.xcom(report, "endpoint.score", map_index=index)
        assert answer["output_location"] in requests
        assert json.loads(stage.world.body(answer["output_location"])) == scores[clinic]
    assert scores == {clinic: pytest.approx(expected(index)) for index, clinic in enumerate(CLINICS)}

    told = stage.xcom(report, "bring_together")
    highest = max(CLINICS, key=lambda clinic: max(scores[clinic]))
    assert told["patients"] == 442
    assert told["highest"] == {"clinic": highest, "score": max(scores[highest])}
    assert told["means"] == {clinic: pytest.approx(sum(s) / len(s)) for clinic, s in scores.items()}
    assert stage.left_over("example-clinics") == []


def test_the_page_calls_the_tasks_by_the_clinics(stage):
    report = stage.first(EXAMPLE)
    path = f"/dags/{EXAMPLE}/dagRuns/{report.run_id}/taskInstances/endpoint.score/listMapped"
    found = stage.asked(path)["task_instances"]
    assert {one["map_index"]: one["rendered_map_index"] for one in found} == dict(enumerate(CLINICS))


def expected(index):
    """Return what the model of the example predicts for the patients of a clinic."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=0.1).fit(*load_diabetes(return_X_y=True))
    return model.predict(load_diabetes().data[index :: len(CLINICS)]).tolist()
