"""Runs triggers as Airflow's triggerer does."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
from typing import Any

from benchmarks.implementations import Implementation, Setting
from benchmarks.waits import Wait


def load_what_a_triggerer_has() -> None:
    """Import what every triggerer has imported, so that it is not held against who is imported next."""
    for name in ("airflow.triggers.base", "airflow.sdk.execution_time.context", "greenback"):
        importlib.import_module(name)


class TriggerHost:
    """
    The waits of one implementation.

    Each trigger goes through its serialized form, as it does through the database, and runs in a task of its
    own, in which blocking calls to Airflow's supervisor could be made.

    :param who: Who waits.
    :param setting: What it is told.
    """

    def __init__(self, who: Implementation, setting: Setting) -> None:
        self._who = who
        self._setting = setting

    async def outcome(self, wait: Wait) -> str:
        """Return how one wait ended. What waits for nothing never ends."""
        if self._who.triggers is None:
            await asyncio.Event().wait()
            return ""
        triggers = self._who.triggers(self._setting, wait)
        try:
            number, payload = await _first_of([_revived(trigger) for trigger in triggers])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how this wait ended
            return f"raised {error!r}"
        return self._who.outcome(payload, number)


async def _first_of(triggers: list[Any]) -> tuple[int, Any]:
    """Return the number of the trigger that came first, and its payload."""
    if len(triggers) == 1:
        return 0, await _payload(triggers[0])
    tasks = [asyncio.create_task(_payload(trigger)) for trigger in triggers]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next((number, task.result()) for number, task in enumerate(tasks) if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _payload(trigger: Any) -> Any:
    """Return the payload of a trigger's first event."""
    import greenback

    await greenback.ensure_portal()
    events = trigger.run()
    try:
        async for event in events:
            return event.payload
    finally:
        await events.aclose()
        with contextlib.suppress(Exception):
            await trigger.cleanup()
    return None


def _revived(trigger: Any) -> Any:
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
