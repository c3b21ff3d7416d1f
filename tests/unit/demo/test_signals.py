"""What happens to the signals that end a program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from airflow_async_sm.demo.signals import ending_signals_held_back, ending_signals_interrupt


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_request_to_end_unwinds_the_stack(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), ending_signals_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_others_are_left_alone() -> None:
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending_signals_interrupt():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_held_back_signal_arrives_after_the_block() -> None:
    done = []

    def block() -> None:
        with ending_signals_held_back() as arrived:
            assert not arrived()
            signal.raise_signal(signal.SIGINT)
            assert arrived()
            done.append("to the end")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["to the end"]


def test_held_back_signal_passes_through_nested_blocks() -> None:
    done = []

    def blocks() -> None:
        with ending_signals_held_back():
            with ending_signals_held_back():
                signal.raise_signal(signal.SIGINT)
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        blocks()
    assert done == ["outer"]


def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ending_signals_held_back() as arrived:
        signal.raise_signal(signal.SIGINT)
        assert not arrived()


def test_nothing_is_done_outside_the_main_thread() -> None:
    results = []

    def work() -> None:
        with ending_signals_interrupt(), ending_signals_held_back() as arrived:
            results.append(arrived())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [False]
