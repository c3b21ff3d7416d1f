"""Sets of whole numbers that come in runs, as short texts: ``0-499,512``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["members", "ranges"]


def ranges(numbers: Iterable[int]) -> str:
    """
    Return the text for some numbers.

    :param numbers: They, in ascending order, each once.
    """
    written: list[str] = []
    first = last = -1
    for number in numbers:
        if first >= 0 and number == last + 1:
            last = number
            continue
        if first >= 0:
            written.append(_run(first, last))
        first = last = number
    if first >= 0:
        written.append(_run(first, last))
    return ",".join(written)


def members(text: str) -> Iterator[int]:
    """
    Yield the numbers of a text that :func:`ranges` returned.

    :param text: The text; empty: there are none.
    """
    for run in text.split(",") if text else ():
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
