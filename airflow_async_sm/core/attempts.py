"""
What a task remembers of the request it made, and what it does with that when it runs again.

The service has no idempotency token and no way to ask for a request. So the task writes down what it is about
to ask for, asks, and writes down where the answer will be. Whoever runs the task next reads that first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Final, Self

from airflow_async_sm.core.handles import BatchHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.records import Record, check_text

__all__ = ["ON_CLEAR", "Attempt", "BatchAttempt", "Phase", "Tries", "fingerprint", "why_anew"]

ON_CLEAR: Final = ("reattach", "fresh")


class Phase(StrEnum):
    """How far the task came with its request."""

    OPEN = "open"
    """It was asked for, or was about to be; its end was not seen."""
    COLLECTED = "collected"
    """Its answer was taken over, or its handle handed on."""
    ENDED = "ended"
    """It failed or expired: nothing will come of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries(Record):
    """
    How a task stands with its tries, which tells a retry from everything else that runs a task again.

    Clearing a task gives it ``retries`` more tries from there on, so ``max_tries`` changes. A run that was
    deleted and made again begins to count anew.

    :param number: Which try this is.
    :param most: The task's ``max_tries``.
    :param retries: The task's ``retries``.
    """

    number: int
    most: int
    retries: int

    def __post_init__(self) -> None:
        for field in ("number", "most", "retries"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidInput(f"Tries.{field} is {value!r}; a whole number is needed.")

    @classmethod
    def of(cls, number: Any, most: Any, retries: Any) -> Tries:
        """Return the numbers; what is none, as of an operator that somebody runs by hand, counts as 0."""
        return cls(
            **{
                name: value if isinstance(value, int) else 0
                for name, value in (("number", number), ("most", most), ("retries", retries))
            }
        )

    @classmethod
    def of_task(cls, ti: Any, retries: Any) -> Tries:
        """
        Return the numbers of a task instance.

        :param ti: Whatever has ``try_number`` and ``max_tries``; ``None``: the operator is run by hand.
        :param retries: The task's ``retries``.
        """
        return cls.of(getattr(ti, "try_number", 0), getattr(ti, "max_tries", 0), retries)

    def is_retry_after(self, earlier: Tries, *, same_run: bool = False) -> bool:
        """
        Return whether Airflow came from an earlier try to this one by itself.

        :param earlier: The other one.
        :param same_run: Whether the run was not made again in between. Then the number says nothing: Airflow
            2.11, where it gives up a try whose process still lives, may give its number once more.
        """
        settings = (self.most, self.retries) == (earlier.most, earlier.retries)
        return settings and (same_run or self.number > earlier.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(Record):
    """
    One request of one task.

    :param fingerprint: What :func:`fingerprint` returned for its input.
    :param tries: How the task stood with its tries at that time.
    :param handle: The request. Before the reply has come, its locations are folders of its own.
    :param phase: How far the task came with it.
    """

    handle_type: ClassVar[type[Any]] = InvocationHandle

    fingerprint: str
    tries: Tries
    handle: InvocationHandle
    phase: Phase = Phase.OPEN

    def __post_init__(self) -> None:
        check_text("Attempt", "fingerprint", self.fingerprint)
        for field, kind in (("tries", Tries), ("handle", self.handle_type)):
            value = getattr(self, field)
            if isinstance(value, Mapping):
                object.__setattr__(self, field, kind.from_dict(value))
            elif not isinstance(value, kind):
                raise InvalidInput(f"Attempt.{field} is {type(value).__name__}; a dictionary is needed.")
        try:
            object.__setattr__(self, "phase", Phase(self.phase))
        except ValueError as error:
            raise InvalidInput(
                f"Attempt.phase is {self.phase!r}; expected one of {', '.join(Phase)}."
            ) from error

    def at(self, phase: Phase) -> Self:
        """Return the attempt in another phase."""
        return replace(self, phase=phase)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchAttempt(Attempt):
    """
    One batch of one task.

    :param fingerprint: What :func:`fingerprint` returned for its inputs.
    :param tries: How the task stood with its tries at that time.
    :param handle: The batch.
    :param phase: How far the task came with it.
    """

    handle_type: ClassVar[type[Any]] = BatchHandle

    handle: BatchHandle  # type: ignore[assignment]


def fingerprint(**input_: Any) -> str:
    """
    Return a short text that is the same for the same input, and another for any other.

    :param input_: All that makes the request what it is, as JSON values: the digest of the payload, not the
        payload; not what only names the request.
    """
    # What is no JSON value is refused later, where it is named.
    written = json.dumps(input_, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(written.encode()).hexdigest()[:32]


def why_anew(
    found: Attempt | None,
    *,
    fingerprint: str,
    tries: Tries,
    on_clear: str,
    run_began_at: float | None = None,
    meanwhile: bool = False,
) -> str:
    """
    Return why a task that runs again makes a new request; empty: it takes up the one that it has.

    :param found: What is remembered of an earlier request.
    :param fingerprint: The input as it is now.
    :param tries: How the task stands with its tries now. Where that is no retry, the task was cleared, or its
        run was made again.
    :param on_clear: ``"reattach"`` or ``"fresh"``: what clearing means while the end has not been seen.
    :param run_began_at: When the run of the task began, in seconds since 1970 (UTC); ``None``: not known.
    :param meanwhile: Whether another process of the task made it while this one was about to. Whichever of
        the two is the later try, nobody has cleared anything in between.
    """
    if found is None:
        return "nothing is known of an earlier one"
    earlier = f"the earlier one, {found.handle.name},"
    same_run = run_began_at is not None and found.handle.submitted_at > run_began_at
    cleared = not meanwhile and not tries.is_retry_after(found.tries, same_run=same_run)
    if found.phase is Phase.ENDED:
        return f"{earlier} failed"
    if found.fingerprint != fingerprint:
        return f"{earlier} was for another input"
    if cleared and found.phase is Phase.COLLECTED:
        return (
            f"{earlier} was answered, and this is no retry: the task was cleared, or its run was made again"
        )
    if cleared and on_clear == "fresh":
        return f"the task was cleared, and on_clear is 'fresh'; {earlier} goes on unseen"
    return ""
