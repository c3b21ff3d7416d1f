"""Objects that name inputs: which kind one is, what it names, and which of its rows name nothing."""

from __future__ import annotations

import base64
import csv
import io
import json
import tracemalloc
from itertools import chain, repeat
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs import manifests
from airflow_async_sm.core.inputs.arrays import array_entries
from airflow_async_sm.core.inputs.inventories import Inventory
from airflow_async_sm.core.inputs.locations import located
from airflow_async_sm.core.inputs.manifests import read_manifest
from airflow_async_sm.core.limits import InvalidInput

SOURCE = "s3://b/manifest"
ONE, TWO = "s3://data/one.json", "s3://data/two, and more"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30).filter(
    lambda key: not key.endswith("/") and key[0] != "/"
)


def blocks(text, size=7):
    data = text if isinstance(text, bytes) else text.encode()
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(text, source=SOURCE, **arguments):
    return list(read_manifest(blocks(text), source, **arguments))


def locations(found):
    return [each.input_location for each in found]


def reason(found):
    (one,) = (each for each in found if isinstance(each, Unreadable))
    return one.reason


class TestLocations:
    def test_an_address_is_an_input(self):
        found = located(ONE, origin="x", version="v", content_type="text/csv", size=1_000_000_000)
        assert found == BatchInput(origin="x", input_location=ONE, version="v", content_type="text/csv")

    def test_the_other_spelling_of_an_address_is_the_same_input(self):
        assert located("https://data.s3.eu-west-1.amazonaws.com/one.json", origin="x").input_location == ONE

    @pytest.mark.parametrize(
        ("location", "part"),
        [
            ("data/one.json", "SageMaker accepts an S3 URI"),
            ("", "is empty"),
            ("s3://data", "it names no object"),
            ("s3://data/folder/", "it names no object"),
            ("s3://da ta/key", "is no bucket name"),
            ("s3://data/caf\u00e9", "visible ASCII"),
            ("s3://data/" + "x" * 1_020, "has 1,030 characters; SageMaker accepts at most 1,024"),
        ],
    )
    def test_what_the_service_would_not_take_is_none(self, location, part):
        found = located(location, origin="x")
        assert isinstance(found, Unreadable)
        assert found.origin == "x"
        assert part in found.reason

    def test_an_object_that_is_too_large_is_none(self):
        found = located(ONE, origin="x", size=1_000_000_001)
        assert (
            found.reason == f"{ONE} has more than 1,000,000,000 bytes, which is all that a request may have."
        )


class TestJsonLines:
    @pytest.mark.parametrize("source", [SOURCE, "s3://b/k.jsonl", "s3://b/k.NDJSON", "s3://b/k.jsonl.gz"])
    @pytest.mark.parametrize("start", ["", "\ufeff", "\n \n"])
    def test_texts_and_objects_are_locations(self, source, start):
        text = start + "\n".join(json.dumps(row) for row in [ONE, {"input_location": TWO, "other": 1}])
        found = read(text, source, content_type="text/csv")
        assert locations(found) == [ONE, TWO]
        assert {each.content_type for each in found} == {"text/csv"}
        assert found[1].origin == f"{source} line {2 + start.count(chr(10))}"

    def test_an_object_may_come_first(self):
        assert locations(read(f'{{"input_location": "{ONE}"}}\n"{TWO}"')) == [ONE, TWO]

    def test_a_row_may_have_its_own_content_type(self):
        rows = [{"input_location": ONE, "content_type": "image/png"}, {"input_location": TWO}]
        found = read("\n".join(map(json.dumps, rows)), content_type="image/gif")
        assert [each.content_type for each in found] == ["image/png", "image/gif"]

    @given(body=st.binary(min_size=1), kind=st.none() | st.just("text/plain"))
    def test_a_payload_that_failed_before_is_read_as_it_was(self, body, kind):
        row = {"item_id": "x", "origin": "s3://b/records line 7", "class": "ModelBroke", "reason": "broke"}
        row |= {"base64": base64.b64encode(body).decode()} | ({"content_type": kind} if kind else {})
        assert read(json.dumps(row)) == [
            BatchInput(origin="s3://b/records line 7", body=body, content_type=kind)
        ]

    @given(text=st.text(min_size=1))
    def test_a_text_that_failed_before_is_read_as_it_was(self, text):
        (found,) = read(json.dumps({"text": text, "origin": None}))
        assert found == BatchInput(origin=f"{SOURCE} line 1", body=text.encode())

    def test_a_number_of_any_length_does_no_harm(self):
        assert locations(
            read(f'{{"input_location": "{ONE}", "number": {"1" * 10_000}}}', "s3://b/k.jsonl")
        ) == [ONE]

    def test_a_location_that_failed_before_is_known_by_its_first_origin(self):
        (found,) = read(json.dumps({"input_location": ONE, "origin": ONE}))
        assert found == BatchInput(origin=ONE, input_location=ONE)

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ("7", "has to have input_location, text or base64, and has none of them."),
            ("{}", "has to have input_location, text or base64, and has none of them."),
            (
                '{"text": "a", "base64": "YQ=="}',
                "has to have input_location, text or base64, and has text and base64.",
            ),
            ('{"text": 7}', "has text that is no text."),
            ('{"text": ""}', "has text that is empty; there is nothing to send."),
            (
                '{"text": "\\ud800"}',
                "has text that cannot be read: 'utf-8' codec can't encode character '\\ud800' in "
                "position 0: surrogates not allowed.",
            ),
            ('{"base64": "?"}', "has base64 that cannot be read: Only base64 data is allowed."),
            ('{"text": "a", "content_type": [7]}', "content_type must be text, not list."),
            (
                '{"input_location": "x"}',
                "input_location is 'x'; SageMaker accepts an S3 URI of visible ASCII "
                "characters: others break the request's signature.",
            ),
            ("oops", "is no JSON: Expecting value at character 1."),
        ],
    )
    @pytest.mark.parametrize("source", [SOURCE, "s3://b/k.jsonl"])
    def test_a_bad_row_is_kept_apart_and_ends_nothing(self, source, row, why):
        found = read(f'"{ONE}"\n{row}\n"{TWO}"\n', source)
        assert [type(each) for each in found] == [BatchInput, Unreadable, BatchInput]
        assert found[1] == Unreadable(f"{source} line 2", why)

    def test_a_bad_row_may_come_first(self):
        found = read(f'{{"input_location": "{ONE}"\n"{TWO}"\n')
        assert [type(each) for each in found] == [Unreadable, BatchInput]

    def test_a_bad_first_row_of_a_large_object_is_not_waited_for(self, monkeypatch):
        monkeypatch.setattr(manifests, "_DOCUMENT", 1_000)
        endless = chain([b"{oops\n"], repeat(json.dumps(ONE).encode() + b"\n"))
        found = read_manifest(endless, SOURCE)
        assert isinstance(next(found), Unreadable)
        assert [next(found).input_location for _ in range(100)] == [ONE] * 100


class TestCsv:
    @pytest.mark.parametrize("source", [SOURCE, "s3://b/k.csv", "s3://b/k.csv.gz"])
    @pytest.mark.parametrize(
        "header", ["", "input_location\n", '"input_location"\n', "where\n", "\ufeffwhere\n", "\n"]
    )
    def test_there_may_be_one_column_with_or_without_a_name(self, source, header):
        found = read(f'{header}{ONE}\r\n"{TWO}"\r\n', source, content_type="text/csv")
        assert locations(found) == [ONE, TWO]
        assert found[0].origin == f"{source} line {1 + header.count(chr(10))}"
        assert {each.content_type for each in found} == {"text/csv"}

    def test_of_several_columns_the_one_of_that_name_counts(self):
        text = f'id,input_location,note\n1,{ONE},"a\nb"\n2,"{TWO}",\n'
        assert locations(read(text)) == [ONE, TWO]

    def test_quotes_alone_make_no_json(self):
        assert locations(read(f'"{ONE}"\n{TWO.replace(",", "")}\n', "s3://b/k.csv")) == [
            ONE,
            TWO.replace(",", ""),
        ]

    def test_several_columns_without_that_name_are_refused(self):
        with pytest.raises(
            InvalidInput, match="s3://b/manifest is a CSV with 2 columns, none of which is named"
        ):
            read(f"id,where\n1,{ONE}")

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ("1", "has 1 cells where the first row has 2."),
            (
                "1,x/y",
                "input_location is 'x/y'; SageMaker accepts an S3 URI of visible ASCII characters: others "
                "break the request's signature.",
            ),
            ("1,\ufffd", "is no text in UTF-8: invalid start byte at byte 3."),
            ("a\rb,c", "It cannot be taken apart"),
        ],
    )
    def test_a_bad_row_is_kept_apart_and_ends_nothing(self, row, why):
        text = f"id,input_location\n1,{ONE}\n{row}\n2,{ONE}\n".encode().replace("\ufffd".encode(), b"\xff")
        found = read(text)
        assert [type(each) for each in found] == [BatchInput, Unreadable, BatchInput]
        assert found[1].origin == f"{SOURCE} line 3"
        assert found[1].reason.startswith(why)

    def test_what_is_no_name_of_a_column_is_a_row(self):
        found = read(f"s4://data/one\n{ONE}\n")
        assert [type(each) for each in found] == [Unreadable, BatchInput]

    @pytest.mark.parametrize("text", ["", "\n", "input_location\n", " "])
    @pytest.mark.parametrize("source", ["s3://b/k.csv", "s3://b/k"])
    def test_there_may_be_nothing(self, text, source):
        assert read(text, source) == []


class TestSageMakerManifest:
    def test_the_names_are_joined_to_the_prefix(self):
        text = json.dumps(
            [{"prefix": "s3://data/a/"}, "one", "b/two", {"prefix": "s3://other/c"}, "d"], indent=1
        )
        found = read(text, content_type="image/png")
        assert locations(found) == ["s3://data/a/one", "s3://data/a/b/two", "s3://other/cd"]
        assert found[0].origin == f"{SOURCE} entry 2"
        assert {each.content_type for each in found} == {"image/png"}

    @pytest.mark.parametrize("entry", ["7", "null", '{"a": 1}', '["b"]', '{"prefix": 7}'])
    def test_another_entry_is_kept_apart(self, entry):
        found = read(f'[{{"prefix": "s3://data/"}}, {entry}, "one"]')
        assert found[0] == Unreadable(
            f"{SOURCE} entry 2", "is no text: each entry after the prefix is the rest of a key."
        )
        assert locations(found[1:]) == ["s3://data/one"]

    def test_a_key_that_the_service_does_not_take_is_kept_apart(self):
        assert "visible ASCII" in reason(read('[{"prefix": "s3://data/"}, "caf\u00e9"]'))

    def test_without_a_prefix_it_is_refused(self):
        with pytest.raises(InvalidInput, match="JSON array that does not begin with"):
            read(json.dumps([ONE, TWO]))

    def test_no_more_than_a_part_of_it_is_in_memory(self):
        many = (b"".join(b', "folder/%070d"' % n for n in range(500)) for _ in range(200))
        entries = chain([b'[{"prefix": "s3://data/"}'], many, [b"]"])
        tracemalloc.start()
        number = sum(1 for _ in read_manifest(entries, SOURCE))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert number == 100_000
        assert peak < 1_000_000


class TestArrays:
    @given(values=st.lists(json_values), size=st.integers(1, 40), indent=st.none() | st.integers(0, 2))
    def test_any_entries_are_found_as_they_were_written(self, values, size, indent):
        text = json.dumps(values, indent=indent)
        assert list(array_entries(blocks("\ufeff" + text, size), SOURCE)) == values

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"[", "from entry 1: Expecting value"),
            (b"[1", "from entry 1: neither a comma nor a bracket follows it"),
            (b"[1, 2", "from entry 2: neither a comma nor a bracket follows it"),
            (b"[1 2]", "from entry 1: neither a comma nor a bracket follows it"),
            (b"[1, oops]", "from entry 2: Expecting value"),
            (b'[1, "oops]', "from entry 2: Unterminated string starting at"),
            (b'[1, "\xff"]', "from entry 1: what follows is no text in UTF-8: invalid start byte"),
            (b"[" * 100_000, "from entry 1: it is nested too deeply"),
            (b"[1, " + b"1" * 10_000 + b"]", "from entry 2: Exceeds the limit"),
            (b'["' + b"x" * 2_000_000, "from entry 1: Unterminated string starting at"),
        ],
    )
    def test_what_breaks_off_or_is_no_json_is_refused(self, text, why):
        with pytest.raises(InvalidInput, match=f"{SOURCE} is a JSON array that cannot be read {why}"):
            list(array_entries(blocks(text, 1_000_000), SOURCE))


INVENTORY = {
    "sourceBucket": "data",
    "destinationBucket": "arn:aws:s3:::reports",
    "version": "2016-11-30",
    "creationTimestamp": "1795284501000",
    "fileFormat": "CSV",
    "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag",
    "files": [
        {"key": "data/all/1.csv.gz", "size": 10, "MD5checksum": "x"},
        {"key": "data/all/2.csv.gz", "size": 10, "MD5checksum": "y"},
    ],
}


class TestInventory:
    @pytest.mark.parametrize("indent", [None, 2])
    def test_a_manifest_names_its_files(self, indent):
        found = read_manifest(blocks(json.dumps(INVENTORY, indent=indent)), "s3://reports/manifest.json")
        assert isinstance(found, Inventory)
        assert found.files == ("s3://reports/data/all/1.csv.gz", "s3://reports/data/all/2.csv.gz")
        assert found.columns == ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "ETag")

    @pytest.mark.parametrize("kind", ["ORC", "Parquet"])
    def test_other_formats_are_refused(self, kind):
        with pytest.raises(InvalidInput, match=f"is an S3 inventory of {kind} files; only one of CSV files"):
            read(json.dumps(INVENTORY | {"fileFormat": kind}))

    @pytest.mark.parametrize(
        "change", [{"files": [{}]}, {"files": 7}, {"files": ["x"]}, {"destinationBucket": None}]
    )
    def test_one_that_is_not_complete_is_refused(self, change):
        with pytest.raises(InvalidInput, match="does not say where its files are"):
            read(json.dumps(INVENTORY | change))

    def test_one_without_keys_is_refused(self):
        with pytest.raises(InvalidInput, match="without the column Key"):
            read(json.dumps(INVENTORY | {"fileSchema": "Bucket, Size"}))

    @given(names=st.lists(keys))
    def test_any_keys_are_found_as_they_are(self, names):
        written = io.StringIO(newline="")
        for name in names:
            csv.writer(written, quoting=csv.QUOTE_ALL).writerow(["data", quote_plus(name), "7", "etag"])
        inventory = Inventory((), ("Bucket", "Key", "Size", "ETag"))
        found = list(inventory.read(written.getvalue().split("\n"), SOURCE, content_type="a/b"))
        assert found == [
            BatchInput(
                origin=f"{SOURCE} line {number}",
                input_location=f"s3://data/{name}",
                version="etag",
                content_type="a/b",
            )
            for number, name in enumerate(names, start=1)
        ]

    def test_what_cannot_be_sent_is_left_out(self):
        rows = [
            "data,folder/,,true,false,0,",
            "data,folder2/,,true,false,7,x",
            "data,empty,,true,false,0,x",
            "data,old,v,false,false,7,x",
            "data,deleted,v,true,true,,",
            "data,kept,v,true,false,7,x",
            "data,kept+too,v,true,false,,x",
        ]
        columns = Inventory.of(INVENTORY, SOURCE).columns
        assert locations(Inventory((), columns).read(rows, SOURCE)) == [
            "s3://data/kept",
            "s3://data/kept too",
        ]

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            (b"data", "has 1 cells where the inventory has 3 columns."),
            (b"data,a,x", "has the size 'x', which is no number."),
            (b"data,caf%C3%A9,7", "visible ASCII"),
            (b"data,\xff,7", "is no text in UTF-8"),
            (b"data,a,2000000000", "s3://data/a has more than 1,000,000,000 bytes"),
        ],
    )
    def test_a_bad_row_is_kept_apart_and_ends_nothing(self, row, why):
        found = list(Inventory((), ("Bucket", "Key", "Size")).read([b"data,a,7", row, b"data,b,7"], SOURCE))
        assert [type(each) for each in found] == [BatchInput, Unreadable, BatchInput]
        assert why in found[1].reason
        assert found[1].origin == f"{SOURCE} line 2"
