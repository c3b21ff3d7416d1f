"""The command ``airflow-async-sm``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow_async_sm import __version__, preflight
from airflow_async_sm.demo import command as demo
from airflow_async_sm.emulator import command as emulator

_COMMANDS = {
    "demo": (demo, "run an example DAG in a real local Airflow, against the emulator"),
    "emulator": (emulator, "serve a local SageMaker Asynchronous Inference until interrupted"),
    "preflight": (preflight, "look at an endpoint, its rights and its buckets before money is spent"),
}


def command_line() -> argparse.ArgumentParser:
    """Return what reads the command line of all commands."""
    parser = argparse.ArgumentParser(
        prog="airflow-async-sm", description="SageMaker Asynchronous Inference for Airflow."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, purpose) in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=purpose, description=purpose))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    chosen = command_line().parse_args(arguments)
    exit_code: int = _COMMANDS[chosen.command][0].run(chosen)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
