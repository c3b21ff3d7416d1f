"""The settings of an emulator as a whole, and as a file in YAML or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import Fault, fault_from_data
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.settings.values import SettingError, build, check_names, mapping

# What stands for an image in a file: a command, or a text that the emulator's ``images`` understand.
Image = list[str] | str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    Everything about an emulator that a file can say.

    :param behaviour: Waits and limits. Default: the defaults.
    :param unknowns: Positions on what is not documented. Default: the defaults.
    :param faults: What is to go wrong. Default: nothing.
    :param seed: A whole number that makes a run repeatable. Default ``None``: every run is different.
    :param images: What stands for each image. Default: nothing beyond what the emulator knows.
    """

    behaviour: Behaviour = field(default_factory=Behaviour)
    unknowns: Unknowns = field(default_factory=Unknowns)
    faults: tuple[Fault, ...] = ()
    seed: int | None = None
    images: Mapping[str, Image] = field(default_factory=dict)


def read_settings(path: str | Path) -> Settings:
    """
    Read a file.

    :param path: A file whose name ends in ``.json`` holds JSON; every other one holds YAML.
    :raises ValueError: the file is no JSON or YAML, or a setting in it cannot be used. The text has the file,
        the line where it is known, and what is wrong.
    :raises OSError: the file cannot be read.
    """
    # Only who reads a file needs the YAML library.
    from airflow_async_sm.emulator.settings.notation import Notation, NotationError

    file = Path(path)
    try:
        notation = Notation.read(file)
    except NotationError as error:
        raise ValueError(f"{file}{_line(error.line)}: {error}") from error
    try:
        return settings_from_data(notation.data)
    except SettingError as error:
        raise ValueError(f"{file}{_line(notation.line(error.path))}: {error}") from error


def settings_from_data(data: object) -> Settings:
    """
    Read settings from plain data, as a file holds them. What is left out has its default.

    :param data: A mapping with any of ``behaviour``, ``unknowns``, ``faults``, ``seed`` and ``images``; a
        section that is ``None`` is an empty one, and so is the whole.
    :raises SettingError: something is not known, has the wrong type or a value that cannot be.
    """
    given = {} if data is None else mapping(data)
    check_names(given, _READERS, kind="a settings file")
    read = {name: _part((name,), _READERS[name], value) for name, value in given.items() if value is not None}
    return Settings(**read)


def _line(number: int | None) -> str:
    return "" if number is None else f", line {number}"


def _part(path: tuple[str | int, ...], read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except SettingError as error:
        raise error.below(path) from error


def _faults(data: object) -> tuple[Fault, ...]:
    if not isinstance(data, list | tuple):
        raise SettingError((), f"is {data!r}; it must be a list of faults.")
    return tuple(_part((position,), fault_from_data, fault) for position, fault in enumerate(data))


def _seed(data: object) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise SettingError((), f"is {data!r}; it must be a whole number.")
    return data


def _images(data: object) -> dict[str, Image]:
    return {name: _part((name,), _image, stand) for name, stand in mapping(data).items()}


def _image(data: object) -> Image:
    if isinstance(data, str) and data:
        return data
    if isinstance(data, list) and data and all(isinstance(part, str) for part in data):
        return list(data)
    raise SettingError(
        (),
        f"is {data!r}; it must be a command, the address http://host:port of a running server, docker, or "
        "module:function.",
    )


_READERS: dict[str, Callable[[Any], Any]] = {
    "behaviour": lambda data: build(Behaviour, data, kind="behaviour"),
    "unknowns": lambda data: build(Unknowns, data, kind="unknowns"),
    "faults": _faults,
    "seed": _seed,
    "images": _images,
}
