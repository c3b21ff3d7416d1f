"""What can be seen of an endpoint and its surroundings before money is spent, and how good it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_async_sm.core.scaling import ScalingState
from airflow_async_sm.core.texts import sentence

__all__ = ["Check", "FolderFacts", "Level", "NotSeen", "PreflightFacts"]


class Level(StrEnum):
    """How good what was found is."""

    OK = "ok"
    WARNING = "warning"
    """It may be right, or could not be looked at."""
    FAILED = "failed"
    """A request would be refused, lost, or paid for in vain."""


@dataclass(frozen=True, slots=True)
class Check:
    """
    One thing that was looked at.

    :param name: What it is, in a word or two.
    :param level: How good it is.
    :param text: What was found and, unless it is ok, what to do, in sentences.
    """

    name: str
    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class NotSeen:
    """
    In the place of a fact that could not be looked at.

    :param reason: What AWS, or boto3, says.
    :param right: The IAM action that is missing, where that is the reason; else empty.
    """

    reason: str
    right: str = ""

    def __str__(self) -> str:
        lacking = f" The right it takes is {self.right}." if self.right else ""
        return sentence(self.reason) + lacking


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderFacts:
    """
    What was seen of a folder that an endpoint writes into.

    :param name: What is written there: ``output`` or ``failure``.
    :param uri: Its S3 URI, as the endpoint has it.
    :param region: Region of its bucket; ``None``: there is no such bucket.
    :param sample: Key of an object in it; ``None``: it is empty.
    :param encrypted: Whether the object that was read is encrypted with a KMS key; ``False`` also if the
        folder is empty and S3 did not refuse to look in it; ``None``: nothing could be tried.
    """

    name: str
    uri: str
    region: str | NotSeen | None
    sample: str | NotSeen | None = None
    encrypted: bool | NotSeen | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightFacts:
    """
    What was seen of an endpoint and its surroundings.

    :param endpoint_name: Name of the endpoint.
    :param region: The region that was asked; empty if there is none.
    :param identity: The answer of GetCallerIdentity.
    :param missing_connection: Id of an Airflow connection that is wanted and does not exist; else ``None``.
    :param endpoint: The answer of DescribeEndpoint; ``None``: there is no such endpoint.
    :param scaling: What scales it.
    :param folders: The folders that it writes into. Default: none.
    :param boto3_version: Version of the loaded boto3.
    :param members: Members of InvokeEndpointAsync that it can send.
    """

    endpoint_name: str
    region: str
    identity: Mapping[str, Any] | NotSeen
    missing_connection: str | None = None
    endpoint: Mapping[str, Any] | NotSeen | None
    scaling: ScalingState | NotSeen
    folders: tuple[FolderFacts, ...] = ()
    boto3_version: str
    members: Collection[str] | NotSeen
