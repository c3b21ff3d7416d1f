"""The front door on a server of its own, with nothing behind it but moto and one who agrees to everything."""

from __future__ import annotations

import contextlib
import uuid

from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.errors import AwsError, control_refusal
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.web import http_server
from airflow_async_sm.emulator.web.control import Control
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.web.gate import Gate
from airflow_async_sm.emulator.web.insight import Insight
from airflow_async_sm.emulator.web.page import Page
from airflow_async_sm.emulator.web.pauses import Pauses
from airflow_async_sm.emulator.web.refusals import Refusals
from airflow_async_sm.emulator.web.responses import FrontDoor
from airflow_async_sm.emulator.web.services import Services
from airflow_async_sm.emulator.work.request_log import RequestLog
from airflow_async_sm.emulator.work.submissions import Submission


class Agreeing:
    """A control plane and a runtime. It keeps what it was asked, and refuses what begins with ``absent``."""

    def __init__(self, counters):
        self.asked = []
        self.endpoints = []
        self.counters = counters
        self.tags = self

    def _note(self, call, region, request):
        self.asked.append((call, region, dict(request)))
        if str(request.get("EndpointName", "")).startswith("absent"):
            raise control_refusal("Could not find it.")
        return {}

    def __getattr__(self, name):
        return lambda region, request: self._note(name, region, request)

    def overview(self):
        return self.endpoints

    def invoke_async(self, region, name, headers, body):
        self.asked.append(("invoke_async", region, {"EndpointName": name, "headers": headers, "body": body}))
        submission = Submission.parse(headers, body, unknowns=Unknowns(), new_id=lambda: str(uuid.uuid4()))
        self.counters.submitted(submission)
        return submission.inference_id, "s3://bucket/out", "s3://bucket/failure"

    def invoke(self, region, name, operation):
        return AwsError("ValidationError", "use InvokeEndpointAsync")


class Unscaled:
    """Leaves Application Auto Scaling to moto."""

    def answer(self, region, call, request):
        pass

    def check(self, region, call, request):
        pass

    def accepted(self, region, call, request):
        pass


class Door:
    """A front door that serves, the parts of it that a test touches, and clients."""

    def __init__(self, *, clock=None, board=None):
        self.clock = clock or Clock()
        self.board = board or FaultBoard()
        self.knobs = Knobs()
        self.counters = Counters()
        self.requests = RequestLog()
        self.behind = Agreeing(self.counters)
        self.resets = 0

    def __enter__(self):
        with contextlib.ExitStack() as running:
            http_server.reset_moto()
            running.callback(http_server.reset_moto)
            server = http_server.HttpServer("127.0.0.1", 0)
            running.callback(server.stop)
            self.url = f"http://127.0.0.1:{server.port}"
            self.clients, self.own_clients = LocalClients(self.url), LocalClients(self.url, internal=True)
            running.callback(self.clients.close)
            running.callback(self.own_clients.close)
            self.clock.start()
            running.callback(self.clock.stop)
            self.application = self._application()
            running.callback(self.application.close)
            server.start(self.application)
            self._running = running.pop_all()
        return self

    def _application(self):
        insight = Insight(
            requests=self.requests,
            endpoints=self.behind,
            counters=self.counters,
            board=self.board,
            knobs=self.knobs,
            clock=self.clock,
        )
        return FrontDoor(
            gate=Gate(host="127.0.0.1", url=self.url),
            control=Control(insight, reset=self._reset),
            page=Page(insight, url=self.url),
            services=Services(
                control=self.behind,
                runtime=self.behind,
                moto=http_server.moto_application(),
                scaling=Unscaled(),
            ),
            refusals=Refusals(
                board=self.board,
                knobs=self.knobs,
                account_id=http_server.ACCOUNT_ID,
                bucket_region=http_server.bucket_region,
            ),
            pauses=Pauses(self.clock),
            counters=self.counters,
            account_id=http_server.ACCOUNT_ID,
        )

    def __exit__(self, *_):
        self._running.close()

    def client(self, service, region_name="us-east-1"):
        return self.clients.get(service, region_name)

    def _reset(self):
        self.resets += 1
