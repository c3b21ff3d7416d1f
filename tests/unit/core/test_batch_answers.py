"""An answer of any kind and size becomes one line that says the same."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches import answers as batch_answers
from airflow_async_sm.core.batches.answers import JsonCheck, merged_line, unanswered_line

ROW = {"index": 3, "item_id": "00000003-0123456789", "origin": "s3://b/é.jsonl:4", "end": "Succeeded"}


def merged(answer):
    line = b"".join(merged_line(ROW, answer))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert list(told) == ["index", "item_id", "origin", "output"]
    assert {name: told[name] for name in ("index", "item_id", "origin")} == {
        name: ROW[name] for name in ("index", "item_id", "origin")
    }
    return told["output"]


AS_JSON = [
    (b"[1, 2]", [1, 2]),
    (b'{\n "a": "\\n",\r\n "b": [] }\n', {"a": "\n", "b": []}),
    (b"\xef\xbb\xbf 1", 1),
    (b"null", None),
    (b'"\\ud800"', "\ud800"),
    ('"\u2028"'.encode(), "\u2028"),
]
AS_TEXT = [b"", b"a,b\n1,2\n", b"NaN", b"[Infinity]", b"{} {}", "é\u2028\x00".encode(), b"[" * 100_000]
AS_BYTES = [b"\xff\xfe", b"\x93NUMPY\x01\x00", b"text and then \xc3"]


@pytest.fixture(params=[bytes, io.BytesIO], ids=["held", "in a file"])
def given_as(request):
    return request.param


class TestKinds:
    @pytest.mark.parametrize(("content", "value"), AS_JSON)
    def test_json_is_its_value(self, given_as, content, value):
        assert merged(given_as(content)) == value

    @pytest.mark.parametrize("content", AS_TEXT, ids=range(len(AS_TEXT)))
    def test_what_is_no_json_is_text(self, given_as, content):
        assert merged(given_as(content)) == content.decode()

    @pytest.mark.parametrize("content", AS_BYTES)
    def test_what_is_no_text_is_base64(self, given_as, content):
        assert merged(given_as(content)) == {"base64": base64.b64encode(content).decode()}

    def test_a_number_keeps_its_digits(self, given_as):
        line = b"".join(merged_line(ROW, given_as(b"[0.10000000000000000001, 1.0, 1e400]")))
        assert b'"output":[0.10000000000000000001, 1.0, 1e400]}' in line

    def test_blocks_that_cut_a_character_make_no_difference(self, monkeypatch):
        monkeypatch.setattr(batch_answers, "_BLOCK", 3)
        content = json.dumps({"é😀": ["\\u00e9", "x" * 20, -1.5e3, True]}, ensure_ascii=False).encode()
        assert merged(io.BytesIO(content)) == json.loads(content)
        assert merged(io.BytesIO(content[:-1])) == content[:-1].decode()
        assert merged(io.BytesIO(b"\xff" * 10)) == {"base64": base64.b64encode(b"\xff" * 10).decode()}

    def test_one_without_an_answer_says_why(self):
        assert json.loads(unanswered_line(ROW, "ModelBroke")) == {
            "index": 3,
            "item_id": ROW["item_id"],
            "origin": ROW["origin"],
            "output": None,
            "error": "ModelBroke",
        }


def is_json(text, size):
    check = JsonCheck()
    for at in range(0, len(text), size):
        check.feed(text[at : at + size])
    return check.is_whole()


def python_takes(text):
    def refused(constant):
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError):
        return False
    return True


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


class TestCheck:
    @given(values, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
    def test_what_is_json_is_taken_wherever_it_is_cut(self, value, ascii_only, indent, size):
        assert is_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent), size)

    @given(values, st.data(), st.integers(1, 9))
    def test_what_python_refuses_is_refused(self, value, data, size):
        text = json.dumps(value)
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(at, len(text)))
        text = text[:at] + data.draw(st.text('[]{},:"\\ue0-1.tn x\n', max_size=3)) + text[cut:]
        assert is_json(text, size) is python_takes(text)

    @given(st.text('[]{},:"\\ue0-1.t \n', max_size=8), st.integers(1, 3))
    def test_it_agrees_with_python_on_any_text(self, text, size):
        assert is_json(text, size) is python_takes(text)

    @pytest.mark.parametrize(
        "text",
        ["[" * 1_000 + "]" * 1_000, "1" * 5_000, "[1" + "0" * 5_000 + "]", '"\\', '"\\u12', "tru", "-"],
    )
    @pytest.mark.parametrize("size", [7, 10_000])
    def test_what_nobody_could_read_is_refused(self, text, size):
        assert not is_json(text, size)

    def test_a_number_of_any_form_may_end_the_text(self):
        assert all(is_json(text, 1) for text in ("0", "-1", "1.5", "1E+5", "true"))
