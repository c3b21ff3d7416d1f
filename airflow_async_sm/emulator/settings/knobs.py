"""Settings that can be turned while the emulator runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.settings.values import SettingError, check_names, mapping

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


class Knobs:
    """
    The current behaviour and unknowns. Read them at the moment of use and do not keep them.

    :param behaviour: What to begin with. Default: the defaults.
    :param unknowns: What to begin with. Default: the defaults.
    """

    def __init__(self, behaviour: Behaviour | None = None, unknowns: Unknowns | None = None) -> None:
        self._lock = threading.Lock()
        self._first = self._current = (behaviour or Behaviour(), unknowns or Unknowns())

    @property
    def behaviour(self) -> Behaviour:
        """The current waits and limits."""
        return self._current[0]

    @property
    def unknowns(self) -> Unknowns:
        """The current positions."""
        return self._current[1]

    def change(
        self, *, behaviour: Mapping[str, Any] | None = None, unknowns: Mapping[str, Any] | None = None
    ) -> None:
        """
        Change some settings, all of them or, if one cannot be, none.

        :param behaviour: New values of :class:`Behaviour` by name; the others stay.
        :param unknowns: New positions of :class:`Unknowns` by name; the others stay.
        :raises SettingError: an unknown name, or a value that does not fit. Its place begins with
            ``behaviour`` or ``unknowns``.
        """
        with self._lock:
            self._current = (
                _changed(self.behaviour, behaviour, "behaviour"),
                _changed(self.unknowns, unknowns, "unknowns"),
            )

    def reset(self) -> None:
        """Go back to what they began with."""
        with self._lock:
            self._current = self._first


def _changed(current: T, changes: Mapping[str, Any] | None, section: str) -> T:
    try:
        given = {} if changes is None else mapping(changes)
        check_names(given, (field.name for field in fields(current)), kind=section)
        return replace(current, **given)
    except SettingError as error:
        raise error.below((section,)) from None
