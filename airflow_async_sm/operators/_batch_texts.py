"""What is said of a batch that has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_async_sm.core.batches.state import BatchState
from airflow_async_sm.exceptions import BatchFailed, BatchRejected

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import BatchHandle
    from airflow_async_sm.operators._batch_end import BatchEnd

__all__ = ["batch_failed"]

_TEXTS: Final = 3


def batch_failed(
    handle: BatchHandle, state: BatchState, end: BatchEnd, *, unreadable: int, is_lost: bool
) -> BatchFailed:
    """
    Return the error for a batch with more failures than it may have.

    :param handle: The batch.
    :param state: How far each item is.
    :param end: Where it is written what became of it.
    :param unreadable: How many rows were no inputs.
    :param is_lost: Whether no retry can make it succeed.
    """
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in state.kinds.most_common())
    rest = state.count - state.done
    parts = [f"{handle.subject} has {state.unsuccessful:,} without an answer ({kinds})."]
    if unreadable:
        parts.append(f"{unreadable:,} rows were no inputs.")
    if rest:
        parts.append(f"It was stopped early: {rest:,} are not at their end, and those in the queue go on.")
    helped = sum(not failure.is_permanent for _, failure in state.failures())
    again = helped + rest and not is_lost
    parts.append(
        f"A retry of the task sends {helped:,} of them again, and repeats no others."
        if again
        else "It is not retried: too many would fail again until this is mended. Clearing the task "
        "sends those again that have no answer, and no others."
    )
    parts.append(f"The manifest is {end.manifest}.")
    if end.dead_letter is not None:
        parts.append(f"{end.dead_letter} can be the input_manifest of another batch.")
    shown = [
        f"Input {index:,} ({failure.kind}): {failure.text or 'no answer came'}"
        for (index, failure), _ in zip(state.failures(), range(_TEXTS), strict=False)
    ]
    kind = BatchFailed if again else BatchRejected
    return kind(
        "\n".join([" ".join(parts), *shown]), endpoint_name=handle.endpoint_name, location=end.manifest
    )
