"""
### Score last night's files

Every night a system leaves files in a folder of the day, one for each patient. Two hours after midnight this
DAG lists them. If there are none, the rest is skipped, and nothing is paid for. Else it deploys an endpoint,
sends it all files in one task, and deletes the endpoint again. If too many files have no answer, the run
fails here and nothing is loaded. Else the scores go into a database, and an asset event tells others that
they are there: see `example_consumer_on_asset`.

The deployment is the warm-up: when it is done, an instance is ready. For an endpoint that stays and sleeps by
day, `SageMakerAsyncCapacityOperator` takes its place, and lets the instances go in place of the deletion.

A run belongs to a day, whenever it happens. So a backfill scores the days of the past, several at the same
time if you like, for each day has an endpoint of its own. A run that is cleared replaces what it has loaded
before. A task that is retried goes on with the batch it had begun.

The defaults fit the local emulator: `scripts/demo example_nightly_batch`. A small model is trained, and some
sample files are put into the folder, one of them damaged. For a real account set `aws_conn_id`, `bucket`,
`image`, `execution_role_arn` and `model_data_url`, and `sample_files` to 0.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, Asset, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
    from airflow.models.param import Param
try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

# What AWS's scikit-learn image runs: it loads the model with model_fn and answers with its predictions.
INFERENCE_SCRIPT = b"""\
from pathlib import Path

import joblib


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")
"""

# The day whose files are scored: the one that the run's interval begins with. A run that was started by hand
# in Airflow 3 may have no interval.
DAY = (
    "{{ params.day or ((dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds) }}"
)
FOLDER = "s3://{{ params.bucket }}/{{ params.prefix }}"
INCOMING = f"{FOLDER}/incoming/{DAY}/"
# Days that are scored at the same time do not delete each other's.
ENDPOINT = "{{ params.endpoint_name }}-" + DAY

# Others can be scheduled on it. Airflow 2.11 calls it a dataset.
SCORES = Asset("nightly_scores")

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS nightly_scores (
    day VARCHAR(10) NOT NULL,
    input VARCHAR(1024) NOT NULL,
    score DOUBLE PRECISION,
    problem VARCHAR(200),
    attempts INTEGER NOT NULL
)
"""
DELETE_DAY = "DELETE FROM nightly_scores WHERE day = :day"
INSERT_ROW = "INSERT INTO nightly_scores VALUES (:day, :input, :score, :problem, :attempts)"
ROWS_AT_ONCE = 1_000


def deliver_samples(folder: str, count: int, aws_conn_id: str) -> None:
    """Stand in for the system that delivers the files: put some into a folder that is empty."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from sklearn.datasets import load_diabetes

    s3 = S3Hook(aws_conn_id=aws_conn_id)
    bucket, prefix = s3.parse_s3_url(folder)
    if not s3.check_for_bucket(bucket):
        s3.create_bucket(bucket)
    if s3.list_keys(bucket, prefix=prefix, max_items=1):
        return
    patients = load_diabetes().data[:count].tolist()
    for number, patient in enumerate(patients):
        content = json.dumps([patient])
        # The connection broke while the last one was written.
        content = content[:40] if number == len(patients) - 1 else content
        s3.load_string(content, f"{prefix}patient-{number:04d}.json", bucket, replace=True)


def train_and_upload(location: str, aws_conn_id: str) -> None:
    """Train a model that predicts the course of diabetes, and put its package into S3."""
    import joblib
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

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
    S3Hook(aws_conn_id=aws_conn_id).load_bytes(package.getvalue(), location, replace=True)


def read_json_lines(location: str, aws_conn_id: str) -> Iterator[dict[str, Any]]:
    """Read an object in S3 line by line: that of a large batch is not held in memory."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, key = S3Hook.parse_s3_url(location)
    lines = S3Hook(aws_conn_id=aws_conn_id).get_key(key, bucket).get()["Body"].iter_lines()
    return map(json.loads, lines)


def rows_of(batch: dict[str, Any], day: str, aws_conn_id: str) -> Iterator[dict[str, Any]]:
    """Make a row of each input. Manifest and answers have a line for each, in the same order."""
    manifest = read_json_lines(batch["manifest"], aws_conn_id)
    answers = read_json_lines(batch["results"], aws_conn_id)
    for line, answer in zip(manifest, answers, strict=True):
        yield {
            "day": day,
            "input": line["origin"],
            # The model answers with a list of its predictions: here it is one.
            "score": answer["output"][0] if "error" not in answer else None,
            "problem": answer.get("error"),
            "attempts": line["attempts"],
        }


def connect(database_conn_id: str | None, sqlite_file: str | None) -> Any:
    """Return SQLAlchemy's engine for the database."""
    if database_conn_id is None:
        from sqlalchemy import create_engine

        home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
        return create_engine(f"sqlite:///{sqlite_file or home / 'nightly_scores.db'}")
    try:
        from airflow.sdk import BaseHook
    except ImportError:  # Airflow 2.11
        from airflow.hooks.base import BaseHook
    # The provider of the database has to be installed: it knows how to make it of the connection.
    return BaseHook.get_hook(database_conn_id).get_sqlalchemy_engine()


with DAG(
    dag_id="example_nightly_batch",
    # Written out, for what "@daily" means differs between versions. The day is over by then.
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # One night after the other. A backfill has a number of its own.
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Day to score, such as 2026-11-21. Default: the day of the run.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
        "bucket": Param(
            "async-sm-example",
            type="string",
            description="Bucket for files, model and answers; made if missing, with sample files.",
        ),
        "prefix": Param(
            "nightly", type="string", description="Folder in the bucket. The files are in its incoming/DAY/."
        ),
        "sample_files": Param(
            20,
            type="integer",
            minimum=0,
            maximum=442,
            description="How many sample files are put into a folder that is empty. One of them is damaged.",
        ),
        "endpoint_name": Param(
            "example-nightly",
            type="string",
            maxLength=52,
            description="What the endpoint's name begins with. The day is added to it.",
        ),
        "image": Param(
            "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2",
            type="string",
            description="Container image that serves the model.",
        ),
        "model_data_url": Param(
            None,
            type=["null", "string"],
            description="S3 URI of the model's package. Default: a small model is trained.",
        ),
        "instance_type": Param("ml.m5.large", type="string", description="Kind of machine."),
        "execution_role_arn": Param(
            "arn:aws:iam::123456789012:role/sagemaker-execution",
            type="string",
            description="Role that the endpoint runs under.",
        ),
        "most_failed": Param(
            0.1,
            type="number",
            minimum=0,
            maximum=1,
            description="Which share of the files may have no score. With more nothing is loaded.",
        ),
        "database_conn_id": Param(
            None,
            type=["null", "string"],
            description="Airflow connection to the database. Default: an SQLite file on the worker.",
        ),
        "sqlite_file": Param(
            None,
            type=["null", "string"],
            description="Path of that file. Default: nightly_scores.db in Airflow's home.",
        ),
    },
) as dag:

    @task
    def prepare(folder: str, params: dict[str, Any] | None = None) -> str:
        """Return the S3 URI of the model's package. What is missing is made, as far as that is wanted."""
        assert params is not None
        if params["sample_files"]:
            deliver_samples(folder, params["sample_files"], params["aws_conn_id"])
        if params["model_data_url"]:
            return str(params["model_data_url"])
        location = f"s3://{params['bucket']}/{params['prefix']}/model.tar.gz"
        train_and_upload(location, params["aws_conn_id"])
        return location

    @task.short_circuit
    def list_files(folder: str, params: dict[str, Any] | None = None) -> int:
        """Return how many files there are. With none of them, the tasks after this one are skipped."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        assert params is not None
        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        bucket, prefix = s3.parse_s3_url(folder)
        return sum(name.endswith(".json") for name in s3.list_keys(bucket, prefix=prefix))

    # [START example_nightly_batch_quality]
    @task
    def check_quality(batch: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail if too many files have no score."""
        assert params is not None
        counts = batch["counts"]
        files = sum(counts.values())
        failed = files - counts["Succeeded"]
        if failed > params["most_failed"] * files:
            raise ValueError(
                f"{failed} of {files} files have no score, more than {params['most_failed']:.0%}. Nothing is "
                f"loaded. {batch['summary']} says why, and {batch['dead_letter']} has the files."
            )
        return {"files": files, "failed": failed, "share": round(failed / files, 4)}

    # [END example_nightly_batch_quality]

    @task(outlets=[SCORES])
    def load_scores(
        batch: dict[str, Any], day: str, params: dict[str, Any] | None = None, outlet_events: Any = None
    ) -> dict[str, Any]:
        """Put the scores of a day into the database, in place of those that are there."""
        from sqlalchemy import text

        assert params is not None
        engine = connect(params["database_conn_id"], params["sqlite_file"])
        rows = rows_of(batch, day, params["aws_conn_id"])
        loaded = 0
        with engine.begin() as database:
            database.execute(text(CREATE_TABLE))
            database.execute(text(DELETE_DAY), {"day": day})
            while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
                database.execute(text(INSERT_ROW), some)
                loaded += len(some)
        # What others need who are scheduled on it.
        told = {name: batch[name] for name in ("manifest", "results", "counts")}
        outlet_events[SCORES].extra = {"day": day, **told}
        return {"day": day, "rows": loaded, "scored": batch["counts"]["Succeeded"]}

    model_data_url = prepare(INCOMING)
    with sagemaker_async_endpoint(
        aws_conn_id="{{ params.aws_conn_id }}",
        endpoint_name=ENDPOINT,
        image="{{ params.image }}",
        execution_role_arn="{{ params.execution_role_arn }}",
        instance_type="{{ params.instance_type }}",
        model_data_url=model_data_url,
        output_path=f"{FOLDER}/answers",
        failure_path=f"{FOLDER}/failures",
        environment={
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
        deferrable=True,
    ) as deploy:
        # [START example_nightly_batch_score]
        score = SageMakerAsyncBatchOperator(
            task_id="score",
            aws_conn_id="{{ params.aws_conn_id }}",
            endpoint_name=ENDPOINT,
            input_prefix=INCOMING,
            input_pattern="*.json",
            content_type="application/json",
            accept="application/json",
            work_prefix=f"{FOLDER}/work",
            merge_to=f"{FOLDER}/scores/{DAY}/",
            # A request that is not answered in an hour is lost, and sent again.
            request_ttl=3_600,
            invocation_timeout=60,
            max_attempts=2,
            retry_delay_seconds=5,
            # If more than half of them fail it is not the files. How many may is the next task's business.
            max_failures=0.5,
            stop_early=True,
            retries=2,
            retry_delay=timedelta(minutes=1),
            deferrable=True,
        )
        # [END example_nightly_batch_score]

    model_data_url >> list_files(INCOMING) >> deploy
    check_quality(score.output) >> load_scores(score.output, DAY)
