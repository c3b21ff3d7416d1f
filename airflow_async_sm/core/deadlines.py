"""When a wait ends, so that its own message comes before any of Airflow's."""

from __future__ import annotations

from typing import Final

__all__ = ["before_airflow"]

# How long the ending may take: the event's way to the scheduler, and the start of a worker.
_ENDING_SECONDS: Final = 15.0
_ENDING_SHARE: Final = 0.1


def before_airflow(deadline_at: float, *, began_at: float, execution_timeout: float | None) -> float:
    """
    Return a deadline that passes before Airflow's ``execution_timeout`` ends the task without a word.

    Airflow 2.11 counts it over the deferral, Airflow 3 for each stay on a worker. Here it bounds the whole
    wait on each of them, whether deferred or not.

    :param deadline_at: When the wait would end otherwise, in seconds since 1970 (UTC).
    :param began_at: When this try of the task began, in seconds since 1970 (UTC).
    :param execution_timeout: Airflow's limit for it, in seconds; ``None``: there is none.
    """
    if execution_timeout is None:
        return deadline_at
    margin = min(_ENDING_SECONDS, execution_timeout * _ENDING_SHARE)
    return min(deadline_at, began_at + execution_timeout - margin)
