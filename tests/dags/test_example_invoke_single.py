"""One request, triggered from the form."""

from __future__ import annotations

import json

import pytest

from tests.dags.playbill import states

pytestmark = pytest.mark.airflow_processes

EXAMPLE = "example_invoke_single"


def test_the_answer_to_one_record_is_in_xcom(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert stage.deferred(report) == {"deploy", "invoke", "delete"}

    answer = stage.xcom(report, "use_prediction")
    (request,) = stage.requests("example-diabetes")
    assert answer["output_location"] == request.output_location
    assert json.loads(stage.world.body(request.output_location)) == answer["prediction"]
    assert answer["prediction"] == pytest.approx(predictions(1))
    assert stage.left_over("example-diabetes") == []


def test_a_file_in_s3_is_scored_in_place_of_the_record(stage):
    file = "s3://async-sm-example/one-file/patients.json"
    report = stage.run(EXAMPLE, file=file, endpoint_name="example-file", prefix="one-file")
    assert report.succeeded, states(report)
    (request,) = stage.requests("example-file")
    assert request.input_location == file
    answer = stage.xcom(report, "use_prediction")
    assert (answer["records"], answer["output_location"]) == (5, request.output_location)
    assert answer["prediction"] == pytest.approx(predictions(5))
    assert stage.left_over("example-file") == []


def predictions(count):
    """Return what the model of the example predicts for the first patients."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=0.1).fit(*load_diabetes(return_X_y=True))
    return model.predict(load_diabetes().data[:count]).tolist()


def test_a_model_that_refuses_the_record_fails_the_task_with_its_words(stage):
    # In a bucket that the example has to make.
    report = stage.run(
        EXAMPLE, record=["not a number"], endpoint_name="example-refusal", bucket="async-sm-refusal"
    )
    assert states(report) == {
        "train_and_upload": "success",
        "deploy": "success",
        "invoke": "failed",
        "use_prediction": "upstream_failed",
        "delete": "success",
    }
    (refused,) = stage.requests("example-refusal")
    body = stage.world.body(refused.failure_location).decode()
    assert json.loads(body)["error"]
    log = stage.log(report, "invoke")
    assert f"InferenceFailed: Request {refused.inference_id} to endpoint example-refusal failed" in log
    assert json.loads(body)["error"] in log
    assert stage.left_over("example-refusal") == []
