"""API arguments as data: leaving out what is not given, adding to them, comparing them with what exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["given", "is_described_by", "merged"]


def given(arguments: Any) -> Any:
    """Return API arguments without what is ``None``, which boto3 does not take."""
    if isinstance(arguments, Mapping):
        return {name: given(value) for name, value in arguments.items() if value is not None}
    return [given(value) for value in arguments] if isinstance(arguments, list) else arguments


def merged(arguments: Any, more: Any) -> Any:
    """
    Return API arguments with further ones in them. Of a list, the first is added to the first, and so on.

    :param arguments: The arguments.
    :param more: What is added. Where both say something, this counts.
    """
    if isinstance(arguments, Mapping) and isinstance(more, Mapping):
        both = {name: merged(arguments[name], more[name]) for name in arguments.keys() & more.keys()}
        return {**arguments, **more, **both}
    if isinstance(arguments, list) and isinstance(more, list):
        both_lists = [merged(mine, other) for mine, other in zip(arguments, more, strict=False)]
        longer = max(arguments, more, key=len)
        return both_lists + longer[len(both_lists) :]
    return more


def is_described_by(arguments: Any, description: Any) -> bool:
    """
    Return whether what exists is what a call would make.

    :param arguments: The arguments of the call that creates; ``None`` stands for what must not be there.
    :param description: The answer of the call that describes. It may say more: times, ARNs, defaults.
    """
    if arguments is None:
        return not description
    if isinstance(arguments, Mapping) and isinstance(description, Mapping):
        return all(
            # The names of variables are the user's, so each further one makes a difference.
            value == description.get(name)
            if name == "Environment" and value
            else is_described_by(value, description.get(name))
            for name, value in arguments.items()
            if name != "Tags"  # Told by a call of their own.
        )
    if isinstance(arguments, list) and isinstance(description, list):
        return len(arguments) == len(description) and all(map(is_described_by, arguments, description))
    return bool(arguments == description)
