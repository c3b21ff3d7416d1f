"""
### Score rows with `@task.sagemaker_async`

A function returns the rows to score, an asynchronous endpoint scores them, and the next task gets the scores
as a list of numbers. The rows pass through no XCom, and no worker is held while the model works. The endpoint
is there for this run only.

Trigger it from the form. The defaults fit the local emulator (`scripts/demo`). For a real account set
`aws_conn_id`, `bucket`, `image` and `execution_role_arn`; the image has to hold a scikit-learn that can read
the model which the first task trains.
"""

from __future__ import annotations

import io
import tarfile
from typing import Any

from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

# What AWS's scikit-learn image runs: it loads the model with model_fn and answers with its predictions.
INFERENCE_SCRIPT = b"""\
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")
"""

with DAG(
    dag_id="example_taskflow",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "patients": Param(
            20, type="integer", minimum=1, maximum=442, description="How many patients are scored."
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for model and answers; made if missing."
        ),
        "prefix": Param("taskflow", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-taskflow", type="string", maxLength=63, description="Name of the endpoint."
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
        """Train a model that predicts the course of diabetes, and return the S3 URI of its package."""
        import joblib
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from sklearn.datasets import load_diabetes
        from sklearn.linear_model import Ridge

        assert params is not None
        dump = io.BytesIO()
        joblib.dump(Ridge(alpha=0.1).fit(*load_diabetes(return_X_y=True)), dump)
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

    @task.sagemaker_async(
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        content_type="text/csv",
        accept="application/json",
        # An answer that is anything else fails the task here, and not somewhere downstream.
        result_schema={"type": "array", "items": {"type": "number"}},
        deferrable=True,
    )
    def score(params: dict[str, Any] | None = None) -> list[list[float]]:
        """Return the rows to score. The task returns the model's answer to them."""
        from sklearn.datasets import load_diabetes

        assert params is not None
        rows: list[list[float]] = load_diabetes().data[: params["patients"]].tolist()
        return rows

    @task
    def find_highest(scores: list[float]) -> dict[str, Any]:
        """Return which patient has the highest score."""
        highest = max(scores)
        return {"patient": scores.index(highest), "score": highest, "of": len(scores)}

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
        },
        deferrable=True,
    ):
        scores = score()

    find_highest(scores)
