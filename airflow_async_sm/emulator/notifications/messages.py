"""What the service tells a topic, as JSON text. Nothing here sends anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from airflow_async_sm.emulator.settings.unknowns import (
    ExpiryNotification,
    FailedLocation,
    InlineInputLocation,
    Unknowns,
)
from airflow_async_sm.emulator.work.endings import Ending, Request, Response
from airflow_async_sm.emulator.work.records import RequestState

_BODY_HINT: Final = (
    "Check S3 path location(if configured) or Cloudwatch for additional details."  # As the service writes it.
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """
    Where an endpoint's notifications go.

    :param success: ARN of the topic for results, or ``None``.
    :param error: ARN of the topic for failures, or ``None``.
    :param response_in_success: Whether results are repeated in notifications.
    :param response_in_error: Whether a model's error answers are.
    """

    success: str | None = None
    error: str | None = None
    response_in_success: bool = False
    response_in_error: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Topics:
        """
        Read an endpoint's configuration.

        :param config: Its ``AsyncInferenceConfig``, or ``None`` for an endpoint without one.
        """
        notification = ((config or {}).get("OutputConfig") or {}).get("NotificationConfig") or {}
        included = notification.get("IncludeInferenceResponseIn") or ()
        return cls(
            success=notification.get("SuccessTopic") or None,
            error=notification.get("ErrorTopic") or None,
            response_in_success="SUCCESS_NOTIFICATION_TOPIC" in included,
            response_in_error="ERROR_NOTIFICATION_TOPIC" in included,
        )

    def all(self) -> list[str]:
        """Return the topics, each one once."""
        return list(dict.fromkeys(topic for topic in (self.success, self.error) if topic))


@dataclass(frozen=True, slots=True)
class Notification:
    """One message and the topic that it goes to."""

    topic: str
    text: str


def trial_notification(topic: str) -> Notification:
    """Return the message that a topic gets when an endpoint with it is created."""
    return Notification(topic, _text({**_HEAD, "eventName": "TestNotification"}))


def notification(request: Request, ending: Ending, topics: Topics, unknowns: Unknowns) -> Notification | None:
    """
    Return what is to be said about the end of a request; ``None`` if nothing is.

    :param request: The request.
    :param ending: How it ended.
    :param topics: Where its endpoint's notifications go.
    :param unknowns: What is not known about the form of messages.
    """
    if ending.state is RequestState.SUCCEEDED and topics.success:
        return Notification(topics.success, _text(_success(request, ending, topics, unknowns)))
    status = _failed_status(ending, unknowns)
    if status and topics.error:
        return Notification(topics.error, _text(_failure(status, request, ending, topics, unknowns)))
    return None


_HEAD: Final = {"eventVersion": "1.0", "eventSource": "aws:sagemaker"}


def _failed_status(ending: Ending, unknowns: Unknowns) -> str | None:
    if ending.state is RequestState.FAILED:
        return "Failed"
    if ending.state is RequestState.EXPIRED:
        return _EXPIRY_STATUS[unknowns.expiry_notification]
    return None


_EXPIRY_STATUS: Final = {
    ExpiryNotification.SILENT: None,
    ExpiryNotification.FAILED: "Failed",
    ExpiryNotification.EXPIRED: "Expired",
}


def _success(request: Request, ending: Ending, topics: Topics, unknowns: Unknowns) -> dict[str, Any]:
    included = ending.response if topics.response_in_success else None
    return {
        **_times(request, ending),
        "invocationStatus": "Completed",
        "requestParameters": _request_parameters(request, unknowns),
        "responseParameters": _response_parameters(request, ending),
        **_response_body(included),
        **_tail(request),
    }


def _failure(
    status: str, request: Request, ending: Ending, topics: Topics, unknowns: Unknowns
) -> dict[str, Any]:
    response: dict[str, Any] = {}
    top_level: dict[str, Any] = {}
    if unknowns.failed_response_parameters:
        response |= _response_parameters(request, ending)
    if request.failure is not None and unknowns.failed_location is not FailedLocation.ABSENT:
        place = top_level if unknowns.failed_location is FailedLocation.TOP_LEVEL else response
        place["failureLocation"] = str(request.failure)
    included = topics.response_in_error and unknowns.failed_response_body
    return {
        **_times(request, ending),
        "invocationStatus": status,
        "failureReason": ending.notice or ending.reason or f"The request {ending.state}.",
        "requestParameters": _request_parameters(request, unknowns),
        **({"responseParameters": response} if response else {}),
        **top_level,
        **_response_body(ending.response if included else None),
        **_tail(request),
    }


def _times(request: Request, ending: Ending) -> dict[str, Any]:
    return {
        "awsRegion": request.region,
        "eventTime": timestamp(ending.finished_at),
        "receivedTime": timestamp(request.submitted_at),
    }


def _request_parameters(request: Request, unknowns: Unknowns) -> dict[str, Any]:
    submission = request.submission
    empty = "" if unknowns.inline_input_location is InlineInputLocation.EMPTY else None
    parameters = {
        "accept": submission.accept,
        "contentType": submission.content_type,
        "endpointName": request.endpoint,
        "inputLocation": empty if submission.input_location is None else submission.input_location,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _response_parameters(request: Request, ending: Ending) -> dict[str, Any]:
    described = {} if ending.content_type is None else {"contentType": ending.content_type}
    return {**described, "outputLocation": str(request.output)}


def _response_body(response: Response | None) -> dict[str, Any]:
    if response is None:
        return {}
    content = base64.b64encode(response.content).decode()
    return {"responseBody": {"content": content, "message": _BODY_HINT, "encoding": "BASE64"}}


def _tail(request: Request) -> dict[str, Any]:
    return {"inferenceId": request.submission.inference_id, **_HEAD, "eventName": "InferenceResult"}


def timestamp(moment: float) -> str:
    """Return epoch seconds as the service writes a time: ``2022-01-25T22:46:00.608Z``."""
    # Rounded here: isoformat would cut, and a float is often a hair below the millisecond that it stands for.
    milliseconds = round(moment * 1000)
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
