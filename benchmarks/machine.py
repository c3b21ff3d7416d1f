"""What a reader has to know of the machine: never its name, its paths or its owner."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

_PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "airflow-async-sm",
    "botocore",
    "aiobotocore",
    "uvloop",
)
_SPINS = 3_000_000


def spin() -> float:
    """Return the CPU seconds of a fixed loop: how fast a core is at the moment."""
    begun, total = time.process_time(), 0
    for number in range(_SPINS):
        total += number & 7
    return time.process_time() - begun


def busy_seconds() -> float:
    """Return the CPU seconds that all cores have been busy since the machine began."""
    with open("/proc/stat") as file:  # noqa: PTH123 - no path is made of it
        user, nice, system, _idle, _waiting, *rest = map(int, file.readline().split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def free_megabytes() -> float:
    """Return how much memory can still be had."""
    with open("/proc/meminfo") as file:  # noqa: PTH123 - no path is made of it
        found = next(line for line in file if line.startswith("MemAvailable:"))
    return int(found.split()[1]) / 1024


class Watch:
    """How fast the machine was, and how busy with other things, from run to run."""

    def __init__(self) -> None:
        self.spins = [spin()]
        self.other_cores: list[float] = []

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Watch one run, which has ended all its processes when it ends."""
        begun_at, busy, own = time.monotonic(), busy_seconds(), _own_seconds()
        yield
        others = busy_seconds() - busy - (_own_seconds() - own)
        self.other_cores.append(max(0.0, others) / (time.monotonic() - begun_at))
        self.spins.append(spin())

    def notes(self) -> dict[str, Any]:
        """Return what has to be known to compare figures."""
        return {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
            "spin_s": _bounds(self.spins, 3),
            "other_load_cores": _bounds(self.other_cores or [math.nan], 2),
        }


def _own_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _bounds(values: Sequence[float], digits: int) -> dict[str, float]:
    return {"least": round(min(values), digits), "most": round(max(values), digits)}


def sentence(told: dict[str, Any]) -> str:
    """Return the notes as one line for people."""
    versions = ", ".join(f"{name} {told[name]}" for name in _PACKAGES)
    spins, others = told["spin_s"], told["other_load_cores"]
    return (
        f"{told['cores']} cores, Python {told['python']}, {versions}. A fixed loop took {spins['least']} to "
        f"{spins['most']} s of CPU; everything else on the machine kept {others['least']} to "
        f"{others['most']} cores busy."
    )
