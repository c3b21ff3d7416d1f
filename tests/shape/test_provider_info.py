"""What Airflow is told about the package is true, complete, and of the form Airflow demands."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_async_sm import __version__
from airflow_async_sm.provider_info import get_provider_info
from tests.shape.discovery import in_layer, module_names, source

INFO = get_provider_info()


def test_the_entry_point_resolves_to_the_provider_info():
    (entry,) = (
        e for e in entry_points(group="apache_airflow_provider") if e.value.startswith("airflow_async_sm")
    )
    assert entry.load()() == INFO
    assert entry.dist is not None
    assert entry.dist.name == INFO["package-name"]


def test_the_versions_agree():
    assert INFO["versions"] == [__version__] == [version("airflow-async-sm")]


def test_airflows_own_schema_accepts_it():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


@pytest.mark.parametrize("layer", ["hooks", "operators", "sensors", "triggers"])
def test_every_public_module_of_a_layer_is_listed_and_none_else(layer):
    listed = [name for part in INFO[layer] for name in part["python-modules"]]
    existing = [
        name
        for name in module_names()
        if in_layer(name, layer)
        and source(name).name not in {"__init__.py", "base.py"}
        and not source(name).name.startswith("_")
    ]
    assert sorted(listed) == existing
    for name in listed:
        importlib.import_module(name)


def test_every_decorator_is_listed_by_the_name_of_its_module():
    listed = {one["name"]: one["class-name"] for one in INFO["task-decorators"]}
    assert sorted(listed) == [name.rpartition(".")[2] for name in module_names() if is_decorator(name)]
    for name, path in listed.items():
        module, _, function = path.rpartition(".")
        assert module == f"airflow_async_sm.decorators.{name}"
        assert callable(getattr(importlib.import_module(module), function))


def is_decorator(module_name):
    return in_layer(module_name, "decorators") and source(module_name).name != "__init__.py"
