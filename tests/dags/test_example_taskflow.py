"""A function's return value is the request."""

from __future__ import annotations

import json

import pytest

from tests.dags.playbill import deferred, states

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "example_taskflow"


def test_the_scores_are_what_the_function_task_returns(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert deferred(report) == {"endpoint.deploy", "endpoint.score", "endpoint.delete"}

    (request,) = stage.requests("example-taskflow")
    scores = json.loads(stage.world.body(request.output_location))
    assert len(scores) == 20
    assert stage.xcom(report, "endpoint.score") == scores
    assert stage.xcom(report, "endpoint.score", "answer")["output_location"] == request.output_location
    highest = scores.index(max(scores))
    assert stage.xcom(report, "find_highest") == {"patient": highest, "score": scores[highest], "of": 20}
    assert stage.left_over("example-taskflow") == []
