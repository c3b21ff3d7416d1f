"""What has to be done next so that an endpoint becomes what it is meant to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_async_sm.core.endpoint_states import CREATING, Phase, phase_of, progress
from airflow_async_sm.core.endpoints import AsyncEndpointSpec
from airflow_async_sm.core.handles import DELETED, IN_SERVICE, SETTLED
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import sentence

__all__ = ["Action", "IfExists", "Step", "config_objection", "plan_deployment"]


class IfExists(StrEnum):
    """What to do about an endpoint of that name that is something else."""

    UPDATE = "update"
    """Make it what it is meant to be."""
    REUSE = "reuse"
    """Take it as it is."""
    FAIL = "fail"
    """Refuse."""

    @classmethod
    def check(cls, value: object) -> IfExists:
        """
        Return the value, given as one or as its text.

        :raises InvalidInput: it is none of them.
        """
        try:
            return cls(str(value))
        except ValueError:
            raise InvalidInput(f"if_exists is {value!r}; expected one of {', '.join(cls)}.") from None


class Action(StrEnum):
    """What is done next."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    """Remove what failed: nothing else can be done with it."""
    NOTHING = "nothing"
    """It is on its way, or there already."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """
    The next thing to do, and what to wait for then.

    :param action: What to do.
    :param goal: What to wait for: ``InService``, which is the end; ``Deleted``, or ``Settled`` where somebody
        else's change has to end first, and then another step follows.
    :param config_name: The configuration that it has to be in service with; ``None``: any.
    :param text: Why, for a reader.
    """

    action: Action
    goal: str = IN_SERVICE
    config_name: str | None = None
    text: str = ""


def plan_deployment(
    spec: AsyncEndpointSpec, description: Mapping[str, Any] | None, if_exists: IfExists
) -> Step:
    """
    Return the next step. Its answer depends on what there is and on nothing else, so a retry goes on.

    :param spec: What the endpoint is meant to be.
    :param description: The answer of DescribeEndpoint, or ``None`` if there is no such endpoint.
    :param if_exists: What to do about one that is something else.
    """
    phase = phase_of(description)
    if description is None or phase is None:
        return Step(Action.CREATE, config_name=spec.config_name, text="there is no such endpoint")
    status = str(description["EndpointStatus"])
    if phase is Phase.LEAVING:
        return Step(Action.NOTHING, DELETED, text="an earlier one of that name is being deleted")
    if status == "Failed":
        return _clear_away(spec, description, if_exists)
    if phase is Phase.BROKEN:
        return Step(
            Action.REFUSE,
            text=f"it is {sentence(progress(description))} It may go on costing money. Find out why, or "
            "delete it, before it is deployed again.",
        )
    if status == "RollingBack":
        return Step(Action.NOTHING, SETTLED, text=f"another change goes on: {progress(description)}")
    # While it is created, what it will be may not be told yet.
    if status != CREATING and "AsyncInferenceConfig" not in description:
        return Step(
            Action.REFUSE,
            text="it is a real-time endpoint, which cannot become asynchronous. Choose another name, or "
            "delete it first.",
        )
    if _is_meant(spec, description, phase):
        text = f"it has configuration {spec.config_name} already"
        return Step(Action.NOTHING, config_name=spec.config_name, text=text)
    return _change(spec, description, if_exists, phase)


def _clear_away(spec: AsyncEndpointSpec, description: Mapping[str, Any], if_exists: IfExists) -> Step:
    """Delete what failed, where it is this task's to delete."""
    if if_exists is IfExists.UPDATE or description["EndpointConfigName"] == spec.config_name:
        return Step(Action.DELETE, DELETED, text=f"it is {progress(description)}")
    return Step(
        Action.REFUSE,
        text=f"it is {sentence(progress(description))} It is not this task's, and if_exists is "
        f"{if_exists.value!r}: delete it, or choose another name.",
    )


def _change(
    spec: AsyncEndpointSpec, description: Mapping[str, Any], if_exists: IfExists, phase: Phase
) -> Step:
    has = f"configuration {description['EndpointConfigName']}"
    if if_exists is IfExists.FAIL:
        return Step(
            Action.REFUSE,
            text=f"it exists, with {has} instead of {spec.config_name}, and if_exists is 'fail'.",
        )
    if if_exists is IfExists.REUSE:
        return Step(Action.NOTHING, text=f"it exists, with {has}, and is taken as it is")
    if phase is Phase.MOVING:
        return Step(Action.NOTHING, SETTLED, text=f"another change goes on: {progress(description)}")
    text = f"it has {has} instead of {spec.config_name}"
    return Step(Action.UPDATE, config_name=spec.config_name, text=text)


def _is_meant(spec: AsyncEndpointSpec, description: Mapping[str, Any], phase: Phase) -> bool:
    """Return whether the endpoint has the configuration that is meant, or will have it by itself."""
    pending = description.get("PendingDeploymentSummary") if phase is Phase.MOVING else None
    config_name = (pending or description)["EndpointConfigName"]
    return bool(config_name == spec.config_name)


def config_objection(config: Mapping[str, Any]) -> str:
    """
    Return why a configuration that exists cannot make an asynchronous endpoint; empty if it can.

    :param config: The answer of DescribeEndpointConfig.
    """
    variants = config.get("ProductionVariants") or []
    if not config.get("AsyncInferenceConfig"):
        return "it has no AsyncInferenceConfig, so its endpoint would answer real-time requests only"
    if any(variant.get("ServerlessConfig") for variant in variants):
        return "it is serverless, which asynchronous endpoints cannot be"
    if len(variants) != 1 or config.get("ShadowProductionVariants"):
        return "it has several variants; asynchronous endpoints have one"
    return ""
