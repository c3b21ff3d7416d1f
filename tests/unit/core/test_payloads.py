from __future__ import annotations

import json
from collections.abc import Sequence
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.limits import BODY_BYTES, InvalidInput
from airflow_async_sm.core.payloads import Concealed, encode_payload

json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
).filter(lambda value: not isinstance(value, str))


@given(value=json_values)
def test_a_json_value_is_sent_as_that_json_value(value):
    body, content_type = encode_payload(value)
    assert json.loads(body) == value
    assert content_type == "application/json"


@pytest.mark.parametrize("payload", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_are_sent_as_they_are(payload):
    assert encode_payload(payload) == (b"\x00\xff", "application/octet-stream")


def test_text_is_sent_as_utf_8():
    assert encode_payload("später") == ("später".encode(), "text/plain; charset=utf-8")


@pytest.mark.parametrize("payload", [object(), float("nan"), {1: {2, 3}}])
def test_what_json_cannot_hold_is_refused(payload):
    with pytest.raises(
        InvalidInput, match=f"payload of type {type(payload).__name__} cannot be written as JSON"
    ):
        encode_payload(payload)


def test_a_value_that_contains_itself_is_refused():
    payload: list[object] = []
    payload.append(payload)
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        encode_payload(payload)


def test_the_largest_inline_payload_fits_and_one_byte_more_does_not():
    assert len(encode_payload(b"x" * BODY_BYTES.maximum)[0]) == 128_000
    with pytest.raises(
        InvalidInput, match=r"128,001 bytes; SageMaker accepts at most 128,000 inline.*input_location"
    ):
        encode_payload(b"x" * (BODY_BYTES.maximum + 1))


@pytest.mark.parametrize(
    ("payload", "description"),
    [
        ("secret", "<str, 6 characters>"),
        (b"secret", "<bytes, 6 bytes>"),
        ({"secret": 1}, "<dict, 1 items>"),
        (4711, "<int>"),
    ],
)
def test_a_concealed_payload_shows_kind_and_size_only(payload, description):
    concealed = Concealed(payload)
    assert str(concealed) == repr(concealed) == description
    assert concealed.value == payload


class LazyOutputs(Sequence):
    """Stands for the outputs of a mapped task, which Airflow fetches one by one."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return [10, 20][index]


def test_the_outputs_of_a_mapped_task_are_sent_as_a_list():
    assert encode_payload(LazyOutputs())[0] == b"[10,20]"
    assert encode_payload({"rows": LazyOutputs(), "more": MappingProxyType({"a": 1})})[0] == (
        b'{"rows":[10,20],"more":{"a":1}}'
    )


@pytest.mark.parametrize("payload", ["\ud800", ["\ud800"]])
def test_text_that_utf_8_cannot_hold_is_refused(payload):
    with pytest.raises(InvalidInput, match="UTF-8 cannot hold"):
        encode_payload(payload)
