"""The front door, put together from what it opens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.web.behind import ControlPlane, RuntimeCalls, Scaling
from airflow_async_sm.emulator.web.control import Control
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.web.gate import Gate
from airflow_async_sm.emulator.web.http_server import ACCOUNT_ID, bucket_region
from airflow_async_sm.emulator.web.insight import Insight
from airflow_async_sm.emulator.web.page import Page
from airflow_async_sm.emulator.web.pauses import Pauses
from airflow_async_sm.emulator.web.refusals import Refusals
from airflow_async_sm.emulator.web.responses import FrontDoor
from airflow_async_sm.emulator.web.services import Services
from airflow_async_sm.emulator.work.records import RequestLog

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def front_door(
    *,
    control: ControlPlane,
    runtime: RuntimeCalls,
    scaling: Scaling | None,
    moto: WSGIApplication,
    host: str,
    url: str,
    clock: Clock,
    knobs: Knobs,
    board: FaultBoard,
    requests: RequestLog,
    counters: Counters,
    reset: Callable[[], None],
) -> FrontDoor:
    """
    Return the application for the server.

    :param control: SageMaker's control plane, as far as it is not moto's.
    :param runtime: SageMaker's runtime.
    :param scaling: Application Auto Scaling, as far as it is not moto's; ``None`` if all of it is.
    :param moto: Answers everything else.
    :param host: The address or name that the server was told to listen on.
    :param url: The server's own URL.
    :param clock: Where time comes from.
    :param knobs: The settings.
    :param board: The faults.
    :param requests: The log of all requests.
    :param counters: Counts calls.
    :param reset: Called to let the emulator be as it was at its start.
    """
    insight = Insight(
        requests=requests, endpoints=control, counters=counters, board=board, knobs=knobs, clock=clock
    )
    return FrontDoor(
        gate=Gate(host=host, url=url),
        control=Control(insight, reset=reset),
        page=Page(insight, url=url),
        services=Services(control=control, runtime=runtime, moto=moto, scaling=scaling),
        refusals=Refusals(board=board, knobs=knobs, account_id=ACCOUNT_ID, bucket_region=bucket_region),
        pauses=Pauses(clock),
        counters=counters,
        account_id=ACCOUNT_ID,
    )
