"""Who is measured: this provider in three situations, what people use today, and the harness alone."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.waits import BUCKET, ENDPOINT, FAILED, SUCCEEDED, Wait

REGION = "us-east-1"
CONNECTION = "aws_default"

# The provider lets a deferral settle for this long before it asks first: Airflow's shortest heartbeat and a
# little more. A LIST that came before can have been made for somebody else.
_SETTLING_MARGIN = 2.5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """
    What an implementation is told.

    :param url: Where AWS is.
    :param poll: Seconds between two looks.
    :param submitted_at: When the requests were submitted, in seconds since 1970 (UTC).
    """

    url: str
    poll: float
    submitted_at: float


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """
    One way to wait.

    :param name: Its name on the command line.
    :param title: Its name in the table.
    :param triggers: Returns the triggers of one wait; the first event of any ends it.
    :param hosted: Returns the triggers of one wait in a real triggerer, where these are others.
    :param waiter: Returns a function that blocks until one wait is over, for a thread each.
    :param outcome: Returns how a wait ended from the payload of an event and the number of its trigger.
    :param own_folders: Whether each wait has a folder of its own.
    :param with_history: Whether old objects of somebody else lie in the folder.
    :param sees_failures: Whether it notices a failure at all. If not, all its requests succeed.
    :param settles: Whether it waits before it asks first.
    :param needs: Modules that it needs beside the project's.
    :param megabytes: About how much memory a wait takes, so that none is begun that cannot fit.
    """

    name: str
    title: str
    triggers: Callable[[Setting, Wait], Sequence[Any]] | None = None
    hosted: Callable[[Setting, Wait], Sequence[Any]] | None = None
    waiter: Callable[[Setting], Callable[[Wait], str]] | None = None
    outcome: Callable[[Any, int], str] = field(default=lambda payload, number: f"{payload}, {number}")
    own_folders: bool = False
    with_history: bool = False
    sees_failures: bool = True
    settles: bool = False
    needs: tuple[str, ...] = ()
    megabytes: float = 0.05

    @property
    def is_null(self) -> bool:
        """Whether nothing is waited for: the harness alone."""
        return self.triggers is None and self.waiter is None

    def in_triggerer(self) -> Implementation:
        """Return it as it waits in a real triggerer."""
        if self.hosted is None:
            return self
        return replace(self, title="Airflow alone: triggers that only sleep", triggers=self.hosted)

    @property
    def missing(self) -> list[str]:
        """The modules that it needs and that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def settling(self) -> float:
        """Return for how many seconds a new wait may not have asked yet."""
        from airflow.configuration import conf

        heartbeat = conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0)
        return heartbeat + _SETTLING_MARGIN if self.settles else 0.0


def _ours(setting: Setting, wait: Wait) -> Sequence[Any]:
    from airflow_async_sm.triggers.inference import SageMakerAsyncInferenceTrigger

    trigger = SageMakerAsyncInferenceTrigger(
        endpoint_name=ENDPOINT,
        inference_id=wait.inference_id,
        output_location=wait.output_location,
        failure_location=wait.failure_location,
        submitted_at=setting.submitted_at,
        expires_at=setting.submitted_at + 6 * 3600,
        deadline_at=setting.submitted_at + 6 * 3600,
        poll_interval=setting.poll,
        aws_conn_id=CONNECTION,
        region_name=REGION,
    )
    return [trigger]


def _our_outcome(payload: Any, _number: int) -> str:
    return str(payload["outcome"]["end"])


def _key_trigger(setting: Setting, key: str) -> Any:
    from airflow.providers.amazon.aws.triggers.s3 import S3KeyTrigger

    return S3KeyTrigger(
        bucket_name=BUCKET, bucket_key=key, aws_conn_id=CONNECTION, poke_interval=setting.poll
    )


def _key_outcome(payload: Any, number: int) -> str:
    return (SUCCEEDED, FAILED)[number] if payload.get("status") == "success" else str(payload)


def _idle(_setting: Setting, wait: Wait) -> Sequence[Any]:
    from benchmarks.idle import IdleTrigger

    return [IdleTrigger(wait.index)]


def _thread_waiter(setting: Setting) -> Callable[[Wait], str]:
    """Return what a careful hand-written wait does: one client for all, HEAD of both objects, sleep."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=setting.url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106 - of a pretended account
        config=Config(max_pool_connections=50),
    )

    def is_there(key: str) -> bool:
        try:
            client.head_object(Bucket=BUCKET, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return False
        return True

    def wait_for(wait: Wait) -> str:
        while True:
            if is_there(wait.output_key):
                return SUCCEEDED
            if is_there(wait.failure_key):
                return FAILED
            time.sleep(setting.poll)

    return wait_for


_OURS = Implementation(
    name="ours",
    title="**this provider**, one folder",
    triggers=_ours,
    outcome=_our_outcome,
    settles=True,
)

_AIOBOTOCORE = ("aiobotocore",)

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    each.name: each
    for each in (
        Implementation(name="null", title="the harness alone", hosted=_idle),
        _OURS,
        replace(_OURS, name="ours-own", title="**this provider**, a folder each", own_folders=True),
        replace(
            _OURS,
            name="ours-history",
            title="**this provider**, one folder with old objects",
            with_history=True,
        ),
        Implementation(
            name="s3key2",
            title="two `S3KeyTrigger`s (output, failure)",
            triggers=lambda setting, wait: [
                _key_trigger(setting, wait.output_key),
                _key_trigger(setting, wait.failure_key),
            ],
            outcome=_key_outcome,
            needs=_AIOBOTOCORE,
            megabytes=3.0,
        ),
        Implementation(
            name="s3key",
            title="one `S3KeyTrigger` (output only)",
            triggers=lambda setting, wait: [_key_trigger(setting, wait.output_key)],
            outcome=_key_outcome,
            sees_failures=False,
            needs=_AIOBOTOCORE,
            megabytes=1.5,
        ),
        Implementation(
            name="threads", title="a thread each, one boto3 client", waiter=_thread_waiter, megabytes=0.15
        ),
    )
}
