"""How punctual a process is, and how much CPU it has used, sampled twenty times a second."""

from __future__ import annotations

import asyncio
import threading
import time

PERIOD = 0.05

# When, how many seconds too late, and the CPU seconds used by then.
Sample = tuple[float, float, float]


class Ticker:
    """Sleeps again and again, and notes by how much it overslept."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    async def tick(self) -> None:
        """Tick in an event loop, which must be free to be punctual."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(PERIOD)
            self._note(begun)

    def begin_thread(self) -> None:
        """Tick in a thread, where there is no event loop."""
        threading.Thread(target=self._tick_forever, daemon=True).start()

    def _tick_forever(self) -> None:
        while True:
            begun = time.monotonic()
            time.sleep(PERIOD)
            self._note(begun)

    def _note(self, begun: float) -> None:
        now = time.monotonic()
        self.samples.append((now, max(0.0, now - begun - PERIOD), time.process_time()))


def cpu_at(samples: list[Sample], moment: float) -> float:
    """Return the CPU seconds used until a moment, between two samples in proportion."""
    before: Sample | None = None
    for sample in samples:
        if sample[0] >= moment:
            if before is None:
                return sample[2]
            share = (moment - before[0]) / max(1e-9, sample[0] - before[0])
            return before[2] + share * (sample[2] - before[2])
        before = sample
    return before[2] if before else 0.0
