"""
What it costs to ask S3 for objects that are not there yet, and which way of asking is the cheaper one.

One HEAD asks for one key. One LIST asks for all keys under a folder, and brings every object that lies
between the first and the last of them, whoever wrote it. Which is cheaper depends on how many keys are
awaited there, and on how much else is there: that is seen by listing, and remembered.

The unit of cost is one HEAD.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["DENIED", "LISTED_AT_ONCE", "ListingCosts", "cost_of_listing", "folders_to_list", "under"]

# A HEAD costs 0.9 ms of a processor and 0.4 millionths of a dollar, a LIST 1.5 ms, 5 millionths of a dollar,
# and some time for each key that it brings. A processor costs less than a thousandth of that, but it is the
# triggerer's, which has one for all; so a millisecond is taken for as much as 2.5 millionths of a dollar.
# Prices: https://aws.amazon.com/s3/pricing/ (S3 Standard, us-east-1).
_PAGE: Final = 3.2
_KEY: Final = 0.01

LISTED_AT_ONCE: Final = 1_000
"""How many keys one LIST brings at most:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

DENIED: Final = float("inf")
"""What listing costs where it is not allowed."""

# After so many seconds a folder that was found to be dear is tried again.
_REMEMBERED: Final = 600.0


def cost_of_listing(*, pages: int, keys: int) -> float:
    """
    Return the cost of a listing.

    :param pages: How many LISTs it took.
    :param keys: How many keys they brought.
    """
    return pages * _PAGE + keys * _KEY


def under(keys: Sequence[str], folder: str) -> slice:
    """
    Return where in sorted keys those are that lie in a folder.

    :param keys: The keys, sorted.
    :param folder: With a slash at its end; empty: the whole bucket.
    """
    first = bisect_left(keys, folder)
    return slice(first, bisect_left(keys, _after(folder), lo=first) if folder else len(keys))


def _after(folder: str) -> str:
    """Return what sorts after all keys in a folder, and before all others that sort after it."""
    return f"{folder[:-1]}0"  # which follows the slash


@dataclass(frozen=True, slots=True)
class _Memory:
    cost: float
    seen_at: float


class ListingCosts:
    """What the last listing of each folder of one bucket cost."""

    def __init__(self) -> None:
        self._known: dict[str, _Memory] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, folder: str, cost: float, *, now: float) -> None:
        """
        Remember the cost of a listing.

        :param folder: The folder that was listed.
        :param cost: What it cost, or would have cost had it not been given up; ``DENIED``: it is not allowed.
        :param now: The time, in seconds.
        """
        self._known[folder] = _Memory(cost, now)

    def forget(self, *, now: float) -> None:
        """Forget what was learned too long ago."""
        self._known = {
            folder: memory
            for folder, memory in self._known.items()
            if 0 <= now - memory.seen_at < _REMEMBERED
        }

    def of(self, folder: str) -> float:
        """Return the cost of listing a folder. One that nobody has listed yet is taken to be empty."""
        memory = self._known.get(folder)
        return _PAGE if memory is None else max(memory.cost, _PAGE)


def folders_to_list(keys: Sequence[str], cost: Callable[[str], float]) -> list[str]:
    """
    Return the folders to list, so that asking for all keys costs the least. Other keys get a HEAD each.

    No folder is in another one. Those at the top come first: what is below them is considered only where
    they are too dear.

    :param keys: The keys that are awaited in one bucket, sorted.
    :param cost: Returns the cost of listing a folder.
    """
    return _cheapest(keys, 0, len(keys), cost)[1]


def _cheapest(
    keys: Sequence[str], first: int, end: int, cost: Callable[[str], float]
) -> tuple[float, list[str]]:
    """Return the least cost of asking for some keys in a row, and the folders to list for that."""
    heads = float(end - first)
    if heads < _PAGE:
        return heads, []
    folder = _common_folder(keys[first], keys[end - 1])
    whole = cost(folder)
    if whole <= _PAGE:
        return whole, [folder]
    apart, listed = 0.0, list[str]()
    for start, stop, is_folder in _children(keys, first, end, len(folder)):
        part, folders = _cheapest(keys, start, stop, cost) if is_folder else (float(stop - start), [])
        apart += part
        listed += folders
    return (whole, [folder]) if whole <= apart else (apart, listed)


def _children(keys: Sequence[str], first: int, end: int, depth: int) -> Iterator[tuple[int, int, bool]]:
    """Yield where the parts of a folder begin and end among the keys, and whether each is a folder itself."""
    while first < end:
        slash = keys[first].find("/", depth)
        if slash < 0:
            yield first, first + 1, False
            first += 1
        else:
            stop = bisect_left(keys, _after(keys[first][: slash + 1]), lo=first, hi=end)
            yield first, stop, True
            first = stop


def _common_folder(one: str, other: str) -> str:
    """Return the deepest folder that has both keys in it, with its slash; empty: the bucket."""
    alike = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[: one.rfind("/", 0, alike) + 1]
