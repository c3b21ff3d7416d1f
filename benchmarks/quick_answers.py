"""
Answers that come at once, in a real Airflow with its default settings.

Airflow 3.3 may fail a task whose trigger fires within about five seconds of its deferral. This sends many
requests that are answered 0.2 to 6 seconds after their submission, and counts what becomes of their tasks.

    python -m benchmarks.quick_answers [NUMBER]

It needs the extra ``emulator``, beside Airflow 3.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.demo.runs import RunReport, follow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection

SHORTEST, LONGEST = 0.2, 6.0
BUCKET = "quick"
DAG_ID = "quick_answers"
DAG = """
from airflow.sdk import DAG

from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

with DAG({dag_id!r}, schedule=None, max_active_tasks=64):
    SageMakerAsyncInvokeOperator.partial(
        task_id="ask", endpoint_name="quick", content_type="application/json", deferrable=True
    ).expand(input_location={inputs!r})
"""


def model(body: bytes, _headers: Mapping[str, str]) -> bytes:
    """Answer after as many seconds as the request says."""
    time.sleep(json.loads(body))
    return b"{}"


def prepared(emulator: SageMakerAsyncEmulator, number: int) -> list[str]:
    """Make an endpoint and the inputs; return where these are."""
    s3, sagemaker = emulator.client("s3"), emulator.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    draw = random.Random(number)
    inputs = []
    for index in range(number):
        seconds = draw.uniform(SHORTEST, LONGEST)
        s3.put_object(Bucket=BUCKET, Key=f"in/{index}", Body=json.dumps(seconds).encode())
        inputs.append(f"s3://{BUCKET}/in/{index}")
    role = "arn:aws:iam::123456789012:role/quick"
    sagemaker.create_model(ModelName="quick", PrimaryContainer={"Image": "quick"}, ExecutionRoleArn=role)
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/out-failures"}
    sagemaker.create_endpoint_config(
        EndpointConfigName="quick",
        ProductionVariants=[
            {
                "VariantName": "all",
                "ModelName": "quick",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "OutputConfig": output,
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 64},
        },
    )
    sagemaker.create_endpoint(EndpointName="quick", EndpointConfigName="quick")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="quick", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return inputs


def measured(number: int, folder: Path) -> dict[str, Any]:
    """Run the tasks, and return what became of them."""
    quick = Behaviour(creation_seconds=0, queue_seconds=0)
    with SageMakerAsyncEmulator(images={"quick": model}, behaviour=quick) as emulator:
        inputs = prepared(emulator, number)
        (folder / "quick_answers.py").write_text(DAG.format(dag_id=DAG_ID, inputs=inputs))
        connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
        with LocalAirflow(folder, environment=connection) as airflow:
            airflow.wait_for_dag(DAG_ID)
            run_id = airflow.trigger(DAG_ID)
            report = follow(airflow, DAG_ID, run_id, timeout=60 + 6 * number, on_change=lambda _: None)
            logs = [
                airflow.log(DAG_ID, run_id, task.task_id, task.try_number, map_index=task.map_index)
                for task in report.tasks
            ]
        return figures(report, emulator, logs)


def figures(report: RunReport, emulator: SageMakerAsyncEmulator, logs: list[str]) -> dict[str, Any]:
    """Return how the tasks ended, how often was asked, and how late the answers were seen."""
    requests = emulator.requests()
    took = {request.inference_id: (request.finished_at or 0) - request.submitted_at for request in requests}
    seen = re.compile(r"Request (\S+) to endpoint quick is answered after ([0-9.]+) s")
    late = [float(found[2]) - took[found[1]] for log in logs for found in seen.finditer(log)]
    return {
        "tasks": len(report.tasks),
        "ended": dict(Counter(task.state for task in report.tasks)),
        "deferred": sum(
            "is answered after" in log and task.deferred_seconds > 0
            for log, task in zip(logs, report.tasks, strict=True)
        ),
        "requests": len(requests),
        "tries": sum(task.try_number for task in report.tasks),
        "answered after, s": [round(min(took.values()), 1), round(max(took.values()), 1)],
        "seen so much later, s (median, 95 %, most)": [
            round(statistics.median(late), 1),
            round(sorted(late)[int(len(late) * 0.95)], 1),
            round(max(late), 1),
        ],
    }


def main() -> int:
    """Measure, tell, and return 1 if a task failed or asked twice."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as folder:
        found = measured(number, Path(folder))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return int(found["ended"] != {"success": number} or not found["requests"] == found["tries"] == number)


if __name__ == "__main__":
    sys.exit(main())
