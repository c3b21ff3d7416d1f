"""How long a trigger holds back, asked of the real configuration."""

from __future__ import annotations

import pytest

from airflow_async_sm._compat import conf
from airflow_async_sm.triggers import base


@pytest.mark.parametrize(("interval", "seconds"), [("5", 7.0), ("1", 3.0), ("0.5", 2.5)])
def test_the_first_look_comes_after_the_next_heartbeat(monkeypatch, interval, seconds):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", interval)
    assert base._settling_time() == seconds


def test_there_is_nothing_to_wait_for_where_airflow_has_no_such_heartbeat():
    known = conf.has_option("workers", "min_heartbeat_interval")
    assert base._settling_time() == (7.0 if known else 0.0)
