"""
### An endpoint for an hour a week

A laboratory gets new diagnoses all the time. Once a week it trains its model anew, scores the samples that
have no diagnosis yet, and needs no endpoint until the next week. So the endpoint is part of the run:
training → deployment → batch → deletion. The deletion is a *teardown*. It runs whatever became of the tasks
before it, also after a deployment that stopped half-way, and endpoint, configuration and model are gone
afterwards. If it fails itself, the run fails, for what is left is paid for.

Endpoint and folder are named after the run, so two runs at the same time do not get in each other's way.
Clear the task `score`, and Airflow clears training, deployment and deletion with it.

Trigger it from the form. The defaults fit the local emulator (`scripts/demo example_ephemeral_endpoint`).
For a real account set `aws_conn_id`, `bucket`, `image` and `execution_role_arn`; the image has to hold a
scikit-learn that can read the model which the first task trains. What stays is in the run's folder in S3:
give it a lifecycle rule.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from airflow_async_sm.core.naming import fit_name
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

# What AWS's scikit-learn image runs. The answer to some samples is how likely each of them is malignant.
INFERENCE_SCRIPT = b"""\
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")


def predict_fn(samples, model):
    return model.predict_proba(samples)[:, 0]
"""

# Of the 569 samples of the breast cancer data so many have a diagnosis; the others are scored.
DIAGNOSED = 400

# [START example_ephemeral_endpoint_names]
# Two runs have nothing in common: neither the endpoint nor the folder.
ENDPOINT = "{{ fit_name(params.endpoint_name ~ '-' ~ run_id) }}"
FOLDER = "s3://{{ params.bucket }}/{{ params.prefix }}/{{ fit_name(run_id) }}"
# [END example_ephemeral_endpoint_names]

with DAG(
    dag_id="example_ephemeral_endpoint",
    schedule=None,  # "@weekly", say
    catchup=False,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    user_defined_macros={"fit_name": fit_name},
    params={
        "samples": Param(
            None,
            type=["null", "string"],
            description="S3 URI of a CSV file without header: the samples to score, with 30 values each. "
            "Default: those that the training has left out.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for everything; made if missing."
        ),
        "prefix": Param(
            "ephemeral", type="string", description="Folder in the bucket. Each run has its own in it."
        ),
        "endpoint_name": Param(
            "example-ephemeral",
            type="string",
            maxLength=40,
            description="What the endpoint's name begins with.",
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
    def train(folder: str, params: dict[str, Any] | None = None) -> dict[str, str]:
        """Train a model with the samples that have a diagnosis, and return where it and the others are."""
        import joblib
        import numpy
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from sklearn.datasets import load_breast_cancer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        assert params is not None
        samples, diagnoses = load_breast_cancer(return_X_y=True)
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(samples[:DIAGNOSED], diagnoses[:DIAGNOSED])

        dump = io.BytesIO()
        joblib.dump(model, dump)
        package = io.BytesIO()
        with tarfile.open(fileobj=package, mode="w:gz") as archive:
            for name, content in {
                "model.joblib": dump.getvalue(),
                "code/inference.py": INFERENCE_SCRIPT,
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        table = io.StringIO()
        numpy.savetxt(table, samples[DIAGNOSED:], delimiter=",", fmt="%.6g")

        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        if not s3.check_for_bucket(params["bucket"]):
            s3.create_bucket(params["bucket"])
        s3.load_bytes(package.getvalue(), f"{folder}/model.tar.gz", replace=True)
        s3.load_string(table.getvalue(), f"{folder}/samples.csv", replace=True)
        return {
            "model": f"{folder}/model.tar.gz",
            "samples": params["samples"] or f"{folder}/samples.csv",
        }

    @task
    def report(batch: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Count the samples that are likely malignant. It needs the answers, and the endpoint no more."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        assert params is not None
        results = SageMakerAsyncHook(params["aws_conn_id"]).read_result(batch["results"])
        answers = [json.loads(line)["output"] for line in results.splitlines()]
        scores = [score for answer in answers if answer is not None for score in answer]
        return {
            "samples": len(scores),
            "malignant": sum(score > 0.5 for score in scores),
            "scores": batch["results"],
        }

    # [START example_ephemeral_endpoint_tasks]
    trained = train(FOLDER)

    deploy = SageMakerAsyncDeployOperator(
        task_id="deploy",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name=ENDPOINT,
        image="{{ params.image }}",
        execution_role_arn="{{ params.execution_role_arn }}",
        instance_type="{{ params.instance_type }}",
        model_data_url=trained["model"],
        output_path=f"{FOLDER}/answers",
        environment={
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
        deferrable=True,
    )

    score = SageMakerAsyncBatchOperator(
        task_id="score",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name=ENDPOINT,
        input_records=trained["samples"],
        csv_header=False,
        records_per_request=10,
        accept="application/json",
        work_prefix=f"{FOLDER}/work",
        merge_to=f"{FOLDER}/scores/",
        request_ttl=3_600,
        invocation_timeout=60,
        max_attempts=2,
        retry_delay_seconds=5,
        deferrable=True,
    )

    delete = SageMakerAsyncDeleteOperator(
        task_id="delete",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name=ENDPOINT,
        delete_parts=True,
        retries=3,
        deferrable=True,
    )

    deploy >> score >> delete
    # The training is the setup, and not the deployment: a teardown does not run after a setup that failed,
    # and a deployment that failed may have left something.
    delete.as_teardown(setups=trained.operator, on_failure_fail_dagrun=True)

    report(score.output)
    # [END example_ephemeral_endpoint_tasks]
