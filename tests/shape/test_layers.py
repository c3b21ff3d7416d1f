"""Imports point one way, and loading a part does not load what it must not."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.shape.discovery import in_layer, module_names, source

# What operators and sensors have in common.
BESIDE = {"assets", "batch_inputs", "collecting", "lineage", "metrics", "results", "sources", "waits"}

# Each layer may import itself and these. Nothing may import the emulator or the demo but the command.
ALLOWED = {
    "__main__": {"demo", "emulator", "preflight"},
    "preflight": {"core", "hooks"},
    "_compat": set(),
    "assets": {"_compat"},
    "batch_inputs": {"core", "hooks", "sources"},
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
    "waits": {"_compat", "core", "exceptions", "triggers"},
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


# Airflow's part takes seconds to load, so it is loaded once, and a fork for each module goes on from there.
EACH_ALONE = """
import os, sys
import airflow.triggers.base
try:
    import airflow.sdk.bases.sensor
except ImportError:
    import airflow.models, airflow.sensors.base
ours = {name for name in sys.modules if name.startswith("airflow_async_sm")}
# Airflow asks what the provider has to offer.
assert ours <= {"airflow_async_sm", "airflow_async_sm.provider_info"}, ours
for name in sys.argv[1:]:
    if os.fork() == 0:
        __import__(name)
        print(name, *{name.split(".")[0] for name in sys.modules}, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


@pytest.fixture(scope="module")
def loaded_alone() -> dict[str, set[str]]:
    """Return the top-level packages in memory after each module was imported, and none of ours before it."""
    command = [sys.executable, "-c", EACH_ALONE, *WITHOUT_BOTO]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {line[0]: set(line[1:]) for line in lines if line and line[0] in WITHOUT_BOTO}


WITHOUT_BOTO = [
    name
    for name in module_names()
    if in_layer(name, "links", "operators", "sensors", "triggers", "decorators", *BESIDE)
]


def test_loading_the_core_loads_neither_airflow_nor_boto():
    core = [name for name in module_names() if in_layer(name, "core")]
    assert not loaded_by(*core) & {"airflow", "boto3", "botocore"}


@pytest.mark.parametrize("module_name", WITHOUT_BOTO)
def test_loading_an_operator_sensor_trigger_or_link_does_not_load_boto(loaded_alone, module_name):
    assert not loaded_alone[module_name] & {"boto3", "botocore", "aiobotocore"}


def test_loading_the_package_loads_neither_airflow_nor_boto():
    assert not loaded_by("airflow_async_sm", "airflow_async_sm.provider_info") & {
        "airflow",
        "boto3",
        "botocore",
    }


def test_modules_stay_small_enough_to_hold_one_idea():
    long = {name: n for name in module_names() if (n := len(source(name).read_text().splitlines())) > 400}
    assert not long
