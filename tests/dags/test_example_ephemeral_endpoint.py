"""An endpoint that is there for one batch only."""

from __future__ import annotations

import json

import pytest

from tests.dags.playbill import states

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "example_ephemeral_endpoint"


def test_the_samples_are_scored_and_nothing_is_left(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert stage.deferred(report) >= {"deploy", "delete"}

    endpoint = stage.xcom(report, "deploy")["endpoint_name"]
    assert endpoint.startswith("example-ephemeral-manual--")
    # 169 samples, ten to a request.
    requests = stage.requests(endpoint)
    assert [request.state for request in requests] == ["succeeded"] * 17
    assert [request.invocations for request in requests] == [1] * 17

    told = stage.xcom(report, "report")
    expected = likelihoods()
    assert told["samples"] == len(expected) == 169
    assert told["malignant"] == sum(value > 0.5 for value in expected)
    lines = [json.loads(line) for line in stage.world.body(told["scores"]).splitlines()]
    scores = [score for line in lines for score in line["output"]]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert stage.left_over(endpoint) == []


def test_nothing_is_left_either_if_the_batch_fails(stage):
    # The model wants numbers.
    stage.world.s3.put_object(Bucket="async-sm-example", Key="damaged.csv", Body=b"17.99,large\n")
    report = stage.run(EXAMPLE, samples="s3://async-sm-example/damaged.csv")
    assert states(report) == {
        "train": "success",
        "deploy": "success",
        "score": "failed",
        "report": "upstream_failed",
        "delete": "success",
    }
    endpoint = stage.xcom(report, "deploy")["endpoint_name"]
    assert [request.state for request in stage.requests(endpoint)] == ["failed", "failed"]
    log = stage.log(report, "score")
    assert "could not convert string to float: 'large'" in log
    assert f"{stage.xcom(report, 'score', 'handle')['location']}dead-letter.jsonl" in log
    assert stage.left_over(endpoint) == []


def likelihoods():
    """Return what the model of the example says of the samples that it was not trained with."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    samples, diagnoses = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(samples[:400], diagnoses[:400])
    return model.predict_proba(samples[400:])[:, 0].tolist()
