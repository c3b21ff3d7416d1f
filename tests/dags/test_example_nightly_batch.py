"""Last night's files, scored on a schedule."""

from __future__ import annotations

import json
import sqlite3
from types import SimpleNamespace

import pytest

from tests.dags.playbill import module_of, states

EXAMPLE = "example_nightly_batch"
STARTED_BY_IT = "example_consumer_on_asset"


@pytest.mark.airflow_processes
def test_the_files_of_the_day_are_scored_and_loaded(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    assert stage.deferred(report) == {"endpoint.deploy", "endpoint.score", "endpoint.delete"}

    # The run of a night belongs to the day before.
    run = stage.run_of(report)
    assert run["run_type"] == "scheduled"
    day = run["data_interval_start"][:10]
    asked = stage.requests(f"example-nightly-{day}")
    folder = f"s3://async-sm-example/nightly/incoming/{day}/"
    assert {r.input_location for r in asked} == {f"{folder}patient-{n:04d}.json" for n in range(20)}
    # The damaged one is tried twice.
    assert len(asked) == 21

    assert stage.xcom(report, "list_files") == 20
    batch = stage.xcom(report, "endpoint.score")
    assert (batch["counts"]["Succeeded"], batch["counts"]["Failed"]) == (19, 1)
    (dead,) = map(json.loads, stage.world.body(batch["dead_letter"]).splitlines())
    assert dead["input_location"] == f"{folder}patient-0019.json"
    assert stage.xcom(report, "check_quality") == {"files": 20, "failed": 1, "share": 0.05}
    assert stage.xcom(report, "load_scores") == {"day": day, "rows": 20, "scored": 19}

    with sqlite3.connect(stage.airflow.home / "nightly_scores.db") as database:
        rows = database.execute("SELECT input, score, attempts FROM nightly_scores WHERE day = ?", [day])
        loaded = {name.rpartition("/")[2]: (score, attempts) for name, score, attempts in rows}
    expected = predictions(20)
    assert loaded.pop("patient-0019.json") == (None, 2)
    assert {name: attempts for name, (_, attempts) in loaded.items()} == dict.fromkeys(loaded, 1)
    assert [loaded[f"patient-{n:04d}.json"][0] for n in range(19)] == pytest.approx(expected[:19])

    (event,) = (event for event in stage.asset_events(EXAMPLE) if event["day"] == day)
    assert event == {"day": day, **{name: batch[name] for name in ("manifest", "results", "counts")}}
    assert stage.left_over(f"example-nightly-{day}") == []


@pytest.mark.airflow_processes
def test_a_backfill_scores_each_day_with_an_endpoint_of_its_own(stage):
    # Whose first run tells of the first event alone.
    stage.first(STARTED_BY_IT)
    days = ["2026-03-01", "2026-03-02"]
    reports = stage.backfill(EXAMPLE, days)
    assert sorted(reports) == days
    for day, report in reports.items():
        assert report.succeeded, states(report)
        assert stage.xcom(report, "load_scores") == {"day": day, "rows": 20, "scored": 19}
        folder = f"s3://async-sm-example/nightly/incoming/{day}/"
        asked = {request.input_location for request in stage.requests(f"example-nightly-{day}")}
        assert asked == {f"{folder}patient-{n:04d}.json" for n in range(20)}
        assert stage.left_over(f"example-nightly-{day}") == []


@pytest.mark.airflow_processes
def test_a_night_without_files_deploys_nothing(stage):
    report = stage.run(EXAMPLE, sample_files=0, prefix="no-files", endpoint_name="example-no-files")
    assert report.succeeded, states(report)
    assert {task for task, state in states(report).items() if state == "skipped"} >= {
        "endpoint.deploy",
        "endpoint.score",
        "check_quality",
        "load_scores",
    }
    assert stage.requests("example-no-files") == []


def predictions(count):
    """Return what the model of the examples predicts."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=0.1).fit(*load_diabetes(return_X_y=True))
    return model.predict(load_diabetes().data[:count]).tolist()


@pytest.fixture(scope="module")
def nightly():
    return module_of(EXAMPLE)


@pytest.mark.parametrize(("failed", "passes"), [(0, True), (2, True), (3, False), (20, False)])
def test_the_nightly_example_loads_nothing_if_too_many_files_have_no_score(nightly, failed, passes):
    check = nightly.dag.get_task("check_quality").python_callable
    batch = {
        "counts": {"Succeeded": 20 - failed, "Failed": failed, "Expired": 0},
        "summary": "s3://work/summary.json",
        "dead_letter": "s3://work/dead-letter.jsonl",
    }
    if passes:
        assert check(batch, params={"most_failed": 0.1})["failed"] == failed
    else:
        with pytest.raises(ValueError, match=f"{failed} of 20 files have no score.*dead-letter.jsonl"):
            check(batch, params={"most_failed": 0.1})


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Make a connection of Airflow's to a database."""
    monkeypatch.setenv("AIRFLOW_CONN_SCORES", f"sqlite:///{tmp_path / 'scores.db'}")
    return tmp_path / "scores.db"


def test_the_nightly_example_replaces_what_a_day_has_in_the_database(nightly, database, monkeypatch):
    class Events:
        # No dictionary: before Airflow 3.2 an asset cannot be the key of one.
        def __init__(self):
            self.found = SimpleNamespace()

        def __getitem__(self, asset):
            assert asset is nightly.SCORES
            return self.found

    def answered(day, count, error=None):
        row = {"day": day, "score": None if error else 1.5, "problem": error, "attempts": 1}
        return [{**row, "input": f"s3://in/{number}"} for number in range(count)]

    load = nightly.dag.get_task("load_scores").python_callable
    batch = {"counts": {"Succeeded": 2}, "manifest": "s3://m", "results": "s3://r"}
    params = {"database_conn_id": "scores", "sqlite_file": None, "aws_conn_id": "aws_default"}
    for day, count in (("2026-11-20", 3), ("2026-11-21", 2_500), ("2026-11-20", 1)):
        monkeypatch.setattr(nightly, "rows_of", lambda batch, day, aws, n=count: iter(answered(day, n)))
        events = Events()
        told = load(batch, day, params=params, outlet_events=events)
        assert told == {"day": day, "rows": count, "scored": 2}
        assert events.found.extra == {"day": day, **batch}
    with sqlite3.connect(database) as connection:
        counts = connection.execute("SELECT day, count(*) FROM nightly_scores GROUP BY day").fetchall()
    assert dict(counts) == {"2026-11-20": 1, "2026-11-21": 2_500}
