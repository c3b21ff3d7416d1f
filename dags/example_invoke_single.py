"""
### Score one record, or one file in S3, now

Somebody wants to know what the model says, and fills in a form: one record, or the address of a file with
many of them. This DAG trains a small model, deploys it to an asynchronous endpoint, sends it one request,
waits for the answer without holding a worker, uses the answer, and deletes the endpoint again, also when
something failed. Where the endpoint is there anyway, `invoke` and the task after it are all you need.

Every name is a parameter too. The defaults fit the local emulator (`scripts/demo`), and the first task puts a
sample file next to its model: `s3://async-sm-example/diabetes/patients.json`. For a real account set
`aws_conn_id`, `bucket`, `image` and `execution_role_arn`; the image has to hold a scikit-learn that can read
the model which the first task trains.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

# What AWS's scikit-learn image runs: it loads the model with model_fn and answers with its predictions.
INFERENCE_SCRIPT = """\
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")
"""

# The first patient of the diabetes data: age, sex, body mass index, blood pressure and six serum values.
FIRST_PATIENT = [
    0.0380759064,
    0.0506801187,
    0.0616962065,
    0.0218723855,
    -0.0442234984,
    -0.0348207628,
    -0.0434008457,
    -0.0025922620,
    0.0199074862,
    -0.0176461252,
]

with DAG(
    dag_id="example_invoke_single",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "record": Param(
            FIRST_PATIENT, type="array", description="The ten standardised values of one patient."
        ),
        "file": Param(
            None,
            type=["null", "string"],
            pattern="^s3://.+/.+",
            description="S3 URI of a file to score in place of the record: a list of such records, in JSON.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for model and answers; made if missing."
        ),
        "prefix": Param("diabetes", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-diabetes",
            type="string",
            maxLength=63,
            description="Name of the endpoint.",
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
        """Train a model that predicts the course of diabetes; return where in S3 its package is."""
        import joblib
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from sklearn.datasets import load_diabetes
        from sklearn.linear_model import Ridge

        assert params is not None
        features, progression = load_diabetes(return_X_y=True)
        dump = io.BytesIO()
        joblib.dump(Ridge(alpha=0.1).fit(features, progression), dump)
        package = io.BytesIO()
        with tarfile.open(fileobj=package, mode="w:gz") as archive:
            for name, content in {
                "model.joblib": dump.getvalue(),
                "code/inference.py": INFERENCE_SCRIPT.encode(),
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        if not s3.check_for_bucket(params["bucket"]):
            s3.create_bucket(params["bucket"])
        folder = f"s3://{params['bucket']}/{params['prefix']}"
        s3.load_string(json.dumps(features[:5].tolist()), f"{folder}/patients.json", replace=True)
        s3.load_bytes(package.getvalue(), f"{folder}/model.tar.gz", replace=True)
        return f"{folder}/model.tar.gz"

    @task
    def use_prediction(answer: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the answer, one prediction for each record, and return what is worth knowing of it."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        assert params is not None
        predictions = json.loads(
            SageMakerAsyncHook(params["aws_conn_id"]).read_result(answer["output_location"])
        )
        return {
            "records": len(predictions),
            # A file may have many: all are in S3.
            "prediction": predictions[:100],
            "highest": max(predictions),
            "output_location": answer["output_location"],
        }

    model_data_url = train_and_upload()

    deploy = SageMakerAsyncDeployOperator(
        task_id="deploy",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        image="{{ params.image }}",
        execution_role_arn="{{ params.execution_role_arn }}",
        instance_type="{{ params.instance_type }}",
        model_data_url=model_data_url,
        output_path="s3://{{ params.bucket }}/{{ params.prefix }}/answers",
        environment={
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
        deferrable=True,
    )

    # [START example_invoke_single_invoke]
    invoke = SageMakerAsyncInvokeOperator(
        task_id="invoke",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        # One of the two: what is rendered to nothing counts as left out. The file is not copied: the endpoint
        # reads it.
        payload="{{ '' if params.file else [params.record] | tojson }}",
        input_location="{{ params.file or '' }}",
        content_type="application/json",
        accept="application/json",
        deferrable=True,
    )
    # [END example_invoke_single_invoke]

    delete = SageMakerAsyncDeleteOperator(
        task_id="delete",
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name="{{ params.endpoint_name }}",
        delete_parts=True,
        # What is not deleted is paid for.
        retries=3,
        deferrable=True,
    )

    deploy >> invoke >> use_prediction(invoke.output) >> delete
    # The training is the setup: a deployment that failed half-way is cleaned up too.
    delete.as_teardown(setups=model_data_url.operator)
