"""What can be seen of a running emulator, as JSON values: the control address and the page say the same."""

from __future__ import annotations

from typing import Any

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.values import plain
from airflow_async_sm.emulator.web.behind import ControlPlane
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.work.records import RequestRecord, RequestState
from airflow_async_sm.emulator.work.request_log import RequestLog


class Insight:
    """
    Looks at the parts of an emulator.

    :param requests: The log of all requests.
    :param endpoints: Who knows the endpoints.
    :param counters: What was called how often.
    :param board: The faults.
    :param knobs: The settings.
    :param clock: The time.
    """

    def __init__(
        self,
        *,
        requests: RequestLog,
        endpoints: ControlPlane,
        counters: Counters,
        board: FaultBoard,
        knobs: Knobs,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._endpoints = endpoints
        self.counters = counters
        self.board = board
        self.knobs = knobs
        self.clock = clock

    def requests(
        self,
        *,
        state: RequestState | None = None,
        endpoint: str | None = None,
        after: int = 0,
        before: int | None = None,
    ) -> list[RequestRecord]:
        """
        Return requests in the order of their acceptance.

        :param state: Only those in this state. Default: all.
        :param endpoint: Only those of endpoints of this name, in any case. Default: all.
        :param after: Only those with a greater number. Default 0: all.
        :param before: Only those with a smaller number. Default: all.
        """
        wanted = endpoint.lower() if endpoint else None
        return [
            record
            for record in self._requests.all()
            if (state is None or record.state is state)
            and (wanted is None or record.endpoint.lower() == wanted)
            and record.number > after
            and (before is None or record.number < before)
        ]

    def endpoints(self) -> list[dict[str, Any]]:
        """Return every endpoint of every region, with its requests counted by state."""
        return self._endpoints.overview()

    def settings(self) -> dict[str, Any]:
        """Return the current behaviour and unknowns."""
        return {"behaviour": plain(self.knobs.behaviour), "unknowns": plain(self.knobs.unknowns)}

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are on, each with its id and how many cases it has hit."""
        hits = self.board.hits()
        return [
            {"id": fault_id, "hits": hits.get(fault_id, 0), **fault.as_data()}
            for fault_id, fault in self.board.all().items()
        ]
