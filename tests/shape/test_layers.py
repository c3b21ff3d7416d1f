"""Imports point one way, and loading a part does not load what it must not."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.shape.discovery import in_layer, module_names, source

# What operators and sensors have in common.
BESIDE = {"assets", "collecting", "lineage", "metrics", "results", "sources", "waits"}

# Each layer may import itself and these. Nothing may import the emulator or the demo but the command.
ALLOWED = {
    "__main__": {"demo", "emulator", "preflight"},
    "preflight": {"core", "hooks"},
    "_compat": set(),
    "assets": {"_compat"},
    "collecting": {"_compat", "assets", "core", "exceptions", "hooks", "lineage", "metrics", "results"},
    "core": set(),
    "decorators": {"_compat", "core", "operators"},
    "demo": {"emulator"},
    "emulator": {"core"},
    "exceptions": {"_compat", "core"},
    "hooks": {"_compat", "core", "exceptions"},
    "lineage": {"core"},
    "links": {"_compat", "core", "hooks"},
    "metrics": set(),
    "operators": {"_compat", "core", "exceptions", "hooks", "links", "triggers", *BESIDE},
    "provider_info": set(),
    "results": {"_compat", "core", "exceptions", "hooks"},
    "sensors": {"_compat", "core", "exceptions", "hooks", "links", "triggers", *BESIDE},
    "sources": {"_compat", "core"},
    "task_groups": {"_compat", "core", "operators"},
    "triggers": {"_compat", "core", "exceptions", "hooks", "metrics"},
    "waits": {"core", "exceptions", "triggers"},
}
EVERYWHERE = {"__version__"}

# The same for the rooms of the emulator. What may import everything puts the parts together.
ROOMS = {
    "account": {"aws", "clock", "errors", "models", "scaling", "settings", "work"},
    "aws": {"reaching"},
    "clock": set(),
    "errors": set(),
    "models": {"aws", "errors", "reaching", "settings"},
    "notifications": {"clock", "settings", "work"},
    "reaching": set(),
    "scaling": {"clock", "errors", "work"},
    "settings": {"errors"},
    "state": {"errors"},
    "web": {"clock", "errors", "reaching", "settings", "work"},
    "work": {"clock", "errors", "models", "settings"},
    "command": {"clock", "errors", "reaching", "server", "settings"},
    "server": {"assembly", "clock", "models", "settings", "work"},
    "pytest_plugin": {"reaching", "server", "settings"},
    "assembly": {
        *(
            "account",
            "aws",
            "clock",
            "models",
            "notifications",
            "scaling",
            "settings",
            "state",
            "web",
            "work",
        ),
    },
    "__init__": {"clock", "models", "reaching", "server", "settings", "work"},
    "__main__": {"command"},
}


def imports(module_name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source(module_name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module_name", module_names())
def test_a_module_imports_only_the_layers_below_it(module_name):
    layer = module_name.split(".")[1]
    ours = {name.split(".")[1] for name in imports(module_name) if name.startswith("airflow_async_sm.")}
    assert ours <= ALLOWED[layer] | {layer} | EVERYWHERE


@pytest.mark.parametrize("module_name", [name for name in module_names() if in_layer(name, "core")])
def test_the_core_imports_the_standard_library_only(module_name):
    foreign = {name.split(".")[0] for name in imports(module_name)} - {"airflow_async_sm"}
    assert foreign <= sys.stdlib_module_names


@pytest.mark.parametrize("module_name", [name for name in module_names() if in_layer(name, "emulator")])
def test_a_room_of_the_emulator_imports_only_the_rooms_below_it(module_name):
    room = room_of(module_name)
    below = {
        name.split(".")[2] for name in imports(module_name) if name.startswith("airflow_async_sm.emulator.")
    }
    assert below <= ROOMS[room] | {room}


def test_the_rooms_are_those_that_there_are():
    assert {room_of(name) for name in module_names() if in_layer(name, "emulator")} == ROOMS.keys()


def room_of(module_name: str) -> str:
    parts = module_name.split(".")
    return parts[2] if len(parts) > 2 else "__init__"


def loaded_by(*names: str) -> set[str]:
    """Return the top-level packages in memory after a fresh interpreter has imported ``names``."""
    program = "import sys\n" + "".join(f"import {name}\n" for name in names)
    program += "print(' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_loading_the_core_loads_neither_airflow_nor_boto():
    core = [name for name in module_names() if in_layer(name, "core")]
    assert not loaded_by(*core) & {"airflow", "boto3", "botocore"}


@pytest.mark.parametrize(
    "module_name",
    [
        name
        for name in module_names()
        if in_layer(name, "links", "operators", "sensors", "triggers", "decorators", *BESIDE)
    ],
)
def test_loading_an_operator_sensor_trigger_or_link_does_not_load_boto(module_name):
    loaded = loaded_by(module_name)
    # A part that others are made of may do without it.
    assert "airflow" in loaded or module_name.count(".") == 1 or "._" in module_name
    assert not loaded & {"boto3", "botocore", "aiobotocore"}


def test_loading_the_package_loads_neither_airflow_nor_boto():
    assert not loaded_by("airflow_async_sm", "airflow_async_sm.provider_info") & {
        "airflow",
        "boto3",
        "botocore",
    }


def test_modules_stay_small_enough_to_hold_one_idea():
    long = {name: n for name in module_names() if (n := len(source(name).read_text().splitlines())) > 400}
    assert not long
