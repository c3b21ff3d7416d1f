"""The block around tasks that need an endpoint: what runs before what, and what runs in any case."""

from __future__ import annotations

import pytest

from airflow_async_sm._compat import EmptyOperator
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.task_groups import sagemaker_async_endpoint

try:
    from airflow.sdk import DAG, task_group
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task_group


def endpoint(**changes):
    return sagemaker_async_endpoint(**({"endpoint_name": "e", "endpoint_config_name": "c"} | changes))


def upstream(dag, task_id):
    return set(dag.get_task(task_id).upstream_task_ids)


@pytest.fixture
def dag():
    with DAG("scoring", schedule=None) as dag:
        before, after = EmptyOperator(task_id="before"), EmptyOperator(task_id="after")
        with endpoint():
            first, second, alone = (EmptyOperator(task_id=name) for name in ("first", "second", "alone"))
            first >> second
        before >> first
        [second, alone] >> after
    return dag


def test_every_task_runs_between_deployment_and_deletion(dag):
    assert upstream(dag, "endpoint.deploy") == {"endpoint.begin"}
    assert upstream(dag, "endpoint.first") == {"endpoint.deploy", "before"}
    assert upstream(dag, "endpoint.alone") == {"endpoint.deploy"}
    assert upstream(dag, "endpoint.delete") == {
        *("endpoint.begin", "endpoint.deploy"),
        *("endpoint.second", "endpoint.alone"),
    }


def test_the_deletion_runs_also_after_a_failure_and_is_missed_if_it_fails(dag):
    delete = dag.get_task("endpoint.delete")
    assert delete.is_teardown
    assert delete.on_failure_fail_dagrun
    # It runs if one of them succeeded, and the first cannot fail.
    setups = {task.task_id for task in delete.upstream_list if task.is_setup}
    assert setups == {"endpoint.begin", "endpoint.deploy"}


def test_what_comes_after_the_group_does_not_need_the_endpoint():
    """Else Airflow passes over its trigger rule, skips it with the group, and clears the deployment too."""
    with DAG("scoring", schedule=None) as dag:
        with endpoint(group_id="mine"):
            work = EmptyOperator(task_id="work")
        after = EmptyOperator(task_id="after", trigger_rule="none_failed_min_one_success")
        work >> after
    assert list(dag.get_task("after").get_upstreams_only_setups()) == []


def test_who_clears_a_task_of_the_block_clears_deployment_and_deletion(dag):
    cleared = dag.get_task("endpoint.second").get_upstreams_only_setups_and_teardowns()
    assert {task.task_id for task in cleared} == {"endpoint.begin", "endpoint.deploy", "endpoint.delete"}


def test_a_task_after_the_group_does_not_wait_for_the_deletion():
    with DAG("scoring", schedule=None) as dag:
        after = EmptyOperator(task_id="after")
        with endpoint(group_id="mine"):
            work = EmptyOperator(task_id="work")
        dag.task_group.children["mine"] >> after
        assert work.task_id == "mine.work"
    assert upstream(dag, "after") == {"mine.work"}


def test_arguments_reach_the_task_that_they_are_for():
    with DAG("scoring", schedule=None) as dag:
        with endpoint(
            region_name="eu-west-1", timeout=60, delete_args={"drain": True, "retries": 9}
        ) as deploy:
            EmptyOperator(task_id="work")
        assert dag.get_task("endpoint.deploy") is deploy
    delete = dag.get_task("endpoint.delete")
    assert (deploy.region_name, deploy.timeout) == ("eu-west-1", 60)
    assert (delete.region_name, delete.timeout) == ("eu-west-1", 25_200)
    assert (delete.drain, delete.retries, delete.delete_parts) == (True, 9, True)


def test_it_stands_in_a_mapped_task_group_with_a_name_for_each_instance():
    with DAG("scoring", schedule=None) as dag:

        @task_group
        def score(name):
            with endpoint(endpoint_name=name):
                EmptyOperator(task_id="work")

        score.expand(name=["a", "b"])
    assert upstream(dag, "score.endpoint.work") == {"score.endpoint.deploy"}
    assert upstream(dag, "score.endpoint.delete") == {
        "score.endpoint.begin",
        "score.endpoint.deploy",
        "score.endpoint.work",
    }


def test_a_block_without_tasks_is_refused():
    with DAG("scoring", schedule=None), pytest.raises(InvalidInput, match="no task in the block of endpoint"):
        with endpoint():
            pass
