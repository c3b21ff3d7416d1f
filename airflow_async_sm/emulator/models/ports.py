"""Ports for programs that are told theirs before they bind it."""

from __future__ import annotations

import collections
import random
import socket
import threading
from typing import Final

# Below the ranges from which systems take the ports of outgoing connections (from 32768 on Linux, 49152 on
# macOS): no connection that somebody opens can take a port between its choice here and its use.
_FIRST: Final = 20_000
_LAST: Final = 32_000
_TRIES: Final = 200

# A generator of its own: tests that seed the common one must not make two emulators choose alike.
_random = random.Random()
_lock = threading.Lock()
# A program needs a while to bind its port; until then nobody else gets the same one.
_given: collections.deque[int] = collections.deque(maxlen=1_000)


def free_port() -> int:
    """Return a free port of 127.0.0.1 that this process has not given away lately."""
    with _lock:
        for _ in range(_TRIES):
            port = _random.randint(_FIRST, _LAST)
            if port not in _given and _can_be_bound(port):
                _given.append(port)
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def is_served(port: int) -> bool:
    """Return whether somebody listens on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
