"""
Signals and cleaning up: a process that started others must not be ended without ending them.

Handlers can only be set in the main thread. Elsewhere these helpers do nothing: signals are delivered to the
main thread anyway.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_signals_interrupt() -> Iterator[None]:
    """
    Let SIGTERM and SIGHUP raise ``KeyboardInterrupt``, so that they unwind the stack as Ctrl-C does.

    By default both end Python on the spot, without running any clean-up. Handlers set by somebody else, and
    ignored signals, are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_signals_held_back() -> Iterator[Callable[[], bool]]:
    """
    Hold back Ctrl-C and its relatives while the block runs, and deliver the first of them afterwards.

    The value is a function that tells whether one has arrived, for a block that wants to hurry up then.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def remember(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    # None is a handler that was not set from Python; it could not be put back.
    before = {s: handler for s in ENDING_SIGNALS if (handler := signal.getsignal(s)) is not None}
    held = {s: handler for s, handler in before.items() if handler is not signal.SIG_IGN}
    for number in held:
        signal.signal(number, remember)
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(signal.Signals(arrived[0]))
