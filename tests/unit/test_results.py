from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
import traceback
from datetime import date

import pydantic
import pytest

from airflow_async_sm._compat import AirflowSkipException
from airflow_async_sm.core.answers import ObjectFacts, answer_of, copy_target
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.exceptions import ResultInvalid, ResultTooLarge
from airflow_async_sm.results import Collected, ResultSpec

OUTPUT = "s3://bucket/out/answer.out"
HANDLE = InvocationHandle(
    endpoint_name="model", inference_id="id-1", output_location=OUTPUT, submitted_at=100.0, expires_at=900.0
)
SECRET = "the-secret-of-the-answer-" * 20
LOG = logging.getLogger("tests.results")


class Hook:
    """Has one object, and notes what is asked of it."""

    def __init__(self, data, content_type="application/json"):
        self.data, self.asked = data, []
        self.facts = ObjectFacts(size=len(data), content_type=content_type, last_modified=103.0, etag="e")

    def describe_result(self, location):
        self.asked.append("describe")
        return self.facts

    def read_result(self, location):
        assert location == OUTPUT
        self.asked.append("read")
        return self.data

    def copy_result(self, location, target):
        self.asked.append("copy")
        return copy_target(target, location)


class Score(pydantic.BaseModel):
    label: str
    score: float
    day: date = date(2024, 2, 29)


def collect(data, content_type="application/json", **spec):
    return ResultSpec(**spec).collect(Hook(data, content_type), HANDLE, LOG)


def told(error):
    """Return all that Airflow would write of an error into a log."""
    return "".join(traceback.format_exception(error))


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (
                {"result": "yaml"},
                "result is 'yaml'; expected 'location', 'json', 'text', 'bytes' or a function",
            ),
            ({"result": None}, "result is None; expected 'location'"),
            ({"result": ["json"]}, "result is ['json']; expected 'location'"),
            ({"result": "JSON"}, "result is 'JSON'; expected"),
            ({"result": Score}, "result is the model Score; give it as result_schema, with result='json'."),
            ({"result_schema": {}}, "result_schema needs a value to check, and result='location' reads none"),
            ({"result": "json", "result_schema": "{}"}, "result_schema is an instance of str; a JSON Schema"),
            (
                {"result": "json", "result_schema": True},
                "result_schema is an instance of bool; a JSON Schema",
            ),
            (
                {"result": "json", "result_schema": dict},
                "result_schema is dict; a JSON Schema as a dictionary",
            ),
            (
                {"result": "json", "result_schema": Score(label="a", score=1)},
                "result_schema is an instance of Score; a JSON Schema as a dictionary, or the class of a pyd",
            ),
            (
                {"max_result_bytes": 0},
                "max_result_bytes is 0; a whole number of bytes, at least 1, is needed.",
            ),
            ({"max_result_bytes": -1}, "max_result_bytes is -1; a whole number"),
            ({"max_result_bytes": 1.5}, "max_result_bytes is 1.5; a whole number"),
            ({"max_result_bytes": True}, "max_result_bytes is True; a whole number"),
            ({"max_result_bytes": "9"}, "max_result_bytes is '9'; a whole number"),
            ({"max_result_bytes": None}, "max_result_bytes is None; a whole number"),
            (
                {"on_large_result": "truncate"},
                "on_large_result is 'truncate'; expected 'fail' or 'location'.",
            ),
            ({"on_large_result": None}, "on_large_result is None; expected"),
            ({"copy_to": ""}, "copy_to is empty; leave it out, or say where the copy is to be."),
            ({"copy_to": 5}, "copy_to is 5; a text or a path is needed."),
            ({"copy_to": "s3:///key"}, "copy_to is 's3:///key'; expected s3://bucket/key."),
            ({"copy_to": "gs://"}, "copy_to is 'gs://'; it names no bucket, expected gs://bucket/path."),
            ({"copy_to": "bucket/key"}, "copy_to is 'bucket/key'; expected an absolute local path"),
        ],
    )
    def test_it_is_refused_when_the_object_is_made(self, arguments, text):
        with pytest.raises(InvalidInput) as refused:
            ResultSpec(**arguments)
        assert text in str(refused.value)

    def test_a_coroutine_function_is_refused(self):
        async def later(data):
            return data

        with pytest.raises(InvalidInput, match="called and never awaited"):
            ResultSpec(result=later)

    @pytest.mark.parametrize(
        ("schema", "text"),
        [
            ({"type": "numbr"}, "result_schema is no JSON Schema: at $.type: 'numbr' is not valid under any"),
            (
                {"properties": {"a": {"minimum": "1"}}},
                "at $.properties.a.minimum: '1' is not of type 'number'.",
            ),
            ({"$schema": 5}, "at $['$schema']: 5 is not of type 'string'."),
            ({"pattern": "("}, "at $.pattern: '(' is not a 'regex'."),
            ({"enum": {1, 2}}, "JSON cannot hold it: Object of type set is not JSON serializable."),
            ({"$ref": "#/$defs/Missing"}, "refers to '/$defs/Missing', which is not in it"),
            (
                {"items": {"$ref": "http://127.0.0.1:1/s"}},
                "refers to 'http://127.0.0.1:1/s', which is not in it",
            ),
        ],
    )
    @pytest.mark.parametrize("step", ["check", "collect"])
    def test_a_schema_that_is_none_is_refused_before_anything_is_read(self, schema, text, step):
        spec, hook = ResultSpec("json", schema), Hook(b"1")
        with pytest.raises(InvalidInput) as refused:
            spec.check() if step == "check" else spec.collect(hook, HANDLE, LOG)
        assert text in str(refused.value).replace("\\", "")
        assert hook.asked == []

    def test_a_model_of_types_that_are_nowhere_is_refused(self):
        class Unfinished(pydantic.BaseModel):
            part: NoSuchThing  # noqa: F821 - this is the mistake

        with pytest.raises(InvalidInput, match="result_schema Unfinished is not complete: .*NoSuchThing"):
            ResultSpec("json", Unfinished).check()

    @pytest.mark.parametrize("target", ["nowhere://place/x", "nowhere://place/"])
    def test_a_store_that_airflow_does_not_know_is_refused(self, target):
        with pytest.raises(InvalidInput, match="cannot write to: .*nowhere.*Install the provider"):
            ResultSpec(copy_to=target).check()

    def test_a_store_that_is_out_of_reach_now_may_be_there_later(self, monkeypatch):
        def unreachable(address):
            raise OSError("no route")

        monkeypatch.setattr("airflow_async_sm.results.storage_path", unreachable)
        ResultSpec(copy_to="gs://bucket/a/").check()

    @pytest.mark.parametrize("target", ["/tmp/a/", "s3://bucket/a", None])
    def test_a_local_path_and_s3_need_no_store(self, target):
        ResultSpec(copy_to=target).check()

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"$ref": {"type": "string"}}, "const": {"$ref": "#/nowhere"}},
            {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"$ref": "#"}}},
            {"$ref": "https://json-schema.org/draft/2020-12/schema"},
            {"$id": "https://example.com/a", "$defs": {"b": {"$id": "b"}}, "items": {"$ref": "b"}},
            {"$schema": "https://example.com/of-our-own", "type": "object"},
        ],
    )
    def test_a_schema_is_not_refused_for_what_only_looks_like_a_mistake(self, schema):
        ResultSpec("json", schema).check()


class TestValues:
    def test_the_location_needs_no_reading(self):
        hook = Hook(b"x" * 1_000_000)
        collected = ResultSpec().collect(hook, HANDLE, LOG)
        assert collected == Collected(answer_of(HANDLE, hook.facts), answer_of(HANDLE, hook.facts))
        assert hook.asked == ["describe"]

    @pytest.mark.parametrize(
        ("result", "data", "value"),
        [
            ("json", b'{"a": 1}', {"a": 1}),
            ("text", b'{"a": 1}', '{"a": 1}'),
            ("bytes", b"\x00", "AA=="),
            (len, b"12345", 5),
            (functools.partial(json.loads, parse_int=float), b"1", 1.0),
            (lambda data: (data.decode(), None), b"x", ["x", None]),
        ],
    )
    def test_a_value_is_returned_beside_the_answer(self, result, data, value):
        collected = collect(data, result=result)
        assert collected.value == value
        assert collected.answer["size"] == len(data)
        json.dumps(collected.value)

    def test_the_copy_is_made_before_the_answer_is_read(self, caplog):
        hook = Hook(b"{")
        with pytest.raises(ResultInvalid), caplog.at_level("INFO"):
            ResultSpec("json", copy_to="s3://other/").collect(hook, HANDLE, LOG)
        assert hook.asked == ["describe", "copy", "read"]
        assert caplog.messages == [f"{OUTPUT} is copied to s3://other/answer.out."]

    @pytest.mark.parametrize(
        ("result", "data", "text"),
        [
            ("json", b"", "it is empty, and so no JSON."),
            ("json", b"[NaN]", "JSON cannot hold it: Out of range float values"),
            ("json", b"-Infinity", "JSON cannot hold it: Out of range float values"),
            ("json", b"<html>", "it is no JSON"),
            ("text", b"\xff", "it is no text in utf-8"),
            (lambda data: {1, 2}, b"x", "JSON cannot hold it: Object of type set"),
            (lambda data: float("nan"), b"x", "JSON cannot hold it: Out of range float values"),
        ],
    )
    def test_what_cannot_be_the_value_is_said_with_where_it_is(self, result, data, text):
        with pytest.raises(ResultInvalid) as invalid:
            collect(data, result=result)
        assert str(invalid.value).startswith(
            "Request id-1 to endpoint model is answered, but the answer is not "
        )
        assert text in str(invalid.value)
        assert f"The answer is {OUTPUT}, and its inference is paid for." in str(invalid.value)
        assert (invalid.value.location, invalid.value.inference_id) == (OUTPUT, "id-1")


class TestFunctions:
    def test_what_it_raises_is_told_with_its_trace_and_not_at_length(self):
        def parse(data):
            raise KeyError(data.decode())

        with pytest.raises(ResultInvalid, match="parse raised KeyError: 'the-secret") as invalid:
            collect(SECRET.encode(), result=parse)
        assert "raise KeyError(data.decode())" in told(invalid.value)
        assert SECRET[:250] not in told(invalid.value)

    def test_an_airflow_exception_ends_the_task_as_it_says(self):
        def skip(data):
            raise AirflowSkipException("nothing new")

        with pytest.raises(AirflowSkipException):
            collect(b"", result=skip)


class TestSize:
    @pytest.mark.parametrize(
        ("spec", "data"),
        [
            ({"result": "json", "max_result_bytes": 9}, b'"12345678"'),
            ({"result": "bytes", "max_result_bytes": 9}, b"1234567890"),
            ({"result": "text"}, b"x" * 49_153),
            ({"result": lambda data: "12345678", "max_result_bytes": 9}, b"x"),
            ({"result": "json", "result_schema": Score, "max_result_bytes": 40}, b'{"label":"a","score":1}'),
        ],
    )
    def test_what_is_too_large_fails_or_is_pointed_at(self, spec, data, caplog):
        with pytest.raises(ResultTooLarge) as large:
            collect(data, **spec)
        assert "max_result_bytes is " in str(large.value)
        assert f"The answer is {OUTPUT}, and its inference is paid for." in str(large.value)
        assert large.value.location == OUTPUT

        collected = collect(data, **spec, on_large_result="location")
        assert collected.value == collected.answer
        (line,) = caplog.messages
        assert line.endswith(f"the task returns where it is, {OUTPUT}.")

    @pytest.mark.parametrize(
        ("result", "data", "asked"),
        [("json", b"[1,2,3]", ["describe"]), (len, b"1234567", ["describe", "read"])],
    )
    def test_only_a_function_is_given_more_than_the_limit(self, result, data, asked):
        hook = Hook(data)
        ResultSpec(result, max_result_bytes=6, on_large_result="location").collect(hook, HANDLE, LOG)
        assert hook.asked == asked

    @pytest.mark.parametrize("result", ["json", "text", "bytes", lambda data: json.loads(data)])
    def test_the_limit_itself_is_small_enough(self, result):
        assert collect(b'"1234567"', result=result, max_result_bytes=9).value


SCHEMA = {
    "type": "object",
    "required": ["label", "score"],
    "properties": {"score": {"type": "number", "maximum": 1}, "tags": {"items": {"enum": ["a", "b"]}}},
    "propertyNames": {"maxLength": 1_000},
    "additionalProperties": {"type": "string"},
    "$defs": {"again": {"$ref": "#/$defs/again"}},
}


class TestJsonSchema:
    def test_a_value_that_keeps_it_is_returned_as_it_is(self):
        value = {"label": "cat", "score": 0.5, "tags": ["a"]}
        assert collect(json.dumps(value).encode(), result="json", result_schema=SCHEMA).value == value

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"label": SECRET}, "it breaks the JSON Schema at $: required ['score']."),
            ({"label": "a", "score": SECRET}, "at $.score: type 'number'."),
            ({"label": 1, "score": 2}, "(1 more)."),
            ({"label": "a", "score": 1, "tags": ["a", SECRET]}, "at $.tags[1]: enum ['a', 'b']."),
            ([SECRET], "at $: type 'object'."),
        ],
    )
    def test_a_violation_names_the_path_and_the_rule_and_no_value(self, value, text):
        with pytest.raises(ResultInvalid) as invalid:
            collect(json.dumps(value).encode(), result="json", result_schema=SCHEMA)
        assert text in str(invalid.value)
        assert SECRET[:25] not in told(invalid.value)

    def test_a_path_of_keys_is_cut(self):
        value = {"label": "a", "score": 1, SECRET: 5}
        with pytest.raises(ResultInvalid) as invalid:
            collect(json.dumps(value).encode(), result="json", result_schema=SCHEMA)
        assert SECRET[:200] not in told(invalid.value)

    def test_a_place_where_nothing_is_allowed_is_told(self):
        with pytest.raises(ResultInvalid, match="breaks the JSON Schema at .*: nothing is allowed there"):
            collect(b'{"a": 1}', result="json", result_schema={"properties": {"a": False}})

    def test_a_schema_that_never_ends_ends_the_task_with_a_sentence(self):
        with pytest.raises(
            ResultInvalid, match="result_schema cannot be followed to its end .RecursionError"
        ):
            collect(b"1", result="json", result_schema={"$ref": "#"})

    def test_lines_are_checked_as_one_list(self):
        schema = {"type": "array", "maxItems": 1}
        with pytest.raises(ResultInvalid, match="maxItems 1"):
            collect(b"1\n2", "application/jsonlines", result="json", result_schema=schema)

    def test_what_a_function_returns_is_checked_too(self):
        with pytest.raises(ResultInvalid, match="type 'string'"):
            collect(b"abc", result=len, result_schema={"type": "string"})


class TestModels:
    def test_the_value_is_what_the_model_makes_of_it(self):
        collected = collect(b'{"label": "a", "score": "0.5"}', result="json", result_schema=Score)
        assert collected.value == {"label": "a", "score": 0.5, "day": "2024-02-29"}

    def test_a_violation_names_the_path_and_the_rule_and_no_value(self):
        data = json.dumps({"score": SECRET}).encode()
        with pytest.raises(ResultInvalid) as invalid:
            collect(data, result="json", result_schema=Score)
        assert "it breaks Score at $['label']: Field required (1 more)." in str(invalid.value)
        assert SECRET[:25] not in told(invalid.value)

    def test_a_model_of_a_list_is_a_model(self):
        class Scores(pydantic.RootModel[list[Score]]):
            pass

        data = b'[{"label": "a", "score": 1}, {"score": 1}]'
        with pytest.raises(ResultInvalid, match=r"breaks Scores at \$\[1\]\['label'\]: Field required"):
            collect(data, result="json", result_schema=Scores)

    def test_what_its_own_check_raises_is_told_and_not_at_length(self):
        class Odd(pydantic.RootModel[str]):
            @pydantic.field_validator("root")
            @classmethod
            def odd(cls, value):
                raise KeyError(value)

        with pytest.raises(ResultInvalid, match="Odd raised KeyError: ") as invalid:
            collect(json.dumps(SECRET).encode(), result="json", result_schema=Odd)
        assert SECRET[:250] not in told(invalid.value)

    def test_a_value_that_json_cannot_hold_is_refused_after_the_model_too(self):
        class Wide(pydantic.BaseModel):
            number: float = float("inf")

        with pytest.raises(ResultInvalid, match="Out of range float"):
            collect(b"{}", result="json", result_schema=Wide)


def test_saying_what_is_wanted_loads_no_library():
    program = (
        "import sys, airflow_async_sm._compat\n"
        "before = set(sys.modules)\n"
        "import airflow_async_sm.results as r\n"
        "r.ResultSpec('json', {'type': 'object'}, copy_to='gs://bucket/a/')\n"
        "unwanted = {'boto3', 'botocore', 'fsspec', 'jsonschema', 'pydantic'}\n"
        "print(sorted((set(sys.modules) - before) & unwanted))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
