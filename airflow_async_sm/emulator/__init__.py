"""A local stand-in for Amazon SageMaker Asynchronous Inference, with real asynchronous behaviour."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_async_sm.emulator.clock import Clock, SteppedClock
    from airflow_async_sm.emulator.models.callables import Reply
    from airflow_async_sm.emulator.models.docker import Docker
    from airflow_async_sm.emulator.reaching import airflow_connection
    from airflow_async_sm.emulator.server import SageMakerAsyncEmulator
    from airflow_async_sm.emulator.settings.behaviours import Behaviour
    from airflow_async_sm.emulator.settings.unknowns import Unknowns
    from airflow_async_sm.emulator.work.records import RequestRecord, RequestState

__all__ = [
    "Behaviour",
    "Clock",
    "Docker",
    "Reply",
    "RequestRecord",
    "RequestState",
    "SageMakerAsyncEmulator",
    "SteppedClock",
    "Unknowns",
    "airflow_connection",
]

# Where each of them is. They are loaded on first use: pytest loads the plugin in this package in every run of
# everybody who has it installed, and shall not load an HTTP client and TLS with it.
_HOMES = {
    "Behaviour": "settings.behaviours",
    "Clock": "clock",
    "Docker": "models.docker",
    "Reply": "models.callables",
    "RequestRecord": "work.records",
    "RequestState": "work.records",
    "SageMakerAsyncEmulator": "server",
    "SteppedClock": "clock",
    "Unknowns": "settings.unknowns",
    "airflow_connection": "reaching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
