from __future__ import annotations

import logging
import threading
import time

import pytest

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.timers import Timers


@pytest.fixture
def timers():
    running = Timers(Clock())
    running.start()
    yield running
    running.stop()


class TestClock:
    def test_now_is_the_time_of_day(self):
        assert abs(Clock().now() - time.time()) < 1

    def test_wait_ends_with_the_moment(self):
        clock = Clock()
        until = clock.now() + 0.05
        assert not clock.wait_for(threading.Condition(), lambda: False, until)
        assert clock.now() >= until

    def test_wait_ends_with_a_notice_long_before_the_moment(self):
        clock, condition, ready = Clock(), threading.Condition(), threading.Event()

        def notify():
            with condition:
                ready.set()
                condition.notify_all()

        threading.Timer(0.05, notify).start()
        before = clock.now()
        assert clock.wait_for(condition, ready.is_set, before + 600)
        assert clock.now() - before < 10


class TestTimers:
    def test_calls_come_in_order_of_their_moments(self, timers):
        called, done = [], threading.Event()
        now = Clock().now()
        timers.at(now + 0.15, done.set)
        timers.at(now + 0.1, lambda: called.append("second"))
        timers.at(now + 0.05, lambda: called.append("first"))
        assert done.wait(10)
        assert called == ["first", "second"]

    def test_cancelled_call_is_not_made(self, timers):
        called, done = [], threading.Event()
        now = Clock().now()
        timer = timers.at(now + 0.05, lambda: called.append(1))
        timers.at(now + 0.1, done.set)
        timer.cancel()
        assert done.wait(10)
        assert called == []
        assert timer.cancelled

    def test_call_that_fails_leaves_the_others_alone(self, timers, caplog):
        done = threading.Event()
        timers.at(0, lambda: 1 / 0)
        timers.at(0, done.set)
        with caplog.at_level(logging.ERROR):
            assert done.wait(10)
        assert "ZeroDivisionError" in caplog.text

    def test_cancelled_timers_do_not_pile_up(self, timers):
        kept = timers.at(Clock().now() + 600, lambda: None)
        for _ in range(5_000):
            timers.at(Clock().now() + 600, lambda: None).cancel()
        assert len(timers._planned) <= 1_001
        assert any(timer is kept for _, _, timer in timers._planned)

    def test_stop_does_not_wait_for_what_is_planned(self):
        timers = Timers(Clock())
        timers.start()
        timers.at(Clock().now() + 600, lambda: None)
        before = time.monotonic()
        timers.stop()
        assert time.monotonic() - before < 5
