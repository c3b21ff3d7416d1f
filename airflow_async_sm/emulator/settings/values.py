"""Dataclasses whose annotations say which values they take, and errors that say what is wrong with one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

Path = tuple[str | int, ...]


class SettingError(ValueError):
    """
    A setting that cannot be used. The text says which, what it is, and what it may be.

    :param path: Where the setting is, from the outside in: names of keys and positions in lists.
    :param problem: What is wrong with it, as the rest of a sentence that begins with its place.
    """

    def __init__(self, path: Path, problem: str) -> None:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        super().__init__(f"{place.removeprefix('.') or 'What was given'} {problem}")
        self.path = path
        self.problem = problem

    def below(self, outer: Path) -> SettingError:
        """Return the same error for a setting that is part of a larger whole."""
        return SettingError((*outer, *self.path), self.problem)


@dataclass(frozen=True, slots=True)
class Range:
    """
    The numbers that a setting may be.

    :param least: The smallest.
    :param most: The largest. Default: no limit, but the number is finite.
    :param above: Whether ``least`` itself is excluded. Default: it is not.
    """

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, number: float) -> bool:
        return number <= self.most and (number > self.least if self.above else number >= self.least)

    def __str__(self) -> str:
        if self.most < math.inf:
            return f"from {self.least:g} to {self.most:g}"
        return f"greater than {self.least:g}" if self.above else f"of at least {self.least:g}"


@dataclass(frozen=True, slots=True)
class Filled:
    """The mark of a text that is not empty."""


Seconds = Annotated[float, Range(0)]
SomeSeconds = Annotated[float, Range(0, above=True)]
Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Name = Annotated[str, Filled()]


def check_fields(instance: DataclassInstance) -> None:
    """
    Hold each field of a new instance against its annotation; call it in ``__post_init__``.

    A whole number becomes a float where the field is one, and the text of an enumeration's member becomes
    the member, so that an instance is the same however it was written.

    :param instance: A dataclass instance, frozen or not. Its annotations are made of ``bool``, ``int``,
        ``float``, ``str``, ``StrEnum`` classes, ``Literal``, ``... | None``, :class:`Range`
        and :class:`Filled`.
    :raises SettingError: a value does not fit.
    """
    kinds = _kinds(type(instance))
    for field in fields(instance):
        value = _fit(kinds[field.name], getattr(instance, field.name), (field.name,))
        object.__setattr__(instance, field.name, value)


def build(cls: type[T], data: object, *, kind: str) -> T:
    """
    Make an instance from plain data.

    :param cls: A dataclass that calls :func:`check_fields`.
    :param data: A mapping of field names to plain values.
    :param kind: What this is, for errors: ``"a behaviour"``.
    :raises SettingError: not a mapping, a name that ``cls`` does not have, a name that it needs and that is
        absent, or a value that does not fit.
    """
    given = mapping(data)
    known = fields(cls)
    check_names(given, (field.name for field in known), kind=kind)
    for field in known:
        if field.default is MISSING and field.default_factory is MISSING and field.name not in given:
            raise SettingError((field.name,), f"is missing; {kind} needs it.")
    return cls(**given)


def mapping(data: object) -> dict[str, Any]:
    """Return ``data`` as a dictionary, or raise :class:`SettingError` if it is not a mapping of names."""
    if not isinstance(data, Mapping):
        raise SettingError((), f"is {data!r}; it must be a mapping of names to values.")
    for name in data:
        if not isinstance(name, str):
            raise SettingError((), f"has the key {name!r}; keys must be texts.")
    return dict(data)


def check_names(given: Iterable[str], known: Iterable[str], *, kind: str) -> None:
    """
    Raise :class:`SettingError` for a name that does not exist, with the nearest one that does.

    :param given: The names that were used.
    :param known: The names that there are.
    :param kind: What has these names, for the error.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            raise SettingError((name,), f"is not known: {kind} has no such name.{nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a sentence with the name that was probably meant; nothing like it, and it is all names."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" There are: {', '.join(known)}."


def plain(instance: DataclassInstance) -> dict[str, Any]:
    """Return the fields of an instance as plain values that JSON and YAML can hold."""
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in values.items()}


@cache
def _kinds(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _fit(kind: Any, value: Any, path: Path) -> Any:
    """Return ``value`` as ``kind`` has it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fit_mark(arguments[1], _fit(arguments[0], value, path), path)
    if type(None) in arguments:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _fit(inner, value, path)
    if origin is Literal:
        return _fit_choice(arguments, value, path)
    if issubclass(kind, StrEnum):
        return kind(_fit_choice([member.value for member in kind], value, path))
    return _fit_scalar(kind, value, path)


def _fit_mark(mark: Range | Filled, value: Any, path: Path) -> Any:
    if isinstance(mark, Range) and value not in mark:
        raise SettingError(path, f"is {value!r}; it must be a number {mark}.")
    if isinstance(mark, Filled) and not value:
        raise SettingError(path, f"is {value!r}; it must not be empty.")
    return value


def _fit_choice(choices: Iterable[Any], value: Any, path: Path) -> Any:
    for choice in choices:
        # A boolean equals a number, and is none.
        if choice == value and isinstance(value, type(choice)) and not isinstance(value, bool):
            return choice
    raise SettingError(path, f"is {value!r}; it must be one of {', '.join(map(repr, choices))}.")


def _fit_scalar(kind: type, value: Any, path: Path) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    raise SettingError(path, f"is {value!r}; it must be {words[kind]}.")
