"""How the small values that cross a process boundary become JSON and come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from enum import StrEnum
from typing import Any, Self

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["Record", "check_text", "check_time"]


class Record:
    """
    A frozen dataclass of texts and numbers that is stored as a flat dictionary.

    The dictionary is a wire format: a task deferred today is resumed under tomorrow's version. Keys that this
    version does not know are passed over, and a key may be added with a default, never renamed or removed.
    """

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        values = asdict(self)  # type: ignore[call-overload]
        return {name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """
        Build the value from what :meth:`to_dict` returned, possibly under another version.

        :raises InvalidInput: it is no dictionary, a field is missing, or a value is not of the field's type.
        """
        if not isinstance(data, Mapping):
            raise InvalidInput(f"{cls.__name__} cannot be read from {type(data).__name__}.")
        known = fields(cls)  # type: ignore[arg-type]
        if absent := [f.name for f in known if f.default is MISSING and f.name not in data]:
            raise InvalidInput(f"{cls.__name__} lacks {', '.join(absent)}.")
        return cls(**{f.name: data[f.name] for f in known if f.name in data})


def check_text(record: str, field: str, value: object, *, optional: bool = False) -> None:
    """Raise :class:`InvalidInput` unless ``value`` is a non-empty text, or ``None`` where that is allowed."""
    if value is None and optional:
        return
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{record}.{field} is {value!r}; a text that is not empty is needed.")


def check_time(record: str, field: str, value: object) -> None:
    """Raise :class:`InvalidInput` unless ``value`` is a finite point in time: seconds since 1970, UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise InvalidInput(f"{record}.{field} is {value!r}; seconds since 1970 (UTC) are needed.")
