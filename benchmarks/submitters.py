"""A process that submits requests in one of several ways, and says what that has cost."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from airflow_async_sm.batch_inputs import BatchInputs
from airflow_async_sm.core.batches.pace import SubmissionRate
from airflow_async_sm.core.batches.state import Phase
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators._batch_form import BatchForm
from airflow_async_sm.operators._batch_ledger import BatchLedger
from airflow_async_sm.operators._batch_parts import PartSender
from airflow_async_sm.operators._batch_plan import write_plan
from benchmarks.batch_services import BUCKET, ENDPOINT
from benchmarks.telling import say

# A batch has as many threads as its operator takes by default.
_THREADS = 32
_PAYLOAD = [0.5, 3.0, 4.0, 1.0]
_CONTENT_TYPE = "application/json"

Submit = Callable[[], None]


def alone(threads: int) -> Callable[[str, int], Submit]:
    """Return what boto3 does by itself: nothing is written down, no answer would be found again."""

    def prepared(url: str, count: int) -> Submit:
        client: Any = boto3.client(
            "sagemaker-runtime",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - the pretended AWS takes any
            config=Config(max_pool_connections=threads),
        )

        def one(number: int) -> None:
            client.invoke_endpoint_async(
                EndpointName=ENDPOINT,
                Body=b"[0.5, 3.0, 4.0, 1.0]",
                ContentType=_CONTENT_TYPE,
                InferenceId=f"alone-{number}",
            )

        def submit() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, range(count)))

        return submit

    return prepared


def batch(_url: str, count: int) -> Submit:
    """Return what a batch does with inputs that are planned: each part is written down before and after."""
    hook = SageMakerAsyncHook()
    hook.connect()
    found = BatchInputs(inputs=[_PAYLOAD] * count, content_type=_CONTENT_TYPE).read(hook)
    plan = write_plan(hook, S3Uri.parse(f"s3://{BUCKET}/work"), found)
    ledger = BatchLedger(hook, plan.location, plan.count)
    form = BatchForm(
        members={"endpoint_name": ENDPOINT, "content_type": _CONTENT_TYPE},
        token=plan.token,
        extension=f"batches/{plan.token}",
        can_inline=True,
        inputs=f"{plan.location}inputs/",
    )
    sender = PartSender(
        hook=hook,
        plan=plan,
        ledger=ledger,
        form=form,
        rate=SubmissionRate(None),
        threads=_THREADS,
        log=logging.getLogger(__name__),
        clock=time.time,
        ticks=time.monotonic,
    )

    # From Python 3.12 on, each of the threads would make a client of its own.
    _ = hook.invoke_members

    def submit() -> None:
        sender.send(count)
        if ledger.state.number(Phase.OPEN) != count:
            raise RuntimeError("the service has not accepted all")

    return submit


WAYS: dict[str, Callable[[str, int], Submit]] = {
    "boto3 alone, 16 threads": alone(16),
    "boto3 alone, 64 threads": alone(64),
    "a batch, 32 threads": batch,
}


def main() -> None:
    """Submit as many requests as it is told, and say how long that took."""
    way, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # What is loaded and remembered at the first request is there when it counts.
    WAYS[way](url, 300)()
    submit = WAYS[way](url, count)
    begun, cpu = time.monotonic(), time.process_time()
    submit()
    say("done", seconds=time.monotonic() - begun, cpu=time.process_time() - cpu)
    sys.stdin.read()


if __name__ == "__main__":
    main()
