"""How many instances an endpoint shall have and when, and what of that exists."""

from __future__ import annotations

import dataclasses
import math
import re
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput

__all__ = ["WAKE_METRIC", "ScalingSpec", "ScalingState", "WarmHours"]

WAKE_METRIC: Final = "HasBacklogWithoutCapacity"
"""1 while requests wait at an endpoint that has no instance, else 0."""

_DEFAULT_COOLDOWN: Final = 300
_SCHEDULE: Final = re.compile(
    r"cron\([0-9A-Z*?,/#-]+( +[0-9A-Z*?,/#-]+){5}\)"
    r"|rate\([1-9][0-9]* (minute|hour|day)s?\)"
    r"|at\([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmHours:
    """
    A span that comes again and again, in which instances are kept although nobody asks for them.

    Spans must not overlap: the end of one would let go what the other keeps. A new or changed span counts
    from its next start.

    :param start: When the instances begin to come, which takes minutes. It is a schedule of Application Auto
        Scaling, with minute, hour, day of month, month, day of week and year: ``cron(0 7 ? * MON-FRI *)``;
        ``rate(...)`` and ``at(...)`` are taken as well.
    :param end: When they may go, in the same form.
    :param instances: How many are kept, at least 1. Default 1.
    :param timezone: IANA name of the time zone that ``start`` and ``end`` are in. Default ``UTC``.
    :raises InvalidInput: an argument is outside its limits.
    """

    start: str
    end: str
    instances: int = 1
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _check_schedule("start", self.start)
        _check_schedule("end", self.end)
        if self.start == self.end:
            raise InvalidInput(f"Warm hours that start and end at {self.start!r} keep nothing; change one.")
        limits.INSTANCES.check("instances", self.instances)
        if self.instances < 1:
            raise InvalidInput("instances of warm hours is 0, which keeps nothing; give at least 1.")
        _check_timezone(self.timezone)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingSpec:
    """
    How the number of instances of one endpoint follows its backlog.

    :param max_instances: Most instances, at least 1.
    :param min_instances: Fewest instances, at most ``max_instances``. Default 0: the endpoint sleeps when it
        has nothing to do, and one request wakes it, which takes minutes.
    :param backlog_per_instance: How many requests, waiting or worked on, one instance shall have. More bring
        further instances. Above 0; default 5.
    :param invocation_timeout: The longest that callers of the endpoint give a request, in seconds: 1 to
        3,600. Default 900, the service's own. What it decides is the default of ``scale_in_cooldown``.
    :param scale_in_cooldown: Seconds between two steps that take instances away. Default:
        ``invocation_timeout``, but at least 300. A shorter one can end requests that are being worked on. It
        parts steps and does not put off the first: a long request is safe where ``min_instances``, or the
        capacity operator, keeps its instance.
    :param scale_out_cooldown: Seconds between two steps that add instances. Default 300.
    :param warm_hours: Spans in which more instances than ``min_instances`` are kept. Default: none.
    :raises InvalidInput: an argument is outside its limits.
    """

    max_instances: int
    min_instances: int = 0
    backlog_per_instance: float = 5.0
    invocation_timeout: int = limits.DEFAULT_INVOCATION_TIMEOUT
    scale_in_cooldown: int | None = None
    scale_out_cooldown: int = _DEFAULT_COOLDOWN
    warm_hours: Sequence[WarmHours] = ()

    def __post_init__(self) -> None:
        self._check_instances()
        _check_positive("backlog_per_instance", self.backlog_per_instance)
        limits.INVOCATION_TIMEOUT.check("invocation_timeout", self.invocation_timeout)
        if self.scale_in_cooldown is None:
            object.__setattr__(self, "scale_in_cooldown", max(_DEFAULT_COOLDOWN, self.invocation_timeout))
        limits.COOLDOWN.check("scale_in_cooldown", self.scale_in_cooldown)
        limits.COOLDOWN.check("scale_out_cooldown", self.scale_out_cooldown)
        object.__setattr__(self, "warm_hours", tuple(_spans(self.warm_hours)))
        for number, span in enumerate(self.warm_hours):
            if not self.min_instances <= span.instances <= self.max_instances:
                raise InvalidInput(
                    f"warm_hours[{number}].instances is {span.instances}; give a number from min_instances "
                    f"({self.min_instances}) to max_instances ({self.max_instances})."
                )

    def _check_instances(self) -> None:
        limits.INSTANCES.check("max_instances", self.max_instances)
        limits.INSTANCES.check("min_instances", self.min_instances)
        if self.max_instances < 1:
            raise InvalidInput("max_instances is 0, so no request would ever be worked on; give at least 1.")
        if self.min_instances > self.max_instances:
            raise InvalidInput(
                f"min_instances ({self.min_instances}) is above max_instances ({self.max_instances})."
            )

    @property
    def sleeps(self) -> bool:
        """Whether the endpoint may have no instance, so that a request has to wake it."""
        return self.min_instances == 0

    @classmethod
    def from_value(cls, value: object) -> Self:
        """
        Return the spec that an operator's argument means.

        :param value: A spec, which is returned as it is, or a mapping with its arguments, in which each of
            ``warm_hours`` may be a mapping too.
        :raises InvalidInput: it is something else, or an argument is unknown, missing or outside its limits.
        """
        return value if isinstance(value, cls) else cls(**_arguments(cls, "scaling", value))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingState:
    """
    What exists of a variant's scaling, each part as AWS describes it.

    :param target: The scalable target, or ``None``.
    :param policies: Its scaling policies.
    :param scheduled_actions: Its scheduled actions.
    :param alarms: The metric alarms that trigger one of its step policies, whoever made them, and the one
        that this package makes, even if its policy is gone. Alarms of target tracking are not among them:
        they are Application Auto Scaling's own.
    """

    target: Mapping[str, Any] | None = None
    policies: Sequence[Mapping[str, Any]] = ()
    scheduled_actions: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()

    @property
    def wakes(self) -> bool:
        """Whether one request is enough to bring the first instance."""
        if self.target is None or self.target["MaxCapacity"] < 1:
            return False
        if self.target.get("SuspendedState", {}).get("DynamicScalingOutSuspended"):
            return False
        arns = set(self.step_policy_arns)
        return any(
            alarm.get("MetricName") == WAKE_METRIC
            and alarm.get("ActionsEnabled", True)
            and not arns.isdisjoint(alarm.get("AlarmActions", ()))
            for alarm in self.alarms
        )

    @property
    def step_policy_arns(self) -> tuple[str, ...]:
        """ARNs of the policies that alarms trigger which Application Auto Scaling does not make itself."""
        return tuple(str(one["PolicyARN"]) for one in self.policies if one["PolicyType"] == "StepScaling")


def _spans(value: object) -> Iterator[WarmHours]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise InvalidInput(f"warm_hours must be a list of warm hours, not {value!r}.")
    for number, span in enumerate(value):
        if isinstance(span, WarmHours):
            yield span
        else:
            yield WarmHours(**_arguments(WarmHours, f"warm_hours[{number}]", span))


def _arguments(kind: type, argument: str, value: object) -> dict[str, Any]:
    """Return a mapping as the arguments of a dataclass, once it is sure that they are."""
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{argument} must be a {kind.__name__} or a mapping of its arguments, not {value!r}."
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(str(name) for name in value if name not in fields):
        raise InvalidInput(
            f"{argument} has unknown arguments: {', '.join(unknown)}. There are: {', '.join(fields)}."
        )
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in value]:
        raise InvalidInput(f"{argument} lacks {', '.join(missing)}.")
    return {name: _number(one) for name, one in value.items()}


def _number(value: Any) -> Any:
    """Return a number that came out of a template, which makes text of it; anything else as it is."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value) if "." in value else int(value)
    return value


def _check_positive(argument: str, value: object) -> None:
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise InvalidInput(f"{argument} must be a number above 0, not {value!r}.")


def _check_schedule(argument: str, value: object) -> None:
    if not isinstance(value, str) or not _SCHEDULE.fullmatch(value):
        raise InvalidInput(
            f"{argument} is {value!r}; Application Auto Scaling accepts 'cron(<six fields>)', for example "
            "'cron(0 7 ? * MON-FRI *)', 'rate(<number> hours)' and 'at(yyyy-mm-ddThh:mm:ss)'."
        )


def _check_timezone(value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"timezone must be text, not {type(value).__name__}.")
    # A machine without a time zone database knows none, and cannot tell.
    if not _is_timezone(value) and _is_timezone("Etc/UTC"):
        raise InvalidInput(f"timezone is {value!r}; give an IANA name, for example 'Europe/Berlin'.")


def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True
