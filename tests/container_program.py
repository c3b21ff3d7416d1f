"""A model container that does what the request's custom attributes, or its environment, tell it to."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Seen:
    """How many invocations there were, how many run at this moment, and how many ran at most."""

    lock = threading.Lock()
    invocations = 0
    bodies = set()
    now = 0
    most = 0
    # Nobody leaves before so many are here.
    together = threading.Barrier(int(os.environ.get("TOGETHER", "1")), timeout=20)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        self.reply(500 if os.environ.get("MODE") == "sick" else 200, b"")

    def do_POST(self):
        with Seen.lock:
            Seen.invocations += 1
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mode = self.headers.get("X-Amzn-SageMaker-Custom-Attributes", "echo")
        # A task that says nothing else says who it is.
        getattr(self, "echo" if mode.startswith("dag_id=") else mode)()

    def echo(self):
        self.reply(200, self.body, self.headers.get("Content-Type") or "application/octet-stream")

    def headers_back(self):
        self.reply(200, json.dumps(dict(self.headers.items())).encode(), "application/json")

    def environment_back(self):
        about = {**os.environ, "argv": sys.argv, "pid": os.getpid()}
        self.reply(200, json.dumps(about).encode(), "application/json")

    def count_back(self):
        self.reply(200, str(Seen.invocations).encode())

    def slow(self):
        time.sleep(1)
        self.echo()

    def slower(self):
        time.sleep(4)
        self.echo()

    def refuse(self):
        self.reply(400, b'{"message": "Unknown task", "status":  "error"}\n', "application/json; v=1")

    def fail(self):
        self.reply(503, b"\x00\xffbusy", "application/octet-stream")

    def obey(self):
        said = json.loads(self.body)
        getattr(self, said["do"] if isinstance(said, dict) else "echo")()

    def reject(self):
        self.reply(400, b'{"code": 400, "message": "bad input"}', "application/json")

    def fail_once(self):
        with Seen.lock:
            is_new = self.body not in Seen.bodies
            Seen.bodies.add(self.body)
        self.fail() if is_new else self.echo()

    def redirect(self):
        self.reply(302, b"elsewhere", "text/plain")

    def hang(self):
        time.sleep(3600)

    def dribble(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while True:
            self.wfile.write(b".")
            self.wfile.flush()
            time.sleep(0.05)

    def chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"2\r\nok\r\n0\r\n\r\n")

    def large_headers(self):
        self.reply(200, b"ok", "text/plain", {"X-Large": "x" * 4096})

    def larger_headers(self):
        self.reply(200, b"ok", "text/plain", {"X-Large": "x" * 70_000})

    def many_headers(self):
        self.reply(200, b"ok", "text/plain", {f"X-{number}": "x" for number in range(200)})

    def small_headers_below(self):
        self.reply(200, b"ok", "text/plain", {f"X-{number:02}": "x" * 40 for number in range(80)})

    def small_headers_above(self):
        self.reply(200, b"ok", "text/plain", {f"X-{number:02}": "x" * 50 for number in range(80)})

    def crash(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self.wfile.flush()
        os._exit(17)

    def parallel(self):
        with Seen.lock:
            Seen.now += 1
            Seen.most = max(Seen.most, Seen.now)
        Seen.together.wait()
        with Seen.lock:
            Seen.now -= 1
            most = Seen.most
        self.reply(200, str(most).encode(), "text/plain")

    def reply(self, status, body, content_type="text/plain", more=None):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    if "PID_FILE" in os.environ:
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    if os.environ.get("MODE") == "exit":
        print("this model is broken")
        sys.exit(3)
    if os.environ.get("MODE") == "stubborn":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
