"""What is waited for: requests that were accepted, and where their objects will be."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

BUCKET = "bench-out"
ENDPOINT = "bench"
OUTPUTS = "async-out/"
FAILURES = "async-fail/"

SUCCEEDED = "Succeeded"
FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Wait:
    """
    One request that is waited for.

    :param index: Its number, from 0.
    :param inference_id: The request's name at the service.
    :param output_key: Key of the answer.
    :param failure_key: Key of the failure.
    """

    index: int
    inference_id: str
    output_key: str
    failure_key: str

    @property
    def output_location(self) -> str:
        """S3 URI of the answer."""
        return f"s3://{BUCKET}/{self.output_key}"

    @property
    def failure_location(self) -> str:
        """S3 URI of the failure."""
        return f"s3://{BUCKET}/{self.failure_key}"


def make_waits(count: int, *, own_folders: bool, seed: int) -> list[Wait]:
    """
    Return the same waits for the same arguments, in whatever process.

    :param count: How many.
    :param own_folders: Whether each has a folder of its own, or all share one.
    :param seed: Begins the random names.
    """
    return list(_waits(count, own_folders=own_folders, seed=seed))


def _waits(count: int, *, own_folders: bool, seed: int) -> Iterator[Wait]:
    draw = random.Random(seed)
    for index in range(count):
        name, folder, inference_id = (str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(3))
        folder = f"{folder}/" if own_folders else ""
        yield Wait(
            index=index,
            inference_id=inference_id,
            output_key=f"{OUTPUTS}{folder}{name}.out",
            failure_key=f"{FAILURES}{folder}{name}-error.out",
        )
