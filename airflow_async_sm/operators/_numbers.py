"""Whole numbers that may come out of a template."""

from __future__ import annotations

import re
from typing import Any

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.operators.base import optional


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
