"""``python -m airflow_async_sm.emulator``: serve the emulator until it is interrupted."""

from __future__ import annotations

import argparse
import sys

from airflow_async_sm.emulator.command import add_arguments, run


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, serve, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_async_sm.emulator",
        description="A local stand-in for Amazon SageMaker Asynchronous Inference.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
