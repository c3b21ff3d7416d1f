"""Making sentences of what others say."""

from __future__ import annotations

__all__ = ["sentence"]


def sentence(text: str) -> str:
    """Return a text with a full stop, unless it ends with a mark of its own."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
