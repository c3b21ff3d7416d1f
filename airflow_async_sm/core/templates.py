"""What comes out of a template is text: what it means where something else was meant."""

from __future__ import annotations

import re
from typing import Any

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["number", "optional", "whole_number"]


def optional(argument: str, value: Any) -> Any:
    """
    Return a templated value, or ``None`` where its template came to nothing.

    :param argument: Its name, for the error.
    :param value: What the template was rendered to.
    :raises InvalidInput: it was rendered to the text ``None``, which nobody means.
    """
    if not isinstance(value, str):
        return value
    if value == "None":
        raise InvalidInput(
            f"{argument} is the text 'None': its template was rendered from a value that is not there."
        )
    return value or None


def whole_number(argument: str, value: Any) -> int:
    """
    Return a number of at least 0, given as one or as its digits: a template is rendered to text.

    :param argument: Its name, for the error.
    :param value: The argument.
    :raises InvalidInput: it is no such number.
    """
    value = optional(argument, value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]+", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"{argument} is {value!r}; a whole number of at least 0 is needed.")
    return value


def number(argument: str, value: Any) -> int | None:
    """
    Return a whole number that may have been left out.

    :param argument: What it is called, for the error.
    :param value: The number, or the text that a template became; ``None`` or an empty text: it was left out.
    :raises InvalidInput: it is neither.
    """
    return None if optional(argument, value) is None else whole_number(argument, value)
