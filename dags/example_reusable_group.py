"""
### Champion and challenger: one task group, used twice

A team has a task group of its own, `trial`: train a model, deploy it, score the patients that were held back,
measure the error, delete the endpoint. Our operators stand in it like any others. They get their arguments
from the group's `default_args`: the connection and the endpoint as well as retries, pool, priority and
callbacks. What one task needs in another way it says itself.

The group is used twice. The champion is the model in use: it is retried, and goes first. The challenger is a
trial of something else: it may fail, and then the champion stays. The callbacks tell of each request, and of
a failure with the error that our operators raise: which request it was, what the model said, and whether a
retry can help.

Trigger it from the form. The defaults fit the local emulator: `scripts/demo example_reusable_group`. For a
real account set `aws_conn_id`, `bucket`, `image` and `execution_role_arn`; the image has to hold a
scikit-learn that can read the models which the group trains.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

try:
    from airflow.sdk import DAG, Param, task, task_group
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task, task_group
    from airflow.models.param import Param

# What AWS's scikit-learn image runs: it loads the model with model_fn and answers with its predictions.
INFERENCE_SCRIPT = b"""\
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")
"""

# Who takes part in a trial: a class of sklearn, and its arguments.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "champion": ("sklearn.linear_model", "Ridge", {"alpha": 0.1}),
    "challenger": ("sklearn.neighbors", "KNeighborsRegressor", {"n_neighbors": 15}),
}
# The first patients are trained with, the others scored.
TRAINED_WITH = 300

# One of your own has to be made first: `airflow pools set sagemaker 4 "at most four at a time"`. A task that
# waits in the triggerer takes no place in it, unless the pool counts deferred tasks too.
POOL = "default_pool"

log = logging.getLogger(__name__)


# [START example_reusable_group_callbacks]
def tell(whom: str, what: str, context: Any) -> None:
    """Stand in for a message to somebody. It sees what every callback of Airflow's sees."""
    ti = context["ti"]
    handle = ti.xcom_pull(task_ids=ti.task_id, key="handle") or {}
    request = f", request {handle['inference_id']}" if handle.get("inference_id") else ""
    error = f": {context['exception']}" if context.get("exception") else "."
    log.warning("To %s: %s %s in try %s%s%s", whom, ti.task_id, what, ti.try_number, request, error)


def house_rules(name: str, whom: str, **others: Any) -> dict[str, Any]:
    """Return what holds for all tasks of a group, ours and others."""
    return {
        "aws_conn_id": "{{ params.aws_conn_id }}",
        "endpoint_name": f"{{{{ params.endpoint_name }}}}-{name}",
        # Before Airflow 3.3 this is where a retry finds the request of the earlier try.
        "work_prefix": "s3://{{ params.bucket }}/{{ params.prefix }}/work",
        "deferrable": True,
        "pool": POOL,
        "execution_timeout": timedelta(hours=1),
        "on_retry_callback": partial(tell, whom, "is retried"),
        "on_failure_callback": partial(tell, whom, "failed"),
        **others,
    }


# [END example_reusable_group_callbacks]


@task
def upload_held_back(params: dict[str, Any] | None = None) -> str:
    """Put the patients who are held back into S3, and return where they are. Both models score them."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from sklearn.datasets import load_diabetes

    assert params is not None
    s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
    if not s3.check_for_bucket(params["bucket"]):
        s3.create_bucket(params["bucket"])
    location = f"s3://{params['bucket']}/{params['prefix']}/held-back.json"
    s3.load_string(json.dumps(load_diabetes().data[TRAINED_WITH:].tolist()), location, replace=True)
    return location


@task
def train(name: str, params: dict[str, Any] | None = None) -> str:
    """Train a model that predicts the course of diabetes, and return the S3 URI of its package."""
    import joblib
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from sklearn.datasets import load_diabetes

    assert params is not None
    module, kind, arguments = MODELS[name]
    features, progression = load_diabetes(return_X_y=True)
    model = getattr(import_module(module), kind)(**arguments)
    dump = io.BytesIO()
    joblib.dump(model.fit(features[:TRAINED_WITH], progression[:TRAINED_WITH]), dump)
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for file, content in {"model.joblib": dump.getvalue(), "code/inference.py": INFERENCE_SCRIPT}.items():
            member = tarfile.TarInfo(file)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    location = f"s3://{params['bucket']}/{params['prefix']}/{name}/model.tar.gz"
    S3Hook(aws_conn_id=params["aws_conn_id"]).load_bytes(package.getvalue(), location, replace=True)
    return location


@task
def measure(scores: list[float]) -> float:
    """Return by how much the predictions differ from what became of the patients, in the mean."""
    from sklearn.datasets import load_diabetes
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(load_diabetes().target[TRAINED_WITH:], scores))


# [START example_reusable_group_group]
@task_group
def trial(name: str, patients: Any) -> Any:
    """Return how far the predictions of a model are off."""
    model_data_url = train(name)
    deploy = SageMakerAsyncDeployOperator(
        task_id="deploy",
        image="{{ params.image }}",
        execution_role_arn="{{ params.execution_role_arn }}",
        instance_type="{{ params.instance_type }}",
        model_data_url=model_data_url,
        output_path=f"s3://{{{{ params.bucket }}}}/{{{{ params.prefix }}}}/{name}/answers",
        environment={
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
    )
    score = SageMakerAsyncInvokeOperator(
        task_id="score",
        input_location=patients,
        content_type="application/json",
        accept="application/json",
        result="json",
        on_success_callback=partial(tell, "the lab book", "succeeded"),
    )
    # What is not deleted is paid for: this one has more retries than the group says.
    delete = SageMakerAsyncDeleteOperator(task_id="delete", delete_parts=True, retries=3)

    error = measure(score.output)
    patients >> model_data_url
    deploy >> score >> error >> delete.as_teardown(setups=model_data_url.operator)
    return error


# [END example_reusable_group_group]


with DAG(
    dag_id="example_reusable_group",
    schedule=None,
    catchup=False,
    # One run after the other: they share the names of the endpoints.
    max_active_runs=1,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example", type="string", description="Bucket for models and answers; made if missing."
        ),
        "prefix": Param("trial", type="string", description="Folder in the bucket."),
        "endpoint_name": Param(
            "example-trial",
            type="string",
            maxLength=52,
            description="What the names of both endpoints begin with. The name of the model is added to it.",
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

    @task(trigger_rule="all_done")
    def compare(champion: float | None, challenger: float | None) -> dict[str, Any]:
        """Return which model to use from now on. A challenger without a result is not it."""
        if champion is None:
            raise ValueError("The champion has no result, so there is nothing to compare with.")
        better = challenger is not None and challenger < champion
        return {
            "use": "challenger" if better else "champion",
            "errors": {"champion": champion, "challenger": challenger},
        }

    # [START example_reusable_group_twice]
    patients = upload_held_back()
    champion = trial.override(
        group_id="champion",
        default_args=house_rules(
            "champion", "the team on call", retries=2, retry_delay=timedelta(seconds=10), priority_weight=10
        ),
    )
    challenger = trial.override(
        group_id="challenger", default_args=house_rules("challenger", "whoever has time", retries=0)
    )
    compare(champion("champion", patients), challenger("challenger", patients))
    # [END example_reusable_group_twice]
