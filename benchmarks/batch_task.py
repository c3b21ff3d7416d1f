"""Tasks that write down what each of their processes has cost, and the DAGs that they are in."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from airflow_async_sm._compat import BaseOperator, Context
from airflow_async_sm.operators._batch_looks import Patience
from airflow_async_sm.operators._batch_opener import BatchOpener
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

# Where processes write what they have to tell: a file for each, written when it begins and at its end.
FOLDER_VARIABLE = "AIRFLOW_ASYNC_SM_BENCH_FOLDER"
# Their names. One that is still being written begins with a dot.
TOLD = "[!.]*~*"
# Seconds after which nothing is expected of a request any more; AWS would take longer than a benchmark does.
PATIENCE_VARIABLE = "AIRFLOW_ASYNC_SM_BENCH_PATIENCE"


class Observed(BaseOperator):
    """A task whose processes tell of themselves."""

    def execute(self, context: Context) -> Any:
        """Begin, and tell of it."""
        return self._told(context, "begins", lambda: super(Observed, self).execute(context))

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        handle: Mapping[str, Any] | None = None,
    ) -> Any:
        """Go on, and tell of it."""
        further: Any = super()
        return self._told(context, "goes on", lambda: further.execute_complete(context, event, handle))

    def _told(self, context: Context, leg: str, work: Callable[[], Any]) -> Any:
        ti = context["ti"]
        name = f"{ti.dag_id}~{ti.map_index}~{ti.try_number}~{time.time_ns()}"
        begun_at, cpu = time.time(), _cpu()
        told = {"dag": ti.dag_id, "leg": leg, "pid": os.getpid(), "begun_at": begun_at, "begun_mb": _memory()}
        _tell(name, told)
        try:
            return work()
        finally:
            used = {"cpu_s": _cpu() - cpu, "peak_mb": _memory()}
            _tell(name, {**told, **used, "ended_at": time.time()})


class ObservedBatch(Observed, SageMakerAsyncBatchOperator):
    """A batch as users have it."""


class ObservedInvoke(Observed, SageMakerAsyncInvokeOperator):
    """A single request as users have it."""


class ShortPatience(Patience):
    """Nothing is waited for longer than the emulator takes at most."""

    @property
    def seconds(self) -> float:
        """As the program that began all this says."""
        return float(os.environ[PATIENCE_VARIABLE])


class HastyBatch(ObservedBatch):
    """A batch that defers at once, and sends again soon what was not accepted."""

    def linger(self, handle: Any) -> float:  # noqa: ARG002 - as the operator's
        """Leave the waiting to the triggerer."""
        return 0.0

    def _opener(self, context: Context) -> BatchOpener:
        opener = super()._opener(context)
        patience = ShortPatience(**asdict(opener.limits.patience))
        return replace(opener, limits=replace(opener.limits, patience=patience))


def told(folder: Path) -> list[dict[str, Any]]:
    """Return what all processes have told, in the order in which they began."""
    found = [json.loads(place.read_text()) for place in folder.glob(TOLD)]
    return sorted(found, key=lambda one: float(one["begun_at"]))


def _tell(name: str, what: Mapping[str, Any]) -> None:
    place = Path(os.environ[FOLDER_VARIABLE]) / name
    written = place.with_name(f".{name}")
    written.write_text(json.dumps(what))
    written.rename(place)


def _memory() -> float:
    """Return the most memory that this process has had so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
