"""What the things that were seen of an endpoint mean to somebody who wants to spend money on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_async_sm.core.endpoint_states import CREATING, STATUS_PHASES, Phase, capacity
from airflow_async_sm.core.preflight import Check, FolderFacts, Level, NotSeen, PreflightFacts
from airflow_async_sm.core.scaling import ScalingState
from airflow_async_sm.core.texts import sentence

__all__ = ["NEWER_MEMBERS", "preflight_checks"]

NEWER_MEMBERS: Final[Mapping[str, str]] = {
    "Body": "1.43.29",
    "Filename": "1.42.54",
    "S3OutputPathExtension": "1.42.54",
}
"""Members of InvokeEndpointAsync that not every boto3 can send, each with the first version that can."""

_HOW_TO_WAKE: Final = (
    "Add a step scaling policy with an alarm on HasBacklogWithoutCapacity, or keep one instance."
)


def preflight_checks(facts: PreflightFacts) -> tuple[Check, ...]:
    """Return what the facts mean, one check for each thing, in the order in which to mend them."""
    return (
        _connection(facts),
        *_endpoint(facts),
        *(check for folder in facts.folders for check in _folder(folder, facts.region)),
        *_kms(facts),
        _boto3(facts),
    )


def _connection(facts: PreflightFacts) -> Check:
    name, identity = "connection", facts.identity
    if isinstance(identity, NotSeen):
        if isinstance(facts.endpoint, NotSeen):
            return Check(name, Level.FAILED, f"Nothing can be asked: {identity}")
        return Check(name, Level.WARNING, f"It works, but whose it is cannot be told: {identity}")
    caller = f"{identity['Arn']}, account {identity['Account']}, region {facts.region}."
    if facts.missing_connection is not None:
        return Check(
            name,
            Level.WARNING,
            f"There is no Airflow connection {facts.missing_connection!r}; without it boto3's own chain is "
            f"used: {caller}",
        )
    return Check(name, Level.OK, caller)


def _endpoint(facts: PreflightFacts) -> Iterator[Check]:
    name, description = "endpoint", facts.endpoint
    if isinstance(description, NotSeen):
        # Who may submit may still lack the right to look. For any other reason it cannot be reached at all.
        level = Level.WARNING if description.right else Level.FAILED
        yield Check(name, level, f"It cannot be looked at, nor what it writes to: {description}")
        return
    if description is None:
        missing = f"{facts.endpoint_name!r} does not exist. Check its name, the region and the account."
        yield Check(name, Level.FAILED, missing)
        return
    asynchronous = "AsyncInferenceConfig" in description
    yield _status(description)
    yield _asynchronous(asynchronous)
    if asynchronous:
        yield from _paths(description["AsyncInferenceConfig"].get("OutputConfig", {}))
        if _may_serve(description):
            yield _capacity(description, facts.scaling)


def _may_serve(description: Mapping[str, Any]) -> bool:
    status = str(description["EndpointStatus"])
    phase = STATUS_PHASES.get(status, Phase.SERVING)
    # While it is updated an endpoint goes on serving with what it has; while it is created it has nothing.
    return status != CREATING and phase in (Phase.SERVING, Phase.MOVING)


def _status(description: Mapping[str, Any]) -> Check:
    status = str(description["EndpointStatus"])
    reason = str(description.get("FailureReason") or "")
    text = sentence(f"{status}: {reason}" if reason else status)
    if not _may_serve(description):
        later = " Wait until it is in service." if status == CREATING else ""
        return Check("endpoint", Level.FAILED, f"It takes no requests: it is {text}{later}")
    if STATUS_PHASES.get(status) is not Phase.SERVING:
        return Check("endpoint", Level.WARNING, f"It takes requests, but is {text}")
    if reason:
        return Check("endpoint", Level.WARNING, f"It takes requests, but a change of it failed: {text}")
    return Check("endpoint", Level.OK, text)


def _asynchronous(asynchronous: bool) -> Check:
    if asynchronous:
        return Check("asynchronous", Level.OK, "Yes.")
    return Check(
        "asynchronous",
        Level.FAILED,
        "No: its configuration has no AsyncInferenceConfig. Deploy it with one.",
    )


def _paths(output: Mapping[str, Any]) -> Iterator[Check]:
    if not output.get("S3OutputPath"):
        yield Check(
            "output path",
            Level.WARNING,
            "None is set (S3OutputPath): where answers go is the service's choice, and is not checked here.",
        )
    if path := output.get("S3FailurePath"):
        yield Check("failure path", Level.OK, str(path))
    else:
        yield Check(
            "failure path",
            Level.WARNING,
            "None is set (S3FailurePath): a failed request leaves no trace in S3 and is noticed only when it "
            "expires.",
        )


def _capacity(description: Mapping[str, Any], scaling: ScalingState | NotSeen) -> Check:
    name = "capacity"
    current, desired = capacity(description)
    have = f"{current} of {_instances(desired)} in service."
    if isinstance(scaling, NotSeen):
        return Check(name, Level.WARNING, f"{have} What scales it cannot be looked at: {scaling}")
    if current == 0:
        return Check(name, *_without_instance(desired, scaling))
    if scaling.target is None:
        return Check(name, Level.OK, f"{have} The count is fixed: nothing scales it.")
    least, most = scaling.target["MinCapacity"], scaling.target["MaxCapacity"]
    have = f"{have} It scales between {least} and {most}."
    if least == 0 and not scaling.wakes:
        return Check(
            name,
            Level.WARNING,
            f"{have} Once it has scaled to 0, one request does not wake it. {_HOW_TO_WAKE}",
        )
    return Check(name, Level.OK, f"{have} One request wakes it from 0." if least == 0 else have)


def _without_instance(desired: int, scaling: ScalingState) -> tuple[Level, str]:
    """Return level and text for an endpoint that has no instance now."""
    if desired > 0:
        return (
            Level.WARNING,
            f"No instance is in service yet, {_instances(desired)} on the way: requests wait, for minutes.",
        )
    if scaling.target is None:
        return (
            Level.FAILED,
            "No instance is in service, and nothing scales the endpoint: requests wait until they expire. "
            "Set its instance count, or let it scale.",
        )
    if scaling.wakes:
        most = scaling.target["MaxCapacity"]
        return (
            Level.OK,
            f"No instance is in service; one request wakes it (up to {most}), which takes minutes.",
        )
    if scaling.target["MinCapacity"] > 0:
        return (
            Level.WARNING,
            f"No instance is in service, though its scaling keeps {scaling.target['MinCapacity']}: they may "
            "not be available. See DescribeScalingActivities.",
        )
    if any(one.get("ScalableTargetAction", {}).get("MinCapacity") for one in scaling.scheduled_actions):
        return (
            Level.WARNING,
            "No instance is in service, and one request does not wake the endpoint: requests wait for the "
            f"next scheduled action, or expire before it. {_HOW_TO_WAKE}",
        )
    return (
        Level.FAILED,
        "No instance is in service, and one request does not wake the endpoint: it may wait until it "
        f"expires. {_HOW_TO_WAKE}",
    )


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _folder(folder: FolderFacts, region: str) -> Iterator[Check]:
    bucket, listing, reading = (f"{folder.name} {part}" for part in ("bucket", "listing", "reading"))
    if folder.region is None:
        yield Check(bucket, Level.FAILED, f"The bucket of {folder.uri} does not exist.")
        return
    yield Check(bucket, *_region(folder, region))
    yield Check(listing, *_listing(folder))
    yield Check(reading, *_reading(folder))


def _region(folder: FolderFacts, region: str) -> tuple[Level, str]:
    if isinstance(folder.region, NotSeen):
        return Level.WARNING, f"The region of {folder.uri} cannot be looked at: {folder.region}"
    if folder.region != region:
        return (
            Level.WARNING,
            f"{folder.uri} is in {folder.region}, the endpoint in {region}. Whether it may write there is "
            "not documented, and the transfer costs: take a bucket of its own region.",
        )
    return Level.OK, f"{folder.uri} is in {region}, as the endpoint."


def _listing(folder: FolderFacts) -> tuple[Level, str]:
    sample = folder.sample
    if not isinstance(sample, NotSeen):
        return Level.OK, "s3:ListBucket is allowed."
    if sample.right:
        return (
            Level.FAILED,
            f"Without s3:ListBucket on the bucket S3 answers 403 for what is not there yet, and every wait "
            f"fails: {sample}",
        )
    return Level.WARNING, f"It cannot be tried: {sample}"


def _reading(folder: FolderFacts) -> tuple[Level, str]:
    encrypted = folder.encrypted
    if encrypted is None:
        return Level.WARNING, "It cannot be tried without listing, which tells what there is to read."
    if not isinstance(encrypted, NotSeen):
        if folder.sample is None:
            return Level.OK, "The folder is empty; S3 did not refuse to look for an object in it."
        return Level.OK, f"s3:GetObject is allowed (tried on {folder.sample})."
    if encrypted.right:
        return Level.FAILED, f"Answers could not be read: {encrypted}"
    return Level.WARNING, f"It cannot be tried: {encrypted}"


def _kms(facts: PreflightFacts) -> Iterator[Check]:
    described = facts.endpoint if isinstance(facts.endpoint, Mapping) else {}
    key = described.get("AsyncInferenceConfig", {}).get("OutputConfig", {}).get("KmsKeyId")
    if not key:
        return
    if any(folder.encrypted is True for folder in facts.folders):
        yield Check("kms", Level.OK, f"Answers are encrypted with {key}; an encrypted object could be read.")
    else:
        yield Check(
            "kms",
            Level.WARNING,
            f"Answers are encrypted with {key}, and there is none yet to try on. Reading one takes "
            "kms:Decrypt; the key's policy has to allow it too.",
        )


def _boto3(facts: PreflightFacts) -> Check:
    name, members = "boto3", facts.members
    if isinstance(members, NotSeen):
        return Check(name, Level.WARNING, f"What it can send cannot be looked at: {members}")
    missing = [f"{member} ({since})" for member, since in NEWER_MEMBERS.items() if member not in members]
    if not missing:
        return Check(name, Level.OK, f"{facts.boto3_version} can send everything that is used.")
    return Check(
        name,
        Level.WARNING,
        f"{facts.boto3_version} cannot send {', '.join(missing)}; in parentheses the version that can.",
    )
