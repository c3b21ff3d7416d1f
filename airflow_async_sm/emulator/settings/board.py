"""The faults that are switched on, and the chance that decides whom they hit."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import TypeVar

from airflow_async_sm.emulator.settings.faults import Fault

F = TypeVar("F", bound=Fault)


class FaultBoard:
    """
    The faults of one emulator. They can be switched on and off from any thread.

    Chance is a function of the seed, the fault's id and the case's key: it does not matter in which order
    threads ask, and who asks twice about one case hears the same. What does depend on the order is which
    cases ``times`` covers: the first that come.

    :param faults: The faults to begin with.
    :param seed: What makes a run repeatable. Default ``None``: every run is different.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int | None = None) -> None:
        self.seed = seed
        self._root = secrets.token_hex() if seed is None else str(seed)
        self._lock = threading.Lock()
        self._added = 0
        self._faults: dict[str, Fault] = {}
        self._hits: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()
        self.replace(faults)

    def add(self, fault: Fault) -> str:
        """Switch a fault on, after those that are on, and return its id. No id is used twice."""
        with self._lock:
            return self._add(fault)

    def remove(self, fault_id: str) -> None:
        """
        Switch a fault off.

        :param fault_id: What :meth:`add` returned.
        :raises KeyError: no such fault is on.
        """
        with self._lock:
            del self._faults[fault_id]
            del self._hits[fault_id]

    def replace(self, faults: Iterable[Fault]) -> None:
        """Switch all faults off and these on, as one step."""
        new = list(faults)
        with self._lock:
            self._faults.clear()
            self._hits.clear()
            for fault in new:
                self._add(fault)

    def save(self) -> dict[str, int]:
        """Return how many ids have been made for each purpose, for a later board of the same seed."""
        with self._lock:
            return dict(self._ids)

    def restore(self, saved: Mapping[str, int]) -> None:
        """Go on with ids where an earlier board was: none is made twice."""
        with self._lock:
            self._ids = Counter(saved)

    def reset(self, faults: Iterable[Fault] = ()) -> None:
        """Begin as a new board does: with these faults, and with ids and chance from the start."""
        with self._lock:
            self._added = 0
            self._ids.clear()
        self.replace(faults)

    def clear(self) -> None:
        """Switch all faults off."""
        self.replace(())

    def all(self) -> dict[str, Fault]:
        """Return the faults that are on, by id, in the order in which they were added."""
        with self._lock:
            return dict(self._faults)

    def hits(self) -> dict[str, int]:
        """Return how many cases each fault that is on has hit, by id."""
        with self._lock:
            return {fault_id: self._hits[fault_id] for fault_id in self._faults}

    def draw(self, kind: type[F], key: str, **about: str | None) -> F | None:
        """
        Return the fault that hits a case, or ``None``.

        It is the first of its kind that is about the case, is not used up, and whose rate hits.

        :param kind: The kind of fault.
        :param key: What tells the case from others, for example the id of a request.
        :param about: What the case is about: ``endpoint``, ``operation``, ``service``, ``bucket``,
            ``access_key_id``. A fault that names one of them is not about a case that does not.
        """
        with self._lock:
            for fault_id, fault in self._faults.items():
                if isinstance(fault, kind) and fault.selects(about) and self._hit(fault_id, fault, key):
                    self._hits[fault_id] += 1
                    return fault
        return None

    def random(self, purpose: str, key: str) -> Random:
        """
        Return a source of chance for one case.

        :param purpose: What it is for.
        :param key: What tells the case from others. The same purpose and key give the same numbers, in
            another run too if there is a seed.
        """
        # The representation keeps the parts apart, whatever characters they hold.
        return Random(repr((self._root, purpose, key)))

    def new_id(self, purpose: str) -> str:
        """
        Return a new id in the form of a random UUID.

        :param purpose: What it is for. With a seed, the n-th id for a purpose is the same in every run.
        """
        if self.seed is None:
            return str(uuid.uuid4())
        with self._lock:
            self._ids[purpose] += 1
            number = self._ids[purpose]
        bits = self.random(f"id of {purpose}", str(number)).getrandbits(128)
        return str(uuid.UUID(int=bits, version=4))

    def _add(self, fault: Fault) -> str:
        self._added += 1
        fault_id = f"fault-{self._added}"
        self._faults[fault_id] = fault
        return fault_id

    def _hit(self, fault_id: str, fault: Fault, key: str) -> bool:
        if fault.times is not None and self._hits[fault_id] >= fault.times:
            return False
        return fault.rate == 1 or self.random(fault_id, key).random() < fault.rate
