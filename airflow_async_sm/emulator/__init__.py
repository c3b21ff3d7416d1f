"""A local stand-in for Amazon SageMaker Asynchronous Inference, with real asynchronous behaviour."""

from __future__ import annotations

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
