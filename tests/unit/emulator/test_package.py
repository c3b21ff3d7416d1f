from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import airflow_async_sm.emulator as package

ROOT = Path(__file__).parents[3]


def test_import_brings_in_no_aws_library():
    check = (
        "import sys, airflow_async_sm.emulator, airflow_async_sm.emulator.command;"
        "print([m for m in ('moto', 'boto3', 'botocore', 'werkzeug', 'airflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_import_of_the_package_alone_brings_in_next_to_nothing():
    # pytest does so in every run of everybody who has the package installed.
    check = (
        "import sys, airflow_async_sm.emulator; print([m for m in ('ssl', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", check], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_emulator_shares_nothing_with_the_client_but_core():
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("airflow_async_sm."):
                    assert name.split(".")[1] in ("core", "emulator"), f"{path.name} imports {name}"
                assert name.split(".")[0] != "airflow", f"{path.name} imports {name}"


def test_public_names_are_those_of_the_manual():
    assert package.__all__ == [
        "Behaviour",
        "Clock",
        "Docker",
        "Reply",
        "RequestRecord",
        "RequestState",
        "SageMakerAsyncEmulator",
        "SteppedClock",
        "Unknowns",
        "airflow_connection",
    ]
    assert all(hasattr(package, name) for name in package.__all__)
