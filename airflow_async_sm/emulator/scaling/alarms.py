"""When a CloudWatch alarm is in which state."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

MINUTE: Final = 60

# CloudWatch looks at more periods than an alarm asks for, so that late or lost values do not change its
# state. By how many is not published; its documentation explains the rules with these two.
EXTRA_PERIODS: Final = 2

_COMPARISONS: Final[Mapping[str, tuple[Callable[[float, float], bool], str]]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
COMPARISONS: Final = frozenset(_COMPARISONS)


class AlarmState(StrEnum):
    """CloudWatch's names for the states of an alarm."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class Missing(StrEnum):
    """What an alarm makes of periods without a value."""

    MISSING = "missing"
    IGNORE = "ignore"
    BREACHING = "breaching"
    NOT_BREACHING = "notBreaching"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """
    An alarm without its metric.

    :param comparison: One of :data:`COMPARISONS`.
    :param threshold: What values are compared with.
    :param period: Seconds; what is below a minute counts as one, because values are published once a minute.
    :param evaluation_periods: How many periods are looked at.
    :param datapoints_to_alarm: How many of them must breach. Default: all.
    :param missing: What is made of periods without a value.
    """

    comparison: str
    threshold: float
    period: int = MINUTE
    evaluation_periods: int = 1
    datapoints_to_alarm: int | None = None
    missing: Missing = Missing.MISSING

    @property
    def needed(self) -> int:
        """How many values must breach."""
        return self.datapoints_to_alarm or self.evaluation_periods

    def breaches(self, value: float) -> bool:
        """Return whether a value is on the wrong side of the threshold."""
        return _COMPARISONS[self.comparison][0](value, self.threshold)

    def starts(self, now: float) -> list[float]:
        """Return when the periods begin that are looked at, oldest first. The last one ends ``now``."""
        period = max(MINUTE, self.period)
        count = self.evaluation_periods + EXTRA_PERIODS
        return [now - period * number for number in range(count, 0, -1)]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An alarm's state, why it is that, the newest value, and the values that were looked at."""

    state: AlarmState
    reason: str
    newest: float | None
    recent: Sequence[float]


def evaluate(rule: AlarmRule, values: Mapping[float, float | None], current: AlarmState) -> Evaluation:
    """
    Return the state of an alarm.

    The rules are CloudWatch's. With enough values the newest ``evaluation_periods`` of them decide, however
    old. Otherwise every value counts and the missing ones are filled up: as ``breaching`` or ``notBreaching``
    says, else as not breaching. An alarm that goes by ``missing`` or ``ignore`` does not wait for the rest if
    all the values that it has breach and the oldest is old enough: then it goes to ALARM, or stays as it is.
    Without any value it goes to INSUFFICIENT_DATA, or stays as it is.

    :param rule: The alarm.
    :param values: The value of every period of :meth:`AlarmRule.starts`, oldest first; ``None`` for none.
    :param current: The state until now.
    """
    present = [(start, value) for start, value in values.items() if value is not None]
    looked_at = present[-rule.evaluation_periods :]
    recent = [value for _, value in looked_at]
    state = _state(rule, list(values.values()), recent, current)
    return Evaluation(state, _reason(rule, looked_at, state), recent[-1] if recent else None, recent)


def _state(
    rule: AlarmRule, values: Sequence[float | None], recent: Sequence[float], current: AlarmState
) -> AlarmState:
    if not recent:
        return {
            Missing.MISSING: AlarmState.INSUFFICIENT_DATA,
            Missing.IGNORE: current,
            Missing.BREACHING: AlarmState.ALARM,
            Missing.NOT_BREACHING: AlarmState.OK,
        }[rule.missing]
    breaching = sum(rule.breaches(value) for value in recent)
    lacking = rule.evaluation_periods - len(recent)
    if rule.missing is Missing.BREACHING:
        breaching += lacking
    elif rule.missing is not Missing.NOT_BREACHING and lacking and breaching == len(recent) < rule.needed:
        oldest = next(number for number, value in enumerate(values) if value is not None)
        if len(values) - oldest >= rule.needed:
            return AlarmState.ALARM if rule.missing is Missing.MISSING else current
    return AlarmState.ALARM if breaching >= rule.needed else AlarmState.OK


def _reason(rule: AlarmRule, looked_at: Sequence[tuple[float, float]], state: AlarmState) -> str:
    periods = rule.evaluation_periods
    if state is AlarmState.INSUFFICIENT_DATA:
        return f"Insufficient Data: {periods} datapoint{'s were' if periods > 1 else ' was'} unknown."
    if not looked_at:
        return f"Threshold Crossed: no datapoints were received for {periods} period{'s'[: periods > 1]}."
    verdict = state is AlarmState.ALARM
    decisive = [(start, value) for start, value in reversed(looked_at) if rule.breaches(value) is verdict]
    shown = ", ".join(f"{value} ({_short(start)})" for start, value in decisive)
    words = f"{'were' if len(decisive) != 1 else 'was'}{'' if verdict else ' not'}"
    return (
        f"Threshold Crossed: {len(decisive)} out of the last {len(looked_at)} datapoints [{shown}] {words} "
        f"{_COMPARISONS[rule.comparison][1]} the threshold ({float(rule.threshold)})."
    )


def _short(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d/%m/%y %H:%M:%S")


def reason_data(rule: AlarmRule, evaluation: Evaluation, *, now: float, statistic: str) -> dict[str, Any]:
    """Return what CloudWatch gives with a state as ``StateReasonData``, before it is made JSON."""
    return {
        "version": "1.0",
        "queryDate": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        "statistic": statistic,
        "period": rule.period,
        "recentDatapoints": list(evaluation.recent),
        "threshold": float(rule.threshold),
    }


def target_tracking_rules(target: float) -> dict[str, AlarmRule]:
    """
    Return the two alarms of a target tracking policy, by what their names have in the middle.

    Capacity is added after three minutes above the target, and taken away after fifteen minutes below nine
    tenths of it.

    :param target: The policy's ``TargetValue``.
    """
    return {
        "AlarmHigh": AlarmRule(comparison="GreaterThanThreshold", threshold=target, evaluation_periods=3),
        "AlarmLow": AlarmRule(comparison="LessThanThreshold", threshold=0.9 * target, evaluation_periods=15),
    }
