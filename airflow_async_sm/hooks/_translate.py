"""botocore's errors become this package's errors: by code and type, never by the wording of a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoRegionError,
    ParamValidationError,
)

from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable, SubmissionUnconfirmed

_BUSY_CODES: Final = frozenset(
    {
        "InternalFailure",
        "InternalServerException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ResourceLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# The service's clock or the credentials' life: the next attempt signs anew.
_STALE_CODES: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"}
)
_REFUSING_CODES: Final = frozenset({"ServiceUnavailable", "ServiceUnavailableException"})


def error_code(error: ClientError) -> str:
    """Return the service's own code of an error, for example ``ValidationException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_code(error: ClientError) -> int:
    """Return the HTTP status of an error, or 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translated(action: str) -> Iterator[None]:
    """
    Raise this package's error in place of botocore's.

    :param action: What was being done, for the message: ``"create model churn"``.
    :raises RequestRejected: the call is wrong or not allowed; it would be refused again.
    :raises ServiceUnavailable: AWS could not be reached or is busy.
    """
    try:
        yield
    except ClientError as error:
        text = f"Could not {action}: {error}"
        code = error_code(error)
        if code in _BUSY_CODES | _STALE_CODES or status_code(error) >= 500:
            raise ServiceUnavailable(f"{text} A retry may succeed.") from error
        raise RequestRejected(f"{text} A retry would be refused as well.") from error
    except (ParamValidationError, NoRegionError) as error:
        raise RequestRejected(f"Could not {action}: {error} A retry would be refused as well.") from error
    except BotoCoreError as error:
        raise ServiceUnavailable(f"Could not {action}: {error} A retry may succeed.") from error


@contextmanager
def submission(subject: str) -> Iterator[None]:
    """
    Tell a submission that was refused from one whose reply was lost.

    The service has no idempotency token: a request sent again is a second inference. So only a refusal, or a
    connection that was never made, counts as "not submitted".

    :param subject: The request, for the message.
    :raises SubmissionUnconfirmed: the request may have been accepted.
    :raises RequestRejected: the service refused it.
    :raises ServiceUnavailable: it was not accepted; a retry may succeed.
    """
    try:
        with translated(f"submit {subject}"):
            yield
    except ServiceUnavailable as unavailable:
        if _may_have_been_accepted(unavailable.__cause__):
            raise SubmissionUnconfirmed(
                f"{subject} was sent, but the reply was lost ({unavailable.__cause__}). It may have been "
                "accepted, and its answer may appear under the endpoint's output path. The task is not "
                "retried, because a second request could be a second inference; clear it to submit again."
            ) from unavailable.__cause__
        raise


def _may_have_been_accepted(cause: BaseException | None) -> bool:
    if isinstance(cause, ClientError):
        return status_code(cause) >= 500 and error_code(cause) not in _REFUSING_CODES
    # A connection that could not be made is a ConnectionError, which is not an HTTPClientError.
    return isinstance(cause, HTTPClientError)
