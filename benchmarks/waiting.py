"""
Many waits in one process, as a triggerer has them: ``python -m benchmarks.waiting JOB``.

Says ``started`` when all waits have begun, and ``result`` when all are over, or standard input has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import trigger_host
from benchmarks.job import Job
from benchmarks.telling import say
from benchmarks.ticker import Ticker
from benchmarks.waits import Wait


@dataclass
class Ends:
    """
    How the waits ended so far.

    :param left: How many have not.
    :param seen: For each by its number when it ended, and how.
    :param when_over: Called when all have ended, or shall. Any thread may.
    """

    left: int
    seen: dict[int, tuple[float, str]] = field(default_factory=dict)
    when_over: Callable[[], object] = lambda: None

    def note(self, wait: Wait, outcome: str) -> None:
        """Note the end of one wait."""
        self.seen[wait.index] = (time.monotonic(), outcome)
        self.left -= 1
        if not self.left:
            self.when_over()

    def are_over_with_the_input(self) -> None:
        """Let the end of standard input be the end of all waits."""
        threading.Thread(target=lambda: (sys.stdin.read(), self.when_over()), daemon=True).start()


def resident() -> int:
    """Return the kilobytes of memory in use at the moment."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no path is made of it
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def wait_in_loop(job: Job, ticker: Ticker, ends: Ends) -> None:
    """Wait with triggers, or without anything, in this event loop."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    ends.when_over = lambda: loop.call_soon_threadsafe(over.set)
    ends.are_over_with_the_input()
    ticking = asyncio.create_task(ticker.tick())
    host = trigger_host.TriggerHost(job.who, job.setting)

    async def one(wait: Wait) -> None:
        ends.note(wait, await host.outcome(wait))

    running = []
    for wait in job.waits():
        if wait.index and wait.index % job.at_once == 0:
            await asyncio.sleep(job.apart)
        await asyncio.sleep(0)
        running.append(asyncio.create_task(one(wait)))
    say("started", at=time.monotonic(), settling=job.who.settling())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), job.longest)
    for task in (*running, ticking):
        task.cancel()
    await asyncio.wait([*running, ticking], timeout=30)


def wait_in_threads(job: Job, ticker: Ticker, ends: Ends) -> None:
    """Wait with a thread each."""
    if job.who.waiter is None:
        raise ValueError(f"{job.implementation} does not wait in threads")
    over = threading.Event()
    ends.when_over = over.set
    ends.are_over_with_the_input()
    threading.stack_size(256 * 1024)
    ticker.begin_thread()
    wait_for = job.who.waiter(job.setting)
    noting = threading.Lock()

    def one(wait: Wait) -> None:
        try:
            outcome = wait_for(wait)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how this wait ended
            outcome = f"raised {error!r}"
        with noting:
            ends.note(wait, outcome)

    for wait in job.waits():
        if wait.index and wait.index % job.at_once == 0:
            time.sleep(job.apart)
        threading.Thread(target=one, args=(wait,), daemon=True).start()
    say("started", at=time.monotonic(), settling=job.who.settling())
    over.wait(job.longest)


def _runner(loop: str) -> Callable[[Any], Any]:
    if loop != "uvloop":
        return asyncio.run
    import uvloop

    return uvloop.run


def main() -> None:
    """Wait as the first argument says, and tell how it went."""
    say("begun")
    job = Job.from_json(sys.argv[1])
    trigger_host.load_what_a_triggerer_has()
    ticker, ends = Ticker(), Ends(left=job.count)
    memory, begun_at, cpu = resident(), time.monotonic(), time.process_time()
    if job.who.waiter is not None:
        wait_in_threads(job, ticker, ends)
    else:
        _runner(job.loop)(wait_in_loop(job, ticker, ends))
    say(
        "result",
        begun_at=begun_at,
        begun_cpu=cpu,
        ended_at=time.monotonic(),
        ended_cpu=time.process_time(),
        kilobytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory,
        ends=ends.seen,
        samples=ticker.samples,
    )
    # Threads that still wait would keep the process for as long as they wait.
    os._exit(0)


if __name__ == "__main__":
    main()
