from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request

from airflow_async_sm.emulator.web.http_server import HttpServer
from airflow_async_sm.emulator.web.replies import ReplyWithheld
from tests.world import eventually


def test_server_that_was_never_started_lets_go_of_its_port():
    server = HttpServer("127.0.0.1", 0)
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def test_application_is_answered_and_no_thread_is_left():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    server = HttpServer("127.0.0.1", 0)
    server.start(application)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10) as answer:
            assert answer.read() == b"ok"
    finally:
        server.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("emulator-http")]


class Holding:
    """An application that answers when it is told to, whatever becomes of the connection."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, environ, start_response):
        self.entered.release()
        self.release.wait(30)
        start_response("200 OK", [("Content-Length", "0")])
        return []


def test_requests_that_do_not_end_share_one_short_time(monkeypatch, caplog):
    monkeypatch.setattr("airflow_async_sm.emulator.web.http_server._JOIN_SECONDS", 0.5)
    application = Holding()
    server = HttpServer("127.0.0.1", 0)
    server.start(application)
    with contextlib.ExitStack() as connections:
        for _ in range(8):
            caller = connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            caller.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert application.entered.acquire(timeout=10)
        try:
            before = time.monotonic()
            server.stop()
            assert 0.5 <= time.monotonic() - before < 4.0
            assert "8 open requests did not end within 0.5 seconds" in caplog.text
        finally:
            application.release.set()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "emulator-http-request"])


def test_thread_that_has_closed_its_connection_is_still_waited_for(monkeypatch):
    closed, release = threading.Event(), threading.Event()
    original = HttpServer.process_request_thread

    def process(server, request, client_address):
        original(server, request, client_address)
        closed.set()
        release.wait(30)

    monkeypatch.setattr(HttpServer, "process_request_thread", process)
    server = HttpServer("127.0.0.1", 0)
    server.start(lambda environ, start_response: start_response("204 No Content", []) and [])
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10):
        pass
    assert closed.wait(10)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(0.5)
    assert stopping.is_alive()
    release.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name == "emulator-http-request"]


def test_error_of_a_connection_is_logged(caplog):
    server = HttpServer("127.0.0.1", 0)
    try:
        raise ValueError("no HTTP at all")
    except ValueError:
        server.handle_error(None, None)
    finally:
        server.stop()
    assert "no HTTP at all" in caplog.text


def test_reply_that_is_withheld_closes_the_connection():
    def application(environ, start_response):
        environ["wsgi.input"].read(2)
        raise ReplyWithheld

    server = HttpServer("127.0.0.1", 0)
    server.start(application)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
            caller.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab")
            assert caller.recv(1_000) == b""
    finally:
        server.stop()
