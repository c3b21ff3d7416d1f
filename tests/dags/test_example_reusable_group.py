"""Our operators in a task group of somebody else's, with that one's arguments."""

from __future__ import annotations

import json

import pytest

from airflow_async_sm.emulator.settings.faults import ModelError
from tests.dags.playbill import module_of, states

EXAMPLE = "example_reusable_group"
BOTH = ("champion", "challenger")


@pytest.mark.airflow_processes
def test_both_models_score_the_same_patients_and_are_compared(stage):
    report = stage.first(EXAMPLE)
    assert report.succeeded, states(report)
    ours = {f"{name}.{task}" for name in BOTH for task in ("deploy", "score", "delete")}
    assert stage.deferred(report) == ours

    errors = {}
    for name in BOTH:
        (request,) = stage.requests(f"example-trial-{name}")
        scores = json.loads(stage.world.body(request.output_location))
        assert stage.xcom(report, f"{name}.score") == scores
        errors[name] = error_of(scores)
        log = stage.log(report, f"{name}.score")
        assert f"To the lab book: {name}.score succeeded in try 1, request {request.inference_id}." in log
    told = stage.xcom(report, "compare")
    assert told["errors"] == pytest.approx(errors)
    assert told["use"] == min(errors, key=errors.get)
    assert stage.left_over("example-trial") == []


@pytest.mark.airflow_processes
def test_the_champion_is_retried_and_the_challenger_may_fail(stage):
    stage.emulator.faults.add(ModelError(endpoint="example-broken-champion", body="no memory", times=1))
    stage.emulator.faults.add(ModelError(endpoint="example-broken-challenger", body="no idea"))
    report = stage.run(EXAMPLE, endpoint_name="example-broken", prefix="broken")
    assert report.succeeded, states(report)
    ended = states(report)
    assert (ended["champion.score"], ended["challenger.score"]) == ("success", "failed")
    assert ended["challenger.measure"] == "upstream_failed"
    assert stage.xcom(report, "compare")["use"] == "champion"
    assert stage.xcom(report, "compare")["errors"]["challenger"] is None

    first, second = stage.requests("example-broken-champion")
    assert first.inference_id != second.inference_id
    log = stage.log(report, "champion.score")
    assert f"To the team on call: champion.score is retried in try 1, request {first.inference_id}: " in log
    assert "no memory" in log
    assert "champion.score succeeded in try 2" in stage.log(report, "champion.score", try_number=2)
    (only,) = stage.requests("example-broken-challenger")
    log = stage.log(report, "challenger.score")
    assert f"To whoever has time: challenger.score failed in try 1, request {only.inference_id}: " in log
    assert "no idea" in log
    assert stage.left_over("example-broken") == []


def error_of(scores):
    """Return how far predictions are off for the patients who were held back."""
    from sklearn.datasets import load_diabetes

    actual = load_diabetes().target[300:]
    return sum(abs(a - b) for a, b in zip(actual, scores, strict=True)) / len(actual)


@pytest.fixture(scope="module")
def dag():
    return module_of(EXAMPLE).dag


def test_our_operators_take_what_the_group_says(dag):
    for name, retries, weight in (("champion", 2, 10), ("challenger", 0, 1)):
        for task in ("train", "deploy", "score", "measure"):
            found = dag.get_task(f"{name}.{task}")
            assert (found.retries, found.priority_weight) == (retries, weight)
            assert found.pool == "default_pool"
            assert found.execution_timeout.total_seconds() == 3_600
            assert found.on_failure_callback
        assert dag.get_task(f"{name}.delete").retries == 3
        for task in ("deploy", "score", "delete"):
            found = dag.get_task(f"{name}.{task}")
            assert found.endpoint_name.endswith(f"-{name}")
            assert (found.deferrable, found.aws_conn_id) == (True, "{{ params.aws_conn_id }}")


@pytest.mark.parametrize(
    ("champion", "challenger", "use"),
    [(2.0, 1.0, "challenger"), (1.0, 2.0, "champion"), (1.0, None, "champion")],
)
def test_the_better_one_is_used(dag, champion, challenger, use):
    compare = dag.get_task("compare").python_callable
    assert compare(champion, challenger)["use"] == use


def test_a_champion_without_a_result_fails_the_comparison(dag):
    with pytest.raises(ValueError, match="champion has no result"):
        dag.get_task("compare").python_callable(None, 1.0)
