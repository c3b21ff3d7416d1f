"""
DAGs with a batch each, whose worker dies, whose triggerer is killed, or whose task is cleared.

What is in them, and where, stands in the variable BATCHES: the test that runs them writes it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from airflow_async_sm.operators._batch_looks import Patience
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

PLAN = json.loads(os.environ["BATCHES"])
FOLDER = Path(PLAN["folder"])
# Put together here, so that the DAG as Airflow stores it does not hold it.
SECRET = f"patient-{PLAN['patient']}-is-ill"


class Victim(SageMakerAsyncBatchOperator):
    """
    A batch that says which of its processes begin, and defers at once.

    :param die_after: Its first process kills itself when it has sent so many requests; ``None``: it lives.
    """

    me = ""

    def __init__(self, *, die_after=None, **kwargs):
        super().__init__(**kwargs)
        self.die_after = die_after

    def execute(self, context):
        self._introduce(context, "begins")
        return super().execute(context)

    def execute_complete(self, context, event=None, handle=None):
        self._introduce(context, "goes on")
        return super().execute_complete(context, event, handle)

    def linger(self, handle):
        return 0.0

    def _opener(self, context):
        opener = super()._opener(context)
        seconds = PLAN["patience"].get(context["ti"].dag_id.removeprefix("batch_"))
        if seconds is None:
            return opener

        class Short(Patience):
            """Nothing is waited for longer than the endpoint of the test takes. AWS takes hours."""

            @property
            def seconds(self):
                return seconds

        patience = Short(**asdict(opener.limits.patience))
        return replace(opener, limits=replace(opener.limits, patience=patience))

    @cached_property
    def hook(self):
        hook = super().hook
        invoke, lock, sent = hook.invoke_endpoint_async, threading.Lock(), []

        def invoke_or_die(request):
            handle = invoke(request)
            with lock:
                sent.append(handle)
                if len(sent) == self.die_after:
                    self._die()
            return handle

        hook.invoke_endpoint_async = invoke_or_die
        return hook

    def _introduce(self, context, leg):
        self.me = context["ti"].dag_id
        with (FOLDER / f"{self.me}.starts").open("a") as file:
            file.write(json.dumps({"leg": leg, "pid": os.getpid()}) + "\n")

    def _die(self):
        try:
            (FOLDER / f"{self.me}.dead").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def inputs(name):
    """Payloads that tell the model what to do with them. The first ones fail once."""
    return [
        {"name": f"{name}-{index}", "fails": int(index < PLAN["failing"].get(name, 0)), "who": SECRET}
        for index in range(PLAN["items"][name])
    ]


for name in PLAN["items"]:
    with DAG(f"batch_{name}", schedule=None):
        Victim(
            task_id="batch",
            endpoint_name=PLAN["endpoints"][name],
            work_prefix=PLAN["work_prefix"],
            inputs=lambda name=name: inputs(name),
            max_in_flight=PLAN["in_flight"][name],
            die_after=PLAN["die_after"].get(name),
            retry_delay_seconds=1,
            poll_interval=1,
            deferrable=True,
            # More than a test needs: Airflow 2 may use up several tries for one death.
            retries=5,
            retry_delay=timedelta(0),
        )

# Made a payload by Airflow, of a list that stands in the DAG.
TEMPLATE = f"{{{{ 'patient-' ~ {PLAN['patient']} ~ '-is-ill' }}}}"

with DAG("batch_listed", schedule=None):
    Victim(
        task_id="batch",
        endpoint_name=PLAN["endpoints"]["windows"],
        work_prefix=PLAN["work_prefix"],
        inputs=[{"name": "listed", "fails": 9, "who": TEMPLATE}],
        max_attempts=1,
        poll_interval=1,
        deferrable=True,
    )
