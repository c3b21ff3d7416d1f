"""A running emulator's parts, put together and taken apart in the right order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_async_sm.emulator.account.backend import Backend
from airflow_async_sm.emulator.account.fleets import Site
from airflow_async_sm.emulator.account.plans import Plans
from airflow_async_sm.emulator.account.registry import Registry
from airflow_async_sm.emulator.account.runtime import Runtime
from airflow_async_sm.emulator.account.statuses import SERVES
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.models.images import Images
from airflow_async_sm.emulator.notifications.notifier import Notifier
from airflow_async_sm.emulator.scaling.calls import ScalingCalls
from airflow_async_sm.emulator.scaling.metrics import Metrics
from airflow_async_sm.emulator.scaling.moto_alarms import target_tracking_alarms
from airflow_async_sm.emulator.scaling.recorder import Recorder
from airflow_async_sm.emulator.scaling.scaler import Scaler
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.state.autosave import Autosave
from airflow_async_sm.emulator.state.folder import StateFolder
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
from airflow_async_sm.emulator.work.conclusions import Conclusions
from airflow_async_sm.emulator.work.objects import Objects
from airflow_async_sm.emulator.work.request_log import RequestLog, SavedRequests
from airflow_async_sm.emulator.work.storage import Storage
from airflow_async_sm.emulator.work.tools import Tools

# Runs end as soon as their connection is shut down; this bounds the wait for one that writes an object.
_JOIN_SECONDS = 5.0

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


class Assembly:
    """
    The parts of one running emulator.

    :param host: Address to listen on.
    :param port: Port to listen on; 0 for a free one.
    :param folder: For models and the output of containers.
    :param images: What stands for images.
    :param knobs: Behaviour and unknowns.
    :param board: Faults.
    :param clock: Where time comes from.
    :param state: The folder that keeps everything over a restart, or ``None``.
    :param reset: Empties the emulator.
    :raises OSError: the address cannot be bound.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        folder: Path,
        images: Images,
        knobs: Knobs,
        board: FaultBoard,
        clock: Clock,
        state: Path | None,
        reset: Callable[[], None],
    ) -> None:
        self.requests = RequestLog()
        self.counters = Counters()
        self._clock = clock
        self._board = board
        self._state = None if state is None else StateFolder(state)
        self._server = http_server.HttpServer(host, port)
        self.url = f"http://{_address(host)}:{self._server.port}"
        self.clients = LocalClients(self.url)
        self._own_clients = LocalClients(self.url, internal=True)
        metrics = Metrics()
        recorder = Recorder(metrics)
        self._notifier = Notifier(
            clock=clock,
            clients=self._own_clients,
            board=board,
            knobs=knobs,
            failed=recorder.notification_failed,
        )
        changing = self._state.changing if self._state else contextlib.nullcontext
        storage = Storage(changing=changing)
        plans = Plans(self._own_clients, http_server.ACCOUNT_ID, changing)
        self._tools = tools = Tools(
            clock=clock,
            knobs=knobs,
            board=board,
            requests=self.requests,
            objects=Objects(storage=storage, knobs=knobs, board=board),
            tally=self.counters,
            herald=self._notifier,
            metrics=recorder,
        )
        self._registry = Registry(http_server.ACCOUNT_ID)
        self._backend = Backend(
            registry=self._registry,
            plans=plans,
            site=Site(url=self.url, folder=folder, images=images, storage=storage, tools=tools),
            announce=self._notifier.started,
        )
        self._scaler = Scaler(clock, metrics, http_server.ACCOUNT_ID, self._scalable)
        moto = http_server.moto_application()
        insight = Insight(
            requests=self.requests,
            endpoints=self._backend,
            counters=self.counters,
            board=board,
            knobs=knobs,
            clock=clock,
        )
        self._door = FrontDoor(
            gate=Gate(host=host, url=self.url),
            control=Control(insight, reset=reset),
            page=Page(insight, url=self.url),
            services=Services(
                control=self._backend,
                runtime=Runtime(self._registry, tools),
                scaling=ScalingCalls(self._scaler),
                moto=self._state.guard(moto) if self._state else moto,
            ),
            refusals=Refusals(
                board=board,
                knobs=knobs,
                account_id=http_server.ACCOUNT_ID,
                bucket_region=http_server.bucket_region,
            ),
            pauses=Pauses(clock),
            counters=self.counters,
            account_id=http_server.ACCOUNT_ID,
        )
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Assembly:
        with contextlib.ExitStack() as running:
            self._start(running)
            self._running = running.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.close()

    def reset(self) -> None:
        """Forget endpoints, requests, objects and counters."""
        self._backend.reset()
        self._scaler.reset()
        http_server.reset_moto()
        self.requests.restore(SavedRequests())
        self._door.reset()

    def _start(self, running: contextlib.ExitStack) -> None:
        running.callback(self._server.stop)
        http_server.reset_moto()
        running.callback(http_server.reset_moto)
        for replaced in (http_server.every_instance_type, target_tracking_alarms):
            running.enter_context(replaced())
        for clients in (self.clients, self._own_clients):
            running.callback(clients.close)
        own = None
        if self._state is not None:
            running.enter_context(self._state)
            own = self._state.load()
        self._clock.start(not_before=own["now"] if own else 0.0)
        running.callback(self._clock.stop)
        self._notifier.start()
        running.callback(self._notifier.stop)
        running.callback(lambda: self._backend.close(keep=self._state is not None))
        if own is not None:
            self._go_on(own)
        self._scaler.start()
        running.callback(self._scaler.stop)
        self._server.start(self._door)
        running.callback(self._door.close)
        if self._state is not None:
            autosave = Autosave(self._state, self._collect)
            running.callback(self._save_finally, self._state)
            autosave.start()
            running.callback(autosave.stop)

    def _save_finally(self, state: StateFolder) -> None:
        """Save what no caller, no request and no timer changes any more."""
        self._door.shut()
        self._backend.stop_accepting()
        engines = [endpoint.engine for endpoint in self._registry.all()]
        for engine in engines:
            engine.shut(keep=True)
        for engine in engines:
            engine.close(_JOIN_SECONDS)
        # A request that has ended is not run again, so its message has to be in what is saved.
        self._notifier.flush()
        state.save(self._collect())

    def _collect(self) -> Mapping[str, Any]:
        return {
            "now": self._clock.now(),
            "ids": self._board.save(),
            "account": self._backend.save(),
            "requests": self.requests.save(),
        }

    def _go_on(self, own: Mapping[str, Any]) -> None:
        """Begin with what an earlier emulator saved."""
        self._board.restore(own["ids"])
        self.requests.restore(own["requests"])
        self._backend.restore(own["account"])
        # An endpoint that came while the state was being collected is not in it; its requests may be.
        for request in self.requests.open_requests():
            if self._registry.find(request.region, request.endpoint) is None:
                Conclusions(self._tools).vanish(request)

    def _scalable(self) -> list[Any]:
        return [endpoint for endpoint in self._registry.all() if endpoint.actual_status in SERVES]


def _address(host: str) -> str:
    """Return how the machine itself reaches what listens on ``host``."""
    reached = _WILDCARDS.get(host, host)
    return f"[{reached}]" if ":" in reached else reached
