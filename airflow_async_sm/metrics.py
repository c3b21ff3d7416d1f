"""
What happened, counted in Airflow's own metrics: StatsD, DataDog or OpenTelemetry, as the installation has it.

===================================  =========================================================================
``sagemaker_async.submitted``        counter: requests that were sent
``sagemaker_async.reattached``       counter: tasks that waited for a request that an earlier try had sent
``sagemaker_async.succeeded``        counter: requests that were answered
``sagemaker_async.failed``           counter: waits for one request that ended without an answer; tag
                                     ``kind``: how
``sagemaker_async.looks``            counter: looks of workers at what tells of an end
``sagemaker_async.wait_seconds``     timer: from the submission to the end of one request
``sagemaker_async.watcher.waits``    gauge: waits that a triggerer has at the moment
``sagemaker_async.watcher.rounds``   counter: rounds in which it looked at those that were due
``sagemaker_async.watcher.looks``    counter: requests that took; tag ``kind``: ``listing``, ``heads`` or
                                     ``look`` (at one request by itself)
``sagemaker_async.watcher.hits``     counter: waits that it saw end
``sagemaker_async.watcher.errors``   counter: looks that failed
``sagemaker_async.watcher.turn``     timer: the longest that it held up the event loop
===================================  =========================================================================

A triggerer tells of its watcher once a minute: of each, where waits reach AWS in different ways.
Airflow puts its own prefix before the names, and gives the tags to those of these systems that have tags.
Metrics that are off, missing or broken never end a task: what goes wrong is logged once in each process.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal

__all__ = ["Counted", "Measured", "Timed", "count", "gauge", "timing"]

Counted = Literal[
    "submitted",
    "reattached",
    "succeeded",
    "failed",
    "looks",
    "watcher.rounds",
    "watcher.looks",
    "watcher.hits",
    "watcher.errors",
]
Measured = Literal["watcher.waits"]
Timed = Literal["wait_seconds", "watcher.turn"]

_PREFIX: Final = "sagemaker_async"

_log = logging.getLogger(__name__)

# Airflow from 3.2 on has them twice, for its workers and for its own processes, the triggerer among them.
_SINCE_AIRFLOW_3_2: Final = ("airflow.sdk.observability.stats", "airflow.observability.stats")
_BEFORE: Final = "airflow.stats"

_has_complained = False


def count(name: Counted, how_many: int = 1, /, **tags: Any) -> None:
    """
    Count something.

    :param name: What: one of the names above, without the part they have in common.
    :param how_many: How many of it.
    :param tags: What to tell them apart by; ``None``: not known, and left out.
    """
    try:
        known = {tag: str(value) for tag, value in tags.items() if value is not None}
        _stats().incr(f"{_PREFIX}.{name}", how_many, tags=known or None)
    except Exception as error:  # noqa: BLE001 - the work is paid for: no number is worth losing it
        _complain(error)


def gauge(name: Measured, value: float) -> None:
    """
    Say how much of something there is at the moment.

    :param name: What: one of the names above, without the part they have in common.
    :param value: How much.
    """
    try:
        _stats().gauge(f"{_PREFIX}.{name}", value)
    except Exception as error:  # noqa: BLE001 - as above
        _complain(error)


def timing(name: Timed, seconds: float) -> None:
    """
    Say how long something took.

    StatsD and its like hold durations in milliseconds, whatever they are called, and Airflow converts them.

    :param name: What: one of the names above, without the part they have in common.
    :param seconds: How long, in seconds. What two clocks make less than nothing is nothing.
    """
    try:
        took = max(timedelta(), timedelta(seconds=seconds))
        _stats().timing(f"{_PREFIX}.{name}", took)
    except Exception as error:  # noqa: BLE001 - as above
        _complain(error)


def _stats() -> Any:
    """Return the metrics of this process."""
    found = [stats for stats in map(_loaded, _SINCE_AIRFLOW_3_2) if stats is not None]
    if not found:
        return import_module(_BEFORE).Stats
    return next(filter(_is_set_up, found), found[0])


@cache
def _loaded(module_name: str) -> Any:
    """Return ``Stats`` of a module, or ``None`` if this Airflow does not have it."""
    try:
        return import_module(module_name).Stats
    except ModuleNotFoundError:
        return None


def _is_set_up(stats: Any) -> bool:
    """
    Return whether this process set these metrics up: what is not swallows what it is told.

    Airflow does not say. A later one that keeps it elsewhere counts as set up.
    """
    if hasattr(type(stats), "factory"):  # Airflow 3.2
        factory = stats.factory
    else:
        factory = getattr(sys.modules[stats.incr.__module__], "_factory", stats)
    return factory is not None and getattr(factory, "__name__", "") != "NoStatsLogger"


def _complain(error: Exception) -> None:
    global _has_complained
    if not _has_complained:
        _has_complained = True
        _log.warning("Metrics of this process are lost: %s: %s", type(error).__name__, error)
