"""What a process that waits is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from benchmarks.implementations import IMPLEMENTATIONS, Implementation, Setting
from benchmarks.waits import Wait, make_waits


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    Many waits in one process.

    :param implementation: The name of who waits.
    :param count: How many waits.
    :param seed: Begins their random names.
    :param url: Where AWS is.
    :param poll: Seconds between two looks.
    :param submitted_at: When the requests were submitted, in seconds since 1970 (UTC).
    :param loop: ``asyncio`` or ``uvloop``.
    :param at_once: How many waits begin together. Default 50, as many as a triggerer takes in one pass.
    :param apart: Seconds between such beginnings. Default 1, about as long as a pass takes.
    :param longest: After so many seconds the waits are given up.
    """

    implementation: str
    count: int
    seed: int
    url: str
    poll: float
    submitted_at: float
    loop: str = "asyncio"
    at_once: int = 50
    apart: float = 1.0
    longest: float = 4 * 3600.0

    @property
    def who(self) -> Implementation:
        """Who waits."""
        return IMPLEMENTATIONS[self.implementation]

    @property
    def setting(self) -> Setting:
        """What the implementation is told."""
        return Setting(url=self.url, poll=self.poll, submitted_at=self.submitted_at)

    def waits(self) -> list[Wait]:
        """Return what is waited for."""
        return make_waits(self.count, own_folders=self.who.own_folders, seed=self.seed)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what :meth:`to_json` made text of."""
        return cls(**json.loads(text))
