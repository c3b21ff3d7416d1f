"""What Airflow is told about the package is true, complete, and of the form Airflow demands."""

from __future__ import annotations

import ast
import importlib
import json
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task

from airflow_async_sm import __version__
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.provider_info import get_provider_info
from tests.shape.discovery import PACKAGE, in_layer, module_names, source

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


def test_airflow_finds_the_provider_and_all_that_it_offers():
    manager = ProvidersManager()
    found = manager.providers["airflow-async-sm"]
    assert found.version == __version__
    assert INFO.items() <= found.data.items()
    assert set(INFO["extra-links"]) <= set(manager.extra_links_class_names)
    assert callable(task.sagemaker_async)


def test_everything_belongs_to_the_one_integration():
    (integration,) = INFO["integrations"]
    parts = [part for layer in ("hooks", "operators", "sensors", "triggers") for part in INFO[layer]]
    assert {part["integration-name"] for part in parts} == {integration["integration-name"]}


def test_the_connection_is_the_amazon_providers_and_is_not_taken_over():
    # Airflow warns everybody of a provider that says again what another has said.
    assert "connection-types" not in INFO
    assert SageMakerAsyncHook.conn_type == "aws"
    assert SageMakerAsyncHook.conn_name_attr == "aws_conn_id"


@pytest.mark.default_airflow  # Older ones do not have all the settings, and are not asked for them.
def test_every_setting_that_is_read_is_airflows_own_or_listed():
    read = {
        (ast.literal_eval(node.args[0]), ast.literal_eval(node.args[1]))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("conf.get")
    }
    assert ("operators", "default_deferrable") in read
    listed = {(section, name) for section, told in INFO.get("config", {}).items() for name in told["options"]}
    for section, name in read - listed:
        assert conf.configuration_description[section]["options"][name]
