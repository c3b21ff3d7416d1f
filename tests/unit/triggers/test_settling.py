from __future__ import annotations

from airflow_async_sm.triggers import base


def test_the_first_look_comes_after_the_next_heartbeat_where_workers_have_one(monkeypatch):
    monkeypatch.setattr(base.conf, "getint", lambda section, key, fallback: 5)
    assert base._settling_time() == 6.0


def test_there_is_nothing_to_wait_for_where_airflow_has_no_such_heartbeat(monkeypatch):
    monkeypatch.setattr(base.conf, "getint", lambda section, key, fallback: fallback)
    assert base._settling_time() == 0.0
