"""How many instances a scaling policy wants, and which of several wishes is followed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

DEFAULT_COOLDOWN: Final = 300.0

CHANGE_IN_CAPACITY: Final = "ChangeInCapacity"
EXACT_CAPACITY: Final = "ExactCapacity"
PERCENT_CHANGE: Final = "PercentChangeInCapacity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    What a scalable target allows.

    :param minimum: Fewest instances that a policy may ask for.
    :param maximum: Most instances that a policy may ask for.
    :param scale_in: Whether policies may take capacity away; not while that is suspended.
    :param scale_out: Whether policies may add capacity; not while that is suspended.
    """

    minimum: int
    maximum: int
    scale_in: bool = True
    scale_out: bool = True

    @classmethod
    def parse(
        cls, minimum: int | None, maximum: int | None, suspended: Mapping[str, Any] | None = None
    ) -> Bounds:
        """Return the bounds of a target with its ``SuspendedState``."""
        suspended = suspended or {}
        return cls(
            minimum=minimum or 0,
            maximum=maximum or 0,
            scale_in=not suspended.get("DynamicScalingInSuspended"),
            scale_out=not suspended.get("DynamicScalingOutSuspended"),
        )

    def clamp(self, count: int) -> int:
        """Return the nearest number that is allowed."""
        return max(self.minimum, min(self.maximum, count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many instances there are and shall be."""

    desired: int
    in_service: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """
    An alarm that is in ALARM.

    :param metric: Its newest value.
    :param threshold: The alarm's threshold.
    :param low: Whether it is an alarm for values that are too small.
    """

    metric: float
    threshold: float
    low: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """
    A policy's last change of capacity, while its cooldown lasts.

    :param out: Whether it added capacity.
    :param before: How many instances were wanted before it.
    """

    out: bool
    before: int


class Policy(Protocol):
    """A scaling policy."""

    @property
    def out_cooldown(self) -> float:
        """Seconds after a scale-out, once it is complete, in which only a larger one follows."""

    @property
    def in_cooldown(self) -> float:
        """Seconds after a scale-in, once it is complete, in which no other follows."""

    def wanted(self, breach: Breach, capacity: Capacity) -> int:
        """Return how many instances it wants, regardless of bounds and cooldowns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTracking:
    """
    Keeps a metric near a target, on the assumption that it halves when capacity doubles.

    The metric is that of the instances in service, so they are what is multiplied; instances that are still
    starting are not. None in service counts as one.
    """

    target: float
    scale_in: bool = True
    out_cooldown: float = DEFAULT_COOLDOWN
    in_cooldown: float = DEFAULT_COOLDOWN

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> TargetTracking:
        """Return the policy of a ``TargetTrackingScalingPolicyConfiguration``."""
        return cls(
            target=float(config["TargetValue"]),
            scale_in=not config.get("DisableScaleIn"),
            out_cooldown=_cooldown(config.get("ScaleOutCooldown")),
            in_cooldown=_cooldown(config.get("ScaleInCooldown")),
        )

    def wanted(self, breach: Breach, capacity: Capacity) -> int:
        """Return how many instances would bring the metric to the target."""
        proportional = math.ceil(max(1, capacity.in_service) * breach.metric / self.target)
        if not breach.low:
            return max(capacity.desired, proportional)
        return min(capacity.desired, max(0, proportional)) if self.scale_in else capacity.desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One adjustment and where it applies. The bounds are distances from the threshold.

    Where the metric is at or above the threshold the lower bound belongs to the step, else the upper one.
    """

    adjustment: int
    lower: float = -math.inf
    upper: float = math.inf

    def covers(self, distance: float) -> bool:
        """Return whether the step applies at this distance from the threshold."""
        if distance >= 0:
            return self.lower <= distance < self.upper
        return self.lower < distance <= self.upper


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScaling:
    """Changes capacity by an amount that depends on how far the metric is from the alarm's threshold."""

    kind: str
    steps: Sequence[Step]
    min_magnitude: int = 0
    cooldown: float = DEFAULT_COOLDOWN

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> StepScaling:
        """Return the policy of a ``StepScalingPolicyConfiguration``."""
        return cls(
            kind=config["AdjustmentType"],
            steps=tuple(
                Step(
                    adjustment=step["ScalingAdjustment"],
                    lower=_bound(step.get("MetricIntervalLowerBound"), -math.inf),
                    upper=_bound(step.get("MetricIntervalUpperBound"), math.inf),
                )
                for step in config["StepAdjustments"]
            ),
            min_magnitude=config.get("MinAdjustmentMagnitude") or 0,
            cooldown=_cooldown(config.get("Cooldown")),
        )

    @property
    def out_cooldown(self) -> float:
        """Seconds; a step policy has one cooldown for both directions."""
        return self.cooldown

    @property
    def in_cooldown(self) -> float:
        """Seconds; a step policy has one cooldown for both directions."""
        return self.cooldown

    def wanted(self, breach: Breach, capacity: Capacity) -> int:
        """Return the capacity after the step that applies, or that of now if none does."""
        distance = breach.metric - breach.threshold
        step = next((step for step in self.steps if step.covers(distance)), None)
        if step is None:
            return capacity.desired
        if self.kind == EXACT_CAPACITY:
            return step.adjustment
        if self.kind == CHANGE_IN_CAPACITY:
            return max(0, capacity.desired + step.adjustment)
        return max(0, capacity.desired + self._share(capacity.desired, step.adjustment))

    def _share(self, desired: int, percent: int) -> int:
        """Return a percentage in instances: rounded towards zero, but at least one."""
        exact = desired * percent / 100
        whole = math.trunc(exact) if abs(exact) >= 1 else math.ceil(abs(exact))
        return int(math.copysign(max(abs(whole), self.min_magnitude), percent)) if percent else 0


def _cooldown(configured: float | None) -> float:
    return DEFAULT_COOLDOWN if configured is None else float(configured)


def _bound(configured: float | None, infinite: float) -> float:
    return infinite if configured is None else float(configured)


def proposal(
    policy: Policy, breach: Breach, capacity: Capacity, bounds: Bounds, cooldown: Cooldown | None = None
) -> int | None:
    """
    Return the capacity that a policy asks for because of an alarm, or ``None`` for no change.

    While the cooldown of a scale-out lasts, a larger one may still happen: the policy is asked from the
    capacity before the first one, and what it wants beyond the capacity of now is added. So a step of two
    that is followed by a step of three adds three altogether. While the cooldown of a scale-in lasts there is
    no other scale-in of this policy, but every scale-out.

    :param policy: The policy.
    :param breach: The alarm.
    :param capacity: The capacity of now.
    :param bounds: What the target allows.
    :param cooldown: The policy's last change, while its cooldown lasts.
    """
    base = capacity.desired
    if cooldown is not None and cooldown.out:
        base = min(base, cooldown.before)
    wanted = policy.wanted(breach, Capacity(desired=base, in_service=capacity.in_service))
    if wanted > base:
        allowed = bounds.clamp(wanted)
        return allowed if bounds.scale_out and allowed > capacity.desired else None
    if wanted == base or not bounds.scale_in or (cooldown is not None and not cooldown.out):
        return None
    allowed = bounds.clamp(policy.wanted(breach, capacity))
    return allowed if allowed < capacity.desired else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """
    What a policy asks for.

    :param policy: The policy's ARN.
    :param count: How many instances.
    :param cause: What the scaling activity says.
    :param tracking: Whether it is a target tracking policy.
    :param cooldown: The policy's cooldown that lasts, if one does.
    """

    policy: str
    count: int
    cause: str
    tracking: bool
    cooldown: Cooldown | None = None


def choose(proposals: Iterable[Proposal], desired: int, *, holding: bool = False) -> Proposal | None:
    """
    Return which of the proposals of one target is followed, or ``None`` for none.

    The largest capacity wins, whether capacity is added or taken away.

    :param proposals: What the policies whose alarm is in ALARM ask for.
    :param desired: The capacity of now.
    :param holding: Whether a target tracking policy that may scale in is not ready to. Then no other target
        tracking policy does; step policies do not mind.
    """
    eligible = [
        proposal
        for proposal in proposals
        if proposal.count > desired or (proposal.count < desired and not (holding and proposal.tracking))
    ]
    return max(eligible, key=lambda proposal: proposal.count, default=None)
