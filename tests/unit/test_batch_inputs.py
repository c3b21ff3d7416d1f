"""The arguments that say what the inputs of a batch are: what fits together, and what comes of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from itertools import count, islice
from types import SimpleNamespace

import pytest

from airflow_async_sm.batch_inputs import BatchInputs
from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks._inputs import Listed

try:
    from airflow.sdk import ObjectStoragePath
except ImportError:
    from airflow.io.path import ObjectStoragePath

ONE, TWO = "s3://data/one", "s3://data/two"


class Bucket:
    """Stands for the hook: gives what it was given."""

    def __init__(self, **objects):
        self.objects = {f"s3://data/{name.replace('__', '.')}": content for name, content in objects.items()}
        self.asked = []

    def input_blocks(self, location):
        self.asked.append(location)
        yield self.objects[location].encode()

    def input_lines(self, location):
        self.asked.append(location)
        yield from self.objects[location].encode().split(b"\n")

    def list_inputs(self, folder, *, begin=""):
        self.asked.append((folder, begin))
        for location, content in sorted(self.objects.items()):
            if location.startswith(f"{folder.rstrip('/')}/{begin}"):
                yield Listed(location, len(content), "etag")


def named(value):
    """The name of a case, the same in each process."""
    return re.sub(r" (object )?at 0x[0-9a-f]+", "", str(value))


class LazyOutputs(Sequence):
    """Stands for what mapped tasks returned, which Airflow fetches one by one."""

    def __init__(self, *items):
        self.items = items
        self.fetched = []

    def __len__(self):
        raise AssertionError("it is not needed, and Airflow asks its server for it")

    def __getitem__(self, index):
        item = self.items[index]
        self.fetched.append(index)
        return item


def read(hook=None, **arguments):
    return list(BatchInputs(**arguments).read(hook))


def bodies(found):
    return [each.body for each in found]


def locations(found):
    return [each.input_location for each in found]


class TestCheck:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"inputs": []},
            {"inputs": [1], "serializer": str, "content_type": "text/plain"},
            {"inputs": lambda: [1]},
            {"inputs": LazyOutputs(1)},
            {"input_locations": [ONE]},
            {"input_locations": lambda: ["anything"], "content_type": "text/csv"},
            {"input_prefix": "s3://data"},
            {"input_prefix": "s3://data/a/", "input_pattern": "*.json", "content_type": "text/csv"},
            {"input_manifest": ONE, "content_type": "text/csv"},
            {"input_records": "s3://data/a.csv", "csv_header": False, "records_per_request": 7},
            {"input_records": "s3://data/a.csv.GZ"},
            {"input_records": "s3://data/a.jsonl", "records_per_request": 7},
            {
                "input_records": "s3://data/a",
                "content_type": "Text/CSV; charset=latin-1",
                "csv_header": False,
            },
            {"input_records": "s3://data/a", "content_type": "application/x-ndjson"},
        ],
        ids=named,
    )
    def test_what_fits_together_is_accepted(self, arguments):
        BatchInputs(**arguments).check()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"inputs": iter([1])}, "gone through only once"),
            ({}, "Give exactly one of inputs, .*; none of them is given"),
            ({"inputs": [], "input_prefix": ONE}, "inputs and input_prefix are given"),
            ({"inputs": "text"}, "inputs is of type str, which is one value; give a list"),
            ({"inputs": b"x"}, "inputs is of type bytes, which is one value"),
            ({"inputs": {"a": 1}}, "inputs is of type dict, which is one value"),
            ({"inputs": {1, 2}}, "inputs is of type set, which has no order"),
            (
                {"inputs": SimpleNamespace(columns=["a"])},
                "inputs is of type SimpleNamespace, which is one value",
            ),
            ({"inputs": 7}, "inputs is of type int; give a list or another iterable, or a function"),
            ({"input_locations": ONE}, "input_locations is of type str, which is one value"),
            ({"inputs": [], "input_pattern": "*"}, "input_pattern goes with input_prefix; inputs is given"),
            ({"input_prefix": ONE, "serializer": str}, "serializer goes with inputs; input_prefix is given"),
            ({"inputs": [], "records_per_request": 2}, "records_per_request goes with input_records"),
            ({"input_manifest": ONE, "csv_header": False}, "csv_header goes with input_records"),
            ({"input_prefix": "data/a"}, "input_prefix is 'data/a'; expected s3://bucket/key"),
            ({"input_prefix": 7}, "input_prefix is of type int; give an S3 URI as text"),
            ({"input_prefix": ONE, "input_pattern": ""}, "input_pattern is ''; give a pattern"),
            ({"input_prefix": ONE, "input_pattern": 7}, "input_pattern is 7; give a pattern"),
            ({"input_manifest": "s3://data"}, "input_manifest is 's3://data'; it names no object"),
            ({"input_records": "s3://data/"}, "input_records is 's3://data/'; it names no object"),
            ({"input_records": "s3://data/a"}, "whose name does not say what it is. Give content_type"),
            ({"input_records": "s3://data/a", "content_type": "a/b"}, "whose name does not say what it is"),
            ({"input_records": "s3://data/a.jsonl", "csv_header": False}, "csv_header goes with a CSV file"),
            (
                {"input_records": "s3://a/b.csv", "records_per_request": 0},
                "records_per_request is 0; give a whole",
            ),
            ({"input_records": "s3://a/b.csv", "records_per_request": True}, "records_per_request is True"),
            ({"input_records": "s3://a/b.csv", "records_per_request": "2"}, "records_per_request is '2'"),
            ({"inputs": [], "content_type": "\n"}, "content_type is '\\\\n'"),
            (
                {"input_records": "s3://a/b.csv", "content_type": "text/csv; charset=utf-16"},
                "charset 'utf-16', in which lines cannot be told apart",
            ),
            (
                {"input_records": "s3://a/b.csv", "content_type": "text/csv; charset=klingon"},
                "charset 'klingon'",
            ),
        ],
        ids=named,
    )
    def test_what_does_not_is_refused_before_anything_is_read(self, arguments, text):
        with pytest.raises(InvalidInput, match=text):
            BatchInputs(**arguments).check()
        with pytest.raises(InvalidInput, match=text):
            BatchInputs(**arguments).read(None)

    def test_neither_payloads_nor_addresses_are_shown(self):
        shown = repr(BatchInputs(inputs=["secret"], input_locations=["secret"]))
        assert "secret" not in shown


class TestValues:
    def test_each_value_is_written_as_a_payload_of_one_request_is(self, tmp_path):
        file = tmp_path / "a.csv"
        file.write_bytes(b"1,2\n")
        assert read(inputs=[{"a": 1}, "text", b"bytes", file]) == [
            BatchInput(origin="inputs[0]", body=b'{"a":1}', content_type="application/json"),
            BatchInput(origin="inputs[1]", body=b"text", content_type="text/plain; charset=utf-8"),
            BatchInput(origin="inputs[2]", body=b"bytes", content_type="application/octet-stream"),
            BatchInput(origin="inputs[3]", body=b"1,2\n", content_type="text/csv"),
        ]

    def test_a_content_type_that_is_given_is_that_of_all(self):
        found = read(inputs=[[[1, 2]], [[3, 4]]], content_type="text/csv")
        assert bodies(found) == [b"1,2\n", b"3,4\n"]
        assert {each.content_type for each in found} == {"text/csv"}

    def test_a_serializer_writes_each(self):
        found = read(inputs=[date(2026, 11, 22)], serializer=str, content_type="text/x-date")
        assert found == [BatchInput(origin="inputs[0]", body=b"2026-11-22", content_type="text/x-date")]

    def test_a_path_in_s3_is_a_location(self):
        found = read(inputs=[ObjectStoragePath("s3://conn@data/one")], content_type="a/b")
        assert found == [BatchInput(origin=ONE, input_location=ONE, content_type="a/b")]

    def test_a_payload_may_be_larger_than_a_request(self):
        (found,) = read(inputs=[bytes(1_000_000)])
        assert len(found.body) == 1_000_000

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (date(2026, 11, 22), "payload of type date cannot be written as JSON"),
            (None, "There is nothing to send"),
            (b"", "The payload is empty"),
            (float("nan"), "cannot be written as JSON"),
            (ObjectStoragePath("s3://data/caf\u00e9"), "visible ASCII"),
            (ObjectStoragePath("file:///nowhere/at/all"), "does not exist"),
        ],
        ids=named,
    )
    def test_a_value_that_cannot_be_written_is_named(self, value, text):
        found = BatchInputs(inputs=[1, value, 2]).read(None)
        assert next(found).body == b"1"
        with pytest.raises(InvalidInput, match=rf"inputs\[1\]: .*{text}"):
            next(found)

    def test_a_file_that_is_too_large_is_named_before_it_is_read(self, tmp_path):
        file = tmp_path / "large"
        with file.open("wb") as opened:
            opened.truncate(1_000_000_001)
        with pytest.raises(InvalidInput, match=r"inputs\[0\]: The payload has 1,000,000,001 bytes"):
            read(inputs=[file])

    def test_the_outputs_of_mapped_tasks_are_fetched_as_they_are_needed(self):
        outputs = LazyOutputs(1, 2, 3)
        found = BatchInputs(inputs=outputs).read(None)
        assert outputs.fetched == []
        assert next(found).body == b"1"
        assert outputs.fetched == [0]
        assert bodies(found) == [b"2", b"3"]

    def test_a_generator_is_taken_from_as_it_is_needed(self):
        found = BatchInputs(inputs=count).read(None)
        assert bodies(islice(found, 3)) == [b"0", b"1", b"2"]

    def test_a_function_is_called_when_the_inputs_are_needed_and_not_before(self):
        calls = []
        given = BatchInputs(inputs=lambda: calls.append(1) or iter([1, 2]))
        given.check()
        found = given.read(None)
        assert calls == []
        assert bodies(found) == [b"1", b"2"]
        assert calls == [1]

    @pytest.mark.parametrize("returned", [None, "text", {"a": 1}, 7])
    @pytest.mark.parametrize("argument", ["inputs", "input_locations"])
    def test_a_function_has_to_return_many(self, argument, returned):
        with pytest.raises(
            InvalidInput, match=f"What {argument} returned is of type {type(returned).__name__}"
        ):
            read(**{argument: lambda: returned})

    def test_what_a_function_raises_is_left_as_it_is(self):
        with pytest.raises(ZeroDivisionError):
            read(inputs=lambda: 1 / 0)


class TestLocations:
    def test_each_is_an_input(self):
        found = read(input_locations=[ONE, ObjectStoragePath("s3://conn@data/two")], content_type="a/b")
        assert found == [
            BatchInput(origin="input_locations[0]", input_location=ONE, content_type="a/b"),
            BatchInput(origin="input_locations[1]", input_location=TWO, content_type="a/b"),
        ]

    @pytest.mark.parametrize("given", [lambda: iter([ONE, TWO]), LazyOutputs(ONE, TWO), (ONE, TWO)])
    def test_they_may_come_from_anywhere(self, given):
        assert locations(read(input_locations=given)) == [ONE, TWO]

    def test_a_bad_one_is_kept_apart_and_ends_nothing(self):
        found = read(input_locations=[ONE, "data/two", "s3://data/folder/", TWO])
        assert [type(each) for each in found] == [BatchInput, Unreadable, Unreadable, BatchInput]
        assert found[1].origin == "input_locations[1]"
        assert "'data/two'" in found[1].reason

    @pytest.mark.parametrize("value", [7, None, {"input_location": ONE}])
    def test_what_is_no_text_is_a_mistake(self, value):
        with pytest.raises(InvalidInput, match=rf"input_locations\[1\] is of type {type(value).__name__}"):
            read(input_locations=[ONE, value])


class TestPrefix:
    def test_each_object_is_an_input(self):
        hook = Bucket(one="1", two="22")
        assert read(hook, input_prefix="s3://data", content_type="a/b") == [
            BatchInput(origin=ONE, input_location=ONE, version="etag", content_type="a/b"),
            BatchInput(origin=TWO, input_location=TWO, version="etag", content_type="a/b"),
        ]

    @pytest.mark.parametrize(
        ("pattern", "begin", "names"),
        [
            (None, "", ["a.csv", "a.json", "b/a.json"]),
            ("*.json", "", ["a.json", "b/a.json"]),
            ("/*.json", "", ["a.json", "b/a.json"]),
            ("a.*", "a.", ["a.csv", "a.json"]),
            ("b/?.json", "b/", ["b/a.json"]),
            ("[ab].csv", "", ["a.csv"]),
            ("a.json", "a.json", ["a.json"]),
            ("A.json", "A.json", []),
            ("a", "a", []),
        ],
    )
    @pytest.mark.parametrize("folder", ["s3://data/in", "s3://data/in/"])
    def test_a_pattern_chooses_by_what_follows_the_folder(self, folder, pattern, begin, names):
        hook = Bucket(**{f"in/{name}".replace(".", "__"): "x" for name in ["a.csv", "a.json", "b/a.json"]})
        found = read(hook, input_prefix=folder, input_pattern=pattern)
        assert locations(found) == [f"s3://data/in/{name}" for name in names]
        assert hook.asked == [(folder, begin)]

    def test_a_key_that_the_service_does_not_take_is_kept_apart(self):
        found = read(Bucket(café="1", one="1"), input_prefix="s3://data")
        assert [type(each) for each in found] == [Unreadable, BatchInput]
        assert found[0].origin == "s3://data/caf\u00e9"

    @pytest.mark.parametrize(
        ("prefix", "folder", "overlaps"),
        [
            ("s3://data/in", "s3://data/in", True),
            ("s3://data/in", "s3://data/in/", True),
            ("s3://data/in/", "s3://data/in/batches", True),
            ("s3://data/in", "s3://data/in-2/batches", False),
            ("s3://data/in/a", "s3://data/in", False),
            ("s3://data/in", "s3://other/in/a", False),
            ("s3://data", "s3://data/anything", True),
            ("s3://data", "s3://data", True),
        ],
    )
    def test_what_is_written_within_it_would_be_read(self, prefix, folder, overlaps):
        given = BatchInputs(input_prefix=prefix)
        assert given.overlaps(S3Uri.parse(folder)) is overlaps
        assert given.origin == S3Uri.parse(prefix)

    @pytest.mark.parametrize("arguments", [{"inputs": []}, {"input_manifest": ONE}, {"input_records": ONE}])
    def test_nothing_else_has_a_folder(self, arguments):
        assert BatchInputs(**arguments).origin is None
        assert not BatchInputs(**arguments).overlaps(S3Uri.parse("s3://data"))


class TestManifest:
    def test_each_row_is_an_input(self):
        hook = Bucket(m__jsonl=f'"{ONE}"\noops\n"{TWO}"')
        found = read(hook, input_manifest="s3://data/m.jsonl", content_type="a/b")
        assert [type(each) for each in found] == [BatchInput, Unreadable, BatchInput]
        assert found[0] == BatchInput(
            origin="s3://data/m.jsonl line 1", input_location=ONE, content_type="a/b"
        )

    def test_each_row_of_each_file_of_an_inventory_is_an_input(self):
        manifest = (
            '{"fileFormat": "CSV", "fileSchema": "Bucket, Key", "destinationBucket": "arn:aws:s3:::data",'
            '"files": [{"key": "1.csv"}, {"key": "2.csv"}]}'
        )
        hook = Bucket(manifest__json=manifest, **{"1__csv": '"data","one"\n', "2__csv": '"data","two"\n'})
        found = BatchInputs(input_manifest="s3://data/manifest.json", content_type="a/b").read(hook)
        assert next(found) == BatchInput(
            origin="s3://data/1.csv line 1", input_location=ONE, content_type="a/b"
        )
        assert hook.asked == ["s3://data/manifest.json", "s3://data/1.csv"]
        assert locations(found) == [TWO]


class TestRecords:
    def test_each_line_is_an_input(self):
        assert bodies(read(Bucket(r__jsonl="1\n[2]\n"), input_records="s3://data/r.jsonl")) == [b"1", b"[2]"]

    def test_so_many_rows_are_an_input(self):
        hook = Bucket(r__csv="a\n1\n2\n3\n")
        assert read(hook, input_records="s3://data/r.csv", records_per_request=2) == [
            BatchInput(origin="s3://data/r.csv lines 2-3", body=b"a\n1\n2\n", content_type="text/csv"),
            BatchInput(origin="s3://data/r.csv line 4", body=b"a\n3\n", content_type="text/csv"),
        ]

    def test_the_content_type_says_what_a_name_does_not(self):
        found = read(
            Bucket(r="1\n2"), input_records="s3://data/r", content_type="text/csv; x=y", csv_header=False
        )
        assert bodies(found) == [b"1\n", b"2\n"]
        assert {each.content_type for each in found} == {"text/csv; x=y"}

    def test_the_name_counts_before_the_content_type(self):
        hook = Bucket(r__json="1\n2")
        found = read(hook, input_records="s3://data/r.json", content_type="text/csv")
        assert bodies(found) == [b"1", b"2"]

    def test_a_content_type_may_name_a_charset(self):
        kind = 'text/csv; charset="latin-1"'
        (found,) = read(Bucket(r__csv="a\n\u00e9"), input_records="s3://data/r.csv", content_type=kind)
        assert found.body == "a\n\u00e9\n".encode()

    def test_a_header_that_cannot_be_read_is_named(self):
        with pytest.raises(
            InvalidInput, match="The header of the CSV cannot be read: s3://data/r.csv line 1"
        ):
            read(Bucket(r__csv='"a'), input_records="s3://data/r.csv")
