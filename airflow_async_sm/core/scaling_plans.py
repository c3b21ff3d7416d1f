"""Which calls turn the scaling that exists into the scaling that is wanted, and which remove it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.arguments import is_described_by
from airflow_async_sm.core.scaling import ScalingSpec, ScalingState
from airflow_async_sm.core.scaling_parts import (
    WAKE_POLICY,
    ScalableVariant,
    backlog_policy,
    wake_alarm,
    wake_policy,
    warm_actions,
)

__all__ = [
    "ScalingChange",
    "plan_instances",
    "plan_minimum",
    "plan_removal",
    "plan_scaling",
]

_WARM_ACTION: Final = re.compile(r"airflow-async-sm-warm-[0-9]+-(start|end)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingChange:
    """
    One call that changes something.

    :param operation: Name of boto3's method.
    :param arguments: Its arguments; ``None`` stands for what is left out.
    :param text: What it changes, as a sentence in the past tense.
    :param service: boto3's name of the service. Default: Application Auto Scaling's.
    :param triggers: Name of the policy that the alarm triggers. An earlier call of the same plan may make the
        policy, so its ARN cannot stand among the arguments yet. Default: the call makes no alarm.
    """

    operation: str
    arguments: Mapping[str, Any]
    text: str
    service: str = limits.AUTOSCALING
    triggers: str | None = None


def plan_scaling(
    spec: ScalingSpec, state: ScalingState, variant: ScalableVariant
) -> tuple[ScalingChange, ...]:
    """
    Return the calls that are needed, in order; none if everything is as it shall be.

    Policies and scheduled actions that are not this package's are left as they are.

    :param spec: What shall be.
    :param state: What is.
    :param variant: What is scaled.
    """
    return (
        *_target_changes(spec, state, variant),
        *_policy_changes(backlog_policy(spec, variant), state, variant),
        *(_wake_changes(state, variant) if spec.sleeps else _wake_removal(state, variant)),
        *_warm_changes(spec, state, variant),
    )


def plan_removal(state: ScalingState, variant: ScalableVariant) -> tuple[ScalingChange, ...]:
    """
    Return the calls that leave nothing of a variant's scaling, whoever made it, in order.

    Alarms come first: with the target its policies go, and then nobody could tell whose the alarms were. An
    alarm that triggers another target's policy as well is left to that one.

    :param state: What is.
    :param variant: What is scaled.
    """
    alarms = _alarm_removal(state, set(state.step_policy_arns), variant)
    policies = [_policy_removal(str(policy["PolicyName"]), variant) for policy in state.policies]
    actions = [_action_removal(str(one["ScheduledActionName"]), variant) for one in state.scheduled_actions]
    target = ScalingChange(
        operation="deregister_scalable_target",
        arguments=variant.identity,
        text=f"Deregistered the scalable target of {variant}.",
    )
    return (*alarms, *policies, *actions, *([target] if state.target is not None else []))


def plan_minimum(target: Mapping[str, Any], count: int, variant: ScalableVariant) -> ScalingChange | None:
    """
    Return the call that lets a scalable target keep so many instances, or ``None`` if it does.

    :param target: The scalable target, as AWS describes it. Its maximum is raised where it is in the way.
    :param count: How many instances shall be kept.
    :param variant: What is scaled.
    """
    wanted = {"MinCapacity": count, "MaxCapacity": max(count, target["MaxCapacity"])}
    return _limits_change(target, wanted, variant)


def plan_instances(
    description: Mapping[str, Any], count: int, variant: ScalableVariant
) -> ScalingChange | None:
    """
    Return the call that gives a variant without scaling so many instances, or ``None`` if it has been made.

    :param description: The variant, as ``ProductionVariants`` of DescribeEndpoint has it.
    :param count: How many instances there shall be.
    :param variant: What is changed.
    """
    found = description.get("DesiredInstanceCount")
    if found == count:
        return None
    wanted = {"VariantName": variant.variant_name, "DesiredInstanceCount": count}
    return ScalingChange(
        operation="update_endpoint_weights_and_capacities",
        arguments={"EndpointName": variant.endpoint_name, "DesiredWeightsAndCapacities": [wanted]},
        text=f"Changed the number of instances of {variant} from {found} to {count}.",
        service=limits.CONTROL,
    )


def _target_changes(
    spec: ScalingSpec, state: ScalingState, variant: ScalableVariant
) -> Iterator[ScalingChange]:
    wanted = {"MinCapacity": spec.min_instances, "MaxCapacity": spec.max_instances}
    if state.target is None:
        yield ScalingChange(
            operation="register_scalable_target",
            arguments={**variant.identity, **wanted},
            text=f"Registered {variant} to have {spec.min_instances} to {spec.max_instances} instances.",
        )
        return
    # In warm hours the minimum is theirs. Only what was scheduled already can have set it.
    if state.target["MinCapacity"] in _warm_numbers(spec, state):
        del wanted["MinCapacity"]
    change = _limits_change(state.target, wanted, variant)
    if change is not None:
        yield change


def _limits_change(
    target: Mapping[str, Any], wanted: Mapping[str, int], variant: ScalableVariant
) -> ScalingChange | None:
    # What is not sent stays, also if a scheduled action changes it in this moment.
    changed = {name: value for name, value in wanted.items() if target[name] != value}
    if not changed:
        return None
    told = ", ".join(f"{name} from {target[name]} to {value}" for name, value in changed.items())
    return ScalingChange(
        operation="register_scalable_target",
        arguments={**variant.identity, **changed},
        text=f"Changed the scaling of {variant}: {told}.",
    )


def _warm_numbers(spec: ScalingSpec, state: ScalingState) -> set[int]:
    scheduled = {
        action.get("ScalableTargetAction", {}).get("MinCapacity")
        for action in state.scheduled_actions
        if _is_ours(action)
    }
    return {span.instances for span in spec.warm_hours if span.instances in scheduled}


def _wake_changes(state: ScalingState, variant: ScalableVariant) -> Iterator[ScalingChange]:
    yield from _policy_changes(wake_policy(), state, variant)
    alarm = wake_alarm(variant)
    found = _named(state.alarms, "AlarmName", variant.wake_alarm)
    actions = [policy["PolicyARN"] for policy in state.policies if policy["PolicyName"] == WAKE_POLICY]
    if not actions or not is_described_by({**alarm, "AlarmActions": actions}, found):
        yield ScalingChange(
            operation="put_metric_alarm",
            arguments=alarm,
            text=f"{_made(found)} alarm {variant.wake_alarm}, so that one request wakes {variant}.",
            service=limits.CLOUDWATCH,
            triggers=WAKE_POLICY,
        )


def _wake_removal(state: ScalingState, variant: ScalableVariant) -> Iterator[ScalingChange]:
    policy = _named(state.policies, "PolicyName", WAKE_POLICY)
    yield from _alarm_removal(state, {str(policy["PolicyARN"])} if policy else (), variant)
    if policy:
        yield _policy_removal(WAKE_POLICY, variant)


def _warm_changes(
    spec: ScalingSpec, state: ScalingState, variant: ScalableVariant
) -> Iterator[ScalingChange]:
    wanted = warm_actions(spec)
    for action in wanted:
        name = str(action["ScheduledActionName"])
        found = _named(state.scheduled_actions, "ScheduledActionName", name)
        # The service's default time zone need not be told.
        if not is_described_by(action, found and {"Timezone": "UTC", **found}):
            yield ScalingChange(
                operation="put_scheduled_action",
                arguments={**variant.identity, **action},
                text=f"{_made(found)} scheduled action {name} of {variant}: {action['Schedule']}.",
            )
    ours = {one["ScheduledActionName"] for one in state.scheduled_actions if _is_ours(one)}
    # The start of a span goes before its end, so that nothing stays warm for ever in between.
    for name in sorted(ours.difference(one["ScheduledActionName"] for one in wanted), reverse=True):
        yield _action_removal(name, variant)


def _is_ours(action: Mapping[str, Any]) -> bool:
    return _WARM_ACTION.fullmatch(action["ScheduledActionName"]) is not None


def _policy_changes(
    policy: Mapping[str, Any], state: ScalingState, variant: ScalableVariant
) -> Iterator[ScalingChange]:
    name = policy["PolicyName"]
    found = _named(state.policies, "PolicyName", name)
    if not is_described_by(policy, found):
        yield ScalingChange(
            operation="put_scaling_policy",
            arguments={**variant.identity, **policy},
            text=f"{_made(found)} scaling policy {name} of {variant}.",
        )


def _policy_removal(name: str, variant: ScalableVariant) -> ScalingChange:
    return ScalingChange(
        operation="delete_scaling_policy",
        arguments={**variant.identity, "PolicyName": name},
        text=f"Deleted scaling policy {name} of {variant}.",
    )


def _action_removal(name: str, variant: ScalableVariant) -> ScalingChange:
    return ScalingChange(
        operation="delete_scheduled_action",
        arguments={**variant.identity, "ScheduledActionName": name},
        text=f"Deleted scheduled action {name} of {variant}.",
    )


def _alarm_removal(
    state: ScalingState, policies: Collection[str], variant: ScalableVariant
) -> Iterator[ScalingChange]:
    """Delete the alarms that trigger these policies and no others, and the one that is this package's."""
    for alarm in state.alarms:
        name = alarm["AlarmName"]
        triggered = {action for action in alarm.get("AlarmActions", ()) if ":scalingPolicy:" in action}
        if name == variant.wake_alarm or (triggered and triggered.issubset(policies)):
            yield ScalingChange(
                operation="delete_alarms",
                arguments={"AlarmNames": [name]},
                text=f"Deleted alarm {name} of {variant}.",
                service=limits.CLOUDWATCH,
            )


def _named(described: Sequence[Mapping[str, Any]], member: str, name: str) -> Mapping[str, Any] | None:
    return next((one for one in described if one[member] == name), None)


def _made(found: Mapping[str, Any] | None) -> str:
    return "Made" if found is None else "Changed"
