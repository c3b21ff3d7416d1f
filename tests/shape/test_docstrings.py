"""What an argument means is written where the argument is, and nothing is documented that does not exist."""

from __future__ import annotations

import inspect
import re

import pytest

from airflow_async_sm._compat import BaseOperator
from tests.shape.discovery import classes, modules

LAYERS = ("core", "decorators", "hooks", "operators", "sensors", "triggers")
PUBLIC_CLASSES = [cls for cls in classes(object, *LAYERS) if not issubclass(cls, BaseException | str)]
OPERATORS = [cls for cls in classes(BaseOperator, "operators", "sensors") if not inspect.isabstract(cls)]
CALLABLES = [
    (f"{owner.__name__}.{name}", value)
    for owner in [*modules(*LAYERS), *PUBLIC_CLASSES]
    for name, value in vars(owner).items()
    if inspect.isfunction(value)
    and not name.startswith("_")
    and value.__module__.startswith("airflow_async_sm")
]


def documented(text: str | None) -> dict[str, str]:
    """Return the arguments that a docstring explains, with their explanations."""
    parts = re.split(r"^\s*:(param|raises|returns?)\b", text or "", flags=re.MULTILINE)
    explained = {}
    for kind, part in zip(parts[1::2], parts[2::2], strict=True):
        if kind == "param":
            name, _, explanation = part.strip().partition(":")
            explained[name] = " ".join(explanation.split())
    return explained


def arguments(cls: type) -> set[str]:
    """Return the arguments of a class that this package defines, its own and the inherited ones."""
    found: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("airflow_async_sm"):
            continue
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            found |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found - {"self"}


@pytest.mark.parametrize("cls", [c for c in PUBLIC_CLASSES if arguments(c)], ids=lambda cls: cls.__name__)
def test_a_class_explains_each_of_its_arguments(cls):
    explained = documented(cls.__doc__)
    if inspect.isabstract(cls):
        assert set(explained) <= arguments(cls)
    else:
        assert set(explained) == arguments(cls)
    assert all(explained.values())


@pytest.mark.parametrize(("name", "function"), CALLABLES, ids=[name for name, _ in CALLABLES])
def test_a_function_explains_no_argument_that_it_does_not_have(name, function):
    assert set(documented(function.__doc__)) <= set(inspect.signature(function).parameters)
    assert function.__doc__


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda cls: cls.__name__)
def test_templated_arguments_are_marked_and_only_they(operator):
    marked = {name for name, text in documented(operator.__doc__).items() if "(templated)" in text}
    assert marked == set(operator.template_fields)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda cls: cls.__name__)
def test_an_optional_argument_says_what_its_default_is(operator):
    parameters = inspect.signature(operator).parameters
    explained = documented(operator.__doc__)
    silent = [
        name
        for name, parameter in parameters.items()
        if name in explained and parameter.default not in (None, parameter.empty)
        if "Default" not in explained[name]
    ]
    assert not silent
