from __future__ import annotations

import socket
import threading
import urllib.request

from airflow_async_sm.emulator.http_server import HttpServer


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


def test_error_of_a_connection_is_logged(caplog):
    server = HttpServer("127.0.0.1", 0)
    try:
        raise ValueError("no HTTP at all")
    except ValueError:
        server.handle_error(None, None)
    finally:
        server.stop()
    assert "no HTTP at all" in caplog.text
