"""
Looks at what became of a request.

The exact place of each object is known, or only a folder that is the request's own. While neither object is
there, the endpoint is looked at now and then: one that is gone answers nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from airflow_async_sm.core.buckets import Sight
from airflow_async_sm.core.endpoint_states import CREATING, progress
from airflow_async_sm.core.failures import LOOK_REFUSED
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import LookError, Observation, Pending, Settled
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.hooks._endpoints import EndpointCalls
from airflow_async_sm.hooks._translate import is_denial, status_code, translated

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import InvocationHandle

# How often an endpoint is looked at, in seconds, however many wait for it.
ENDPOINT_SECONDS: Final = 60.0
# How much the clocks of those may differ who submit, who wait, and of the service, in seconds. A request that
# is younger is not held against an endpoint that was not there a moment before.
CLOCKS_DIFFER: Final = 60.0

_PENDING: Final = Pending()

# A folder may have an object of its own name; a request leaves two others at most.
_LISTED: Final = 10
_FAILURE_SUFFIX: Final = "-error.out"


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """
    What is known of an endpoint.

    :param asked_at: When it was last asked for, in seconds since 1970 (UTC).
    :param seen_at: When ``description`` was asked for; ``None``: there was no answer yet.
    :param description: The answer of DescribeEndpoint; ``None``: there is no such endpoint.
    :param hidden: Whether the right to look at it is missing.
    :param pending: What an absent answer means while it is like that.
    """

    asked_at: float = float("-inf")
    seen_at: float | None = None
    description: Mapping[str, Any] | None = None
    hidden: bool = False
    pending: Pending = _PENDING

    def is_due(self, now: float) -> bool:
        """Return whether it may be asked for again. A clock that was set back must not forbid it for long."""
        return not self.hidden and not 0 <= now - self.asked_at < ENDPOINT_SECONDS

    def seen(self, description: Mapping[str, Any] | None) -> _Endpoint:
        """Return what is known with the answer to the last question."""
        status = "does not exist" if description is None else f"is {progress(description)}"
        pending = Pending(f"the endpoint {status}")
        return replace(self, seen_at=self.asked_at, description=description, pending=pending)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What looks have found out and other looks need not find out again."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    endpoints: dict[str, _Endpoint] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)


class LookCalls(EndpointCalls):
    """One look at a time; others wait between them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory = _Memory()

    def clock(self) -> float:
        """Return the time, in seconds since 1970 (UTC)."""
        return time.time()

    def look_at_result(self, handle: InvocationHandle, *, on_403: str = "fail") -> Observation:
        """
        Look once for the output object and, if it is not there, for the failure object and at the endpoint.

        A request is lost with its endpoint. That is a failure with a ``detail``; a failure that an object
        tells of has none. DescribeEndpoint is called at most once a minute for an endpoint, however many wait
        for it with this hook, and not in the first minute of a request. Where it may not be called, nothing
        is known.

        :param handle: The request, as :meth:`invoke_endpoint_async` returned it.
        :param on_403: What a refusal means that leaves open whether an object is there: ``"fail"``, that no
            look can succeed, or ``"wait"``, that it is not there yet. Default ``"fail"``.
        :raises InvalidInput: ``on_403`` is neither, or a folder is a whole bucket.
        :raises RequestRejected: the look is refused for another reason, for example the credentials.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        if on_403 not in ("fail", "wait"):
            raise InvalidInput(f"on_403 is {on_403!r}; expected 'fail' or 'wait'.")
        patient = on_403 == "wait"
        seen = self._look_at_objects(handle, patient=patient)
        if not isinstance(seen, Pending):
            return seen
        known = self._endpoint(handle)
        if known is None:
            return seen
        if lost := _why_lost(handle, known, self.region):
            # The object may have come after the look at its place and before the endpoint's end.
            seen = self._look_at_objects(handle, patient=patient)
            return Settled(succeeded=False, detail=lost) if isinstance(seen, Pending) else seen
        return Pending("; ".join(part for part in (seen.status, known.pending.status) if part))

    def look_at_endpoints(self, handles: Iterable[InvocationHandle]) -> None:
        """
        Look at the endpoints of requests, as :meth:`look_at_result` does, for :meth:`unanswered`.

        :param handles: The requests.
        """
        oldest: dict[str, InvocationHandle] = {}
        for handle in handles:
            name = handle.endpoint_name or ""
            if name not in oldest or handle.submitted_at < oldest[name].submitted_at:
                oldest[name] = handle
        for handle in oldest.values():
            self._endpoint(handle)

    def unanswered(self, handle: InvocationHandle) -> Pending | None:
        """
        Return what it means that neither object of a request is there; ``None``: look at the request itself.

        Nothing is asked.

        :param handle: The request.
        """
        known = self._memory.endpoints.get((handle.endpoint_name or "").lower())
        if known is None or self.clock() - handle.submitted_at < CLOCKS_DIFFER:
            return _PENDING
        return None if _why_lost(handle, known, self.region) else known.pending

    def look_at_endpoint_of(self, handle: InvocationHandle) -> Observation:
        """
        Return what is known of the endpoint of a request, asked for at most once a minute.

        :param handle: The request. Its locations have no part in it.
        """
        known = self._endpoint(handle)
        if known is None:
            return _PENDING
        lost = _why_lost(handle, known, self.region)
        return Settled(succeeded=False, detail=lost) if lost else known.pending

    def _look_at_objects(self, handle: InvocationHandle, *, patient: bool) -> Observation:
        """Look for both objects. Where both are there, the output is what counts."""
        output = self._find_output(handle, patient=patient)
        if isinstance(output, str):
            return Settled(succeeded=True, location=output)
        failure = self._find_failure(handle, patient=patient)
        if isinstance(failure, str):
            # The output may have come first, between the two looks.
            output = self._find_output(handle, patient=patient)
            if isinstance(output, str):
                return Settled(succeeded=True, location=output)
            return Settled(succeeded=False, location=failure)
        if output is Sight.REFUSED:
            return _refused(handle.output_location, patient=patient)
        if failure is Sight.REFUSED:
            return _refused(str(handle.failure_location), patient=patient)
        return Pending()

    def _find_output(self, handle: InvocationHandle, *, patient: bool) -> str | Sight:
        shared = _share_a_folder(handle)
        return self._find(
            handle.output_location,
            lambda key: not (shared and key.endswith(_FAILURE_SUFFIX)),
            patient=patient,
        )

    def _find_failure(self, handle: InvocationHandle, *, patient: bool) -> str | Sight:
        if handle.failure_location is None:
            return Sight.ABSENT
        shared = _share_a_folder(handle)
        return self._find(
            handle.failure_location,
            lambda key: not shared or key.endswith(_FAILURE_SUFFIX),
            patient=patient,
        )

    def _find(self, location: str, wanted: Callable[[str], bool], *, patient: bool) -> str | Sight:
        """Return where an object is that was found in a folder, or empty text for one at its exact place."""
        uri = S3Uri.parse(location)
        if not location.endswith("/"):
            return self._find_object(uri, patient=patient)
        if not uri.key.strip("/"):
            raise InvalidInput(f"{location} is a whole bucket; a folder in it is needed.")
        # The endpoint's path may end with a slash, and nobody has said what the service makes of two.
        for folder in dict.fromkeys((uri.key, re.sub("/+", "/", uri.key).lstrip("/"))):
            keys = self._list(uri.bucket, f"{folder.rstrip('/')}/", most=_LISTED)
            if keys is None:
                return Sight.REFUSED
            for key in keys:
                if not key.endswith("/") and wanted(key):
                    return str(S3Uri(uri.bucket, key))
        return Sight.ABSENT

    def _find_object(self, uri: S3Uri, *, patient: bool) -> str | Sight:
        sight = self._sight(uri)
        if sight is not Sight.REFUSED:
            return "" if sight is Sight.PRESENT else sight
        unlisted = self._memory.unlisted
        if patient and uri.bucket in unlisted:
            return Sight.REFUSED
        # Who may not list a bucket is not told that an object is not there.
        keys = self._list(uri.bucket, uri.key, most=1)
        if keys is None:
            unlisted.add(uri.bucket)
            return Sight.REFUSED
        return "" if uri.key in keys else Sight.ABSENT

    def _sight(self, uri: S3Uri) -> Sight:
        """Return what one HEAD shows."""
        with translated(f"look at {uri}"):
            try:
                self._s3_looking.head_object(Bucket=uri.bucket, Key=uri.key)
            except ClientError as error:
                if status_code(error) not in (403, 404):
                    raise
                return Sight.REFUSED if status_code(error) == 403 else Sight.ABSENT
        return Sight.PRESENT

    def _list(self, bucket: str, prefix: str, *, most: int) -> list[str] | None:
        """Return the first keys that begin with ``prefix``; ``None``: the right to list them is missing."""
        with translated(f"list s3://{bucket}/{prefix}"):
            try:
                reply = self._s3_looking.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=most)
            except ClientError as error:
                if not is_denial(error):
                    raise
                return None
        return [one["Key"] for one in reply.get("Contents", ())]

    def _endpoint(self, handle: InvocationHandle) -> _Endpoint | None:
        """Return what is known of a request's endpoint, asked for anew if it is time."""
        name, now, memory = handle.endpoint_name, self.clock(), self._memory
        if name is None or now - handle.submitted_at < CLOCKS_DIFFER:
            return None
        # Names that differ in case are one endpoint.
        key = name.lower()
        with memory.lock:
            known = memory.endpoints.get(key, _Endpoint())
            if not known.is_due(now):
                return known
            known = memory.endpoints[key] = replace(known, asked_at=now)
        # Others go on with what was known, and do not wait for the answer.
        known = self._asked(name, known)
        with memory.lock:
            memory.endpoints[key] = known
        return known

    def _asked(self, name: str, known: _Endpoint) -> _Endpoint:
        try:
            description = self.describe_endpoint(name)
        except SageMakerAsyncError as error:
            hidden = is_denial(error.__cause__ or error)
            if hidden:
                self.log.info(
                    "Endpoint %s is not watched, because the right to describe it is missing. If it is "
                    "deleted, waits for it end only when their requests expire. %s",
                    name,
                    error.__cause__,
                )
            return replace(known, hidden=hidden)
        return known.seen(description)


def _why_lost(handle: InvocationHandle, known: _Endpoint, region: str) -> str:
    """Return why nothing can come any more from an endpoint; empty: as far as is known it can."""
    # What was seen earlier may be from before it was made.
    if known.seen_at is None or known.seen_at - handle.submitted_at < CLOCKS_DIFFER:
        return ""
    description = known.description
    if description is None:
        # In another region it never was.
        here = handle.endpoint_region == region
        return f"Endpoint {handle.endpoint_name} does not exist any more." if here else ""
    status = description["EndpointStatus"]
    # What took the request was in service. What is being created now is another.
    if status == CREATING or description["CreationTime"].timestamp() - handle.submitted_at > CLOCKS_DIFFER:
        return f"Endpoint {handle.endpoint_name} was created anew after the request was submitted."
    if status == "Failed":
        return sentence(f"Endpoint {handle.endpoint_name} is {progress(description)}")
    return ""


def _share_a_folder(handle: InvocationHandle) -> bool:
    """Return whether answers and failures come to one folder, where only their names tell them apart."""
    output, failure = handle.output_location, handle.failure_location or ""
    if not (output.endswith("/") and failure.endswith("/")):
        return False
    one, other = (str(S3Uri.parse(location).join()) + "/" for location in (output, failure))
    return one.startswith(other) or other.startswith(one)


def _refused(location: str, *, patient: bool) -> Observation:
    bucket = S3Uri.parse(location).bucket
    text = f"{LOOK_REFUSED} {location} is there (403)"
    if patient:
        return Pending(f"{text}; it is taken for not there yet")
    return LookError(
        f"{text}. Looking needs s3:GetObject on the object and s3:ListBucket on the bucket {bucket}: without "
        "s3:ListBucket an object that is not there yet is refused as well. Grant both, or set "
        "on_403='wait' to go on until the object can be seen.",
        fatal=True,
    )
