from __future__ import annotations

import csv
import decimal
import io
import json
import sys
from array import array
from collections.abc import Sequence
from functools import partial
from types import MappingProxyType

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.serializers import serialize

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
not_text = json_values.filter(lambda value: not isinstance(value, str))
# UTF-8 has no lone surrogates, and csv no NUL before Python 3.12.
cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


class LazyOutputs(Sequence):
    """Stands for the outputs of a mapped task, which Airflow fetches one by one."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class TestJson:
    @pytest.mark.parametrize(
        "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.mine+json"]
    )
    @given(value=not_text)
    def test_a_value_is_sent_as_that_value(self, content_type, value):
        body, described = serialize(value, content_type)
        assert json.loads(body) == value
        assert described == content_type

    @given(value=not_text)
    def test_without_a_content_type_a_value_is_json(self, value):
        assert serialize(value) == serialize(value, "application/json")

    @given(value=json_values)
    def test_text_that_is_json_already_is_sent_as_it_is(self, value):
        text = json.dumps(value, indent=1)
        assert serialize(text, "application/json")[0] == text.encode()

    def test_what_stands_for_lists_mappings_and_numbers_is_written_as_these(self):
        value = {
            "mapped": LazyOutputs(1, MappingProxyType({"a": 2})),
            "array": numpy.array([[1.5, 2], [3, 4]]),
            "number": numpy.float32(0.5),
            "truth": numpy.bool_(True),
            "numbers": array("h", [1, 2]),
        }
        assert json.loads(serialize(value)[0]) == {
            "mapped": [1, {"a": 2}],
            "array": [[1.5, 2.0], [3.0, 4.0]],
            "number": 0.5,
            "truth": True,
            "numbers": [1, 2],
        }


class TestJsonLines:
    @pytest.mark.parametrize(
        "content_type", ["application/jsonlines", "application/x-ndjson; v=1", "application/jsonl"]
    )
    @given(values=st.lists(json_values, max_size=4))
    def test_each_value_is_a_line(self, content_type, values):
        body = serialize(values, content_type)[0]
        lines = body.decode().split("\n")
        assert [json.loads(line) for line in lines[:-1]] == values
        assert lines[-1] == ""

    def test_the_outputs_of_a_mapped_task_are_lines(self):
        assert serialize(LazyOutputs({"a": 1}, [2]), "application/jsonl")[0] == b'{"a":1}\n[2]\n'

    def test_text_that_was_written_already_is_sent_as_it_is(self):
        for text in ('{"a": 1}\r\n\n2', '"a\u2028b"\n'):
            assert serialize(text, "application/jsonl")[0] == text.encode()


class TestCsv:
    @given(rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=4))
    def test_rows_are_read_as_they_were(self, rows):
        body, content_type = serialize(rows, "text/csv")
        assert content_type == "text/csv"
        assert list(csv.reader(io.StringIO(body.decode(), newline=""))) == rows

    @given(rows=st.lists(st.fixed_dictionaries({"a": cells, "b c": cells}), min_size=1, max_size=4))
    def test_mappings_are_read_as_they_were(self, rows):
        body = serialize(rows, "text/csv; header=present")[0]
        assert list(csv.DictReader(io.StringIO(body.decode(), newline=""))) == rows

    def test_a_row_is_a_line_and_none_an_empty_cell(self):
        rows = ([1, 2.5, None], ("a,b", True, decimal.Decimal("0.10")))
        assert serialize(rows, "text/csv")[0] == b'1,2.5,\n"a,b",True,0.10\n'

    def test_line_breaks_and_spaces_of_a_cell_are_kept(self):
        assert serialize([["a\rb", "c\n"], ["", "d "]], "text/csv")[0] == b'"a\rb","c\n"\n,d \n'

    def test_the_columns_are_those_of_the_first_row(self):
        rows = LazyOutputs({"a": 1, "b": 2}, MappingProxyType({"b": 4, "a": 3}))
        assert serialize(rows, "text/csv")[0] == b"a,b\n1,2\n3,4\n"

    def test_an_array_is_rows(self):
        assert serialize(numpy.array([[1, 2], [3, 4]]), "text/csv")[0] == b"1,2\n3,4\n"

    def test_text_is_sent_as_it_is(self):
        assert serialize("1;2\r\n", "text/csv")[0] == b"1;2\r\n"


class TestNpy:
    @given(
        rows=st.lists(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2), min_size=1, max_size=5)
    )
    def test_numbers_are_read_as_they_were(self, rows):
        for value in (rows, numpy.array(rows), LazyOutputs(*rows)):
            body = serialize(value, "application/x-npy")[0]
            assert numpy.load(io.BytesIO(body), allow_pickle=False).tolist() == rows

    def test_an_array_is_npy_without_being_told(self):
        body, content_type = serialize(numpy.zeros((2, 3), dtype="float32"))
        loaded = numpy.load(io.BytesIO(body), allow_pickle=False)
        assert (content_type, loaded.shape, loaded.dtype) == ("application/x-npy", (2, 3), numpy.float32)

    def test_without_numpy_the_error_says_so(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(InvalidInput, match="needs NumPy, which cannot be loaded here.*Install numpy"):
            serialize([1], "application/x-npy")
        assert serialize([1])[1] == "application/json"


class TestTextAndBytes:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize(
        "content_type", [None, "application/json", "text/csv", "application/x-npy", "a/b"]
    )
    def test_bytes_are_sent_as_they_are(self, kind, content_type):
        assert serialize(kind(b"\x00\xff"), content_type) == (
            b"\x00\xff",
            content_type or "application/octet-stream",
        )

    def test_text_is_text_without_being_told(self):
        for content_type in (None, ""):
            assert serialize("später", content_type) == ("später".encode(), "text/plain; charset=utf-8")

    @pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "mine"])
    def test_text_is_sent_as_any_type(self, content_type):
        assert serialize("später", content_type)[0] == "später".encode()

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("text/plain; charset=latin-1", b"sp\xe4ter"),
            ('text/plain;Charset="UTF-16-LE"', "später".encode("utf-16-le")),
            ("text/plain; format=flowed; charset=utf-8", "später".encode()),
        ],
    )
    def test_text_is_encoded_as_the_content_type_says(self, content_type, body):
        assert serialize("später", content_type) == (body, content_type)


class TestSerializer:
    @pytest.mark.parametrize(
        ("made", "content_type", "expected"),
        [
            (b"\xff", None, (b"\xff", "application/octet-stream")),
            (bytearray(b"\xff"), "a/b", (b"\xff", "a/b")),
            ("ä", None, ("ä".encode(), "text/plain; charset=utf-8")),
            ("ä", "application/json; charset=latin-1", (b"\xe4", "application/json; charset=latin-1")),
        ],
    )
    def test_what_it_makes_is_sent_as_it_is(self, made, content_type, expected):
        assert serialize({"any": "value"}, content_type, lambda value: made) == expected

    @pytest.mark.parametrize("value", [b"bytes", "text", {"a": 1}, None])
    def test_it_is_given_the_value_whatever_that_is(self, value):
        assert serialize(value, None, repr)[0] == repr(value).encode()


def itself():
    value = []
    value.append(value)
    return value


def deep():
    value = []
    for _ in range(200_000):
        value = [value]
    return value


def failing(value):
    raise KeyError("customer")


@pytest.mark.parametrize(
    ("value", "content_type", "sentence"),
    [
        (
            object(),
            None,
            "payload of type object cannot be written as JSON .*Give JSON values, text or bytes",
        ),
        ({1, 2}, "application/json", "payload of type set cannot be written as JSON"),
        (float("nan"), None, "payload of type float cannot be written as JSON .*not JSON compliant"),
        ([numpy.nan], None, "payload of type list cannot be written as JSON .*not JSON compliant"),
        ({"image": b"x"}, None, "JSON has no bytes: put them in as base64 text"),
        (itself(), None, "payload of type list cannot be written as JSON .*Circular"),
        (deep(), None, "payload of type list cannot be written as JSON .*recursion"),
        ("no json", "application/json", "payload is text that is no JSON .*char 0.*json.dumps"),
        ("NaN", "application/json", "payload is text that is no JSON .NaN is no JSON value"),
        ("[" * 200_000, "application/json", "payload is text that is no JSON .*recursion"),
        (
            {"a": 1},
            "application/jsonl",
            "payload of type dict cannot be written as JSON Lines. Give a list of",
        ),
        (7, "application/jsonl", "payload of type int cannot be written as JSON Lines. Give a list of"),
        ([1, {2}], "application/jsonl", "payload of type set cannot be written as line 2 "),
        ("1\n\noops\n", "application/jsonl", "line 3 of the payload is text that is no JSON"),
        ({"a": 1}, "text/csv", "payload of type dict cannot be written as CSV. Give a list of rows"),
        (numpy.float64(1), "text/csv", "payload of type float64 cannot be written as CSV"),
        ([1, 2], "text/csv", "payload of type int cannot be written as row 1 of a CSV. Give a list of cells"),
        ([[1], "ab"], "text/csv", "payload of type str cannot be written as row 2 of a CSV"),
        ([[1], {"a": 1}], "text/csv", "payload of type dict cannot be written as row 2 of a CSV"),
        ([{"a": 1}, [1]], "text/csv", "Row 2 of the payload is list, the first is a mapping"),
        ([{"a": 1}, {"b": 1}], "text/csv", "Row 2 of the payload has other columns than the first: 'a', 'b'"),
        (
            [[1, [2]]],
            "text/csv",
            "Row 1 of the payload has a list in it; a cell of a CSV is text, a number or",
        ),
        ([[b"x"]], "text/csv", "Row 1 of the payload has a bytes in it"),
        ([[{}]], "text/csv", "Row 1 of the payload has a dict in it"),
        ([[{1}]], "text/csv", "Row 1 of the payload has a set in it"),
        ("1 2", "application/x-npy", "payload of type str cannot be written as .npy. Give a NumPy array"),
        ({"a": 1}, "application/x-npy", "payload of type dict cannot be written as .npy"),
        ([[1, 2], [3]], "application/x-npy", "payload of type list is no NumPy array .*rows of one length"),
        ([1, None], "application/x-npy", "payload of type list has Python objects in it.*Give numbers"),
        (numpy.array([{}]), None, "payload of type ndarray has Python objects in it.*Give numbers"),
        (
            {"a": 1},
            "image/png",
            "payload of type dict cannot be written as image/png. Give text or bytes, or a",
        ),
        ([1], "text/plain; charset=utf-8", "payload of type list cannot be written as text/plain"),
        (1.5, "application/octet-stream", "payload of type float cannot be written as application/octet"),
        ("\ud800", None, "text that UTF-8 cannot hold at character 1 .surrogates not allowed.. Give bytes"),
        ({"a": "\ud800"}, None, "text that UTF-8 cannot hold at character 7"),
        ("a€", "text/plain; charset=latin-1", "text that latin-1 cannot hold at character 2 .*charset=utf-8"),
        (
            "a",
            "text/plain; charset=klingon",
            "charset 'klingon', which Python does not know. Use charset=utf",
        ),
        ("a", "text/plain; charset=base64", "charset 'base64', which Python does not know"),
        ("a", "text/plain; charset=undefined", "charset 'undefined', which Python does not know"),
        ("a", "text/\nplain", "content_type is 'text/.nplain'; SageMaker accepts visible ASCII text"),
        (b"a", "x" * 1025, "content_type has 1,025 characters; SageMaker accepts at most 1,024"),
        (b"a", 5, "content_type must be text, not int"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(value, content_type, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        serialize(value, content_type)


@pytest.mark.parametrize(
    ("serializer", "sentence"),
    [
        ("json", "serializer is 'json'; give a function that returns bytes or text"),
        (failing, "serializer failing failed on a payload of type list: KeyError: 'customer'."),
        (partial(failing), "serializer partial failed on a payload of type list: KeyError"),
        (lambda value: value, "serializer .*<lambda> returned list; it has to return bytes or text"),
        (lambda value: None, "returned NoneType; it has to return bytes or text"),
        (lambda value: "\ud800", "text that UTF-8 cannot hold"),
    ],
)
def test_a_serializer_that_does_not_do_its_work_is_named(serializer, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        serialize([1], None, serializer)
