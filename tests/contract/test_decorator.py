"""The decorator against the emulator: what a function returns goes to a real model and comes back."""

from __future__ import annotations

import json
import uuid

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.decorators.sagemaker_async import sagemaker_async_task
from airflow_async_sm.exceptions import InferenceFailed, RequestRejected, ResultInvalid
from tests.world import BUCKET


@pytest.fixture
def build_and_run(run):
    """Return a function that runs a decorated function as a task, in one mode, to its end."""

    def to_its_end(function, *args, **arguments):
        batch = arguments.pop("batch", None)

        def kind(**more):
            more |= {} if batch is None else {"batch": batch}
            return sagemaker_async_task(**more)(function)(*args).operator

        return run(kind, **({"custom_attributes": "echo"} | arguments))

    return to_its_end


@pytest.mark.parametrize(
    ("payload", "arguments", "answer"),
    [
        ({"rows": [[1, 2]]}, {}, {"rows": [[1, 2]]}),
        ([[1, 2], [3, 4]], {"content_type": "text/csv", "result": "text"}, "1,2\n3,4\n"),
        (["a", {"b": 1}], {"content_type": "application/jsonlines"}, ["a", {"b": 1}]),
        (b"\x00\xff", {"result": "bytes"}, "AP8="),
        ("3", {}, 3),
    ],
)
def test_the_model_gets_what_the_function_returns_and_the_task_returns_its_answer(
    build_and_run, echo, payload, arguments, answer
):
    found = build_and_run(lambda given: given, payload, endpoint_name=echo, **arguments)
    assert found.replace("\r\n", "\n") == answer if isinstance(answer, str) else found == answer


def test_a_file_that_the_function_writes_is_sent(build_and_run, echo, tmp_path):
    def build(folder):
        path = folder / "rows.json"
        path.write_text(json.dumps([1, 2, 3]))
        return path

    assert build_and_run(build, tmp_path, endpoint_name=echo) == [1, 2, 3]


def test_the_function_is_called_once_and_one_request_is_sent(build_and_run, world, echo):
    calls, before = [], len(world.emulator.requests())

    def build():
        calls.append(1)
        return {"row": 1}

    assert build_and_run(build, endpoint_name=echo, custom_attributes="slow") == {"row": 1}
    assert (len(calls), len(world.emulator.requests()) - before) == (1, 1)


def test_a_model_that_refuses_fails_the_task(build_and_run, echo):
    with pytest.raises(InferenceFailed, match="Unknown task"):
        build_and_run(lambda: [1], endpoint_name=echo, custom_attributes="refuse")


def test_an_answer_that_is_no_json_is_invalid(build_and_run, echo):
    with pytest.raises(ResultInvalid, match="is answered, but"):
        build_and_run(lambda: "no json", endpoint_name=echo)


def test_a_function_that_returns_nothing_submits_nothing(build_and_run, world, echo):
    before = len(world.emulator.requests())
    with pytest.raises(RequestRejected, match="returned None.*Nothing was submitted"):
        build_and_run(lambda: None, endpoint_name=echo)
    assert len(world.emulator.requests()) == before


class TestBatch:
    @pytest.fixture
    def arguments(self, echo):
        return {"endpoint_name": echo, "work_prefix": f"s3://{BUCKET}/work/{uuid.uuid4().hex}"}

    def test_a_function_that_yields_makes_a_batch(self, build_and_run, world, arguments):
        def rows(most):
            yield from ({"row": number} for number in range(most))

        told = build_and_run(rows, 3, **arguments)
        manifest = [json.loads(line) for line in world.body(told["manifest"]).splitlines()]
        answers = [json.loads(world.body(row["output_location"])) for row in manifest]
        assert answers == [{"row": 0}, {"row": 1}, {"row": 2}]

    def test_a_list_is_a_batch_where_that_is_said(self, build_and_run, arguments):
        told = build_and_run(lambda: ["a", "b"], batch=True, **arguments)
        assert told["counts"]["Succeeded"] == 2

    def test_a_function_that_returns_nothing_is_refused(self, build_and_run, arguments):
        with pytest.raises(RequestRejected, match="returned None"):
            build_and_run(lambda: None, batch=True, **arguments)

    def test_what_says_which_the_inputs_are_is_refused_when_the_dag_is_parsed(self, arguments):
        with pytest.raises(InvalidInput, match="takes no input_prefix"):
            sagemaker_async_task(batch=True, input_prefix="s3://b/c/", **arguments)
