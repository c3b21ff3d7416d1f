"""What a batch's task is given that is wrong by itself, whatever its inputs are."""

from __future__ import annotations

from typing import Any, Final

from airflow_async_sm.core.attempts import ON_CLEAR
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.transports import TRANSPORTS

__all__ = ["check_arguments"]

_ON_EMPTY: Final = ("fail", "skip")
_WORDS: Final = (("on_clear", ON_CLEAR), ("on_empty", _ON_EMPTY), ("payload_transport", TRANSPORTS))
_NUMBERS: Final = (
    ("max_in_flight", 1, 10_000_000, int),
    ("max_submissions_per_second", 0.01, 1_000_000, float),
    ("submission_threads", 1, 64, int),
    ("max_attempts", 1, 100, int),
    ("retry_delay_seconds", 0, 3_600, float),
    ("max_failures", 0, 100_000_000, float),
)


def check_arguments(task: Any) -> None:
    """
    Check a batch operator's words and numbers.

    :param task: The operator.
    :raises InvalidInput: one of them is wrong.
    """
    if not task.wait_for_completion:
        raise InvalidInput(
            "wait_for_completion is False; a batch is sent while its answers come, so its task waits."
        )
    for name, allowed in _WORDS:
        if (value := getattr(task, name)) not in allowed:
            raise InvalidInput(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
    for name, least, most, kind in _NUMBERS:
        value = getattr(task, name)
        is_number = isinstance(value, int | kind) and not isinstance(value, bool)
        if value is not None and not (is_number and least <= value <= most):
            what = "whole number" if kind is int else "number"
            raise InvalidInput(f"{name} is {value!r}; a {what} from {least:,} to {most:,} is needed.")
