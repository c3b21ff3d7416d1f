"""What a failure object says, made readable."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_FAILURE_BYTES", "failure_text"]

MAX_FAILURE_BYTES: Final = 4_096
"""How much of a failure object is shown. The end is kept: there a traceback names its cause."""


def failure_text(data: bytes, *, total_bytes: int) -> str:
    """
    Return the text of a failure object: perhaps JSON, perhaps a sentence, perhaps no text at all.

    :param data: The object, or its last :data:`MAX_FAILURE_BYTES` bytes.
    :param total_bytes: Size of the whole object, in bytes.
    """
    text = data.decode("utf-8", errors="replace").strip()
    if not text:
        return "(the failure object is empty)"
    return text if total_bytes <= len(data) else f"(the last {len(data):,} of {total_bytes:,} bytes) …{text}"
