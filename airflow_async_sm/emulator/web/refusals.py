"""What goes wrong at the door: calls that a fault refuses, holds back or leaves without an answer."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import (
    ExpiredCredentials,
    Fault,
    ListDenied,
    ReplyLost,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    SlowAnswer,
    Throttled,
)
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.web.calls import Call, Protocol
from airflow_async_sm.emulator.web.replies import Reply, error_reply, internal_failure

F = TypeVar("F", bound=Fault)

# What s3:ListBucket is for. HeadBucket needs it too.
_LISTINGS: Final = {"ListObjects", "ListObjectsV2", "ListObjectVersions", "HeadBucket"}
_READS: Final = {"GetObject", "HeadObject"}
# Calls that S3 answers in every region.
_EVERYWHERE: Final = {"CreateBucket", "ListBuckets", "GetBucketLocation"}
_THROTTLED: Final = {"sagemaker", "sagemaker-runtime"}
_KMS_ACTIONS: Final = {"GetObject": "kms:Decrypt", "HeadObject": "kms:Decrypt"}


class Refusals:
    """
    Draws the faults that hit a call, and writes the answers.

    :param board: The faults that are on.
    :param knobs: Says how throttling looks.
    :param account_id: The emulated account, for the texts.
    :param bucket_region: Returns where a bucket is, or ``None`` if there is no such bucket.
    """

    def __init__(
        self,
        *,
        board: FaultBoard,
        knobs: Knobs,
        account_id: str,
        bucket_region: Callable[[str], str | None],
    ) -> None:
        self._board = board
        self._knobs = knobs
        self._account_id = account_id
        self._bucket_region = bucket_region
        self._lock = threading.Lock()
        self._numbers: defaultdict[tuple[str | None, str | None], Iterator[int]] = defaultdict(
            lambda: itertools.count(1)
        )

    def reset(self) -> None:
        """Count calls from the start."""
        with self._lock:
            self._numbers.clear()

    def key(self, call: Call) -> str:
        """Return what tells a call from others of its operation: the operation, and its running number."""
        with self._lock:
            number = next(self._numbers[call.service, call.operation])
        return f"{call.service}.{call.operation}/{number}"

    def refuse(self, call: Call, key: str) -> Reply | None:
        """
        Return the answer to a call that is refused, or ``None`` if it may be carried out.

        :param call: The call.
        :param key: What :meth:`key` returned for it.
        """
        error = self._expired(call, key) or self._overloaded(call, key)
        if error is None and call.service == "s3":
            error = self._s3(call, key)
        if error is not None:
            return error_reply(error, call)
        return self._redirect(call) if call.bucket is not None else None

    def slow(self, call: Call, key: str) -> float | None:
        """Return how long a call waits before it is carried out."""
        fault = self._draw(SlowAnswer, call, key)
        return fault.seconds if fault else None

    def lost(self, call: Call, key: str) -> ReplyLost | None:
        """Return what keeps the answer of a call that was carried out from its caller."""
        return self._draw(ReplyLost, call, key)

    def hide(self, call: Call, key: str, reply: Reply) -> Reply:
        """
        Return the answer, or what it is for who may not know whether a key exists.

        :param call: The call.
        :param key: What :meth:`key` returned for it.
        :param reply: Its answer.
        """
        if reply.status != 404 or call.operation not in _READS or call.bucket is None:
            return reply
        if self._bucket_region(call.bucket) is None or self._draw(ListDenied, call, key) is None:
            return reply
        return error_reply(_denied(), call)

    def _draw(self, kind: type[F], call: Call, key: str) -> F | None:
        return self._board.draw(
            kind,
            key,
            operation=call.operation,
            service=call.service,
            bucket=call.bucket,
            endpoint=call.endpoint,
            access_key_id=call.access_key_id,
        )

    def _expired(self, call: Call, key: str) -> AwsError | None:
        if self._draw(ExpiredCredentials, call, key) is None:
            return None
        if call.protocol is Protocol.S3:
            return AwsError("ExpiredToken", "The provided token has expired.")
        code = "ExpiredToken" if call.protocol is Protocol.QUERY else "ExpiredTokenException"
        return AwsError(code, "The security token included in the request is expired", status=403)

    def _overloaded(self, call: Call, key: str) -> AwsError | None:
        if call.service in _THROTTLED and self._draw(Throttled, call, key):
            code, status = self._knobs.unknowns.throttling()
            return AwsError(code, "Rate exceeded", status=status)
        failed = self._draw(ServiceFailed, call, key)
        if failed is None:
            return None
        if failed.status == 503:
            return AwsError("ServiceUnavailable", "The service is unavailable. Please retry.", status=503)
        return internal_failure(call)

    def _s3(self, call: Call, key: str) -> AwsError | None:
        if self._draw(S3SlowDown, call, key):
            return AwsError("SlowDown", "Please reduce your request rate.", status=503)
        denied = self._draw(S3Denied, call, key)
        if denied is not None:
            return self._kms_denied(call) if denied.kms else _denied()
        if call.operation in _LISTINGS and self._draw(ListDenied, call, key):
            return _denied()
        return None

    def _kms_denied(self, call: Call) -> AwsError:
        action = _KMS_ACTIONS.get(call.operation or "", "kms:GenerateDataKey")
        return AwsError(
            "AccessDenied",
            f"User: arn:aws:iam::{self._account_id}:user/emulated is not authorized to perform: {action} on "
            "the resource associated with this ciphertext because no identity-based policy allows the "
            f"{action} action",
            status=403,
        )

    def _redirect(self, call: Call) -> Reply | None:
        """Send a caller on who asks in another region than the bucket's."""
        if call.bucket is None or call.region is None or call.operation in _EVERYWHERE:
            return None
        region = self._bucket_region(call.bucket)
        if region is None or region == call.region:
            return None
        text = (
            "The bucket you are attempting to access must be addressed using the specified endpoint. Please "
            "send all future requests to this endpoint."
        )
        # Without this header clients ask again for ever.
        where = [("x-amz-bucket-region", region)]
        return error_reply(AwsError("PermanentRedirect", text, status=301), call, where)


def _denied() -> AwsError:
    return AwsError("AccessDenied", "Access Denied", status=403)
