"""botocore's errors become this package's errors: by code and type, never by the wording of a message."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoRegionError,
    ParamValidationError,
    SSLError,
)

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable, SubmissionUnconfirmed, Throttled

_THROTTLING_CODES: Final = frozenset(
    {
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""The service turned the call away without beginning it, whatever the HTTP status."""
_PASSING_CODES: Final = _THROTTLING_CODES | {
    "InternalFailure",
    "InternalServerException",
    "RequestTimeout",
    "ResourceLimitExceeded",
    # The credentials' life, or a clock: the next attempt signs anew.
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
}
"""The next attempt may find things otherwise."""


_CREDENTIAL_CODES: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


_HANDSHAKE_REASONS: Final = frozenset(
    {
        "NO_PROTOCOLS_AVAILABLE",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_UNRECOGNIZED_NAME",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)
"""OpenSSL's reasons that can only come up before the first byte of a request."""


def error_code(error: ClientError) -> str:
    """Return the service's own code of an error, for example ``ValidationException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_code(error: ClientError) -> int:
    """Return the HTTP status of an error, or 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def are_no_credentials(error: BaseException) -> bool:
    """Return whether an error says that the credentials are no good, or not any more."""
    return isinstance(error, ClientError) and error_code(error) in _CREDENTIAL_CODES


def is_denial(error: BaseException) -> bool:
    """Return whether an error says that a right is missing, and not that the credentials are no good."""
    if not isinstance(error, ClientError) or are_no_credentials(error):
        return False
    return status_code(error) == 403 or error_code(error) in ("AccessDenied", "AccessDeniedException")


@contextmanager
def translated(action: str) -> Iterator[None]:
    """
    Raise this package's error in place of botocore's.

    :param action: What was being done, for the message: ``"create model churn"``.
    :raises RequestRejected: the call is wrong or not allowed; it would be refused again.
    :raises Throttled: AWS is busy, and did not begin with it.
    :raises ServiceUnavailable: AWS could not be reached or could not answer.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        text = f"Could not {action}: {sentence(str(error))}"
        if _is_final(error):
            raise RequestRejected(f"{text} A retry would be refused as well.") from error
        busy = isinstance(error, ClientError) and error_code(error) in _THROTTLING_CODES
        raise (Throttled if busy else ServiceUnavailable)(f"{text} A retry may succeed.") from error


def _is_final(error: ClientError | BotoCoreError) -> bool:
    if isinstance(error, ClientError):
        return error_code(error) not in _PASSING_CODES and status_code(error) < 500
    return isinstance(error, ParamValidationError | NoRegionError)


@contextmanager
def submission(subject: str) -> Iterator[None]:
    """
    Tell a submission that was refused from one whose reply was lost or cannot be read.

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
        cause = unavailable.__cause__
        if _may_have_been_accepted(cause):
            raise unconfirmed(subject, f"the reply was lost ({cause})") from cause
        raise
    except (KeyError, InvalidInput) as error:
        raise unconfirmed(subject, f"the reply cannot be read ({error!r})") from error


def unconfirmed(subject: str, reason: str) -> SubmissionUnconfirmed:
    """Return the error for a submission that was sent and may have been accepted."""
    return SubmissionUnconfirmed(
        f"Submitted {subject}, but {reason}. It may have been accepted, and its answer may appear under the "
        "endpoint's output path. The task is not retried, because a second request could be a second "
        "inference; clear it to submit again."
    )


def _may_have_been_accepted(cause: BaseException | None) -> bool:
    if isinstance(cause, ClientError):
        return status_code(cause) >= 500 and error_code(cause) not in _THROTTLING_CODES
    if isinstance(cause, SSLError):
        return not _is_handshake(cause)
    # A connection that could not be made is a ConnectionError, which is not an HTTPClientError.
    return isinstance(cause, HTTPClientError)


def _is_handshake(error: SSLError) -> bool:
    """Return whether TLS failed before anything could be sent. botocore has one class for all of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        if isinstance(cause, ssl.SSLError):
            return cause.reason in _HANDSHAKE_REASONS
        inner = getattr(cause, "kwargs", {}).get("error") or next(iter(cause.args), None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    return False
