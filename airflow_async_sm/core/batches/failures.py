"""Why an item of a batch has no answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_async_sm.core.failures import FailureKind

__all__ = ["REJECTED", "ItemFailure", "read", "written"]

REJECTED: Final = "Rejected"
"""What the failure of an item is called that the service did not take."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """
    Why an item has no answer.

    :param kind: What went wrong, as ``FailureKind`` names it, or ``Rejected``: the service did not take it.
    :param text: What was said of it, cut short.
    :param location: S3 URI of the failure object; ``None``: there is none.
    """

    kind: str
    text: str
    location: str | None = None

    @property
    def is_permanent(self) -> bool:
        """Whether the same item would fail in the same way, until somebody mends something."""
        return self.kind == REJECTED or FailureKind(self.kind).is_permanent


def written(failures: Mapping[int, ItemFailure]) -> dict[str, list[str | None]]:
    """Return failures by item as JSON values."""
    return {str(index): [one.kind, one.text, one.location] for index, one in failures.items()}


def read(stored: Mapping[str, list[Any]]) -> Iterator[tuple[int, ItemFailure]]:
    """Yield the failures that :func:`written` returned, with their items."""
    return ((int(index), ItemFailure(*one)) for index, one in stored.items())
