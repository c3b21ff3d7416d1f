"""HTTP below the level of any client."""

from __future__ import annotations

import contextlib
import socket

import pytest

from airflow_async_sm.emulator.web.connections import ReplyWithheld
from airflow_async_sm.emulator.web.http_server import HttpServer
from tests.world import eventually


class Application:
    """Keeps what it was asked, and answers by the path."""

    def __init__(self):
        self.asked = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(environ)
        if path == "/lost":
            raise ReplyWithheld
        if path == "/bug":
            raise AssertionError("a bug")
        if path == "/late-bug":
            return self._broken(start_response)
        body = b"unread" if path == "/unread" else environ["wsgi.input"].read()
        headers = [("X-Length", str(len(body)))]
        if path == "/parts":
            start_response("200 OK", headers)
            return iter([b"one", b"", b"two" * 50_000])
        if path == "/nothing":
            start_response("204 No Content", headers)
            return []
        start_response("200 OK", [("Content-Length", str(len(body))), *headers])
        return [body]

    def _broken(self, start_response):
        start_response("200 OK", [])
        yield b"begun"
        raise AssertionError("a bug")


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def wire(application):
    """A connection to a server, with what comes over it as a file."""
    server = HttpServer("127.0.0.1", 0)
    server.start(application)
    with contextlib.ExitStack() as open_things:
        open_things.callback(server.stop)
        connection = open_things.enter_context(
            socket.create_connection(("127.0.0.1", server.port), timeout=10)
        )
        yield connection, open_things.enter_context(connection.makefile("rb"))


def answer(reader, *, head=False):
    """Return status, headers and body of one answer."""
    status = int(reader.readline().split()[1])
    headers = {}
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if head or status in (100, 204):
        return status, headers, b""
    if "transfer-encoding" in headers:
        body = b""
        while (size := int(reader.readline(), 16)) or not reader.readline():
            body += reader.read(size)
            reader.read(2)
        return status, headers, body
    if "content-length" in headers:
        return status, headers, reader.read(int(headers["content-length"]))
    return status, headers, reader.read()


def ask(wire, text, body=b"", **options):
    connection, reader = wire
    connection.sendall(text.replace("\n", "\r\n").encode() + b"\r\n" + body)
    return answer(reader, **options)


def test_one_connection_carries_many_requests(wire, application):
    for number in range(1, 6):
        body = b"x" * number
        assert ask(wire, f"POST /n HTTP/1.1\nHost: h\nContent-Length: {number}\n", body)[2] == body
    assert len(application.asked) == 5


def test_requests_may_be_sent_before_their_answers_are_read(wire):
    connection, reader = wire
    connection.sendall(
        b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nAPOST /b HTTP/1.1\r\nContent-Length: 1\r\n\r\nB"
    )
    assert [answer(reader)[2], answer(reader)[2]] == [b"A", b"B"]


def test_body_that_the_application_leaves_is_skipped(wire):
    assert ask(wire, "POST /unread HTTP/1.1\nContent-Length: 300000\n", b"x" * 300_000)[2] == b"unread"
    assert ask(wire, "POST /n HTTP/1.1\nContent-Length: 2\n", b"ok")[2] == b"ok"


def test_body_in_chunks(wire):
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert ask(wire, "PUT /n HTTP/1.1\nTransfer-Encoding: chunked\n", body)[2] == b"abcde"
    assert ask(wire, "PUT /unread HTTP/1.1\nTransfer-Encoding: chunked\n", body)[2] == b"unread"
    assert ask(wire, "POST /n HTTP/1.1\nContent-Length: 2\n", b"ok")[2] == b"ok"


def test_answer_without_length_is_in_chunks(wire):
    status, headers, body = ask(wire, "GET /parts HTTP/1.1\n")
    assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"one" + b"two" * 50_000)
    assert ask(wire, "GET /nothing HTTP/1.1\n")[0] == 204
    assert ask(wire, "POST /n HTTP/1.1\nContent-Length: 2\n", b"ok")[2] == b"ok"


def test_older_client_gets_an_answer_that_ends_with_the_connection(wire):
    status, headers, body = ask(wire, "GET /parts HTTP/1.0\n")
    assert (status, headers["connection"], len(body)) == (200, "close", 150_003)
    assert "transfer-encoding" not in headers


def test_client_that_wants_to_close_is_heard(wire):
    assert ask(wire, "GET /n HTTP/1.1\nConnection: close\n")[1]["connection"] == "close"
    assert wire[1].read() == b""


def test_head_has_no_body(wire):
    status, headers, _ = ask(wire, "HEAD /n HTTP/1.1\nContent-Length: 0\n", head=True)
    assert (status, headers["content-length"]) == (200, "0")
    assert ask(wire, "HEAD /parts HTTP/1.1\n", head=True)[0] == 200
    assert ask(wire, "POST /n HTTP/1.1\nContent-Length: 2\n", b"ok")[2] == b"ok"


def test_client_that_asks_first_is_told_to_go_on(wire):
    connection, reader = wire
    assert ask(wire, "PUT /n HTTP/1.1\nExpect: 100-continue\nContent-Length: 2\n")[0] == 100
    connection.sendall(b"ok")
    assert answer(reader)[2] == b"ok"


def test_every_answer_has_a_date(wire):
    assert ask(wire, "GET /n HTTP/1.1\n")[1]["date"].endswith("GMT")


def test_environment(wire, application):
    ask(
        wire,
        "GET /a%20b/%C3%B6?x=1&y=%20 HTTP/1.1\nHost: h:1\nX-Two: 1\nx-two: 2\nContent-Type: text/plain\n"
        "X_Posing: no\nx-amz-meta-with_line: yes\n",
    )
    environ = application.asked[0]
    assert environ["PATH_INFO"] == "/a b/ö".encode().decode("latin-1")
    assert (environ["QUERY_STRING"], environ["RAW_URI"]) == ("x=1&y=%20", "/a%20b/%C3%B6?x=1&y=%20")
    assert (environ["HTTP_HOST"], environ["HTTP_X_TWO"]) == ("h:1", "1,2")
    assert environ["CONTENT_TYPE"] == "text/plain"
    # A header with an underscore could pose as the one with a dash. moto knows those of S3's metadata.
    assert "HTTP_X_POSING" not in environ
    assert environ["moto.preserved_header_names"] == {"HTTP_X_AMZ_META_WITH_LINE": "x-amz-meta-with_line"}


def test_address_in_the_request_line_counts_as_the_host(wire, application):
    ask(wire, "GET http://bucket.localhost:4000/key?x=1 HTTP/1.1\nHost: other\n")
    environ = application.asked[0]
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == (
        "bucket.localhost:4000",
        "/key",
        "x=1",
    )


def test_withheld_reply_closes_the_connection(wire, application):
    connection, reader = wire
    connection.sendall(b"GET /lost HTTP/1.1\r\n\r\n")
    assert reader.read() == b""
    assert len(application.asked) == 1


def test_bug_costs_one_answer(wire, caplog):
    status, headers, _ = ask(wire, "GET /bug HTTP/1.1\n")
    assert (status, headers["connection"]) == (500, "close")
    assert wire[1].read() == b""
    assert "a bug" in caplog.text


def test_bug_in_the_middle_is_seen_as_one(wire, caplog):
    connection, reader = wire
    connection.sendall(b"GET /late-bug HTTP/1.1\r\n\r\n")
    text = reader.read()
    assert text.endswith(b"5\r\nbegun\r\n")
    assert b"500" not in text
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\n",
        "GET / HTTP/2\n",
        "GET / HTTP/1.1\nno colon\n",
        "GET / HTTP/1.1\nName : value\n",
        "GET / HTTP/1.1\n folded: value\n",
        "GET / HTTP/1.1\nContent-Length: -1\n",
        "GET / HTTP/1.1\n" + "A: b\n" * 300,
        "GET / HTTP/1.1\nA: " + "b" * 70_000 + "\n",
    ],
    ids=["words", "version", "colon", "space", "folded", "length", "headers", "long"],
)
def test_what_is_no_http_is_refused(wire, application, text):
    assert ask(wire, text)[0] == 400
    assert application.asked == []


def test_client_that_goes_away_within_a_request_leaves_no_trace(wire, application, caplog):
    connection, _ = wire
    connection.sendall(b"POST /n HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    eventually(lambda: application.asked)
    connection.shutdown(socket.SHUT_RDWR)
    assert caplog.text == ""
