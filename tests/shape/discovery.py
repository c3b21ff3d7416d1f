"""What the package consists of: found, not listed, so that a new part cannot be forgotten."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import airflow_async_sm

PACKAGE = Path(airflow_async_sm.__file__).parent
AnyClass = TypeVar("AnyClass")


def module_names() -> list[str]:
    """Return the names of all modules of the package, without importing them."""
    found = pkgutil.walk_packages([str(PACKAGE)], prefix="airflow_async_sm.")
    return sorted(module.name for module in found)


def source(module_name: str) -> Path:
    """Return the file of a module."""
    path = PACKAGE.parent / Path(*module_name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def in_layer(module_name: str, *layers: str) -> bool:
    """Return whether a module belongs to one of the package's layers (``core``, ``hooks``, …)."""
    return module_name.split(".")[1] in layers


def modules(*layers: str) -> list[ModuleType]:
    """Import and return the public modules of some layers."""
    return [
        importlib.import_module(name)
        for name in module_names()
        if in_layer(name, *layers) and not any(part.startswith("_") for part in name.split("."))
    ]


def classes(base: type[AnyClass], *layers: str) -> list[type[AnyClass]]:
    """Return the public classes below ``base`` that the modules of some layers define."""
    found = {
        value
        for module in modules(*layers)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        if not name.startswith("_")
    }
    return sorted(found, key=lambda cls: cls.__qualname__)
