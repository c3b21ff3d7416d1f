"""What the calls of Application Auto Scaling need beyond moto, for variants of endpoints."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from airflow_async_sm.emulator.errors import AwsError, constraint, control_refusal, not_imitated
from airflow_async_sm.emulator.scaling.activities import DIMENSION, SERVICE, position_of
from airflow_async_sm.emulator.scaling.moto_alarms import tracked_source
from airflow_async_sm.emulator.scaling.policies import (
    CHANGE_IN_CAPACITY,
    EXACT_CAPACITY,
    PERCENT_CHANGE,
    Step,
    StepScaling,
)
from airflow_async_sm.emulator.scaling.scaler import Scaler
from airflow_async_sm.emulator.scaling.schedules import BadSchedule, parse_schedule
from airflow_async_sm.emulator.scaling.sources import Unsupported

_RESOURCE: Final = re.compile(r"endpoint/[^/]+/variant/[^/]+")
# The largest page of policies, and what tells them apart.
_PAGE: Final = 10
_POLICY_KEY: Final = ("ResourceId", "ScalableDimension", "PolicyName")
_KINDS: Final = {CHANGE_IN_CAPACITY, EXACT_CAPACITY, PERCENT_CHANGE}

Members = Mapping[str, Any]


class ScalingCalls:
    """
    What happens before moto is asked, after it has accepted, and what it lacks.

    Calls for anything but the number of instances of a variant are moto's alone.

    :param scaler: The loop that follows what is set up here.
    """

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._moto = scaler.moto
        self._checks: Mapping[str, Callable[[str, Members], None]] = {
            "RegisterScalableTarget": self._check_registration,
            "DeregisterScalableTarget": self._check_target_found,
            "PutScalingPolicy": self._check_policy,
            "DeleteScalingPolicy": self._check_policy_found,
            "PutScheduledAction": self._check_action,
            "DeleteScheduledAction": self._check_action_found,
        }
        self._consequences: Mapping[str, Callable[[str, Members], None]] = {
            "RegisterScalableTarget": self.target_registered,
            "DeregisterScalableTarget": self.target_deregistered,
            "PutScheduledAction": self.action_scheduled,
        }
        self._answers: Mapping[str, Callable[[str, Members], dict[str, Any] | None]] = {
            "DescribeScalingActivities": self.describe_scaling_activities,
            "DescribeScalingPolicies": self.describe_scaling_policies,
        }

    def answer(self, region: str, call: str, request: Members) -> dict[str, Any] | None:
        """
        Answer a call that moto lacks or gets wrong.

        :param region: Region of the caller.
        :param call: Name of the call.
        :param request: Its members.
        :return: The answer; ``None`` for a call that is moto's.
        :raises AwsError: it is refused.
        """
        return self._answers[call](region, request) if call in self._answers else None

    def check(self, region: str, call: str, request: Members) -> None:
        """
        Refuse what the service refuses and moto does not. To be called before moto is.

        :param region: Region of the caller.
        :param call: Name of the call, for example ``PutScalingPolicy``.
        :param request: Its members.
        :raises AwsError: it is refused.
        """
        if call in self._checks and _is_ours(request):
            self._checks[call](region, request)

    def accepted(self, region: str, call: str, request: Members) -> dict[str, Any] | None:
        """
        Do what follows at once from a call. To be called when moto has answered with success.

        :param region: Region of the caller.
        :param call: Name of the call.
        :param request: Its members.
        :return: What is answered instead; ``None`` for moto's answer.
        """
        if not _is_ours(request):
            return None
        if call in self._consequences:
            self._consequences[call](region, request)
        return self._policy_put(region, request) if call == "PutScalingPolicy" else None

    def describe_scaling_activities(self, region: str, request: Members) -> dict[str, Any]:
        """
        Answer ``DescribeScalingActivities``, which moto lacks.

        :param region: Region of the caller.
        :param request: Its members.
        :raises AwsError: a bad page size or token.
        """
        if request.get("ServiceNamespace") != SERVICE:
            return {"ScalingActivities": []}
        self._scaler.changes.follow(self._scaler.clock.now())
        return self._scaler.changes.activities.describe(region, request)

    def describe_scaling_policies(self, region: str, request: Members) -> dict[str, Any] | None:
        """
        Answer ``DescribeScalingPolicies`` for SageMaker; other services are moto's.

        moto does not show the alarms of users, does not look at the names that are asked for, and takes a
        part of a resource's id for the whole.

        :param region: Region of the caller.
        :param request: Its members.
        :raises AwsError: a bad page size or token.
        """
        if request.get("ServiceNamespace") != SERVICE:
            return None
        size = request.get("MaxResults") or _PAGE
        if not isinstance(size, int) or not 1 <= size <= _PAGE:
            raise control_refusal(f"MaxResults must be between 1 and {_PAGE}.")
        first = position_of(request.get("NextToken")) or 0
        names = request.get("PolicyNames") or ()
        found = [
            one
            for one in self._moto.described_policies(region)
            if request.get("ResourceId") in (None, one["ResourceId"])
            and request.get("ScalableDimension") in (None, one["ScalableDimension"])
            and (not names or one["PolicyName"] in names)
        ]
        answer: dict[str, Any] = {"ScalingPolicies": found[first : first + size]}
        if first + size < len(found):
            answer["NextToken"] = str(first + size)
        return answer

    def target_registered(self, region: str, request: Members) -> None:
        """Move the variant's capacity into the target's limits."""
        self._scaler.into_bounds(region, request["ResourceId"])

    def target_deregistered(self, region: str, request: Members) -> None:
        """Delete what belonged to the target: its policies with their alarms, and its scheduled actions."""
        resource_id = request["ResourceId"]
        self._moto.drop_policies(region, resource_id)
        self._moto.drop_scheduled_actions(region, resource_id)
        self._scaler.forget(region, resource_id)

    def action_scheduled(self, region: str, request: Members) -> None:
        """Let the action count from now by the emulator's clock; moto notes real time."""
        action = self._action(region, request)
        if action is not None:
            action.creation_time = self._scaler.clock.now()

    def _policy_put(self, region: str, request: Members) -> dict[str, Any] | None:
        for one in self._moto.described_policies(region):
            if all(one[member] == request.get(member) for member in _POLICY_KEY):
                return {"PolicyARN": one["PolicyARN"], "Alarms": one["Alarms"]}
        return None  # Somebody has deleted it meanwhile.

    def _check_registration(self, region: str, request: Members) -> None:
        resource_id = str(request.get("ResourceId"))
        if not _RESOURCE.fullmatch(resource_id):
            raise control_refusal("Unsupported service namespace, resource type or scalable dimension")
        target = self._moto.target(region, resource_id)
        if self._scaler.changes.find(region, resource_id) is None:
            raise control_refusal(f"No variant in service is found for the resource ID {resource_id}.")
        minimum = _limit(request, "MinCapacity", target and target.min_capacity)
        maximum = _limit(request, "MaxCapacity", target and target.max_capacity)
        if minimum > maximum:
            raise control_refusal(f"MinCapacity ({minimum}) must not be above MaxCapacity ({maximum}).")

    def _check_target_found(self, region: str, request: Members) -> None:
        if self._moto.target(region, str(request.get("ResourceId"))) is None:
            raise _not_found(f"No scalable target found for {_identity(request)}")

    def _check_target_registered(self, region: str, request: Members) -> None:
        if self._moto.target(region, str(request.get("ResourceId"))) is None:
            raise _not_found(f"No scalable target registered for {_identity(request)}")

    def _check_policy(self, region: str, request: Members) -> None:
        self._check_target_registered(region, request)
        before = self._moto.policy(region, request["ResourceId"], str(request.get("PolicyName")))
        kind = str(request.get("PolicyType") or (before and before.policy_type))
        if kind == "PredictiveScaling":
            raise not_imitated("PutScalingPolicy with PredictiveScaling")
        if kind not in _CONFIGURATIONS or (before is not None and kind != before.policy_type):
            raise control_refusal(f"A policy of type {kind} cannot be put here.")
        member, check = _CONFIGURATIONS[kind]
        given = {name for name, _ in _CONFIGURATIONS.values() if request.get(name) is not None}
        if given - {member} or not (given or before):
            raise control_refusal(f"A policy of type {kind} has {member}, and no other configuration.")
        if given:
            check(request["ResourceId"], request[member])

    def _check_policy_found(self, region: str, request: Members) -> None:
        name = str(request.get("PolicyName"))
        if self._moto.policy(region, str(request.get("ResourceId")), name) is None:
            raise _not_found(f"No scaling policy found for {_identity(request)}, policy name: {name}")

    def _check_action(self, region: str, request: Members) -> None:
        self._check_target_registered(region, request)
        schedule = request.get("Schedule")
        if schedule is None:
            if self._action(region, request) is None:
                raise control_refusal("A new scheduled action needs Schedule.")
            return
        try:
            parse_schedule(str(schedule), timezone=request.get("Timezone"), created=self._scaler.clock.now())
        except BadSchedule as bad:
            raise control_refusal(str(bad)) from bad

    def _check_action_found(self, region: str, request: Members) -> None:
        if self._action(region, request) is None:
            raise _not_found(
                f"No scheduled action found for {_identity(request)}, "
                f"scheduled action name: {request.get('ScheduledActionName')}"
            )

    def _action(self, region: str, request: Members) -> Any | None:
        name = request.get("ScheduledActionName")
        actions = self._moto.scheduled_actions(region, str(request.get("ResourceId")))
        return next((action for action in actions if action.scheduled_action_name == name), None)


def _is_ours(request: Members) -> bool:
    return request.get("ServiceNamespace") == SERVICE and request.get("ScalableDimension") == DIMENSION


def _identity(request: Members) -> str:
    return (
        f"service namespace: {request.get('ServiceNamespace')}, resource ID: {request.get('ResourceId')}, "
        f"scalable dimension: {request.get('ScalableDimension')}"
    )


def _not_found(message: str) -> AwsError:
    return AwsError("ObjectNotFoundException", message)


def _limit(request: Members, name: str, before: int | None) -> int:
    value = request.get(name, before)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise control_refusal(constraint(f"{name} must be a number of 0 or more."))
    return value


def _check_tracking(resource_id: str, config: Members) -> None:
    target = config.get("TargetValue")
    if not isinstance(target, int | float) or target <= 0:
        raise control_refusal(constraint("TargetValue must be a number above 0."))
    kinds = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
    if sum(bool(config.get(kind)) for kind in kinds) != 1:
        raise control_refusal(f"Exactly one of {kinds[0]} and {kinds[1]} is needed.")
    try:
        tracked_source(resource_id, config)
    except Unsupported as unsupported:
        raise not_imitated(f"PutScalingPolicy with this metric ({unsupported})") from unsupported
    except KeyError as missing:
        raise control_refusal(constraint(f"{missing.args[0]} of the metric is missing.")) from missing


def _check_steps(_resource_id: str, config: Members) -> None:
    kind = config.get("AdjustmentType")
    if kind not in _KINDS:
        raise control_refusal(constraint(f"AdjustmentType must be one of {sorted(_KINDS)}."))
    adjustments = config.get("StepAdjustments") or ()
    if not adjustments or any(not isinstance(step.get("ScalingAdjustment"), int) for step in adjustments):
        raise control_refusal("At least one step adjustment is needed, each with a ScalingAdjustment.")
    steps = StepScaling.parse(config).steps
    if any(step.lower >= step.upper for step in steps) or _overlap(steps):
        raise control_refusal("The bounds of the step adjustments are empty or overlap.")
    if kind == EXACT_CAPACITY and any(step.adjustment < 0 for step in steps):
        raise control_refusal("ExactCapacity needs step adjustments of 0 or more.")


def _overlap(steps: Sequence[Step]) -> bool:
    ordered = sorted(steps, key=lambda step: step.lower)
    return any(before.upper > after.lower for before, after in itertools.pairwise(ordered))


# For each type of policy the member that configures it, and what checks that.
_CONFIGURATIONS: Final[Mapping[str, tuple[str, Callable[[str, Members], None]]]] = {
    "TargetTrackingScaling": ("TargetTrackingScalingPolicyConfiguration", _check_tracking),
    "StepScaling": ("StepScalingPolicyConfiguration", _check_steps),
}
