"""A model that writes down each call, and fails, takes its time or waits to be released as its input says."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ["FOLDER"])
# Nobody waits longer for a release that does not come.
PATIENCE = 600.0


class Calls:
    """Which inputs the model has seen: a name a line, in the order of the calls."""

    lock = threading.Lock()
    path = FOLDER / "calls"

    @classmethod
    def count(cls, name):
        with cls.lock, cls.path.open("a+") as file:
            file.write(f"{name}\n")
            file.seek(0)
            return file.read().splitlines().count(name)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = Calls.count(asked["name"])
        if call <= asked.get("failures", 0):
            self.reply(500, {"error": f"call {call} fails"})
            return
        time.sleep(asked.get("seconds", 0))
        give_up_at = time.monotonic() + PATIENCE
        while asked.get("held") and not (FOLDER / "released" / asked["name"]).exists():
            if time.monotonic() > give_up_at:
                self.reply(500, {"error": "nobody released it"})
                return
            time.sleep(0.05)
        self.reply(200, {"name": asked["name"], "call": call})

    def reply(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
