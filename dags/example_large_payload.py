"""
### A file of hundreds of megabytes, at an endpoint that sleeps

An archive has its handwritten forms scanned. Now and then a box is done, and all its digits come in one
file: 200 MB of them, far more than a request can hold. Nobody wants to pay for a machine the rest of the
week, so the endpoint *scales to zero*, and the request wakes it.

The task `score` writes the file on the worker's disk and uploads it to S3 in parts, a few of them in memory
at a time. It sends a request that may be in the queue for six hours and at work for **one hour**, both the
most that the service allows, and then leaves the worker. The answer is ten numbers, how often each digit
was seen, and the upload is deleted.

An endpoint falls asleep by itself after a quiet quarter of an hour. Here two tasks see to it at once, so
that the waking can be watched: it takes two to three minutes until an alarm has seen the request and starts a
machine, and on AWS some more until that serves.

Trigger it from the form. The defaults fit the local emulator (`scripts/demo example_large_payload`: two to
three minutes, nearly all of it waiting). For a real account set `aws_conn_id`, `bucket`, `image` and
`execution_role_arn`; the image has to hold a scikit-learn that can read the model which the first task
trains. For an endpoint that stays, deploy it with `scaling` elsewhere, and keep `score` and `report`.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

from airflow_async_sm.operators.capacity import SageMakerAsyncCapacityOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

# What AWS's scikit-learn image runs. It goes through the digits piece by piece, and counts.
INFERENCE_SCRIPT = b"""\
import io
from pathlib import Path

import joblib
import numpy


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")


def input_fn(body, content_type):
    return numpy.load(io.BytesIO(body))


def predict_fn(digits, model):
    pieces = numpy.array_split(digits, len(digits) // 10_000 + 1)
    return sum(numpy.bincount(model.predict(piece), minlength=10) for piece in pieces)
"""

# A digit is an image of 8 x 8 pixels, each a floating point number of four bytes.
PIXELS = 64
BYTES_PER_DIGIT = 4 * PIXELS

with DAG(
    dag_id="example_large_payload",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "megabytes": Param(
            200,
            type="integer",
            minimum=1,
            maximum=999,
            description="Size of the file. The service takes up to 1 GB.",
        ),
        "folder": Param(
            None,
            type=["null", "string"],
            description="Folder on the worker for the file. Default: Airflow's home.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example",
            type="string",
            description="Bucket for model, upload and answers; made if missing.",
        ),
        "prefix": Param("large-payload", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-large-payload", type="string", maxLength=63, description="Name of the endpoint."
        ),
        "image": Param(
            "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2",
            type="string",
            description="Container image that serves the model.",
        ),
        "instance_type": Param("ml.m5.large", type="string", description="Kind of machine."),
        "execution_role_arn": Param(
            "arn:aws:iam::123456789012:role/sagemaker-execution",
            type="string",
            description="Role that the endpoint runs under.",
        ),
    },
) as dag:

    @task
    def train_and_upload(params: dict[str, Any] | None = None) -> str:
        """Train a model that reads handwritten digits, and return the S3 URI of its package."""
        import joblib
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from sklearn.datasets import load_digits
        from sklearn.linear_model import RidgeClassifier

        assert params is not None
        digits, truth = load_digits(return_X_y=True)
        dump = io.BytesIO()
        joblib.dump(RidgeClassifier().fit(digits.astype("float32"), truth), dump)
        package = io.BytesIO()
        with tarfile.open(fileobj=package, mode="w:gz") as archive:
            for name, content in {
                "model.joblib": dump.getvalue(),
                "code/inference.py": INFERENCE_SCRIPT,
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        if not s3.check_for_bucket(params["bucket"]):
            s3.create_bucket(params["bucket"])
        key = f"{params['prefix']}/model.tar.gz"
        s3.load_bytes(package.getvalue(), key, params["bucket"], replace=True)
        return f"s3://{params['bucket']}/{key}"

    # [START example_large_payload_request]
    @task.sagemaker_async(
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        # The file is uploaded here, in parts, and deleted once there is an answer.
        work_prefix="s3://{{ params.bucket }}/{{ params.prefix }}/work",
        delete_input=True,
        accept="application/json",
        # Six hours in the queue and one hour at work: more is not possible.
        request_ttl=21_600,
        invocation_timeout=3_600,
        result_schema={"type": "array", "items": {"type": "integer"}, "minItems": 10, "maxItems": 10},
        deferrable=True,
    )
    def score(params: dict[str, Any] | None = None) -> Path:
        """Write the file with the digits, and return its path. The task returns the model's answer."""
        import numpy
        from sklearn.datasets import load_digits

        assert params is not None
        some = load_digits().data.astype("float32")
        count = params["megabytes"] * 1_000_000 // BYTES_PER_DIGIT
        folder = params["folder"] or os.environ.get("AIRFLOW_HOME", "~/airflow")
        # The next run writes to the same place, so there is one file on a worker and not more.
        path = Path(folder).expanduser() / f"{params['endpoint_name']}.npy"
        # It never is in memory as a whole: the system writes it to the disk page by page.
        file = numpy.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=(count, PIXELS))
        for begin in range(0, count, len(some)):
            part = file[begin : begin + len(some)]
            part[:] = some[: len(part)]
        file.flush()
        return path

    # [END example_large_payload_request]

    @task
    def report(counts: list[int]) -> dict[str, Any]:
        """Return how many digits there were, and which one was seen how often."""
        return {"digits": sum(counts), "seen": {str(digit): count for digit, count in enumerate(counts)}}

    # [START example_large_payload_sleep]
    with sagemaker_async_endpoint(
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        image="{{ params.image }}",
        execution_role_arn="{{ params.execution_role_arn }}",
        instance_type="{{ params.instance_type }}",
        model_data_url=train_and_upload(),
        output_path="s3://{{ params.bucket }}/{{ params.prefix }}/answers",
        environment={
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            # AWS's image ends a request after a minute otherwise.
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3600",
        },
        deferrable=True,
    ):
        fall_asleep = SageMakerAsyncCapacityOperator(
            task_id="fall_asleep",
            aws_conn_id="{{ params.aws_conn_id }}",
            endpoint_name="{{ params.endpoint_name }}",
            instances=0,
            deferrable=True,
        )
        # The same endpoint, from now on with scaling: asleep without work, one machine for a request.
        scale = SageMakerAsyncDeployOperator(
            task_id="scale",
            aws_conn_id="{{ params.aws_conn_id }}",
            endpoint_name="{{ params.endpoint_name }}",
            endpoint_config_name="{{ ti.xcom_pull('endpoint.deploy')['endpoint_config_name'] }}",
            scaling={"min_instances": 0, "max_instances": 1, "invocation_timeout": 3_600},
            deferrable=True,
        )
        counts = score()
        fall_asleep >> scale >> counts
    # [END example_large_payload_sleep]

    report(counts)
