from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.emulator.settings.behaviours import Behaviour

NAMES = [field.name for field in dataclasses.fields(Behaviour)]
KINDS = typing.get_type_hints(Behaviour)
MAY_BE_ZERO = [
    "creation_seconds",
    "deletion_seconds",
    "update_seconds",
    "rollback_seconds",
    "instance_start_seconds",
    "queue_seconds",
    "container_stop_grace",
    "container_restart_seconds",
]
WHOLE = [name for name in NAMES if KINDS[name] is int]


def test_every_switch_says_where_its_default_comes_from():
    for name in NAMES:
        text = Behaviour.__doc__.partition(f":param {name}:")[2].partition(":param")[0]
        words = " ".join(text.split())
        assert any(source in words for source in ("our choice", "our guess", "developer guide")), name
        assert (
            f"Default {getattr(Behaviour, name):g}" in words or f"Default {getattr(Behaviour, name)}" in words
        )


@pytest.mark.parametrize("value", [-1, float("inf"), float("-inf"), float("nan"), "1", None, True, 10**400])
@pytest.mark.parametrize("name", NAMES)
def test_value_that_makes_no_sense_is_refused(name, value):
    if name in WHOLE and value == 10**400:
        return
    with pytest.raises(ValueError, match=f"^{name} is "):
        Behaviour(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_only_pauses_may_be_nothing(name):
    if name in MAY_BE_ZERO:
        assert getattr(Behaviour(**{name: 0}), name) == 0
    else:
        with pytest.raises(ValueError, match=name):
            Behaviour(**{name: 0})


@pytest.mark.parametrize("name", WHOLE)
def test_count_is_a_whole_number(name):
    with pytest.raises(ValueError, match=f"{name} is 2.0; it must be a whole number"):
        Behaviour(**{name: 2.0})


@given(st.integers(1, 10**6))
def test_time_may_be_written_as_a_whole_number(seconds):
    behaviour = Behaviour(update_seconds=seconds)
    assert behaviour == Behaviour(update_seconds=float(seconds))
    assert isinstance(behaviour.update_seconds, float)


def test_input_limit_is_the_services():
    assert Behaviour().input_limit_bytes == 1_073_741_824
