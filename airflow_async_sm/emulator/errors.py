"""What the emulated service refuses, as the errors that AWS's clients know."""

from __future__ import annotations


class AwsError(Exception):
    """
    A refusal that becomes an error answer.

    :param code: The error code that a client sees.
    :param message: The text that a client sees.
    :param status: HTTP status of the answer.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class StateError(Exception):
    """The folder of ``--state`` cannot be used, or holds a state that cannot be read."""


class StorageError(Exception):
    """An object cannot be read or written."""


def runtime_refusal(message: str) -> AwsError:
    """Return the one error that the runtime uses for every bad request."""
    return AwsError("ValidationError", message)


def control_refusal(message: str) -> AwsError:
    """Return the same for the control plane, which spells the code differently."""
    return AwsError("ValidationException", message)


def constraint(message: str) -> str:
    """Return the text of a value that breaks a limit. Only its beginning is known from the service."""
    return f"1 validation error detected: {message}"


def not_imitated(call: str) -> AwsError:
    """Return the error for a call that only AWS has. Its status is one that clients do not retry."""
    return AwsError("NotImplementedException", f"{call} is not imitated by the emulator.", status=501)
