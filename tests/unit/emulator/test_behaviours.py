from __future__ import annotations

import dataclasses

import pytest

from airflow_async_sm.emulator import Behaviour


def test_every_switch_says_where_its_default_comes_from():
    for field in dataclasses.fields(Behaviour):
        text = Behaviour.__doc__.partition(f":param {field.name}:")[2].partition(":param")[0]
        assert any(
            source in " ".join(text.split()) for source in ("our choice", "our guess", "developer guide")
        ), field.name


@pytest.mark.parametrize(
    "switch",
    [
        {"creation_seconds": -1},
        {"creation_seconds": float("inf")},
        {"ping_interval": 0},
        {"connect_timeout": float("nan")},
        {"default_concurrency": 0},
        {"default_concurrency": 1.5},
        {"instance_quota": 2.0},
    ],
)
def test_value_that_makes_no_sense_is_refused(switch):
    with pytest.raises(ValueError, match=next(iter(switch))):
        Behaviour(**switch)


def test_waits_may_be_nothing():
    assert (
        Behaviour(
            creation_seconds=0, deletion_seconds=0, queue_seconds=0, container_stop_grace=0
        ).queue_seconds
        == 0
    )
