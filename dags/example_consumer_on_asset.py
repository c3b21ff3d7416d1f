"""
### Report on the scores as soon as they are there

Somebody else's DAG, `example_nightly_batch`, scores the files of a day. Its last task updates the asset
`nightly_scores`, and that starts this DAG: no clock, no sensor, and nobody has to tell anybody a path. The
event says which day it is and where the batch's manifest is. For that day this DAG writes a report with the
highest scores, and the files without one and why. It fails if the mean has moved by too much since the day
before.

A run has the events of all days that have come in since the last run, as after a backfill. Each is reported
on by a task of its own, one day after the other. A day whose day before has no report yet is compared with
nothing.

Try it in the local emulator: `scripts/demo example_consumer_on_asset` runs the nightly batch, and the event
does the rest. Started by hand, it reports on the latest event. For a real account set `aws_conn_id` and
`reports`. In Airflow 2.11 the asset is called a dataset.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any

try:
    from airflow.sdk import DAG, Asset, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
    from airflow.models.param import Param

# The name is all that the two DAGs have in common.
SCORES = Asset("nightly_scores")


def read_json_lines(location: str, aws_conn_id: str) -> Iterator[dict[str, Any]]:
    """Read an object in S3 line by line: that of a large batch is not held in memory."""
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

    with SageMakerAsyncHook(aws_conn_id).open_result(location) as body:
        yield from map(json.loads, body.iter_lines())


def summarise(rows: Iterator[tuple[dict[str, Any], dict[str, Any]]], highest: int) -> dict[str, Any]:
    """
    Return what is worth knowing of a day.

    :param rows: For each file its line of the manifest, and that of the merged answers.
    :param highest: How many of the highest scores are named.
    """
    scores, problems = {}, []
    for line, answer in rows:
        if line["end"] == "Succeeded":
            # The model answers with a list of its predictions: here it is one.
            scores[line["origin"]] = answer["output"][0]
        else:
            problems.append({"file": line["origin"], "problem": line["reason"], "attempts": line["attempts"]})
    top = heapq.nlargest(highest, scores.items(), key=itemgetter(1))
    return {
        "scored": len(scores),
        "mean": sum(scores.values()) / len(scores) if scores else None,
        "highest": [{"file": file, "score": score} for file, score in top],
        # Many problems are a matter for the nightly batch: it has a gate, and dead letters.
        "problems": problems[:100],
    }


with DAG(
    dag_id="example_consumer_on_asset",
    schedule=[SCORES],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example", "sagemaker"],
    doc_md=__doc__,
    params={
        "reports": Param(
            "s3://async-sm-example/reports",
            type="string",
            pattern="^s3://.+",
            description="S3 URI of the folder for the reports; its bucket has to be there.",
        ),
        "highest": Param(
            5, type="integer", minimum=1, maximum=1_000, description="How many of the highest scores to name."
        ),
        "most_change": Param(
            0.2,
            type="number",
            minimum=0,
            description="By which share the mean may differ from that of the day before.",
        ),
        "aws_conn_id": Param("aws_default", type="string", description="Airflow connection to AWS."),
    },
) as dag:
    # [START example_consumer_on_asset_events]
    @task(inlets=[SCORES])
    def find_batches(**context: Any) -> list[dict[str, Any]]:
        """Return what the events that started this run tell; of a run started by hand, the latest event."""
        name = "triggering_asset_events"
        if name not in context:  # Airflow 2.11
            name = "triggering_dataset_events"
        events = [event for of_asset in context[name].values() for event in of_asset]
        if not events:
            try:
                events = [context["inlet_events"][SCORES][-1]]
            except IndexError:
                raise ValueError("Nothing has been scored yet. Run example_nightly_batch first.") from None
        # A day that was scored twice is reported on once, as it is now.
        by_day = {event.extra["day"]: dict(event.extra) for event in events}
        return [by_day[day] for day in sorted(by_day)]

    # [END example_consumer_on_asset_events]

    # [START example_consumer_on_asset_report]
    @task(
        map_index_template="{{ ti.xcom_pull('find_batches')[ti.map_index]['day'] }}",
        # In their order: each looks for the report on the day before.
        max_active_tis_per_dagrun=1,
        # One value, and not one for each of its keys: Airflow 3.0 cannot store a key without a value.
        multiple_outputs=False,
    )
    def report(batch: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the report on a day, and return it."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        assert params is not None
        # Manifest and answers have a line for each file, in the same order.
        manifest = read_json_lines(batch["manifest"], params["aws_conn_id"])
        answers = read_json_lines(batch["results"], params["aws_conn_id"])
        found = summarise(zip(manifest, answers, strict=True), params["highest"])

        s3 = S3Hook(aws_conn_id=params["aws_conn_id"])
        day = date.fromisoformat(batch["day"])
        before = f"{params['reports']}/{day - timedelta(days=1)}.json"
        known = json.loads(s3.read_key(before)) if s3.check_for_key(before) else {}
        mean_before = known.get("mean")
        comparable = mean_before and found["mean"] is not None
        found |= {
            "day": batch["day"],
            "manifest": batch["manifest"],
            "mean_before": mean_before,
            "change": (found["mean"] - mean_before) / abs(mean_before) if comparable else None,
        }
        s3.load_string(json.dumps(found, indent=2), f"{params['reports']}/{day}.json", replace=True)
        return found

    # [END example_consumer_on_asset_report]

    @task(
        map_index_template="{{ ti.xcom_pull('find_batches')[ti.map_index]['day'] }}", multiple_outputs=False
    )
    def check_change(found: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the report. Fail if the scores are not what they were: somebody should see why."""
        assert params is not None
        change = found["change"]
        if change is not None and abs(change) > params["most_change"]:
            raise ValueError(
                f"The mean of {found['day']} is {found['mean']:.1f} after {found['mean_before']:.1f}. "
                f"That is {change:+.0%}, and {params['most_change']:.0%} are allowed."
            )
        return found

    check_change.expand(found=report.expand(batch=find_batches()))
