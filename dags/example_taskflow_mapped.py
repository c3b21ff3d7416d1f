"""
### Score each clinic with `@task.sagemaker_async` and `.expand()`

Some clinics send their patients, each its own. A function returns the rows of one clinic, and is mapped over
the clinics: each is a task of its own, which sends one request and returns the model's scores as a list of
numbers. The rows pass through no XCom, and no worker is held while the model works. The last task brings the
answers together. The endpoint is there for this run only.

So do it for a handful, each of which may fail, be retried and be cleared by itself. For thousands there is
the batch: see `example_nightly_batch`.

Trigger it from the form. The defaults fit the local emulator: `scripts/demo example_taskflow_mapped`. For a
real account set `aws_conn_id`, `bucket`, `image` and `execution_role_arn`; the image has to hold a
scikit-learn that can read the model which the first task trains.
"""

from __future__ import annotations

import io
import tarfile
from datetime import timedelta
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
    dag_id="example_taskflow_mapped",
    schedule=None,
    catchup=False,
    # One run after the other: they share the endpoint's name.
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "clinics": Param(
            ["north", "east", "south", "west"],
            type="array",
            items={"type": "string"},
            minItems=1,
            maxItems=40,
            uniqueItems=True,
            description="The clinics. The sample patients are divided among them.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for model and answers; made if missing."
        ),
        "prefix": Param("clinics", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-clinics", type="string", maxLength=63, description="Name of the endpoint."
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

    @task
    def list_clinics(params: dict[str, Any] | None = None) -> list[str]:
        """Return who has sent patients. Only their names go through XCom."""
        assert params is not None
        return list(params["clinics"])

    # [START example_taskflow_mapped_score]
    @task.sagemaker_async(
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        content_type="text/csv",
        accept="application/json",
        # An answer that is anything else fails the task here, and not somewhere downstream.
        result_schema={"type": "array", "items": {"type": "number"}},
        # What Airflow's page calls the tasks, in place of 0, 1, 2.
        map_index_template="{{ ti.xcom_pull('list_clinics')[ti.map_index] }}",
        # A retry waits for the request of the earlier try, and scores nothing twice. Airflow before 3.3
        # remembers it in this folder.
        work_prefix="s3://{{ params.bucket }}/{{ params.prefix }}/work",
        retries=2,
        retry_delay=timedelta(seconds=30),
        deferrable=True,
    )
    def score(clinic: str, params: dict[str, Any] | None = None) -> list[list[float]]:
        """Return the rows of a clinic. The task returns the model's answer to them."""
        from sklearn.datasets import load_diabetes

        assert params is not None
        clinics = params["clinics"]
        rows: list[list[float]] = load_diabetes().data[clinics.index(clinic) :: len(clinics)].tolist()
        return rows

    # [END example_taskflow_mapped_score]

    @task
    def bring_together(clinics: list[str], scores: list[list[float]]) -> dict[str, Any]:
        """Return the mean of each clinic, and which of them has the highest score."""
        # The answers of mapped tasks come in the order of what they were mapped over.
        by_clinic = dict(zip(clinics, scores, strict=True))
        highest = max(by_clinic, key=lambda clinic: max(by_clinic[clinic]))
        return {
            "patients": sum(map(len, by_clinic.values())),
            "means": {clinic: sum(some) / len(some) for clinic, some in by_clinic.items()},
            "highest": {"clinic": highest, "score": max(by_clinic[highest])},
        }

    # [START example_taskflow_mapped_flow]
    clinics = list_clinics()
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
        scores = score.expand(clinic=clinics)

    bring_together(clinics, scores)
    # [END example_taskflow_mapped_flow]
