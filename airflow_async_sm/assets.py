"""
What the events of a task's outlets tell of its answer.

A DAG that is scheduled on an asset (Airflow 2.11: a dataset) finds in the event where the answer is, and need
not be told in another way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Final

from airflow_async_sm._compat import Context

__all__ = ["describe_outlets"]

_log = logging.getLogger(__name__)

_TOLD: Final = {
    "location": "output_location",
    "inference_id": "inference_id",
    "endpoint_name": "endpoint_name",
    "size": "size",
    "seconds": "seconds",
    "manifest": "manifest",
    "summary": "summary",
    "counts": "counts",
    "dead_letter": "dead_letter",
    "parquet": "parquet",
    "results": "results",
}
"""What an event tells, by what it is called in the answer."""


def describe_outlets(context: Context, outlets: Iterable[Any], answer: Mapping[str, Any]) -> None:
    """
    Tell the events of a task's outlets of its answer: ``location``, ``inference_id``, and what else is known.

    Of outlets that are assets (Airflow 2.11: datasets), or refer to one by name or address. An alias, which
    names no asset by itself, and all other outlets are left alone, and so is what the task or a hook of the
    DAG's author told an event before. What goes wrong is logged once: it must not end the task.

    :param context: The context the task runs in.
    :param outlets: The outlets of the task.
    :param answer: What the task knows of its answer.
    """
    failed: list[str] = []
    try:
        described = [outlet for outlet in outlets if isinstance(outlet, _described_types())]
        told = {name: answer[key] for name, key in _TOLD.items() if answer.get(key) is not None}
    except Exception as error:  # noqa: BLE001 - the answer is paid for: no event about it is worth losing it
        failed.append(f"{type(error).__name__}: {error}")
        described, told = [], {}
    for outlet in described:
        try:
            extra = context["outlet_events"][outlet].extra
            extra.update({name: value for name, value in told.items() if name not in extra})
        except Exception as error:  # noqa: BLE001 - as above; and the other outlets can have theirs
            failed.append(f"{outlet!r}: {type(error).__name__}: {error}")
    if failed:
        _log.warning("Events of outlets do not tell of the answer: %s", "; ".join(failed))


def _described_types() -> tuple[type[Any], ...]:
    """Return the types of the outlets whose events belong to one asset each."""
    try:
        definitions: Any = import_module("airflow.sdk.definitions.asset")
    except ModuleNotFoundError:  # Airflow 2.11
        return (import_module("airflow.datasets").Dataset,)
    return definitions.Asset, definitions.AssetRef
