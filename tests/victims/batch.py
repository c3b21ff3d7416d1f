"""
Runs a batch's task again and again, each time in a process of its own that may be killed at one of its calls.

It is told what to do line by line, and says in a line how each process ended. The processes are copies of
this one, which has everything loaded and no threads.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from botocore.client import BaseClient

from airflow_async_sm.core import limits
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators import _batch_parts
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from tests.contract.conftest import TaskInstance

KILLED = 9


def kill_at(number, *, before):
    """Let this process end at its n-th call of AWS, before it is sent, or once it has been carried out."""
    carry_out, lock, made = BaseClient._make_api_call, threading.Lock(), 0

    def call(client, operation, arguments):
        nonlocal made
        with lock:
            mine, made = made, made + 1
        if mine == number and before:
            os._exit(KILLED)
        try:
            return carry_out(client, operation, arguments)
        finally:
            if mine == number:
                os._exit(KILLED)

    BaseClient._make_api_call = call


def run(told):
    if told["kill_at"] is not None:
        kill_at(told["kill_at"], before=told["before"])
    # Nothing can come any more some seconds after the submission, and not six hours.
    limits.EXPIRY_SLACK = told["expires_after"] - 61
    # Two are on their way at the same time, as of a large batch.
    _batch_parts._PART = told["part"]
    operator = SageMakerAsyncBatchOperator(
        task_id="task",
        deferrable=False,
        poll_interval=1,
        request_ttl=60,
        invocation_timeout=1,
        submission_threads=2,
        **told["arguments"],
    )
    task = TaskInstance(run_id=told["run_id"], try_number=told["try_number"], max_tries=5)
    returned = operator.execute({"ti": task})
    Path(told["returned"]).write_text(json.dumps(returned))


def main():
    # What others print goes elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what):
        print(json.dumps(what), file=answers, flush=True)

    # Clients are made once for all. None of them has a connection yet.
    hook = SageMakerAsyncHook()
    hook.connect()
    _ = hook._s3, hook._s3_looking, hook._sagemaker, hook._sagemaker_looking, hook._runtime
    SageMakerAsyncHook.from_params = classmethod(lambda cls, params: hook)
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run(json.loads(line))
            except BaseException:  # noqa: BLE001 - it is told by the exit code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
