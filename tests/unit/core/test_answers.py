from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.answers import (
    ObjectFacts,
    Unfit,
    answer_of,
    as_json,
    copy_address,
    copy_target,
    read_as,
    shortened,
)
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput

JSON = "application/json"
OUTPUT = "s3://bucket/out/answer.out"


def handle(**changes):
    known = {"endpoint_name": "model", "inference_id": "id-1", "output_location": OUTPUT}
    return InvocationHandle(**(known | {"submitted_at": 100.25, "expires_at": 900.0} | changes))


def facts(**changes):
    known = {"size": 7, "content_type": JSON, "last_modified": 103.0, "etag": "e"}
    return ObjectFacts(**(known | changes))


class TestAnswer:
    def test_it_tells_what_is_known(self):
        assert answer_of(handle(), facts()) == {
            "endpoint_name": "model",
            "inference_id": "id-1",
            "output_location": OUTPUT,
            "content_type": JSON,
            "size": 7,
            "submitted_at": 100.25,
            "answered_at": 103.0,
            "seconds": 2.75,
        }

    def test_it_tells_of_a_copy_and_of_an_input_where_there_are(self):
        answer = answer_of(handle(input_location="s3://bucket/in"), facts(), "/tmp/copy")
        assert (answer["copied_to"], answer["input_location"]) == ("/tmp/copy", "s3://bucket/in")

    def test_whole_seconds_of_another_clock_make_no_time_negative(self):
        assert answer_of(handle(), facts(last_modified=100.0))["seconds"] == 0.0


class TestReading:
    @pytest.mark.parametrize(
        ("mode", "data", "content_type", "value"),
        [
            ("json", b'{"a": [1, null]}', JSON, {"a": [1, None]}),
            ("json", b'{"a": 1}', "binary/octet-stream", {"a": 1}),
            ("json", b"7", "", 7),
            ("json", b'\xef\xbb\xbf"bom"', JSON, "bom"),
            ("json", '"\u00e9"'.encode("utf-16"), JSON, "\u00e9"),
            ("json", '"\u00e9"'.encode("latin-1"), f"{JSON}; charset=ISO-8859-1", "\u00e9"),
            ("json", '"\u00e9"'.encode(), f"{JSON}; charset=latin-1", "\u00e9"),
            ("json", b'{"a": 1}\n\n{"a": 2}\r\n', "application/jsonlines", [{"a": 1}, {"a": 2}]),
            ("json", '"\u2028"\n1'.encode(), "application/x-ndjson; charset=utf-8", ["\u2028", 1]),
            ("json", b"1\n2", "application/jsonl", [1, 2]),
            ("json", b"", "application/x-jsonlines", []),
            ("text", "gr\u00fcn".encode(), "text/plain", "gr\u00fcn"),
            ("text", "gr\u00fcn".encode("latin-1"), 'text/plain; charset="ISO-8859-1"', "gr\u00fcn"),
            ("text", b"\xef\xbb\xbfbom", "text/plain; charset=UTF-8", "bom"),
            ("text", b"", "", ""),
            ("bytes", b"\x00\xff", "text/plain; charset=utf-8", "AP8="),
            ("bytes", b"", "", ""),
        ],
    )
    def test_an_answer_becomes_what_is_wanted(self, mode, data, content_type, value):
        assert read_as(mode, data, content_type) == value

    @pytest.mark.parametrize(
        ("mode", "data", "content_type", "text"),
        [
            ("json", b"", JSON, "it is empty, and so no JSON."),
            ("json", b" \n", JSON, "it is empty, and so no JSON."),
            ("json", b"<html>", JSON, "it is no JSON: Expecting value: line 1 column 1 (char 0)."),
            ("json", b'{"a": 1}\nno', "application/jsonlines", "line 2 is no JSON: Expecting value:"),
            ("json", b"[" * 100_000, JSON, "it is no JSON: maximum recursion depth"),
            ("json", b"1" * 5_000, JSON, "it is no JSON: Exceeds the limit"),
            ("json", b'"\xff"', JSON, "it is no text in utf-8 (invalid start byte). result='bytes'"),
            (
                "json",
                b'"\xff"',
                f"{JSON}; charset=ascii",
                "it is no text in ascii (ordinal not in range(128)).",
            ),
            ("text", b"a\xff", "text/plain", "it is no text in utf-8 (invalid start byte)."),
            ("text", b"a", "text/plain; charset=klingon", "unknown charset, 'klingon'. result='bytes'"),
            ("text", b"a", "text/plain; charset=base64", "unknown charset, 'base64'"),
            ("text", b"a", "text/plain; charset=undefined", "it is no text in undefined (UnicodeError)"),
        ],
    )
    def test_what_it_cannot_become_is_said_without_quoting_it(self, mode, data, content_type, text):
        with pytest.raises(Unfit) as unfit:
            read_as(mode, data, content_type)
        assert text in str(unfit.value)
        assert unfit.value.__suppress_context__ or unfit.value.__context__ is None

    @given(st.binary(max_size=40), st.text(max_size=30))
    def test_any_answer_of_any_type_is_read_or_unfit(self, data, content_type):
        for mode in ("json", "text", "bytes"):
            with suppress(Unfit):
                read_as(mode, data, content_type)


class TestJson:
    @pytest.mark.parametrize(
        ("value", "held", "size"),
        [
            (None, None, 4),
            ({"a": (1, 2.5, True)}, {"a": [1, 2.5, True]}, 18),
            ({1: "\u00e9"}, {"1": "\u00e9"}, 10),
        ],
    )
    def test_a_value_is_held_as_json_holds_it(self, value, held, size):
        assert as_json(value) == (held, size)

    def test_what_contains_itself_is_unfit(self):
        value = []
        value.append(value)
        with pytest.raises(Unfit, match="Circular reference"):
            as_json(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (math.nan, "Out of range float"),
            ([math.inf], "Out of range float"),
            (json.loads("1e999"), "Out of range float"),
            ({"a": b"secret"}, "JSON cannot hold it: Object of type bytes is not JSON serializable."),
            ({("a",): 1}, "keys must be str"),
            ("\ud800", "it holds half a surrogate pair, which is no character."),
        ],
    )
    def test_what_json_cannot_hold_is_unfit(self, value, text):
        with pytest.raises(Unfit) as unfit:
            as_json(value)
        assert text in str(unfit.value)
        assert "secret" not in str(unfit.value)


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (200, 200), (201, 200), (9_999, 200)])
def test_a_text_is_shortened_to_200_characters(length, shown):
    assert len(shortened("x" * length)) == shown
    assert shortened("x" * length).endswith("…") is (length > shown)


class TestCopies:
    @pytest.mark.parametrize(
        ("given", "address"),
        [
            ("s3://bucket/key", "s3://bucket/key"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket/"),
            ("s3a://bucket/folder/", "s3://bucket/folder/"),
            ("S3://aws_default@bucket/key", "s3://bucket/key"),
            ("gs://conn@bucket/key", "gs://conn@bucket/key"),
            ("gs://bucket", "gs://bucket"),
            ("memory://", "memory://"),
            ("hdfs:///user/me/", "hdfs:///user/me/"),
            ("/tmp/a.json", "/tmp/a.json"),
            ("file:///tmp/a/", "/tmp/a/"),
            ("local:///tmp/a", "/tmp/a"),
            (Path("/tmp/a"), "/tmp/a"),
            (PurePosixPath("/tmp/a"), "/tmp/a"),
        ],
    )
    def test_every_spelling_of_a_target_is_read(self, given, address):
        assert copy_address(given) == address
        assert copy_address(address) == address

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ("", "copy_to is empty; leave it out"),
            ("  ", "copy_to is empty; leave it out"),
            (7, "copy_to is 7; a text or a path is needed."),
            (b"/tmp/a", "copy_to is b'/tmp/a'; a text or a path is needed."),
            (
                "bucket/key",
                "copy_to is 'bucket/key'; expected an absolute local path, or a URL such as s3://",
            ),
            (Path("out"), "copy_to is 'out'; expected an absolute local path"),
            ("s3:/bucket/key", "expected an absolute local path, or a URL such as s3://bucket/key."),
            ("file://tmp/a", "copy_to is 'file://tmp/a'; expected an absolute local path"),
            ("s3://", "copy_to is 's3:///'; expected s3://bucket/key."),
            ("s3:///key", "copy_to is 's3:///key'; expected s3://bucket/key."),
            ("s3://white space/key", "'white space' is no bucket name"),
            ("gs:///key", "copy_to is 'gs:///key'; it names no bucket, expected gs://bucket/path."),
            ("gs://conn@/key", "it names no bucket"),
            ("abfs://", "it names no bucket, expected abfs://bucket/path."),
            (
                "https://bucket.s3.amazonaws.com/key",
                "nothing can be written there. S3 is written s3://bucket",
            ),
        ],
    )
    def test_a_target_that_cannot_be_is_refused(self, given, text):
        with pytest.raises(InvalidInput) as refused:
            copy_address(given)
        assert text in str(refused.value)

    @pytest.mark.parametrize(
        ("address", "target"),
        [
            ("s3://b/key", "s3://b/key"),
            ("s3://b/folder/", "s3://b/folder/answer.out"),
            ("s3://b/", "s3://b/answer.out"),
            ("s3://b", "s3://b/answer.out"),
            ("gs://conn@b", "gs://conn@b/answer.out"),
            ("/tmp/a", "/tmp/a"),
            ("/tmp/a/", "/tmp/a/answer.out"),
        ],
    )
    def test_a_folder_or_bucket_gets_the_name_of_the_object(self, address, target):
        assert copy_target(address, OUTPUT) == target

    @pytest.mark.parametrize("name", [".", ".."])
    def test_a_name_that_leads_elsewhere_is_refused(self, name):
        with pytest.raises(InvalidInput, match="cannot be copied into a folder under its own name"):
            copy_target("/tmp/a/", f"s3://bucket/out/{name}")
