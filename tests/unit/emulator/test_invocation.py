"""The call of a container: before real programs, and before servers that say exactly what a test wants."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import threading

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.models.callables import CallableContainer, Reply
from airflow_async_sm.emulator.models.containers import Address, ProcessContainer
from airflow_async_sm.emulator.models.servers import ServerContainer
from airflow_async_sm.emulator.work import invocation
from airflow_async_sm.emulator.work.invocation import End, Ended, Exchange, InvocationFailed
from airflow_async_sm.emulator.work.texts import (
    ANSWER_TOO_LARGE,
    HEADERS_TOO_LARGE,
    NO_CONTENT_LENGTH,
    download_failed,
    model_error,
    timed_out,
    upload_failed,
)
from tests.world import PROGRAM, eventually

LOST = "Connection reset by peer for the e endpoint. Please retry."
NOTICE = (
    "ClientError: Received server error (0) from model. See the SageMaker Endpoint logs in your account for "
    "more information."
)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    container = new_program(tmp_path_factory.mktemp("program"))
    yield container
    container.stop()


@pytest.fixture
def own_program(tmp_path):
    """Return a program that a test may end."""
    container = new_program(tmp_path)
    yield container
    container.stop()


def new_program(folder):
    container = ProcessContainer(
        name="c", command=PROGRAM, environment={}, log_path=folder / "log", behaviour=Behaviour()
    )
    container.start()
    container.wait_until_healthy(20, threading.Event())
    return container


@pytest.fixture
def says():
    """Return a function that serves one connection: it reads the request's head, and says some bytes."""
    with contextlib.ExitStack() as stack:

        def serve(answer, *, hear_out=True, then=lambda connection: None):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def run():
                connection, _ = listener.accept()
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += connection.recv(65536)
                    left = length_of(head) if hear_out else 0
                    while left > 0:
                        left -= len(connection.recv(65536))
                    connection.sendall(answer)
                    then(connection)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join, 20)
            port = listener.getsockname()[1]
            return ServerContainer(name="c", url=f"http://127.0.0.1:{port}", behaviour=Behaviour())

        yield serve


def length_of(head):
    lines = head.lower().split(b"\r\n\r\n")[0].split(b"\r\n")
    announced = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return announced - (len(head) - head.index(b"\r\n\r\n") - 4)


def post(container, mode="echo", body=b"payload", *, exchange=None, calling=lambda: None, **headers):
    """Return the status, the content type and the body of the answer."""
    headers["X-Amzn-SageMaker-Custom-Attributes"] = mode
    answer = (exchange or Exchange(5)).post(
        container, io.BytesIO(body), len(body), headers, endpoint="e", calling=calling
    )
    with contextlib.closing(answer):
        content = answer.body.read()
        assert len(content) == answer.length
        return answer.status, answer.content_type, content


def failure(container, mode="echo", **options):
    with pytest.raises(InvocationFailed) as failed:
        post(container, mode, **options)
    assert failed.value.answer is None
    return failed.value


def never():
    raise AssertionError("nobody was to be called")


class TestAnswer:
    @pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 5_000_001])
    def test_body_comes_back_byte_for_byte(self, program, size):
        body = os.urandom(size)
        got = post(program, body=body, **{"Content-Type": "x/y; v=1"})
        assert got == (200, "x/y; v=1", body)

    def test_container_gets_the_headers_and_no_others(self, program):
        _, _, body = post(program, "headers_back", b"1,2", Accept="text/x")
        headers = json.loads(body)
        assert headers.pop("Host") == f"127.0.0.1:{program.address.port}"
        assert headers == {
            "Accept": "text/x",
            "Accept-Encoding": "identity",
            "Content-Length": "3",
            "X-Amzn-SageMaker-Custom-Attributes": "headers_back",
        }

    @pytest.mark.parametrize(
        ("mode", "answer"),
        [
            ("refuse", (400, "application/json; v=1", b'{"message": "Unknown task", "status":  "error"}\n')),
            ("fail", (503, "application/octet-stream", b"\x00\xffbusy")),
            ("redirect", (302, "text/plain", b"elsewhere")),
        ],
    )
    def test_error_is_an_answer_too(self, program, mode, answer):
        assert post(program, mode) == answer

    def test_only_the_announced_part_of_the_payload_is_sent(self, program):
        body = io.BytesIO(b"0123456789")
        body.seek(2)
        answer = Exchange(5).post(program, body, 5, {}, endpoint="e", calling=lambda: None)
        with contextlib.closing(answer):
            assert answer.body.read() == b"23456"

    def test_payload_that_is_shorter_than_announced_is_a_bug(self, program):
        with pytest.raises(RuntimeError, match="ended 3 bytes early"):
            Exchange(5).post(program, io.BytesIO(b"12"), 5, {}, endpoint="e", calling=lambda: None)

    def test_answer_without_a_content_type_has_none(self, says):
        assert post(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) == (200, None, b"ok")

    def test_answer_of_the_old_protocol_counts(self, says):
        assert post(says(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")) == (200, None, b"ok")

    def test_answer_may_come_before_the_payload_has_been_heard_out(self, says):
        # As a server does whose own limit is smaller: it says so and hangs up.
        closed = threading.Event()
        answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large"
        body = bytes(50_000_000)

        def hang_up(connection):
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while connection.recv(1 << 20):
                    pass
            closed.set()

        assert post(says(answer, hear_out=False, then=hang_up), body=body) == (413, None, b"too large")
        assert closed.wait(20)

    def test_caller_hears_of_the_call_once_and_before_it(self, program):
        called = []
        post(program, calling=lambda: called.append(1))
        assert called == [1]


class TestRefusedForms:
    @pytest.mark.parametrize(
        ("mode", "reason"),
        [
            ("chunked", NO_CONTENT_LENGTH),
            ("large_headers", HEADERS_TOO_LARGE),
            ("larger_headers", HEADERS_TOO_LARGE),
            ("many_headers", HEADERS_TOO_LARGE),
            ("small_headers_above", HEADERS_TOO_LARGE),
        ],
    )
    def test_form_that_the_platform_refuses(self, program, mode, reason):
        refused = failure(program, mode)
        assert (refused.reason, refused.notice) == (reason, reason)

    def test_headers_just_below_the_limit_pass(self, program):
        assert post(program, "small_headers_below") == (200, "text/plain", b"ok")

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"Content-Length: many\r\n",
            b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        ],
    )
    def test_length_has_to_be_said(self, says, head):
        assert failure(says(OK + head + b"\r\n")).reason == NO_CONTENT_LENGTH

    def test_answer_above_a_gigabyte_is_not_read(self, says):
        assert failure(says(OK + b"Content-Length: 1073741825\r\n\r\n")).reason == ANSWER_TOO_LARGE


class TestLostConnection:
    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"no HTTP at all\r\n\r\n",
            OK + b"Content-Length: 5\r\n\r\nhalf",
            OK + b"Content-Length: 5\r\n\r\nlonger",
            OK + b"Content-Length: 0\r\n\r\nlonger",
        ],
        ids=range(5),
    )
    def test_answer_that_is_not_what_was_announced(self, says, answer):
        lost = failure(says(answer))
        assert (lost.reason, lost.notice) == (LOST, NOTICE)

    def test_second_answer_on_a_connection_that_stays_open_is_too_much(self, says):
        answered = threading.Event()
        server = says(OK + b"Content-Length: 2\r\n\r\nok" + OK, then=lambda connection: answered.wait(20))
        assert failure(server).reason == LOST
        answered.set()

    def test_connection_that_stays_open_is_not_waited_for(self, says):
        answered = threading.Event()
        server = says(OK + b"Content-Length: 2\r\n\r\nok", then=lambda connection: answered.wait(20))
        assert post(server) == (200, "a/b", b"ok")
        answered.set()

    def test_program_that_dies_on_the_way(self, own_program):
        assert failure(own_program, "crash").reason == LOST

    def test_container_that_is_not_there_is_never_called(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        nowhere = ServerContainer(name="c", url=f"http://127.0.0.1:{port}", behaviour=Behaviour())
        assert failure(nowhere, calling=never).reason == LOST

    def test_container_that_does_not_accept_is_no_response(self, monkeypatch):
        def connect(connection):
            raise TimeoutError

        monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
        server = ServerContainer(name="c", url="http://127.0.0.1:9", behaviour=Behaviour())
        refused = failure(server, calling=never)
        assert refused.reason.startswith("Amazon SageMaker could not get a response from the e endpoint.")
        assert refused.notice == refused.reason

    def test_container_that_has_not_started_is_never_called(self, tmp_path):
        container = ProcessContainer(
            name="c", command=PROGRAM, environment={}, log_path=tmp_path / "log", behaviour=Behaviour()
        )
        assert failure(container, calling=never).reason == LOST

    def test_container_that_crashed_is_not_called_again(self, program):
        url = f"http://127.0.0.1:{program.address.port}"
        server = ServerContainer(name="c", url=url, behaviour=Behaviour())
        assert post(server)[0] == 200
        server.crash()
        assert failure(server, calling=never).reason == LOST

    def test_crash_takes_the_call_that_is_under_way(self, program):
        url = f"http://127.0.0.1:{program.address.port}"
        server = ServerContainer(name="c", url=url, behaviour=Behaviour())
        assert failure(server, calling=server.crash).reason == LOST

    def test_program_that_crashes_when_it_has_the_request(self, own_program):
        assert failure(own_program, calling=own_program.crash).reason == LOST


class TestEnd:
    @pytest.mark.parametrize("why", list(End))
    @pytest.mark.parametrize("mode", ["hang", "dribble"])
    def test_call_ends_at_any_moment(self, program, mode, why):
        exchange, called = Exchange(5), threading.Event()
        raised = []

        def call():
            try:
                post(program, mode, exchange=exchange, calling=called.set)
            except Ended as ended:
                raised.append(ended.why)

        caller = threading.Thread(target=call)
        caller.start()
        assert called.wait(20)
        exchange.end(why)
        exchange.end(End.DROPPED)
        caller.join(20)
        assert raised == [why]

    def test_call_ends_while_nobody_takes_the_payload(self, says):
        exchange, heard, over = Exchange(5), threading.Event(), threading.Event()

        def deaf(connection):
            heard.set()
            over.wait(20)

        server = says(b"", hear_out=False, then=deaf)
        timer = threading.Thread(target=lambda: (heard.wait(20), exchange.end(End.LOST)))
        timer.start()
        with pytest.raises(Ended) as ended:
            post(server, body=bytes(50_000_000), exchange=exchange)
        over.set()
        timer.join(20)
        assert ended.value.why is End.LOST

    def test_ended_exchange_calls_nobody(self, program):
        exchange = Exchange(1)
        exchange.end(End.DROPPED)
        exchange.end(End.TIMED_OUT)
        with pytest.raises(Ended) as ended:
            post(program, exchange=exchange, calling=never)
        assert ended.value.why is End.DROPPED

    def test_answer_that_came_with_the_end_is_closed(self, monkeypatch):
        spools = []
        original = invocation.spool
        monkeypatch.setattr(invocation, "spool", lambda: spools.append(original()) or spools[-1])
        exchange = Exchange(1)

        def model(body, headers):
            exchange.end(End.TIMED_OUT)
            return b"too late"

        with pytest.raises(Ended):
            post(CallableContainer(name="c", model=model), exchange=exchange)
        assert [spool.closed for spool in spools] == [True]

    def test_broken_answer_leaves_no_file(self, says, monkeypatch):
        spools = []
        original = invocation.spool
        monkeypatch.setattr(invocation, "spool", lambda: spools.append(original()) or spools[-1])
        failure(says(OK + b"Content-Length: 3000000\r\n\r\n" + bytes(2_000_000)))
        assert [spool.closed for spool in spools] == [True]


class TestFunction:
    def call(self, model, body=b"payload", **options):
        return post(CallableContainer(name="c", model=model), body=body, **options)

    def test_function_gets_body_and_headers(self):
        def model(body, headers):
            return Reply(status=201, body=body + headers["Content-Type"].encode(), content_type="t/x")

        assert self.call(model, **{"Content-Type": "a/b"}) == (201, "t/x", b"payloada/b")

    def test_call_is_announced_before_it(self):
        order = []
        self.call(lambda body, headers: order.append("model") or b"", calling=lambda: order.append("calling"))
        assert order == ["calling", "model"]

    def test_headers_of_a_function_count_for_the_limit(self):
        def model(body, headers):
            return Reply(body=b"ok", headers={"X-Large": "x" * 4096})

        assert failure(CallableContainer(name="c", model=model)).reason == HEADERS_TOO_LARGE

    def test_function_that_exits_is_a_lost_connection_and_the_end(self):
        def model(body, headers):
            raise SystemExit(3)

        container = CallableContainer(name="c", model=model)
        lost = failure(container)
        assert (lost.reason, lost.notice, container.ended) == (LOST, NOTICE, "exit code 3")
        assert failure(container, calling=never).reason == LOST

    def test_crash_takes_the_call_that_is_under_way(self):
        container = CallableContainer(name="c", model=lambda body, headers: b"ok")
        assert failure(container, calling=container.crash).reason == LOST


class TestTexts:
    @pytest.mark.parametrize(
        ("status", "side"),
        [(0, "server"), (302, "client"), (400, "client"), (499, "client"), (500, "server")],
    )
    def test_error_of_the_model(self, status, side):
        assert model_error(status).startswith(
            f"ClientError: Received {side} error ({status}) from model. See "
        )

    @pytest.mark.parametrize(
        ("place", "named"),
        [
            ("s3://b/k/l", "bucket: b, key: k/l"),
            ("https://b.s3.eu-west-1.amazonaws.com/k/l", "bucket: b, key: k/l"),
            ("https://s3.amazonaws.com/b/k", "bucket: b, key: k"),
            ("https://elsewhere/k", "bucket: elsewhere, key: k"),
        ],
    )
    def test_failed_download_names_the_object(self, place, named):
        assert download_failed(place) == f"Failed to download object ({named})"

    def test_time_limit_and_upload_name_the_output(self):
        output = S3Uri("b", "k/l")
        assert timed_out(output) == "Timed out uploading object (bucket: b, key: k/l)"
        assert upload_failed(output) == "Failed to upload object (bucket: b, key: k/l)"


def test_program_that_has_answered_may_end(own_program):
    # The answer is whole; what happens to the program afterwards does not take it back.
    address = own_program.address
    assert isinstance(address, Address)
    assert post(own_program)[0] == 200
    own_program.stop()
    assert eventually(lambda: own_program.ended)
