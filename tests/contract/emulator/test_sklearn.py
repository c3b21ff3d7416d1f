"""The bundled scikit-learn container with a real model, under AWS's own image name."""

from __future__ import annotations

import io
import json

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
SCRIPT = b"""
import joblib, os
from helper import FILE

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, FILE))
"""


@pytest.fixture(scope="module")
def model():
    features, species = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(features, species)


@pytest.fixture(scope="module")
def endpoint(world, model):
    packed = io.BytesIO()
    joblib.dump(model, packed)
    archive = world.put_archive(
        {
            "model.joblib": packed.getvalue(),
            "code/inference.py": SCRIPT,
            "code/helper.py": b"FILE = 'model.joblib'\n",
        }
    )
    return world.deploy(image=IMAGE, model_data=archive)


def test_predictions_are_the_models(world, endpoint, model):
    features, _ = load_iris(return_X_y=True)
    body = json.dumps({"instances": features.tolist()}).encode()
    record = world.ended(world.submit(endpoint, Body=body, ContentType="application/json"))
    answer = world.get(record.output_location)
    assert json.loads(answer["Body"].read()) == model.predict(features).tolist()
    assert answer["ContentType"] == "application/json"


def test_csv_object_is_predicted(world, endpoint, model):
    rows = load_iris(return_X_y=True)[0][::10]
    location = world.put("\n".join(",".join(map(str, row)) for row in rows).encode())
    record = world.ended(
        world.submit(endpoint, InputLocation=location, ContentType="text/csv", Accept="text/csv")
    )
    assert world.body(record.output_location).decode().split() == [str(p) for p in model.predict(rows)]


def test_bad_input_is_a_failure_object_of_the_model(world, endpoint):
    record = world.ended(world.submit(endpoint, Body=b"{", ContentType="application/json"))
    assert (record.state, record.status) == ("failed", 400)
    assert "cannot be read as application/json" in json.loads(world.body(record.failure_location))["error"]


def test_archive_without_a_script_makes_the_endpoint_fail(world, caplog):
    description = world.fail(image=IMAGE, model_data=world.put_archive({"model.joblib": b""}))
    assert "exit code 1" in description["FailureReason"]
    assert "has no code/inference.py" in caplog.text
