from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from tests.world import PROGRAM, QUICK, World, eventually


@pytest.fixture
def make_world():
    """Return a function that starts an emulator for one test."""
    emulators = []

    def make(*, behaviour=QUICK, images=None, **settings):
        emulator = SageMakerAsyncEmulator(
            images={"program": PROGRAM, **(images or {})}, behaviour=behaviour, **settings
        )
        emulators.append(emulator)
        emulator.start()
        return World(emulator)

    yield make
    for emulator in emulators:
        emulator.stop()


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
