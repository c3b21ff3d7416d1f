from __future__ import annotations

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from tests.world import PROGRAM, QUICK, World


@pytest.fixture(scope="module")
def world():
    with SageMakerAsyncEmulator(images={"program": PROGRAM}, behaviour=QUICK) as emulator:
        yield World(emulator)


@pytest.fixture(scope="module")
def echo(world):
    """An endpoint that does what the custom attributes say."""
    return world.deploy(concurrency=4)
