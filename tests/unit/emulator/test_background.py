"""Threads that can be waited for, and what happens when there is none."""

from __future__ import annotations

import threading

import pytest

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.clock import SteppedClock


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def background(clock):
    return Background("ep", clock)


def test_clock_waits_for_a_task(clock, background):
    done, names = threading.Event(), []

    def task():
        names.append(threading.current_thread().name)
        done.wait(0.1)
        done.set()

    background.run("start-1", task)
    clock.settle(patience=10)
    assert done.is_set()
    assert names == ["emulator-ep-start-1"]


def test_task_that_fails_is_logged_and_over(clock, background, caplog):
    background.run("removal", lambda: 1 / 0)
    background.join()
    clock.settle(patience=0)
    assert "The removal of endpoint ep failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert not clock._open


def test_task_without_a_thread_is_begun_again(clock, background, monkeypatch, caplog):
    start, refusals, done = threading.Thread.start, [RuntimeError("can't start new thread")], []

    def refuse_once(thread):
        if refusals:
            raise refusals.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    background.run("deletion", lambda: done.append(1))
    background.join()
    assert not clock._open
    clock.settle()
    assert done == []
    assert "waits for a thread for its deletion: can't start new thread" in caplog.text
    clock.advance(1)
    assert done == [1]


def test_whoever_joins_meets_a_thread_from_its_first_moment(background, monkeypatch):
    start, opened, joined = threading.Thread.start, threading.Event(), threading.Event()
    joiner = threading.Thread(target=lambda: (background.join(), joined.set()))

    def start_and_be_joined(thread):
        start(thread)
        start(joiner)
        assert not joined.wait(0.2)

    monkeypatch.setattr(threading.Thread, "start", start_and_be_joined)
    background.run("task", lambda: opened.wait(10))
    assert not joined.wait(0.1)
    opened.set()
    assert joined.wait(10)
    joiner.join()


def test_task_may_join_the_others(background):
    opened, order = threading.Event(), []

    def wait_for_all():
        background.join()
        order.append("joined")

    background.run("first", lambda: (opened.wait(10), order.append("first")))
    background.run("second", wait_for_all)
    opened.set()
    background.join()
    assert order == ["first", "joined"]
