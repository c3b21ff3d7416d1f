"""Every position on what nobody knows about the service, as somebody sees it who has AWS's clients only."""

from __future__ import annotations

import dataclasses
import functools
import re
from enum import StrEnum
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from airflow_async_sm.emulator import Behaviour, Unknowns
from airflow_async_sm.emulator.settings.faults import InstanceLost, Throttled
from airflow_async_sm.emulator.settings.values import SettingError
from tests.lab import ANSWER_TYPE, AT_ONCE, ERROR_TYPE, VARIANT, Lab, make_lab, refusal, response_body
from tests.world import BUCKET

BOTH_TOPICS = ("SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC")
CONCURRENCY = "default_concurrency"

# What is to be seen in each position of a field, and what looks at it.
CASES = {}


def seen(field, expected, *, label=None):
    """Register a function that looks at a field: what it is to see, by position."""

    def register(look):
        for position, outcome in expected.items():
            CASES[field, position, label or ""] = look, outcome
        return look

    return register


@pytest.fixture(scope="module")
def lab():
    with make_lab() as emulator:
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.fixture
def turn(lab):
    """Return a function that turns switches; they are turned back after the test."""

    def change(**positions):
        behaviour = {name: positions.pop(name) for name in (CONCURRENCY,) if name in positions}
        lab.emulator.knobs.change(unknowns=positions, behaviour=behaviour)

    yield change
    lab.emulator.knobs.reset()
    lab.emulator.faults.clear()


@pytest.mark.parametrize("case", CASES.items() if False else [])
def _unused(case): ...
