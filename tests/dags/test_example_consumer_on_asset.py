"""A report on the scores, as soon as another DAG has made them."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from airflow_async_sm.demo.examples import STARTED_BY
from tests.dags.playbill import module_of, states

EXAMPLE = "example_consumer_on_asset"
BATCH = "example_nightly_batch"


@pytest.mark.airflow_processes
def test_the_event_of_the_batch_starts_the_report(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert stage.run_of(report)["run_type"] in {"asset_triggered", "dataset_triggered"}
    batch = stage.first(BATCH)
    event = stage.asset_events(BATCH)[0]

    (found,) = stage.xcom(report, "find_batches")
    assert found == event
    told = stage.xcom(report, "report", map_index=0)
    assert (told["day"], told["manifest"]) == (event["day"], stage.xcom(batch, "endpoint.score")["manifest"])
    assert (told["scored"], told["mean_before"], told["change"]) == (19, None, None)
    assert [problem["file"].rpartition("/")[2] for problem in told["problems"]] == ["patient-0019.json"]

    answers = map(json.loads, stage.world.body(event["results"]).splitlines())
    scores = {answer["origin"]: answer["output"][0] for answer in answers if "error" not in answer}
    ranking = sorted(scores, key=scores.get, reverse=True)
    assert told["highest"] == [{"file": file, "score": scores[file]} for file in ranking[:5]]
    assert told["mean"] == pytest.approx(sum(scores.values()) / 19)
    assert stage.xcom(report, "check_change", map_index=0) == told
    stored = stage.world.body(f"s3://async-sm-example/reports/{event['day']}.json")
    assert json.loads(stored) == told


@pytest.mark.airflow_processes
def test_a_run_by_hand_fails_if_the_scores_are_far_from_those_of_the_day_before(stage):
    stage.first(EXAMPLE)
    event = stage.asset_events(BATCH)[-1]
    before = date.fromisoformat(event["day"]) - timedelta(days=1)
    stage.world.s3.put_object(
        Bucket="async-sm-example", Key=f"compared/{before}.json", Body=json.dumps({"mean": 50.0})
    )
    report = stage.run(EXAMPLE, reports="s3://async-sm-example/compared", highest=1)
    assert states(report) == {"find_batches": "success", "report[0]": "success", "check_change[0]": "failed"}
    told = stage.xcom(report, "report", map_index=0)
    assert (told["mean_before"], len(told["highest"])) == (50.0, 1)
    assert told["change"] == pytest.approx(told["mean"] / 50 - 1)
    log = stage.log(report, "check_change", 0)
    assert f"The mean of {event['day']} is {told['mean']:.1f} after 50.0." in log


def test_the_demo_knows_what_starts_it():
    assert STARTED_BY[EXAMPLE] == BATCH
    assert all(hasattr(module_of(name), "SCORES") for pair in STARTED_BY.items() for name in pair)


@pytest.fixture(scope="module")
def consumer():
    return module_of(EXAMPLE)


class Event:
    def __init__(self, **extra):
        self.extra = extra


class NoEvents:
    """
    What Airflow says of an inlet without an event.

    No dictionary: before Airflow 3.2 an asset cannot be the key of one.
    """

    def __getitem__(self, asset):
        assert asset is module_of(EXAMPLE).SCORES
        return []


@pytest.mark.parametrize("name", ["triggering_asset_events", "triggering_dataset_events"])
def test_several_events_are_a_report_for_each_day(consumer, name):
    events = [Event(day="2026-11-21", manifest="a"), Event(day="2026-11-20", manifest="b")]
    again = Event(day="2026-11-21", manifest="c")
    found = consumer.dag.get_task("find_batches").python_callable(**{name: {"scores": [*events, again]}})
    assert found == [events[1].extra, again.extra]


def test_a_run_by_hand_before_there_is_an_event_says_what_to_do(consumer):
    find = consumer.dag.get_task("find_batches").python_callable
    with pytest.raises(ValueError, match="Run example_nightly_batch first"):
        find(triggering_asset_events={}, inlet_events=NoEvents())


def test_a_day_without_a_score_has_no_mean(consumer):
    line = {"end": "Failed", "origin": "s3://in/1", "reason": "no", "attempts": 2}
    told = consumer.summarise(iter([(line, {"error": "ModelRejected"})]), 5)
    assert told == {
        "scored": 0,
        "mean": None,
        "highest": [],
        "problems": [{"file": "s3://in/1", "problem": "no", "attempts": 2}],
    }
