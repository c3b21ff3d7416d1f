"""Making sentences of what others say."""

from __future__ import annotations

from typing import Final

__all__ = ["sentence", "shortened"]

_SHOWN: Final = 200


def sentence(text: str) -> str:
    """Return a text with a full stop, unless it ends with a mark of its own."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def shortened(text: str) -> str:
    """
    Return a text, or its first 200 characters.

    :param text: What others say, perhaps of a value that must not be seen.
    """
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
