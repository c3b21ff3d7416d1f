"""An event loop whose time goes on by itself: what takes minutes is tested in none, twice the same."""

from __future__ import annotations

import asyncio
import functools
import selectors

# So many seconds of its own time are more than any test needs: it waits for what does not come.
_MOST = 100_000.0
# After so many real seconds without anything that happens, a test has come to a standstill.
_STANDSTILL = 20.0


class SteppedLoop(asyncio.SelectorEventLoop):
    """
    A loop that does not sleep: with nothing else to do, its clock is put forward to what is due next.

    While a thread works for it, the clock stands still.
    """

    def __init__(self):
        self.now = 1_000_000.0
        self.jobs = 0
        super().__init__(_Stepping(self))

    def time(self):
        return self.now

    def run_in_executor(self, executor, func, *args):
        self.jobs += 1
        job = super().run_in_executor(executor, func, *args)
        job.add_done_callback(self._done)
        return job

    def _done(self, _):
        self.jobs -= 1


class _Stepping(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop
        self._began_at = loop.now

    def select(self, timeout=None):
        if timeout is not None:
            ready = super().select(0)
            if ready or timeout <= 0:
                return ready
            if not self._loop.jobs:
                self._loop.now += timeout
                assert self._loop.now < self._began_at + _MOST, "what is waited for does not come"
                return []
        ready = super().select(_STANDSTILL)
        assert ready, f"nothing happened for {_STANDSTILL:.0f} s, and {self._loop.jobs} threads are at work"
        return ready


def in_no_time(test):
    """Run an async test in a :class:`SteppedLoop`."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        with asyncio.Runner(loop_factory=SteppedLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run
