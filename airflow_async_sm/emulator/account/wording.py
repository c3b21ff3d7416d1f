"""The service's words for a member of a request that breaks a limit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow_async_sm.core.limits import InvalidInput, NumberLimit, TextLimit


def check_number(limit: NumberLimit, member: str, value: object) -> None:
    """
    Hold a number against its limit.

    :param limit: The limit.
    :param member: Where the number is, as the service writes it, for example
        ``productionVariants.1.member.volumeSizeInGB``.
    :param value: The number.
    :raises InvalidInput: it is none, or breaks the limit.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise broken(member, value, "Member must be a whole number")
    if value < limit.minimum:
        raise broken(member, value, f"Member must have value greater than or equal to {limit.minimum}")
    if value > limit.maximum:
        raise broken(member, value, f"Member must have value less than or equal to {limit.maximum}")


def check_text(limit: TextLimit, member: str, value: object) -> None:
    """
    Hold a text against its limit.

    :param limit: The limit.
    :param member: Where the text is, as the service writes it.
    :param value: The text.
    :raises InvalidInput: it is none, or breaks the limit.
    """
    if not isinstance(value, str):
        raise broken(member, value, "Member must be text")
    if len(value) > limit.max_length:
        raise broken(member, value, f"Member must have length less than or equal to {limit.max_length}")
    if len(value) < limit.min_length:
        raise broken(member, value, f"Member must have length greater than or equal to {limit.min_length}")
    try:
        limit.check(member, value)
    except InvalidInput as refusal:
        pattern = f"Member must satisfy regular expression pattern: {limit.pattern}"
        raise broken(member, value, pattern) from refusal


def check_choice(choices: Collection[str], member: str, value: object) -> None:
    """
    Hold a text against the values that there are.

    :param choices: The values.
    :param member: Where the text is, as the service writes it.
    :param value: The text.
    :raises InvalidInput: it is none of them.
    """
    if value not in choices:
        raise broken(member, value, f"Member must satisfy enum value set: [{', '.join(choices)}]")


def broken(member: str, value: Any, rule: str) -> InvalidInput:
    """
    Return the refusal of a value.

    :param member: Where it is, as the service writes it.
    :param value: The value. A long text is cut: it would be all that there is to read.
    :param rule: The rule that it breaks, in the service's words.
    """
    if value is None:
        return InvalidInput(f"Value null at '{member}' failed to satisfy constraint: Member must not be null")
    shown = str(value)
    if len(shown) > 256:
        shown = f"{shown[:256]}..."
    return InvalidInput(f"Value '{shown}' at '{member}' failed to satisfy constraint: {rule}")
