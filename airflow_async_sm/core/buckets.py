"""What is awaited in one bucket, and by which requests it is asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from airflow_async_sm.core.costs import ListingCosts, folders_to_list, under

__all__ = ["Ask", "Bucket", "Heads", "Listing", "Look", "Seen", "Sight", "Spot"]

# How many keys one thread asks for in one go.
_AT_ONCE: Final = 10
# After so many seconds it is thought about anew what to list, though no wait has come or gone.
_PLANNED_ANEW: Final = 60.0


@dataclass(eq=False, slots=True)
class Spot:
    """
    One place that a wait is about, or the wait as a whole.

    :param name: Which wait it belongs to.
    :param bucket: Name of the bucket; empty: it is the wait as a whole.
    :param key: The key.
    :param is_failure: Whether it is where a failure would be told.
    :param due: When it is asked for next, in seconds.
    :param is_asked: Whether it is being asked for.
    :param is_left: Whether nobody waits at it any more.
    """

    name: int
    bucket: str = ""
    key: str = ""
    is_failure: bool = False
    due: float = 0.0
    is_asked: bool = False
    is_left: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """
    Ask for some keys of one bucket, one HEAD each.

    :param bucket: The bucket.
    :param spots: What is asked for.
    """

    bucket: str
    spots: list[Spot]


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """
    Ask for all awaited keys of one folder, from the first to the last.

    :param bucket: The bucket.
    :param spots: What is asked for, sorted by key.
    :param folder: The folder, with its slash; empty: the whole bucket.
    """

    bucket: str
    spots: list[Spot]
    folder: str

    @property
    def worth(self) -> float:
        """The cost at which a HEAD for each key is as good."""
        return float(len(self.spots))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """
    Look at one request by itself.

    :param bucket: The bucket that its answer comes to; empty: it is not asked for in S3, or not known.
    :param spots: The wait as a whole, alone.
    """

    bucket: str
    spots: list[Spot]


Ask = Heads | Listing | Look


class Sight(Enum):
    """What is seen at one key."""

    PRESENT = "present"
    ABSENT = "absent"
    REFUSED = "refused"
    UNREACHED = "unreached"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What is there of the keys that were asked for.

    :param keys: Keys that are there.
    :param reached: Up to which key that is the truth; ``None``: for all.
    :param refused: Keys for which S3 would not say.
    :param cost: What a listing cost, or would cost to its end.
    :param requests: How many requests it took.
    """

    keys: frozenset[str]
    reached: str | None = None
    refused: frozenset[str] = frozenset()
    cost: float = 0.0
    requests: int = 1

    def at(self, key: str) -> Sight:
        """Return what is seen at a key that was asked for."""
        if key in self.keys:
            return Sight.PRESENT
        if key in self.refused:
            return Sight.REFUSED
        return Sight.ABSENT if self.reached is None or key <= self.reached else Sight.UNREACHED


class Bucket:
    """
    The spots of one bucket, by key.

    :param name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_changed = True
        self._planned_at = float("-inf")
        self._keys: list[str] = []
        self._spots: dict[str, list[Spot]] = {}
        self._costs = ListingCosts()
        self._folders: list[str] = []
        self._listing: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, spot: Spot) -> None:
        """Take up a spot."""
        if spot.key not in self._spots:
            insort(self._keys, spot.key)
            self._is_changed = True
        self._spots.setdefault(spot.key, []).append(spot)

    def remove(self, spot: Spot) -> None:
        """Forget a spot."""
        others = self._spots[spot.key]
        others.remove(spot)
        if not others:
            del self._spots[spot.key]
            del self._keys[bisect_left(self._keys, spot.key)]
            self._is_changed = True

    def plan(self, now: float) -> None:
        """Think about anew which folders to list, if there is reason to."""
        if self._is_changed or now - self._planned_at > _PLANNED_ANEW:
            self._is_changed, self._planned_at = False, now
            self._costs.forget(now=now)
            self._folders = folders_to_list(self._keys, self._costs.of)

    def apart(self) -> Iterator[Spot]:
        """Yield the spots that get a HEAD each."""
        listed = 0
        for folder in [*self._folders, None]:
            part = slice(0, 0) if folder is None else under(self._keys, folder)
            end = len(self._keys) if folder is None else part.start
            for key in self._keys[listed:end]:
                yield from self._spots[key]
            listed = part.stop

    def asks(self, due: list[Spot], most: int) -> Iterator[Ask]:
        """
        Yield what to ask, and mark what is asked for. What is in a folder that is being listed is left out.

        :param due: Who is due.
        :param most: How many may get a HEAD now.
        """
        apart: list[Spot] = []
        for spot in due:
            folder = self._folder_of(spot.key)
            if folder is None:
                apart.append(spot)
            elif folder not in self._listing and not spot.is_asked:
                self._listing.add(folder)
                yield Listing(self.name, _marked(self._in_folder(folder)), folder)
        for first in range(0, min(len(apart), most), _AT_ONCE):
            yield Heads(self.name, _marked(apart[first : min(first + _AT_ONCE, most)]))

    def answered(self, ask: Listing | Heads, seen: Seen | None, now: float) -> None:
        """
        Take note of an answer.

        :param ask: What was asked.
        :param seen: What was answered; ``None``: that could not be found out.
        :param now: The time.
        """
        if isinstance(ask, Listing):
            self._listing.discard(ask.folder)
            if seen is not None:
                self._is_changed |= seen.cost != self._costs.of(ask.folder)
                self._costs.learn(ask.folder, seen.cost, now=now)
                if seen.reached is not None and ask.folder in self._folders:
                    # It was given up. Until there is another plan, its keys get a HEAD each.
                    self._folders.remove(ask.folder)

    def _in_folder(self, folder: str) -> list[Spot]:
        keys = self._keys[under(self._keys, folder)]
        return [spot for key in keys for spot in self._spots[key] if not spot.is_asked]

    def _folder_of(self, key: str) -> str | None:
        place = bisect_right(self._folders, key) - 1
        return self._folders[place] if place >= 0 and key.startswith(self._folders[place]) else None


def _marked(spots: list[Spot]) -> list[Spot]:
    for spot in spots:
        spot.is_asked = True
    return spots
