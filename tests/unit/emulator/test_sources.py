"""Metric math, as far as it is imitated."""

from __future__ import annotations

import pytest

from airflow_async_sm.emulator.scaling.sources import Source, Statistic, Unsupported


def query(name, metric, *, returned=False):
    stat = {"Metric": {"Namespace": "N", "MetricName": metric}, "Stat": "Average", "Unit": "Count"}
    return {"Id": name, "ReturnData": returned, "MetricStat": stat}


def value(expression, **values):
    source = Source.parse([*(query(name, name) for name in values), {"Id": "e", "Expression": expression}])
    return source.value(lambda statistic: values[statistic.name])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", 6),
        ("a + b", 8),
        ("a - b * 2", 2),
        ("(a - b) / 2", 2),
        ("a ^ b", 36),
        ("-a + 0.5", -5.5),
        ("a > b", 1),
        ("a <= b", 0),
        ("a == 6", 1),
        ("a != 6", 0),
        ("a >= 6", 1),
        ("a < 6", 0),
        ("SUM([a, b])", 8),
        ("AVG([a, b])", 4),
        ("MAX([a, b])", 6),
        ("MIN([a, b, 1])", 1),
        ("SUM(METRICS())", 8),
        ("SUM([a, missing])", 6),
        ("SUM([missing])", None),
        ("SUM(a)", 6),
        ("ABS(b - a)", 4),
        ("CEIL(a / 4)", 2),
        ("FLOOR(a / 4)", 1),
        ("IF(a > b, a, b)", 6),
        ("IF(a < b, a, b)", 2),
        ("IF(missing, a, b)", None),
        ("a + missing", None),
        ("a + FILL(missing, 0)", 6),
        ("FILL(a, 0)", 6),
        ("a / 0", None),
        ("a ^ 9999", None),
        ("(0 - a) ^ 0.5", None),
    ],
)
def test_expressions(expression, expected):
    assert value(expression, a=6.0, b=2.0, missing=None) == expected


def test_expressions_of_expressions():
    source = Source.parse(
        [
            query("a", "a"),
            {"Id": "twice", "Expression": "a * 2", "ReturnData": False},
            {"Id": "e", "Expression": "twice + twice", "ReturnData": True},
        ]
    )
    assert source.value(lambda _: 3.0) == 12.0
    assert source.statistic == ""


def test_a_metric_alone():
    source = Source.parse([query("a", "A", returned=True)])
    assert source.statistic == "Average"
    wanted = Statistic(namespace="N", name="A", dimensions=frozenset(), statistic="Average", unit="Count")
    assert source.value(lambda statistic: 1.0 if statistic == wanted else None) == 1.0


@pytest.mark.parametrize(
    "expression",
    [
        "a +",
        "unknown",
        "e",
        "a % 2",
        "a and b",
        "1 < a < 3",
        "'text'",
        "RATE(a)",
        "FILL(a)",
        "FILL(a, REPEAT)",
        "METRICS('a')",
        "SUM(METRICS('a'))",
        "IF(a, b, SEARCH('x'))",
        "a.b",
        "~a",
        "__import__('os')",
    ],
)
def test_what_is_not_imitated(expression):
    with pytest.raises(Unsupported):
        value(expression, a=1.0, b=1.0)


def test_an_id_without_anything_behind_it():
    with pytest.raises(Unsupported, match="'a' in an expression"):
        Source.parse([{"Id": "a"}])


def test_a_circle():
    with pytest.raises(Unsupported):
        Source.parse(
            [
                {"Id": "x", "Expression": "y", "ReturnData": False},
                {"Id": "y", "Expression": "x", "ReturnData": True},
            ]
        )


@pytest.mark.parametrize("returned", [(False, False), (True, True)])
def test_it_must_be_clear_which_value_is_meant(returned):
    with pytest.raises(Unsupported, match="Exactly one"):
        Source.parse(query(name, name, returned=one) for name, one in zip("ab", returned, strict=True))
