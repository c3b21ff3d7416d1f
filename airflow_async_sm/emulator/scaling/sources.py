"""Where an alarm's values come from: a metric, or arithmetic over several of them."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Value = float | None

_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    # Metric math writes a power with this sign.
    ast.BitXor: operator.pow,
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OF_ONE: Final[Mapping[str, Callable[[float], float]]] = {"ABS": abs, "CEIL": math.ceil, "FLOOR": math.floor}
_OF_MANY: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "AVG": lambda values: sum(values) / len(values),
    "MAX": max,
    "MIN": min,
    "SUM": sum,
}


class Unsupported(ValueError):
    """An expression, or a form of metric, that is not imitated. Its text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One statistic of one metric. ``unit`` is ``None`` if any unit is meant."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]
    statistic: str
    unit: str | None = None

    @classmethod
    def parse(cls, metric: Mapping[str, Any], *, statistic: str, unit: str | None) -> Statistic:
        """Return the statistic of a ``Metric`` of the API."""
        pairs = metric.get("Dimensions") or ()
        return cls(
            namespace=metric["Namespace"],
            name=metric["MetricName"],
            dimensions=frozenset((pair["Name"], pair["Value"]) for pair in pairs),
            statistic=statistic,
            unit=unit,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """
    A value for every period: that of a statistic, or of an expression over statistics.

    :param statistics: Statistics by id.
    :param expressions: Expressions by id. They may use the ids of both.
    :param returned: The id whose value it is.
    """

    statistics: Mapping[str, Statistic]
    expressions: Mapping[str, ast.expr]
    returned: str

    @classmethod
    def of(cls, statistic: Statistic) -> Source:
        """Return the source that is one statistic."""
        return cls({"value": statistic}, {}, "value")

    @classmethod
    def parse(cls, queries: Iterable[Mapping[str, Any]]) -> Source:
        """
        Return the source of metric data queries of the API.

        :param queries: The members ``Id``, ``Expression`` or ``MetricStat``, and ``ReturnData``.
        :raises Unsupported: an expression is not imitated, or it is not clear which value is meant.
        """
        statistics: dict[str, Statistic] = {}
        expressions: dict[str, ast.expr] = {}
        returned = []
        for query in queries:
            if query.get("Expression"):
                expressions[query["Id"]] = parse_expression(query["Expression"])
            elif found := query.get("MetricStat"):
                statistics[query["Id"]] = Statistic.parse(
                    found["Metric"], statistic=found["Stat"], unit=found.get("Unit")
                )
            if query.get("ReturnData") is not False:
                returned.append(query["Id"])
        if len(returned) != 1:
            raise Unsupported("Exactly one query must have ReturnData.")
        source = cls(statistics, expressions, returned[0])
        source.value(lambda _statistic: None)
        return source

    @property
    def statistic(self) -> str:
        """The name of the statistic, or nothing for an expression."""
        found = self.statistics.get(self.returned)
        return "" if found is None else found.statistic

    def value(self, read: Callable[[Statistic], Value]) -> Value:
        """
        Return the value of a period, or ``None`` if there is none.

        :param read: Returns the value of a statistic in that period.
        """
        values = {name: read(statistic) for name, statistic in self.statistics.items()}
        return _Calculation(self.expressions, values).named(self.returned)


def parse_expression(text: str) -> ast.expr:
    """
    Return an expression of metric math in a form that can be calculated.

    :param text: Numbers, ids, ``+ - * / ^``, comparisons, and the functions ABS, AVG, CEIL, FILL with a
        number, FLOOR, IF, MAX, METRICS without a filter, MIN and SUM.
    :raises Unsupported: it cannot be read.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise Unsupported(f"The expression {text!r} is not imitated.") from error


class _Calculation:
    """The expressions of one source for one period."""

    def __init__(self, expressions: Mapping[str, ast.expr], values: Mapping[str, Value]) -> None:
        self._expressions = expressions
        self._values = values
        self._open: list[str] = []

    def named(self, name: str) -> Value:
        if name in self._values:
            return self._values[name]
        if name not in self._expressions or name in self._open:
            raise Unsupported(f"{name!r} in an expression is not the id of a metric or another expression.")
        self._open.append(name)
        value = self._of(self._expressions[name])
        self._open.pop()
        return value

    def _of(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return self.named(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _calculate(operator.neg, self._of(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _calculate(_ARITHMETIC[type(op)], self._of(left), self._of(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return _calculate(_COMPARISONS[type(op)], self._of(left), self._of(right))
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
                return self._call(function, arguments)
        raise Unsupported(f"{ast.unparse(node)!r} in an expression is not imitated.")

    def _call(self, function: str, arguments: Sequence[ast.expr]) -> Value:
        if function in _OF_MANY and len(arguments) == 1:
            present = [value for value in self._list(arguments[0]) if value is not None]
            return _OF_MANY[function](present) if present else None
        if function in _OF_ONE and len(arguments) == 1:
            return _calculate(_OF_ONE[function], self._of(arguments[0]))
        if function == "FILL" and len(arguments) == 2:
            value, instead = (self._of(argument) for argument in arguments)
            return instead if value is None else value
        if function == "IF" and len(arguments) == 3:
            # Both branches are calculated, so that a mistake in either is found when the source is made.
            condition, then, otherwise = (self._of(argument) for argument in arguments)
            return None if condition is None else then if condition else otherwise
        raise Unsupported(f"{function} with {len(arguments)} arguments in an expression is not imitated.")

    def _list(self, node: ast.expr) -> list[Value]:
        match node:
            case ast.List(elts=elements):
                return [self._of(element) for element in elements]
            case ast.Call(func=ast.Name(id="METRICS"), args=[], keywords=[]):
                return list(self._values.values())
        return [self._of(node)]


def _calculate(operation: Callable[..., float], *values: Value) -> Value:
    """Return the result, or ``None`` if a value is missing or there is no result."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    try:
        result = operation(*present)
    except (ArithmeticError, ValueError):
        return None
    return float(result) if isinstance(result, int | float) and math.isfinite(result) else None
