"""Which task a request belongs to: folders and attributes that fit, and that no two tasks share."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core import limits
from airflow_async_sm.core.identities import TaskIdentity

names = st.text(min_size=1, max_size=250)
identities = st.builds(
    TaskIdentity,
    dag_id=names,
    run_id=names,
    task_id=names,
    map_index=st.integers(min_value=-1, max_value=10**6),
)


def identity(**changes):
    given = {"dag_id": "nightly", "run_id": "manual__1", "task_id": "group.score"}
    return TaskIdentity(**{**given, **changes})


class TaskInstance:
    dag_id, run_id, task_id, map_index = "nightly", "manual__1", "score", 3


def test_it_is_that_of_a_task_instance():
    assert TaskIdentity.of(TaskInstance) == identity(task_id="score", map_index=3)


def test_a_task_instance_that_knows_no_map_index_is_not_mapped():
    class Plain(TaskInstance):
        map_index = None

    assert TaskIdentity.of(Plain).map_index == -1


def test_an_operator_that_somebody_runs_by_hand_has_one_too():
    assert TaskIdentity.of(None).folder == "airflow/by-hand/by-hand/by-hand"


class TestFolder:
    def test_it_is_readable(self):
        assert identity().folder == "airflow/nightly/manual__1/group.score"

    def test_each_instance_of_a_mapped_task_has_its_own_below_the_tasks(self):
        assert identity(map_index=12).folder == "airflow/nightly/manual__1/group.score/12"

    def test_what_s3_and_the_service_do_not_take_is_replaced_and_marked(self):
        folder = identity(run_id="scheduled__2026-01-02T00:00:00+00:00").folder
        assert re.fullmatch(
            r"airflow/nightly/scheduled__2026-01-02T00-00-00-00-00-[0-9a-f]{10}/group\.score", folder
        )

    def test_names_that_become_alike_stay_apart(self):
        assert identity(run_id="a:b").folder != identity(run_id="a+b").folder

    def test_a_name_of_dots_does_not_lead_elsewhere(self):
        assert "/../" not in identity(run_id="..").folder

    @given(identities)
    def test_the_service_takes_it_with_a_token(self, any_):
        limits.S3_OUTPUT_PATH_EXTENSION.check("folder", f"{any_.folder}/0123456789ab")
        assert len(any_.folder) <= 420

    @given(identities, identities)
    def test_no_two_tasks_share_one(self, one, other):
        assert (one.folder == other.folder) == (one == other)


class TestCustomAttributes:
    def test_they_say_which_task_it_is(self):
        assert identity().custom_attributes == "dag_id=nightly;run_id=manual__1;task_id=group.score"

    def test_a_mapped_task_says_which_of_its_instances(self):
        assert identity(map_index=0).custom_attributes.endswith(";task_id=group.score;map_index=0")

    def test_the_form_of_a_run_id_stays_readable_and_a_separator_does_not_pass(self):
        attributes = identity(run_id="manual__2026-01-02T03:04:05+00:00", dag_id="a;b=c").custom_attributes
        assert attributes.startswith("dag_id=a%3Bb%3Dc;run_id=manual__2026-01-02T03:04:05+00:00;")

    def test_names_that_are_too_long_are_cut_and_marked(self):
        attributes = identity(dag_id="é" * 250, task_id="t" * 250, map_index=7).custom_attributes
        assert re.fullmatch(
            r"dag_id=-{89}-[0-9a-f]{10};run_id=manual__1;task_id=t{89}-[0-9a-f]{10};map_index=7", attributes
        )

    @given(identities)
    def test_the_service_takes_them(self, any_):
        limits.CUSTOM_ATTRIBUTES.check("custom_attributes", any_.custom_attributes)
