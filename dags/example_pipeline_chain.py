"""
### Two models, one after the other

A simple model looks at all patients of a day and finds those at risk. A costly one then says how fast the
disease of those will progress. On some days nobody is at risk: then the costly endpoint is not even made.

The requests go from hand to hand. A task sends one and is done; it returns a *handle*, some hundred bytes
that say where the answer will be. A sensor takes the handle and waits, without a worker. It may time out,
or be cleared, and nothing is sent again. The patients' data passes through no XCom: the second model reads
the first one's answer where it lies in S3.

Trigger it from the form. The defaults fit the local emulator (`scripts/demo example_pipeline_chain`); with
a `threshold` of 350 nobody is at risk. For a real account set `aws_conn_id`, `bucket`, `image` and
`execution_role_arn`; the image has to hold a scikit-learn that can read the models which the first task
trains, and the role has to be allowed to read and write in the folder `prefix` of the bucket.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.sensors.result import SageMakerAsyncResultSensor
from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

# What AWS's scikit-learn image runs. Both models read patients, and the first one answers with patients.
COMMON_SCRIPT = b"""\
import json
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")


def input_fn(body, content_type):
    return json.loads(body)


def output_fn(answer, accept):
    return json.dumps(answer), "application/json"


def predict(patients, model):
    return zip(patients, model.predict([patient["values"] for patient in patients]))


"""
DETECTOR_SCRIPT = b"""\
def predict_fn(patients, model):
    return [patient for patient, is_at_risk in predict(patients, model) if is_at_risk]
"""
PROGRESSION_SCRIPT = b"""\
def predict_fn(patients, model):
    return {patient["id"]: round(progression, 1) for patient, progression in predict(patients, model)}
"""

FOLDER = "s3://{{ params.bucket }}/{{ params.prefix }}"
DETECTOR = "{{ params.endpoint_name }}-detector"
PROGRESSION = "{{ params.endpoint_name }}-progression"

with DAG(
    dag_id="example_pipeline_chain",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "patients": Param(
            100, type="integer", minimum=1, maximum=200, description="How many patients there are today."
        ),
        "threshold": Param(
            200,
            type="number",
            description="From which progression on a patient is at risk. In the data it is 25 to 346.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for models and data; made if missing."
        ),
        "prefix": Param("chain", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-chain",
            type="string",
            maxLength=50,
            description="What the names of both endpoints begin with.",
        ),
        "image": Param(
            "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2",
            type="string",
            description="Container image that serves the models.",
        ),
        "instance_type": Param("ml.m5.large", type="string", description="Kind of machine."),
        "execution_role_arn": Param(
            "arn:aws:iam::123456789012:role/sagemaker-execution",
            type="string",
            description="Role that the endpoints run under.",
        ),
    },
) as dag:

    @task
    def prepare(folder: str, params: dict[str, Any] | None = None) -> dict[str, str]:
        """Train both models with the patients of the past, and return where they and those of today are."""
        import joblib
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from sklearn.datasets import load_diabetes
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.tree import DecisionTreeClassifier

        assert params is not None
        values, progression = load_diabetes(return_X_y=True)
        past, today = slice(200, None), slice(params["patients"])
        at_risk = progression[past] >= params["threshold"]
        models = {
            "detector": (DecisionTreeClassifier(max_depth=3, random_state=0), at_risk, DETECTOR_SCRIPT),
            "progression": (RandomForestRegressor(random_state=0), progression[past], PROGRESSION_SCRIPT),
        }

        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        if not s3.check_for_bucket(params["bucket"]):
            s3.create_bucket(params["bucket"])
        for model_name, (model, truth, script) in models.items():
            dump = io.BytesIO()
            joblib.dump(model.fit(values[past], truth), dump)
            package = io.BytesIO()
            with tarfile.open(fileobj=package, mode="w:gz") as archive:
                for name, content in {
                    "model.joblib": dump.getvalue(),
                    "code/inference.py": COMMON_SCRIPT + script,
                }.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            s3.load_bytes(package.getvalue(), f"{folder}/{model_name}.tar.gz", replace=True)
        patients = [
            {"id": f"patient-{number:03d}", "values": row}
            for number, row in enumerate(values[today].tolist())
        ]
        s3.load_string(json.dumps(patients), f"{folder}/patients.json", replace=True)
        return {name: f"{folder}/{name}.tar.gz" for name in models} | {"patients": f"{folder}/patients.json"}

    # [START example_pipeline_chain_branch]
    @task.branch
    def is_anybody_at_risk(how_many: int) -> str:
        """Return what comes next: the tasks of the second model, or a task of its own."""
        return "progression" if how_many else "all_clear"

    # [END example_pipeline_chain_branch]

    @task
    def all_clear(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say that nobody was at risk. The second model was not asked."""
        assert params is not None
        return {"patients": params["patients"], "at_risk": 0}

    @task
    def report(progression: dict[str, float], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say who needs attention most."""
        assert params is not None
        worst = sorted(progression, key=progression.__getitem__, reverse=True)[:3]
        return {
            "patients": params["patients"],
            "at_risk": len(progression),
            "worst": [{"patient": name, "progression": progression[name]} for name in worst],
        }

    served = {
        "aws_conn_id": "{{ params.aws_conn_id }}",
        "image": "{{ params.image }}",
        "execution_role_arn": "{{ params.execution_role_arn }}",
        "instance_type": "{{ params.instance_type }}",
        "environment": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
        "deferrable": True,
    }
    asked = {
        "aws_conn_id": "{{ params.aws_conn_id }}",
        "content_type": "application/json",
        "request_ttl": 3_600,
        "work_prefix": f"{FOLDER}/work",
    }
    prepared = prepare(FOLDER)

    # [START example_pipeline_chain_tasks]
    with sagemaker_async_endpoint(
        "detector",
        endpoint_name=DETECTOR,
        model_data_url=prepared["detector"],
        output_path=f"{FOLDER}/at-risk",
        **served,
    ):
        send_all = SageMakerAsyncInvokeOperator(
            task_id="send",
            endpoint_name=DETECTOR,
            input_location=prepared["patients"],
            wait_for_completion=False,
            **asked,
        )
        at_risk = SageMakerAsyncResultSensor(
            task_id="wait",
            aws_conn_id="{{ params.aws_conn_id }}",
            handle=send_all.output,
            # Only their number goes into XCom. Where they are is said by the XCom "answer".
            result=lambda patients: len(json.loads(patients)),
            deferrable=True,
        )

    with sagemaker_async_endpoint(
        "progression",
        endpoint_name=PROGRESSION,
        model_data_url=prepared["progression"],
        output_path=f"{FOLDER}/progression",
        **served,
    ) as deploy_progression:
        send_those_at_risk = SageMakerAsyncInvokeOperator(
            task_id="send",
            endpoint_name=PROGRESSION,
            input_location="{{ ti.xcom_pull('detector.wait', key='answer')['output_location'] }}",
            wait_for_completion=False,
            **asked,
        )
        progression = SageMakerAsyncResultSensor(
            task_id="wait",
            aws_conn_id="{{ params.aws_conn_id }}",
            handle=send_those_at_risk.output,
            result="json",
            deferrable=True,
        )

    is_anybody_at_risk(at_risk.output) >> [deploy_progression.task_group, all_clear()]
    report(progression.output)
    # [END example_pipeline_chain_tasks]
