"""Wait for the answer to a request that somebody else sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm._compat import AirflowSkipException, Context
from airflow_async_sm.collecting import CollectsAnswer
from airflow_async_sm.core import limits
from airflow_async_sm.core.answers import MAX_RESULT_BYTES
from airflow_async_sm.core.handles import NEVER, Handle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome
from airflow_async_sm.core.templates import optional
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.links import INVOCATION_LINKS
from airflow_async_sm.sensors.base import SageMakerAsyncBaseSensor
from airflow_async_sm.triggers.inference import ON_403, SageMakerAsyncInferenceTrigger

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["SageMakerAsyncResultSensor"]

# What boto3's reply to a submission calls them.
_REPLY: Final = {
    "OutputLocation": "output_location",
    "FailureLocation": "failure_location",
    "InferenceId": "inference_id",
}
_LOCATIONS: Final = ("output_location", "failure_location")
_KNOWN: Final = (*_LOCATIONS, "endpoint_name", "inference_id")


class SageMakerAsyncResultSensor(CollectsAnswer, SageMakerAsyncBaseSensor):
    """
    Wait for the answer to a request that another task, or somebody without Airflow, sent.

    Where its answer will be is all that has to be known of the request. With the location of its failure the
    task fails as soon as that is told there, and with its endpoint as soon as that is gone. When nothing can
    come any more is known only of a request that a task of this package sent; others are waited for until the
    timeout.

    Nothing is ever submitted, and nobody else is hindered: many sensors may wait for one request, and one
    that is cleared returns the same answer again.

    The task returns what ``result`` says. Where that is not the location, the XCom ``answer`` has the
    location and what else is known: ``endpoint_name``, ``inference_id``, ``output_location``,
    ``content_type``, ``size`` in bytes, ``submitted_at`` and ``answered_at`` in seconds since 1970 (UTC),
    ``seconds`` between them and, where they apply, ``input_location`` and ``copied_to``. What is not known of
    the request is ``None``.

    :param handle: What is known of the request: what the invoke operator returns with
        ``wait_for_completion=False``, boto3's reply to ``invoke_endpoint_async``, or any dictionary with an
        ``output_location``. As a text it has to be JSON. Give either ``handle`` or ``output_location``.
        (templated)
    :param output_location: S3 URI where the answer will be. (templated)
    :param failure_location: S3 URI where a failure will be told. Default: what ``handle`` says; else a failed
        request is not noticed. (templated)
    :param endpoint_name: Name of the endpoint, at most 63 characters. It is looked at once a minute. Default:
        what ``handle`` says; else the endpoint is not looked at. (templated)
    :param inference_id: Name of the request, for logs and for what the task returns. Default: what ``handle``
        says. (templated)
    :param result: What the task returns. ``"location"``: where the answer is, with its type, size and times.
        ``"json"``, ``"text"``, or ``"bytes"`` as Base64 text: the answer itself. A function: what it makes of
        the answer's bytes. Default ``"location"``.
    :param result_schema: What the answer has to be: a JSON Schema, or a pydantic model. Default: anything.
    :param max_result_bytes: Most bytes of an answer that goes into XCom. Default 49,152.
    :param on_large_result: ``"fail"``, or ``"location"`` to return the location of an answer that is larger.
        Default ``"fail"``.
    :param copy_to: Where to copy the answer: an S3 URI or any address that ``ObjectStoragePath`` takes; with
        a slash at its end, a folder. Default: nowhere. (templated)
    :param on_403: What to do where S3 refuses the looks and will not say whether the answer is there:
        ``"fail"`` ends the wait, ``"wait"`` goes on until the answer appears. Default ``"fail"``.
    :param poke_interval: Seconds between two looks, at least 1, or a ``timedelta``. Default 30. Each look is
        one or two S3 HEAD requests. Where the wait is deferred it is the longest pause: a young wait is
        looked at more often.
    :param timeout: Seconds to wait, counted from the first look and kept across triggerer restarts, or a
        ``timedelta``. Default: Airflow's ``[sensors] default_timeout``, a week.
    :param mode: ``"poke"`` holds the worker between two looks, ``"reschedule"`` gives it back. Default
        ``"poke"``.
    :param soft_fail: Skip the task, instead of failing it, when the request failed or expired, could not be
        looked at, or was not answered in time, and when its answer is not what the task is to return. Bad
        input fails it anyhow. Default ``False``.
    :param deferrable: Wait in the triggerer and hold no worker; ``mode`` has no effect then. Default:
        Airflow's ``[operators] default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input. Not retried.
    :raises InferenceFailed: the failure object is there; its text is in the message. There is a subclass for
        each kind of failure.
    :raises InferenceExpired: nothing can arrive any more.
    :raises EndpointLost: the endpoint is gone or broken, so nothing can arrive any more.
    :raises AirflowSensorTimeout: ``timeout`` passed first. Not retried.
    :raises LookFailed: S3 refuses the looks, or could not be looked at, 21 times in a row, or at the last
        look before the timeout. With ``mode="reschedule"`` nobody counts: failed looks are borne until the
        timeout.
    :raises ResultUnreadable: the answer is there, but must not be read.
    :raises ResultTooLarge: the answer is larger than XCom may hold. Not retried.
    :raises ResultInvalid: the answer is not what ``result`` or ``result_schema`` say. Not retried.
    :raises AirflowSkipException: with ``soft_fail``, in place of all but the first.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncBaseSensor.template_fields,
        "handle",
        *_KNOWN,
        "copy_to",
    )
    operator_extra_links = INVOCATION_LINKS
    handle_type = InvocationHandle

    def __init__(
        self,
        *,
        handle: Mapping[str, Any] | str | None = None,
        output_location: str | None = None,
        failure_location: str | None = None,
        endpoint_name: str | None = None,
        inference_id: str | None = None,
        result: str | Callable[[bytes], Any] = "location",
        result_schema: Any = None,
        max_result_bytes: int = MAX_RESULT_BYTES,
        on_large_result: str = "fail",
        copy_to: str | PathLike[str] | None = None,
        on_403: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_one_of(handle, output_location)
        self.handle = handle
        self.output_location = output_location
        self.failure_location = failure_location
        self.endpoint_name = endpoint_name
        self.inference_id = inference_id
        self.result = result
        self.result_schema = result_schema
        self.max_result_bytes = max_result_bytes
        self.on_large_result = on_large_result
        self.copy_to = copy_to
        self.on_403 = on_403

    @cached_property
    def hook(self) -> SageMakerAsyncHook:
        """The hook that all waits of this process share, got on first use: importing it loads boto3."""
        from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

        return SageMakerAsyncHook.shared(self.aws_params)

    def trigger(self, began_at: float) -> SageMakerAsyncInferenceTrigger:
        """Return the wait for the answer."""
        if self.on_403 not in ON_403:
            raise InvalidInput(f"on_403 is {self.on_403!r}; expected one of {', '.join(ON_403)}.")
        self.check_result()
        known = self._known()
        handle = InvocationHandle(**{"submitted_at": began_at, "expires_at": NEVER, **known})
        _check_locations(handle)
        _ = self.hook.expected_bucket_owner
        return SageMakerAsyncInferenceTrigger(
            **handle.to_dict(),
            **self.aws_params.to_dict(),
            deadline_at=began_at + self.timeout,
            poll_interval=self.poke_interval,
            on_403=self.on_403,
        )

    def collect(self, handle: InvocationHandle, context: Context) -> Any:
        """Take over the answer."""
        try:
            return self.collect_answer(
                self.hook, handle, context, knows_submission="submitted_at" in self._known()
            )
        except SageMakerAsyncError as error:
            # Airflow's own loop skips a task for some errors only, and what resumes it for others.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def error(self, handle: Handle, outcome: Outcome) -> SageMakerAsyncError:
        """Return the error for a request without an answer."""
        if not isinstance(handle, InvocationHandle):
            return super().error(handle, outcome)
        finds = "finds the same" if outcome.end in (End.FAILED, End.EXPIRED) else "looks again"
        again = f"A retry of the task {finds}; nothing is submitted."
        return self.answer_error(self.hook, handle, outcome, again=again)

    def _known(self) -> dict[str, Any]:
        """Return what is known of the request: what the handle says, and what is given besides."""
        handle = optional("handle", self.handle)
        given = {name: optional(name, getattr(self, name)) for name in _KNOWN}
        _check_one_of(handle, given["output_location"])
        told = {} if handle is None else _read(handle)
        known = {**told, **{name: value for name, value in given.items() if value is not None}}
        if known.get("endpoint_name") is not None:
            limits.ENDPOINT_NAME.check("endpoint_name", known["endpoint_name"])
        return known


def _check_one_of(handle: Any, output_location: Any) -> None:
    if (handle is None) == (output_location is None):
        which = "neither is given" if handle is None else "both are given"
        raise InvalidInput(f"Either handle or output_location is needed; {which}.")


def _read(handle: Any) -> dict[str, Any]:
    """Return what a handle says, by our names."""
    if isinstance(handle, str):
        try:
            handle = json.loads(handle)
        except ValueError:
            raise InvalidInput(
                "handle is a text that is not JSON. Give what the other task returns (task.output), or end "
                "the template with '| tojson'."
            ) from None
    if not isinstance(handle, Mapping):
        raise InvalidInput(f"handle is of type {type(handle).__name__}; a dictionary is needed.")
    names = _REPLY | {field.name: field.name for field in fields(InvocationHandle)}
    told = {ours: handle[name] for name, ours in names.items() if handle.get(name) is not None}
    if "output_location" not in told:
        raise InvalidInput(
            f"handle has no output_location; it has {', '.join(map(str, handle)) or 'nothing'}."
        )
    return told


def _check_locations(handle: InvocationHandle) -> None:
    # Of a request that a task of this package sent, only the folders may be known, which are its own. In
    # anybody else's folder the first object would be taken for the answer.
    ours = handle.expires_at < NEVER
    for name in _LOCATIONS:
        location = getattr(handle, name)
        if location is not None:
            S3Uri.parse(location, argument=name, needs_key=not (ours and location.endswith("/")))
