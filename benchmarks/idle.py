"""
A trigger that looks at nothing: what a triggerer costs with so many triggers, whoever wrote them.

One of them gets a connection, as somebody who reaches anything does: that makes a triggerer load much, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from airflow_async_sm._compat import BaseTrigger, TriggerEvent
from benchmarks.implementations import CONNECTION

_FILE = "moments.json"
_READY = "idle.ready"
_LOOK_SECONDS = 0.5
# The connection is got so much later: as by the first wait of this provider, which lets a deferral settle.
_LATER_SECONDS = 7.0

# What the file has in it. One task gets the connection and looks for the file, for all of the process.
_read: asyncio.Task[Mapping[str, float]] | None = None


class IdleTrigger(BaseTrigger):
    """
    Wait for a moment that is told to all later, and fire at it.

    :param index: Its number.
    """

    def __init__(self, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.index = index

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class and arguments."""
        return f"{__name__}.{type(self).__qualname__}", {"index": self.index}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, and fire."""
        moments = await asyncio.shield(_moments())
        await asyncio.sleep(moments[str(self.index)] - time.monotonic())
        yield TriggerEvent({"status": "success"})  # type: ignore[no-untyped-call]


def tell_moments(home: Path, moments: Mapping[int, float]) -> None:
    """
    Tell the triggers of the Airflow that has this home when to fire.

    :param home: Its home.
    :param moments: For the number of each trigger, a moment on the monotonic clock.
    """
    unfinished = home / f"{_FILE}.unfinished"
    unfinished.write_text(json.dumps(moments))
    unfinished.replace(home / _FILE)


def is_ready(home: Path) -> bool:
    """Return whether the connection has been got."""
    return (home / _READY).exists()


def _moments() -> asyncio.Task[Mapping[str, float]]:
    global _read
    if _read is None:
        _read = asyncio.create_task(_read_moments(Path(os.environ["AIRFLOW_HOME"])))
    return _read


async def _read_moments(home: Path) -> Mapping[str, float]:
    from airflow.sdk import Connection

    await asyncio.sleep(_LATER_SECONDS)
    await asyncio.to_thread(Connection.get, CONNECTION)
    (home / _READY).touch()
    file = home / _FILE
    while not file.exists():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(_LOOK_SECONDS)
    told: Mapping[str, float] = json.loads(file.read_text())
    return told
