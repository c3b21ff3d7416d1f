"""Batches against the emulator: waiting on the worker and in the triggerer come to the same."""

from __future__ import annotations

import itertools
import json
import logging
import re
import uuid

import pytest

from airflow_async_sm.exceptions import BatchFailed, BatchRejected, RequestRejected
from airflow_async_sm.operators._batch_looks import BatchLooker
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from tests.contract.conftest import TaskInstance
from tests.world import BUCKET


@pytest.fixture
def work_prefix():
    return f"s3://{BUCKET}/work/{uuid.uuid4().hex}"


@pytest.fixture
def batch(run, world, echo, work_prefix):
    """Return a function that runs a batch to its end, and counts what the service accepted for it."""

    def to_its_end(context=None, **arguments):
        before = len(world.emulator.requests())
        given = {
            "endpoint_name": echo,
            "work_prefix": work_prefix,
            "custom_attributes": "obey",
            "retry_delay_seconds": 0,
            **arguments,
        }
        try:
            return run(SageMakerAsyncBatchOperator, context, **given)
        finally:
            to_its_end.accepted = len(world.emulator.requests()) - before

    return to_its_end


def doing(what, how_often):
    """Payloads that tell the model what to do with them, and that it has not seen before."""
    return [{"do": what, "name": uuid.uuid4().hex} for _ in range(how_often)]


def rows(world, location):
    return [json.loads(line) for line in world.body(location).splitlines()]


class TestAnswers:
    def test_each_input_has_its_answer_in_the_manifest(self, batch, world):
        inputs = doing("echo", 30)
        told = batch(inputs=inputs)
        assert told["counts"]["Succeeded"] == 30
        manifest = rows(world, told["manifest"])
        answers = [json.loads(world.body(row["output_location"])) for row in manifest]
        assert answers == inputs
        assert batch.accepted == 30

    def test_answers_are_more_than_one_window(self, batch, world):
        told = batch(inputs=doing("echo", 95), max_in_flight=20)
        assert told["counts"]["Succeeded"] == 95
        assert batch.accepted == 95
        assert [row["index"] for row in rows(world, told["manifest"])] == list(range(95))

    def test_inputs_that_are_the_same_are_counted_and_each_is_inferred(self, batch, world):
        told = batch(inputs=["same", "other", "same", "same"], custom_attributes="echo")
        assert batch.accepted == 4
        assert json.loads(world.body(told["summary"]))["duplicates"] == 2

    def test_what_no_request_holds_is_uploaded_first(self, batch, world):
        large = "x" * 200_000
        told = batch(
            inputs=["small", large],
            custom_attributes="echo",
            merge_to=f"s3://{BUCKET}/merged/{uuid.uuid4().hex}.jsonl",
        )
        merged = rows(world, told["results"])
        assert [line["output"] for line in merged] == ["small", large]
        assert rows(world, told["manifest"])[1]["input_location"] is None


class TestProgress:
    def test_it_is_told_where_it_changes_and_at_the_end_nothing_is_in_the_queue(
        self, batch, world, capsys, caplog
    ):
        with caplog.at_level(logging.INFO):
            end = batch(inputs=doing("echo", 40), max_in_flight=10)
        # Airflow 3 writes what a task logs by itself.
        told = re.findall(r"\d+ % of 40 inputs done[^.]*\.", f"{caplog.text}{capsys.readouterr().out}")
        assert len(told) > 2
        assert all(one != another for one, another in itertools.pairwise(told))
        assert told[-1] == "100 % of 40 inputs done, 0 in the queue."
        progress = json.loads(world.body(f"{end['manifest'].rpartition('/')[0]}/progress.json"))
        assert (progress["done"], progress["in_flight"], progress["unsent"]) == (40, 0, 0)


class TestFailures:
    def test_too_many_failures_fail_the_task_with_what_the_model_says(self, batch, world):
        with pytest.raises(BatchRejected, match=r"2 without an answer \(ModelRejected 2\)") as failed:
            batch(inputs=[*doing("echo", 3), *doing("reject", 2)])
        assert "bad input" in str(failed.value)
        ends = [row["end"] for row in rows(world, failed.value.location)]
        assert ends == ["Succeeded"] * 3 + ["Failed"] * 2
        assert batch.accepted == 5

    def test_what_may_succeed_is_sent_again_until_it_does(self, batch, world):
        told = batch(inputs=[*doing("echo", 5), *doing("fail_once", 3)])
        assert told["counts"]["Succeeded"] == 8
        attempts = [row["attempts"] for row in rows(world, told["manifest"])]
        assert attempts == [1] * 5 + [2] * 3
        assert batch.accepted == 11

    def test_what_fails_again_and_again_is_sent_as_often_as_is_allowed(self, batch):
        with pytest.raises(BatchFailed, match="Unknown 2"):
            batch(inputs=doing("fail", 2), max_attempts=3)
        assert batch.accepted == 6

    def test_fewer_failures_than_allowed_are_told_in_the_manifest(self, batch, world):
        told = batch(inputs=[*doing("echo", 2), *doing("reject", 2)], max_failures=0.5)
        assert told["counts"]["Failed"] == 2
        dead = rows(world, told["dead_letter"])
        assert [(row["item_id"][:8], row["class"]) for row in dead] == [
            ("00000002", "ModelRejected"),
            ("00000003", "ModelRejected"),
        ]

    def test_a_dead_letter_file_is_the_input_of_another_batch(self, batch, world):
        bad = doing("reject", 2)
        first = batch(inputs=[*doing("echo", 2), *bad], max_failures=2)
        told = batch(input_manifest=first["dead_letter"], custom_attributes="echo")
        answers = [json.loads(world.body(row["output_location"])) for row in rows(world, told["manifest"])]
        assert answers == bad

    def test_nothing_more_is_sent_once_there_are_too_many_failures(self, batch):
        with pytest.raises(BatchRejected, match="stopped early"):
            batch(inputs=doing("reject", 60), max_in_flight=10, max_failures=3, stop_early=True)
        assert batch.accepted < 60

    def test_a_retry_sends_only_what_it_may_help(self, batch, world):
        task = TaskInstance(max_tries=1)
        inputs = [*doing("echo", 4), *doing("fail_once", 2), *doing("reject", 1)]
        with pytest.raises(BatchFailed, match="A retry of the task sends 2 of them again"):
            batch({"ti": task}, inputs=inputs, max_attempts=1, max_failures=1)
        assert batch.accepted == 7
        task.try_number = 2
        told = batch({"ti": task}, inputs=inputs, max_attempts=1, max_failures=1)
        assert batch.accepted == 2
        assert told["counts"] | {"Succeeded": 6, "Failed": 1} == told["counts"]

    def test_so_does_one_that_is_resumed_with_what_the_try_before_was_told(self, batch, run):
        """Airflow 3.0 does that. What a batch that failed was told is that there are answers."""
        task = TaskInstance(max_tries=1)
        # What is answered at once is not waited for in the triggerer.
        inputs = [*doing("slower" if run.deferrable else "echo", 1), *doing("fail_once", 2)]
        with pytest.raises(BatchFailed):
            batch({"ti": task}, inputs=inputs, max_attempts=1)
        assert (run.last is not None) == run.deferrable
        task.try_number = 2
        told = batch({"ti": task}, resumed_with=run.last, inputs=inputs, max_attempts=1)
        assert batch.accepted == 2
        assert told["counts"]["Succeeded"] == 3

    def test_clearing_the_task_sends_all_again_that_have_no_answer(self, batch):
        task = TaskInstance()
        inputs = [*doing("echo", 4), *doing("reject", 1)]
        with pytest.raises(BatchRejected):
            batch({"ti": task}, inputs=inputs)
        task.try_number, task.max_tries = 2, 1
        with pytest.raises(BatchRejected):
            batch({"ti": task}, inputs=inputs)
        assert batch.accepted == 1


class TestAgain:
    def test_a_batch_that_has_succeeded_is_begun_anew_when_its_task_is_cleared(self, batch):
        task = TaskInstance()
        first = batch({"ti": task}, inputs=[1, 2])
        task.try_number, task.max_tries = 2, 1
        second = batch({"ti": task}, inputs=[1, 2])
        assert batch.accepted == 2
        assert first["manifest"] != second["manifest"]

    def test_a_retry_after_the_end_sends_nothing_and_tells_the_same(self, batch):
        task = TaskInstance(max_tries=1)
        first = batch({"ti": task}, inputs=[1, 2])
        task.try_number = 2
        assert batch({"ti": task}, inputs=[1, 2]) == first
        assert batch.accepted == 0

    def test_other_inputs_are_another_batch(self, batch):
        task = TaskInstance(max_tries=1)
        first = batch({"ti": task}, inputs=[1, 2])
        task.try_number = 2
        assert batch({"ti": task}, inputs=[1, 3])["manifest"] != first["manifest"]
        assert batch.accepted == 2

    def test_a_retry_after_the_end_does_not_repeat_the_failures_that_are_allowed(self, batch):
        task = TaskInstance(max_tries=1)
        given = {"inputs": doing("fail", 2), "max_attempts": 1, "max_failures": 2}
        first = batch({"ti": task}, **given)
        task.try_number = 2
        assert batch({"ti": task}, **given) == first
        assert batch.accepted == 0

    def test_what_was_answered_is_collected_though_the_endpoint_is_gone(self, batch, world, monkeypatch):
        endpoint = world.deploy(concurrency=4)
        look = BatchLooker.look

        def look_and_delete(self, **how):
            look(self, **how)
            if self._ledger.state.done == 3:
                world.control.delete_endpoint(EndpointName=endpoint)
                monkeypatch.setattr(BatchLooker, "look", look)

        monkeypatch.setattr(BatchLooker, "look", look_and_delete)
        assert batch(endpoint_name=endpoint, inputs=doing("echo", 3))["counts"]["Succeeded"] == 3

    def test_what_an_endpoint_that_is_gone_can_not_take_is_told(self, batch, world):
        with pytest.raises(RequestRejected, match="does not exist"):
            batch(endpoint_name="gone", inputs=doing("echo", 3))
        assert batch.accepted == 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"inputs": []}, "There are no inputs"),
            ({}, "none of them is given"),
            ({"inputs": [1], "input_prefix": "s3://b/c/"}, "are given"),
            ({"inputs": [1], "max_in_flight": 0}, "max_in_flight is 0"),
            ({"inputs": [1], "max_attempts": 0}, "max_attempts is 0"),
            ({"inputs": [1], "submission_threads": 65}, "submission_threads is 65"),
            ({"inputs": [1], "max_failures": -1}, "max_failures is -1"),
            ({"inputs": [1], "on_clear": "no"}, "on_clear is 'no'"),
            ({"inputs": [1], "on_empty": "no"}, "on_empty is 'no'"),
            ({"inputs": [1], "wait_for_completion": False}, "wait_for_completion is False"),
            ({"inputs": [1], "request_ttl": 5}, "request_ttl"),
            ({"inputs": [1], "work_prefix": "bucket/folder"}, "work_prefix"),
            ({"inputs": [1, object()]}, "object"),
            ({"input_prefix": f"s3://{BUCKET}/out/"}, "its answers would be inputs"),
        ],
    )
    def test_it_is_refused_and_nothing_is_sent(self, batch, arguments, says):
        with pytest.raises(RequestRejected, match=says):
            batch(**arguments)
        assert batch.accepted == 0
