"""The end of serving: nobody comes in any more, and those inside are waited for."""

from __future__ import annotations

import threading
import time

from airflow_async_sm.emulator.web.traffic import Traffic
from tests.world import eventually


def test_nobody_enters_once_it_is_shut():
    traffic = Traffic()
    assert traffic.enter()
    traffic.leave()
    assert traffic.shut(0) == 0
    assert not traffic.enter()
    assert traffic.shut(0) == 0


def test_those_inside_are_waited_for():
    traffic = Traffic()
    assert traffic.enter()
    assert traffic.enter()
    left = []
    closer = threading.Thread(target=lambda: left.append(traffic.shut(30)))
    closer.start()
    eventually(lambda: not traffic.enter() or traffic.leave())
    traffic.leave()
    closer.join(0.2)
    assert closer.is_alive()
    traffic.leave()
    closer.join(10)
    assert left == [0]


def test_it_does_not_wait_for_ever():
    traffic = Traffic()
    assert traffic.enter()
    began = time.monotonic()
    assert traffic.shut(0.1) == 1
    assert time.monotonic() - began < 5
