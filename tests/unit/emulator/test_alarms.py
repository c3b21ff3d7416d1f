"""Alarms: the examples of CloudWatch's own documentation, and what goes beyond them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.emulator.scaling.alarms import (
    AlarmRule,
    AlarmState,
    Missing,
    evaluate,
    reason_data,
    target_tracking_rules,
)

STATES = {"ok": AlarmState.OK, "alarm": AlarmState.ALARM, "insufficient": AlarmState.INSUFFICIENT_DATA}
NOW = 1_800_000_000.0


def rule(needed, missing, comparison="GreaterThanThreshold", threshold=5.0, periods=3):
    return AlarmRule(
        comparison=comparison,
        threshold=threshold,
        evaluation_periods=periods,
        datapoints_to_alarm=needed,
        missing=Missing(missing),
    )


def points(rule, pattern):
    """Return values: X breaches, 0 does not, - is missing."""
    meaning = {"X": 10.0, "0": 0.0, "-": None}
    return dict(zip(rule.starts(NOW), (meaning[mark] for mark in pattern.split()), strict=True))


@pytest.mark.parametrize("current", AlarmState)
@pytest.mark.parametrize(
    ("needed", "pattern", "missing", "ignore", "breaching", "not_breaching"),
    [
        (3, "0 - X - X", "ok", "ok", "ok", "ok"),
        (3, "0 - - - -", "ok", "ok", "ok", "ok"),
        (3, "- - - - -", "insufficient", "kept", "alarm", "ok"),
        (3, "0 X X - X", "alarm", "alarm", "alarm", "alarm"),
        (3, "- - X - -", "alarm", "kept", "alarm", "ok"),
        (2, "0 - X - X", "alarm", "alarm", "alarm", "alarm"),
        (2, "0 0 X 0 X", "alarm", "alarm", "alarm", "alarm"),
        (2, "0 - X - -", "ok", "ok", "alarm", "ok"),
        (2, "- - - - 0", "ok", "ok", "alarm", "ok"),
        (2, "- - - X -", "alarm", "kept", "alarm", "ok"),
        # Beyond the documented examples: one fresh value is not old enough.
        (3, "- - - - X", "ok", "ok", "alarm", "ok"),
        (3, "- - X X X", "alarm", "alarm", "alarm", "alarm"),
        (3, "X X X X 0", "ok", "ok", "ok", "ok"),
        (2, "- - - X X", "alarm", "alarm", "alarm", "alarm"),
    ],
)
def test_missing_data(current, needed, pattern, missing, ignore, breaching, not_breaching):
    for treatment, expected in (
        ("missing", missing),
        ("ignore", ignore),
        ("breaching", breaching),
        ("notBreaching", not_breaching),
    ):
        one = rule(needed, treatment)
        state = evaluate(one, points(one, pattern), current).state
        assert state is (current if expected == "kept" else STATES[expected]), (treatment, pattern)


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [
        ("GreaterThanThreshold", False, False, True),
        ("GreaterThanOrEqualToThreshold", False, True, True),
        ("LessThanThreshold", True, False, False),
        ("LessThanOrEqualToThreshold", True, True, False),
    ],
)
def test_comparison(comparison, below, at, above):
    one = rule(None, "missing", comparison)
    assert [one.breaches(value) for value in (4.9, 5.0, 5.1)] == [below, at, above]


def test_all_periods_must_breach_by_default():
    one = rule(None, "missing")
    assert one.needed == 3
    assert evaluate(one, points(one, "0 0 0 X X"), AlarmState.OK).state is AlarmState.OK


def test_periods_end_now_and_are_no_shorter_than_a_minute():
    assert rule(None, "missing").starts(600.0) == [300, 360, 420, 480, 540]
    short = AlarmRule(comparison="LessThanThreshold", threshold=1, period=10)
    assert short.starts(600.0) == [420, 480, 540]


def test_newest_value_and_the_values_looked_at():
    one = rule(None, "missing")
    evaluation = evaluate(one, dict(zip(one.starts(NOW), (1, 2, None, 3, None), strict=True)), AlarmState.OK)
    assert evaluation.newest == 3
    assert evaluation.recent == [1, 2, 3]
    assert evaluate(one, points(one, "- - - - -"), AlarmState.OK).newest is None


def test_reason_of_an_alarm():
    one = AlarmRule(
        comparison="GreaterThanOrEqualToThreshold", threshold=1, evaluation_periods=2, datapoints_to_alarm=2
    )
    values = dict(zip(one.starts(1_624_272_900.0), (0.0, 0.0, 1.0, 1.0), strict=True))
    assert evaluate(one, values, AlarmState.OK).reason == (
        "Threshold Crossed: 2 out of the last 2 datapoints "
        "[1.0 (21/06/21 10:54:00), 1.0 (21/06/21 10:53:00)] "
        "were greater than or equal to the threshold (1.0)."
    )


def test_reason_of_a_value_that_is_well():
    one = rule(None, "missing", periods=1)
    assert evaluate(one, points(one, "X X 0"), AlarmState.ALARM).reason.endswith(
        "1 out of the last 1 datapoints [0.0 (15/01/27 07:59:00)] was not greater than the threshold (5.0)."
    )


@pytest.mark.parametrize(
    ("periods", "missing", "reason"),
    [
        (1, "missing", "Insufficient Data: 1 datapoint was unknown."),
        (3, "missing", "Insufficient Data: 3 datapoints were unknown."),
        (1, "breaching", "Threshold Crossed: no datapoints were received for 1 period."),
        (3, "notBreaching", "Threshold Crossed: no datapoints were received for 3 periods."),
    ],
)
def test_reason_without_values(periods, missing, reason):
    one = rule(None, missing, periods=periods)
    assert evaluate(one, dict.fromkeys(one.starts(NOW)), AlarmState.OK).reason == reason


def test_data_of_the_reason():
    one = rule(None, "missing")
    evaluation = evaluate(one, points(one, "0 0 X X X"), AlarmState.OK)
    assert reason_data(one, evaluation, now=NOW, statistic="Average") == {
        "version": "1.0",
        "queryDate": "2027-01-15T08:00:00.000+0000",
        "statistic": "Average",
        "period": 60,
        "recentDatapoints": [10.0, 10.0, 10.0],
        "threshold": 5.0,
    }


def test_alarms_of_target_tracking():
    rules = target_tracking_rules(5.0)
    high, low = rules["AlarmHigh"], rules["AlarmLow"]
    assert (high.comparison, high.threshold, high.period, high.evaluation_periods, high.needed) == (
        "GreaterThanThreshold", 5.0, 60, 3, 3,
    )  # fmt: skip
    assert (low.comparison, low.threshold, low.period, low.evaluation_periods, low.needed) == (
        "LessThanThreshold", 4.5, 60, 15, 15,
    )  # fmt: skip
    assert high.missing is low.missing is Missing.MISSING


@given(
    st.lists(st.one_of(st.none(), st.sampled_from([0.0, 10.0])), min_size=5, max_size=5),
    st.integers(1, 3),
    st.sampled_from(Missing),
    st.sampled_from(AlarmState),
)
def test_evaluating_again_changes_nothing(values, needed, missing, current):
    one = rule(needed, missing)
    series = dict(zip(one.starts(NOW), values, strict=True))
    first = evaluate(one, series, current)
    assert evaluate(one, series, first.state) == first


@given(st.lists(st.sampled_from([0.0, 10.0]), min_size=5, max_size=5), st.integers(1, 3))
def test_without_gaps_the_treatment_of_missing_data_does_not_matter(values, needed):
    states = set()
    for missing in Missing:
        one = rule(needed, missing)
        series = dict(zip(one.starts(NOW), values, strict=True))
        states.add(evaluate(one, series, AlarmState.OK).state)
    breaching = sum(value > 5 for value in values[-3:])
    assert states == {AlarmState.ALARM if breaching >= needed else AlarmState.OK}
