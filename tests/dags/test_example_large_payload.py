"""A large file for an endpoint that sleeps."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.dags.playbill import module_of, states

EXAMPLE = "example_large_payload"
ENDPOINT = "example-large-payload"
DIGITS = 200_000_000 // 256
MIB = 1024 * 1024


@pytest.mark.airflow_processes
def test_the_file_goes_up_in_parts_and_its_request_wakes_the_endpoint(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert stage.deferred(report) >= {"endpoint.deploy", "endpoint.score", "endpoint.delete"}

    (request,) = stage.requests(ENDPOINT)
    assert (request.state, request.invocations) == ("succeeded", 1)
    # The endpoint had no instance: its metric says so at two full minutes, and an instance takes two seconds.
    assert request.started_at - request.submitted_at > 60
    changes = stage.emulator.client("application-autoscaling").describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{ENDPOINT}/variant/AllTraffic"
    )["ScalingActivities"]
    assert [change["Description"] for change in changes] == ["Setting desired instance count to 1."]
    assert "airflow-async-sm-wake" in changes[0]["Cause"]

    handle = stage.xcom(report, "endpoint.score", "handle")
    assert handle["expires_at"] - handle["submitted_at"] == pytest.approx(21_600 + 3_600 + 300)
    calls = stage.emulator.counters()["s3_buckets"]["async-sm-example"]
    assert calls["CompleteMultipartUpload"] >= 1
    assert calls["UploadPart"] >= 200_000_000 // (16 * MIB)

    counts = json.loads(stage.world.body(request.output_location))
    assert sum(counts) == DIGITS
    assert counts == expected_counts()
    seen = {str(digit): count for digit, count in enumerate(counts)}
    assert stage.xcom(report, "report") == {"digits": DIGITS, "seen": seen}


@pytest.mark.airflow_processes
def test_neither_the_upload_nor_the_endpoint_nor_its_scaling_is_left(stage):
    stage.first(EXAMPLE)
    (request,) = stage.requests(ENDPOINT)
    assert request.input_location.startswith("s3://async-sm-example/large-payload/work/inputs/")
    with pytest.raises(ClientError, match="NoSuchKey"):
        stage.world.body(request.input_location)
    assert stage.left_over(ENDPOINT) == []
    scaling = stage.emulator.client("application-autoscaling")
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert [target for target in targets if ENDPOINT in target["ResourceId"]] == []
    alarms = stage.emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert [alarm for alarm in alarms if ENDPOINT in alarm["AlarmName"]] == []
    # There is one file, however many runs there were.
    (file,) = stage.airflow.home.glob("*.npy")
    assert file.stat().st_size == DIGITS * 256 + 128


def test_the_large_example_writes_the_same_file_each_time(tmp_path):
    import numpy
    from sklearn.datasets import load_digits

    write = module_of(EXAMPLE).dag.get_task("endpoint.score").python_callable
    params = {"megabytes": 1, "folder": str(tmp_path), "endpoint_name": "some"}
    path = write(params=params)
    once = path.read_bytes()
    assert write(params=params) == path
    assert path.read_bytes() == once

    digits, some = numpy.load(path), load_digits().data
    assert digits.shape == (3_906, 64)
    for begin in (0, 1_797, 3_594):
        assert (digits[begin : begin + 1_797] == some[: 3_906 - begin]).all()


def expected_counts():
    """Return how often the model of the example sees each digit in the file."""
    import numpy
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier

    digits, truth = load_digits(return_X_y=True)
    digits = digits.astype("float32")
    seen = RidgeClassifier().fit(digits, truth).predict(digits)
    times, more = divmod(DIGITS, len(seen))
    return (times * numpy.bincount(seen, minlength=10) + numpy.bincount(seen[:more], minlength=10)).tolist()
