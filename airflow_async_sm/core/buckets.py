"""What is awaited in one bucket, and by which requests it is asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from airflow_async_sm.core.costs import ListingCosts, folders_to_list, under

__all__ = ["Ask", "Bucket", "Folder", "Heads", "Listing", "Look", "Seen", "Sight", "Spot", "heads"]

# How many keys one thread asks for in one go.
_AT_ONCE: Final = 10
# After so many seconds it is thought about anew what to list, though no wait has come or gone.
_PLANNED_ANEW: Final = 60.0


@dataclass(eq=False, slots=True, kw_only=True)
class _Scheduled:
    """What is due at some time. ``queued``: when the caller's queue comes to it, which is no later."""

    due: float = 0.0
    queued: float | None = None
    is_asked: bool = False
    is_left: bool = False


@dataclass(eq=False, slots=True)
class Spot(_Scheduled):
    """
    One place that a wait is about, or the wait as a whole.

    :param name: Which wait it belongs to.
    :param bucket: Name of the bucket; empty: it is the wait as a whole.
    :param key: The key.
    :param is_failure: Whether it is where a failure would be told.
    :param due: When it is asked for, or told of, next, in seconds.
    :param queued: When the caller's queue comes to it, in seconds: no later than it is due; ``None``: not.
    :param is_asked: Whether it is being asked for.
    :param is_left: Whether nobody waits at it any more.
    """

    name: int
    bucket: str = ""
    key: str = ""
    is_failure: bool = False


@dataclass(eq=False, slots=True)
class Folder(_Scheduled):
    """
    A folder that is listed for all who wait for keys in it.

    :param bucket: Name of the bucket.
    :param name: Its name, with the slash; empty: the whole bucket.
    :param wishes: Until when a pause is wanted, by whether it is for failures, and the pause.
    :param heeding: Who is told what the next listing shows, even if it shows nothing.
    :param is_in_trouble: Whether the last listing failed.
    :param due: When it is listed next, in seconds.
    :param queued: When the caller's queue comes to it, in seconds: no later than it is due; ``None``: not.
    :param is_asked: Whether it is being listed.
    :param is_left: Whether it is listed no more.
    """

    bucket: str
    name: str
    wishes: dict[tuple[bool, float], float] = field(default_factory=dict)
    heeding: list[Spot] = field(default_factory=list)
    is_in_trouble: bool = False

    def note(self, spot: Spot, pause: float, *, until: float) -> None:
        """
        Take note of the pause that somebody wants.

        :param spot: Who.
        :param pause: The pause, in seconds.
        :param until: Until when that holds: by then it is said anew.
        """
        # A tenth of a second is near enough, and keeps this small.
        wish = (spot.is_failure, round(pause, 1))
        self.wishes[wish] = max(until, self.wishes.get(wish, until))

    def pause(self, now: float) -> float:
        """Return the pause until the next listing. What answers need goes before what failures need."""
        self.wishes = {wish: until for wish, until in self.wishes.items() if until >= now}
        return min(self.wishes, default=(False, 1.0))[1]


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """
    Ask for some keys of one bucket, one HEAD each.

    :param bucket: The bucket.
    :param spots: What is asked for.
    :param asked_at: When, in seconds.
    """

    bucket: str
    spots: list[Spot]
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """
    Ask for all awaited keys of one folder, from the first to the last.

    :param bucket: The bucket.
    :param folder: The folder.
    :param keys: The keys, sorted.
    :param asked_at: When, in seconds.
    """

    bucket: str
    folder: Folder
    keys: list[str]
    asked_at: float = 0.0

    @property
    def worth(self) -> float:
        """The cost at which a HEAD for each key is as good."""
        return float(len(self.keys))


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
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What is there of the keys that were asked for.

    :param keys: Keys that are there.
    :param refused: Keys for which S3 would not say.
    :param failed: What hindered the looks at other keys.
    :param is_whole: Whether what was asked for and is not here is not there. A listing may be given up.
    :param cost: What a listing cost, or would cost to its end.
    :param requests: How many requests it took.
    """

    keys: frozenset[str]
    refused: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True
    cost: float = 0.0
    requests: int = 1

    def at(self, key: str) -> Sight:
        """Return what is seen at a key that was asked for."""
        if key in self.keys:
            return Sight.PRESENT
        if key in self.refused:
            return Sight.REFUSED
        return Sight.FAILED if key in self.failed else Sight.ABSENT


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
        self._folders: dict[str, Folder] = {}
        # Sorted, as the dictionary is.
        self._names: list[str] = []

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

    @property
    def folders(self) -> list[Folder]:
        """The folders that are listed."""
        return list(self._folders.values())

    def at(self, key: str) -> list[Spot]:
        """Return the spots at a key."""
        return list(self._spots.get(key, ()))

    def in_folder(self, folder: Folder) -> list[Spot]:
        """Return the spots in a folder."""
        return [spot for key in self._keys[under(self._keys, folder.name)] for spot in self._spots[key]]

    def folder_of(self, spot: Spot) -> Folder | None:
        """Return the folder that is listed for a spot; ``None``: it gets a HEAD of its own."""
        place = bisect_right(self._names, spot.key) - 1
        if place < 0 or not spot.key.startswith(self._names[place]):
            return None
        return self._folders[self._names[place]]

    def apart(self) -> Iterator[Spot]:
        """Yield the spots that get a HEAD each."""
        listed = 0
        for part in [*(under(self._keys, name) for name in self._names), slice(len(self._keys), 0)]:
            for key in self._keys[listed : part.start]:
                yield from self._spots[key]
            listed = part.stop

    def plan(self, now: float) -> tuple[list[Folder], list[Folder]]:
        """
        Think about anew which folders to list, if there is reason to.

        Return those that are new, and those that are listed no more.
        """
        if not self._is_changed and now - self._planned_at < _PLANNED_ANEW:
            return [], []
        self._is_changed, self._planned_at = False, now
        self._costs.forget(now=now)
        return self._list(folders_to_list(self._keys, self._costs.of))

    def leave(self) -> None:
        """Let its folders be listed no more."""
        self._list([])

    def listing(self, folder: Folder, now: float) -> list[Listing]:
        """Return the listing of a folder in a list, and mark it; empty if nobody waits for keys in it."""
        keys = self._keys[under(self._keys, folder.name)]
        folder.is_asked = bool(keys)
        return [Listing(self.name, folder, keys, now)] if keys else []

    def learn(self, folder: Folder, seen: Seen, now: float) -> list[Folder]:
        """
        Take note of what a listing cost. Return the folder in a list if it is listed no more.

        :param folder: The folder.
        :param seen: What was seen.
        :param now: The time.
        """
        self._is_changed |= seen.cost != self._costs.of(folder.name)
        self._costs.learn(folder.name, seen.cost, now=now)
        if seen.is_whole or folder.is_left:
            return []
        # Until there is another plan, its keys get a HEAD each.
        return self._list([name for name in self._names if name != folder.name])[1]

    def _list(self, names: list[str]) -> tuple[list[Folder], list[Folder]]:
        before, self._names = self._folders, names
        self._folders = {name: before.get(name) or Folder(self.name, name) for name in names}
        new = [folder for name, folder in self._folders.items() if name not in before]
        gone = [folder for name, folder in before.items() if name not in self._folders]
        for folder in gone:
            folder.is_left = True
        return new, gone


def heads(bucket: str, spots: list[Spot], now: float) -> Iterator[Heads]:
    """
    Yield what asks for spots one by one, and mark them.

    :param bucket: The bucket.
    :param spots: The spots.
    :param now: The time.
    """
    for spot in spots:
        spot.is_asked = True
    for first in range(0, len(spots), _AT_ONCE):
        yield Heads(bucket, spots[first : first + _AT_ONCE], now)
