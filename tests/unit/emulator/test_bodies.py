"""Reading what a request carries."""

from __future__ import annotations

import io

import pytest

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.web.bodies import (
    check_length,
    endpoint_name,
    members,
    read_body,
    replace_members,
)


def carrying(content):
    return {"CONTENT_LENGTH": str(len(content)), "wsgi.input": io.BytesIO(content)}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'{"EndpointName": "mine"}', "mine"),
        (b'{"Tags": [{"EndpointName": "nested"}], "EndpointName" : "mine"}', "mine"),
        (b'{"Tags": [{"EndpointName": "nested"}]}', None),
        (b'{"Note": "\\"EndpointName\\": \\"quoted\\""}', None),
        (b'{"EndpointName": 7}', None),
        (b"[]", None),
        (b'"EndpointName": "mine"', None),
    ],
)
def test_endpoint_is_that_of_the_outermost_member(content, name):
    environ = carrying(content)
    assert endpoint_name(environ) == name
    assert environ["wsgi.input"].read() == content


@pytest.mark.parametrize("content", [b"{", b"7", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_object_has_no_members(content):
    with pytest.raises(AwsError) as refusal:
        members(carrying(content))
    assert refusal.value.code == "SerializationException"


def test_replaced_members_are_read_by_everybody():
    environ = carrying(b'{"a": 1}')
    members(environ)
    replace_members(environ, {"b": "longer"})
    assert environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) == b'{"b": "longer"}'
    assert members(environ) == {"b": "longer"}
    assert read_body(environ) == b'{"b": "longer"}'


@pytest.mark.parametrize("length", ["", "0", "12"])
def test_length_passes(length):
    check_length({"CONTENT_LENGTH": length})
    check_length({})


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "²", "9" * 5000])
def test_length_that_is_none_is_refused(length):
    with pytest.raises(AwsError) as refusal:
        check_length({"CONTENT_LENGTH": length})
    assert refusal.value.status == 400
