"""What all endpoints of an emulator share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.work.endings import Ending, Request
from airflow_async_sm.emulator.work.objects import Objects
from airflow_async_sm.emulator.work.request_log import RequestLog
from airflow_async_sm.emulator.work.submissions import Submission


class Tally(Protocol):
    """Counts what was submitted, and how often models are called for it."""

    def submitted(self, submission: Submission) -> None:
        """Count a request that was accepted."""

    def invoked(self, submission: Submission) -> None:
        """Count one call of a model."""


class Listener(Protocol):
    """Hears of requests that end: the metrics, and the notifications."""

    def ended(self, request: Request, ending: Ending) -> None:
        """Take note. It is called once for every request, and must not wait."""


class Herald(Protocol):
    """Publishes notifications, some of them before the object that they are about."""

    def before_object(self, request: Request, ending: Ending) -> float:
        """Publish at once what has to come first, and return how many seconds the object comes later."""

    def ended(self, request: Request, ending: Ending) -> None:
        """Publish what has not been said about a request that ends. Called once; it does not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """
    What all endpoints of an emulator share.

    :param clock: Where time comes from.
    :param knobs: Behaviour and unknowns, as they are at the moment.
    :param board: The faults that are on.
    :param requests: The log of all requests.
    :param objects: Inputs, outputs and failure objects.
    :param tally: Counts calls of models.
    :param herald: Publishes notifications.
    :param metrics: Hears of every request that ended.
    """

    clock: Clock
    knobs: Knobs
    board: FaultBoard
    requests: RequestLog
    objects: Objects
    tally: Tally
    herald: Herald
    metrics: Listener
