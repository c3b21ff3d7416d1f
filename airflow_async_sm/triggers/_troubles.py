"""What a look that could not be made means to a wait."""

from __future__ import annotations

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import LookError
from airflow_async_sm.exceptions import SageMakerAsyncError

__all__ = ["look_error", "tells_of_credentials"]


def look_error(error: Exception) -> LookError:
    """Return what a look saw that raised ``error``. Only bad input is there to stay."""
    cause = _cause(error)
    detail = f"{type(cause).__name__}: {cause}" if cause else str(error)
    return LookError(detail, fatal=isinstance(error, InvalidInput))


def tells_of_credentials(error: Exception) -> bool:
    """Return whether the credentials are no good any more: the secret may have been changed."""
    # Botocore is loaded by then, but not where triggers are only defined.
    from botocore.exceptions import ClientError

    from airflow_async_sm.hooks._translate import are_no_credentials, error_code

    cause = _cause(error)
    # An answer to HEAD has no text to say what is wrong: of a token that has expired, S3 says just 400.
    return isinstance(cause, ClientError) and (are_no_credentials(cause) or error_code(cause) == "400")


def _cause(error: Exception) -> BaseException | None:
    """The hook says what a retry of its call would do; here it is only what hindered it that counts."""
    return error.__cause__ if isinstance(error, SageMakerAsyncError) else error
