from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock
from tests.world import PROGRAM, QUICK, World, eventually


class QuickClock(Clock):
    """A clock on which a minute is a fraction of a second."""

    RATE = 600.0

    def now(self):
        return self._epoch + time.monotonic() * self.RATE

    def wait(self, condition, until=None):
        condition.wait(None if until is None else max(0.0, until - self.now()) / self.RATE)


@pytest.fixture
def make_world():
    """Return a function that starts an emulator for one test."""
    emulators = []

    def make(*, behaviour=QUICK, images=None, clock=None):
        emulator = SageMakerAsyncEmulator(
            images={"program": PROGRAM, **(images or {})}, behaviour=behaviour, clock=clock
        )
        emulators.append(emulator)
        emulator.start()
        return World(emulator)

    yield make
    for emulator in emulators:
        emulator.stop()


@pytest.fixture
def quick_clock():
    return QuickClock()


@pytest.fixture(name="eventually")
def _eventually():
    return eventually


@pytest.fixture
def refused():
    """Return a function that makes a call, expects its refusal, and returns the error's code and message."""

    def check(call, *arguments, **members):
        with pytest.raises(ClientError) as refusal:
            call(*arguments, **members)
        error = refusal.value.response["Error"]
        return error["Code"], error["Message"]

    return check
