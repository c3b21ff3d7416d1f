"""
DAGs whose tasks die, are cleared, lose replies or lose their triggerer.

What is in them, and where, stands in the variable NEVER_TWICE: the test that runs them writes it.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

PLAN = json.loads(os.environ["NEVER_TWICE"])
FOLDER = Path(PLAN["folder"])


class Victim(SageMakerAsyncInvokeOperator):
    """
    Sends one request, and kills its own process once, at one point of its way.

    :param die_at: The point; ``None``: it lives.
    :param with_worker: Whether the worker, which watches over the process, dies with it.
    :param announced: Whether each process says that it is there, for others to kill it.
    """

    me = ""

    def __init__(self, *, die_at=None, with_worker=False, announced=False, **kwargs):
        super().__init__(**kwargs)
        self.die_at = die_at
        self.with_worker = with_worker
        self.announced = announced

    def execute(self, context):
        self._introduce(context, "begins")
        self._die("start")
        return super().execute(context)

    def execute_complete(self, context, event=None, handle=None):
        self._introduce(context, "goes-on")
        return super().execute_complete(context, event, handle)

    @cached_property
    def hook(self):
        hook = super().hook
        invoke = hook.invoke_endpoint_async

        def invoke_or_die(request):
            self._die("promised")
            handle = invoke(request)
            self._die("sent")
            return handle

        hook.invoke_endpoint_async = invoke_or_die
        return hook

    def submit(self, request, context):
        handle = super().submit(request, context)
        self._die("recorded")
        return handle

    def sleep(self, seconds):
        self._die("waiting")
        super().sleep(seconds)

    def defer_to(self, trigger):
        self._die("waiting")
        super().defer_to(trigger)

    def collect(self, handle, context):
        self._die("answered")
        value = super().collect(handle, context)
        self._die("collected")
        return value

    def _introduce(self, context, leg):
        ti = context["ti"]
        self.me = f"{ti.dag_id}.{ti.task_id}.{ti.map_index}"
        if self.announced:
            place = FOLDER / "announced" / f"{self.me}~{ti.try_number}~{leg}"
            written = place.with_name(f".{place.name}")
            written.write_text(str(os.getpid()))
            written.rename(place)

    def _die(self, point):
        if point != self.die_at:
            return
        try:
            (FOLDER / "dead" / self.me).touch(exist_ok=False)
        except FileExistsError:
            return
        if self.with_worker:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


COMMON = {
    "endpoint_name": PLAN["endpoint"],
    "work_prefix": PLAN["work_prefix"],
    "content_type": "application/json",
    "result": "json",
    "poll_interval": 1,
    # More than a test needs: Airflow 2 may use up several tries for one death.
    "retries": PLAN["retries"],
    "retry_delay": timedelta(0),
}


def dag(name):
    return DAG(f"never_twice_{name}", schedule=None, max_active_tasks=64)


def victim(task_id, how="held", *, asks=None, **kwargs):
    """Add a task; what it asks of the model has the task's name."""
    payload = {"name": task_id, **(asks or {})}
    return Victim(task_id=task_id, deferrable=how == "deferred", **{**COMMON, "payload": payload, **kwargs})


with dag("killed"):
    killed = {"asks": {"seconds": 2}, "retries": PLAN["retries_that_suffice"]}
    for point, how in PLAN["killed"]:
        victim(f"killed_{point}_{how}", how, die_at=point, **killed)
    for how in PLAN["power_cut"]:
        victim(f"power_cut_{how}", how, die_at="waiting", with_worker=True, **killed)

with dag("promised"):
    for how in PLAN["promised"]:
        victim(f"promised_{how}", how, die_at="promised", timeout=6, on_clear="fresh", retries=2)

with dag("random"):
    settled = {**COMMON, "timeout": 6, "on_clear": "fresh", "announced": True}
    Victim.partial(task_id="random", **settled).expand_kwargs(
        [
            {
                "payload": {"name": f"random_{index}", "seconds": 1 + index % 4 / 2},
                "deferrable": how == "deferred",
            }
            for index, how in enumerate(PLAN["random"])
        ]
    )

with dag("other"):
    many = {"retries": PLAN["retries_that_suffice"]}
    for how in PLAN["failing"]:
        victim(f"failing_{how}", how, asks={"failures": 1}, **many)
    for how in PLAN["changed"]:
        # The input is another one in each try.
        asks = {"seconds": 1, "try": "{{ ti.try_number }}"}
        victim(f"changed_{how}", how, asks=asks, die_at="recorded", **many)
    for how in PLAN["lost"]:
        victim(f"lost_{how}", how, asks={"seconds": 1}, endpoint_name=PLAN["lossy"], **many)
    for how in PLAN["late"]:
        # The reply comes after the client has given up.
        impatient = {"endpoint_name": PLAN["slow"], "botocore_config": {"read_timeout": 1}}
        victim(f"late_{how}", how, asks={"seconds": 1}, **impatient, **many)
    for how in PLAN["lost_and_killed"]:
        lossy = {"endpoint_name": PLAN["lossy"], "die_at": "waiting"}
        victim(f"lost_and_killed_{how}", how, asks={"seconds": 2}, **lossy, **many)

with dag("cleared"):
    held = {"held": True}
    victim("cleared_deferred", "deferred", asks=held)
    victim("cleared_fresh", "deferred", asks=held, on_clear="fresh")
    if PLAN["cleared_running"]:
        victim("cleared_running", asks=held)

with dag("succeeded"):
    victim("cleared_success")

with dag("waiting"):
    for number in range(PLAN["waiting"]):
        victim(f"waits_{number}", "deferred", asks={"held": True})

with dag("hopeless"):
    victim("hopeless", "deferred", asks={"held": True}, timeout=PLAN["deadline"], retries=0)
