"""Python functions as containers."""

from __future__ import annotations

import json
import threading

import pytest

from airflow_async_sm.emulator.models.callables import (
    CallableContainer,
    Called,
    ModelExited,
    Reply,
    load_model,
)


def container(model):
    return CallableContainer(name="c", model=model)


def reply(result):
    return container(lambda body, headers: result).call(b"", {})


@pytest.mark.parametrize(
    ("result", "content", "content_type"),
    [
        (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
        ("größer", "größer".encode(), "text/plain; charset=utf-8"),
        ((b"1,2", "text/csv"), b"1,2", "text/csv"),
        (('{"a": 1}', "application/json"), b'{"a": 1}', "application/json"),
        (b"", b"", "application/octet-stream"),
    ],
)
def test_result_becomes_an_answer(result, content, content_type):
    answered = reply(result)
    assert (answered.status, answered.content, answered.content_type) == (200, content, content_type)


def test_reply_says_everything_itself():
    said = Reply(status=422, body="no", content_type=None, headers={"X-A": "b"})
    assert reply(said) == said
    assert said.content == b"no"


def test_exception_is_a_server_error_with_its_text():
    def model(body, headers):
        raise KeyError("weights")

    answered = container(model).call(b"", {})
    assert (answered.status, answered.content_type) == (500, "application/json")
    assert json.loads(answered.content) == {"error": "KeyError: 'weights'"}


@pytest.mark.parametrize("result", [None, {"a": 1}, 5, (None, "a/b"), ("a", "b", "c")])
def test_result_of_another_kind_is_a_server_error(result):
    answered = reply(result)
    assert answered.status == 500
    assert "Error: " in json.loads(answered.content)["error"]


@pytest.mark.parametrize(
    ("code", "ended"), [(None, "exit code 0"), (17, "exit code 17"), ("no", "exit code 1")]
)
def test_function_that_exits_ends_its_container(code, ended):
    def model(body, headers):
        raise SystemExit(code)

    made = container(model)
    with pytest.raises(ModelExited):
        made.call(b"", {})
    assert (made.ended, made.crashed) == (ended, False)


def test_container_is_always_ready_and_cannot_be_stopped():
    made = container(lambda body, headers: b"ok")
    assert isinstance(made, Called)
    assert made.address is None
    made.start()
    made.wait_until_healthy(0, threading.Event())
    made.ask_to_stop()
    made.stop()
    made.kill()
    assert (made.ended, made.crashed, made.call(b"", {}).content) == (None, False, b"ok")
    assert made.log_tail() == "(a function in the emulator's process)"


def test_crash_is_noted():
    made = container(lambda body, headers: b"ok")
    made.crash()
    assert (made.ended, made.crashed) == ("signal SIGKILL, imitated", True)


def test_function_is_found_by_its_name():
    assert load_model("json:dumps") is json.dumps
    assert load_model("json:JSONEncoder.encode") is json.JSONEncoder.encode


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent_module:f", "No module named 'absent_module'"),
        ("json:absent", "has no attribute 'absent'"),
        ("json:__name__", "must be something that can be called"),
    ],
)
def test_name_of_nothing_is_refused(name, text):
    with pytest.raises(ValueError, match=text):
        load_model(name)
