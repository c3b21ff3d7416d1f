"""The command that serves the emulator for people and for other processes."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from airflow_async_sm.emulator.models.images import Stand
from airflow_async_sm.emulator.reaching import airflow_connection, past_proxies
from airflow_async_sm.emulator.server import SageMakerAsyncEmulator
from airflow_async_sm.emulator.settings.behaviours import Behaviour

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What shells report for a program that ended with SIGINT.
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to ``parser``."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        type=_image,
        metavar="NAME=COMMAND-or-URL",
        help="the command, or the http address of a running server, that stands for a container image; "
        "can be repeated (sagemaker-scikit-learn is known)",
    )
    parser.add_argument(
        "--creation-seconds",
        type=float,
        default=Behaviour.creation_seconds,
        help="how long an endpoint is Creating at least (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """
    Serve until SIGINT, SIGTERM or SIGHUP, clean up, and return the exit code.

    A second signal cuts the cleaning short: containers are killed instead of asked to end.

    :param args: What :func:`add_arguments` asked for.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        emulator = SageMakerAsyncEmulator(
            host=args.host,
            port=args.port,
            images=dict(args.image),
            behaviour=Behaviour(creation_seconds=args.creation_seconds),
        )
        with _until_interrupted() as interrupted, emulator:
            sys.stdout.write(_introduction(emulator.url))
            sys.stdout.flush()
            interrupted.wait()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (OSError, ValueError) as error:
        sys.stderr.write(f"The emulator cannot start: {error}\n")
        return 1
    return 0


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    interrupted = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    # What is ignored stays ignored: nohup asks for that.
    handled = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _image(text: str) -> tuple[str, Stand]:
    name, equals, stand = text.partition("=")
    if not (name and equals and stand):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND or NAME=URL")
    return name, stand if stand.startswith(("http://", "https://")) else shlex.split(stand)


def _introduction(url: str) -> str:
    proxies = "".join(f"{name}={shlex.quote(value)}\n" for name, value in past_proxies(url).items())
    return (
        f"SageMaker Asynchronous Inference emulator: {url}\n"
        f"Requests: {url}/_emulator/requests   Endpoints: {url}/_emulator/endpoints\n"
        f"AIRFLOW_CONN_AWS_DEFAULT={shlex.quote(airflow_connection(url))}\n"
        f"AWS_ENDPOINT_URL={url}\n"
        f"{proxies}"
        "Stop it with Ctrl-C.\n"
    )
