"""The requests of one endpoint that have not ended: who waits, who may be taken, and who is worked on."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from airflow_async_sm.emulator.clock import Timer
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.runs import Run


@dataclass(slots=True, eq=False)
class Entry:
    """
    A request that has not ended.

    :param request: Which one.
    :param runs: How often an instance has taken it.
    :param losses: How many of its instances were lost.
    :param run: What an instance does with it at the moment; ``None`` while it waits.
    :param expiry: Ends it while it waits.
    """

    request: Request
    runs: int = 0
    losses: int = 0
    run: Run | None = None
    expiry: Timer | None = None

    @property
    def request_id(self) -> str:
        """The id of its request."""
        return self.request.request_id


@dataclass(frozen=True, slots=True)
class Backlog:
    """
    What has not ended.

    :param queued: Requests that wait.
    :param running: Requests that are worked on.
    :param oldest: When the oldest that waits was accepted, or ``None`` if none does.
    """

    queued: int
    running: int
    oldest: float | None


class Book:
    """
    Every request of an endpoint, from its acceptance until its end is known to everybody.

    Its user holds a lock.
    """

    def __init__(self) -> None:
        self._open: dict[str, Entry] = {}
        self._waiting: OrderedDict[str, Entry] = OrderedDict()
        self._ready: deque[str] = deque()

    def wait(self, entry: Entry, *, first: bool = False) -> None:
        """
        Let a request wait, at the end of the queue.

        :param entry: The request.
        :param first: Put it before all others, ready to be taken.
        """
        entry.run = None
        self._open[entry.request_id] = self._waiting[entry.request_id] = entry
        if first:
            self._waiting.move_to_end(entry.request_id, last=False)
            self._ready.appendleft(entry.request_id)

    def make_ready(self, request_id: str) -> None:
        """Say that a request which waits may be taken."""
        self._ready.append(request_id)

    def first_ready(self) -> Entry | None:
        """Return the request that is to be taken next, if there is one."""
        while self._ready:
            entry = self._waiting.get(self._ready[0])
            if entry is not None:
                return entry
            self._ready.popleft()  # It has expired since.
        return None

    def take(self, request_id: str) -> Entry | None:
        """Return a request that has waited and does so no more; ``None`` if it does not wait."""
        return self._waiting.pop(request_id, None)

    def end(self, entry: Entry) -> None:
        """Strike out a request that has ended."""
        self._open.pop(entry.request_id, None)

    def clear_queue(self) -> list[Entry]:
        """Strike out the requests that wait, and return them."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._ready.clear()
        for entry in waiting:
            self.end(entry)
        return waiting

    def runs(self) -> list[Run]:
        """Return what is going on, on instances that are still there and on others."""
        return [entry.run for entry in self._open.values() if entry.run is not None]

    def backlog(self) -> Backlog:
        """Return what has not ended."""
        oldest = min((entry.request.submitted_at for entry in self._waiting.values()), default=None)
        return Backlog(len(self._waiting), len(self._open) - len(self._waiting), oldest)
