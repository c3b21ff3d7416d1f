"""What others may see of a payload."""

from __future__ import annotations

from typing import Any

__all__ = ["Concealed", "revealed"]


class Concealed:
    """
    A payload that others may carry and show: it is shown as its kind and size.

    :param value: The payload itself.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return _describe(self.value)


def revealed(value: Any) -> Any:
    """Return a value that may be concealed, as it is."""
    return value.value if isinstance(value, Concealed) else value


def _describe(payload: Any) -> str:
    if isinstance(payload, str | bytes | bytearray | memoryview | list | tuple | dict):
        unit = "bytes" if isinstance(payload, bytes | bytearray | memoryview) else "items"
        unit = "characters" if isinstance(payload, str) else unit
        return f"<{type(payload).__name__}, {len(payload):,} {unit}>"
    return f"<{type(payload).__name__}>"
