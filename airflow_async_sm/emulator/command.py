"""The command that serves the emulator for people and for other processes."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from airflow_async_sm.emulator.clock import Clock, SteppedClock
from airflow_async_sm.emulator.errors import StateError
from airflow_async_sm.emulator.reaching import airflow_connection, past_proxies
from airflow_async_sm.emulator.server import SageMakerAsyncEmulator
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.files import Settings, read_settings
from airflow_async_sm.emulator.settings.knobs import Knobs

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What shells report for a program that ended with SIGINT.
_INTERRUPTED = 130
_LAST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to ``parser``."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (default: a free one)")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        type=_image,
        metavar="NAME=STAND",
        help="what stands for a container image: a command, the http address of a running server, "
        "module:function, or 'docker' for the image itself; can be repeated",
    )
    parser.add_argument(
        "--settings",
        metavar="FILE",
        help="YAML or JSON file with behaviour, unknowns, faults, seed and images",
    )
    parser.add_argument(
        "--creation-seconds",
        type=float,
        help=f"how long an endpoint is Creating at least (default: {Behaviour.creation_seconds})",
    )
    parser.add_argument("--seed", type=int, help="whole number that makes chance and ids repeatable")
    parser.add_argument(
        "--state",
        metavar="FOLDER",
        help="keep everything in this folder over a restart, queued requests too (default: nothing is kept)",
    )
    time = parser.add_mutually_exclusive_group()
    time.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="how many emulated seconds pass in a second (default: %(default)s)",
    )
    time.add_argument(
        "--stepped",
        action="store_true",
        help="let time stand until POST /_emulator/clock moves it",
    )


def run(args: argparse.Namespace) -> int:
    """
    Serve until SIGINT, SIGTERM or SIGHUP, clean up, and return the exit code.

    A second signal cuts the cleaning short: containers are killed instead of asked to end.

    :param args: What :func:`add_arguments` asked for.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        emulator = make_emulator(args)
        with _until_interrupted() as wait, emulator:
            sys.stdout.write(_introduction(emulator.url))
            sys.stdout.flush()
            wait()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (OSError, ValueError, StateError) as error:
        sys.stderr.write(f"The emulator cannot start: {error}\n")
        return 1
    return 0


def make_emulator(args: argparse.Namespace) -> SageMakerAsyncEmulator:
    """
    Return the emulator that the options describe; it does not run yet.

    :param args: What :func:`add_arguments` asked for.
    :raises ValueError: a setting cannot be used.
    :raises OSError: the settings file cannot be read.
    """
    settings = read_settings(args.settings) if args.settings else Settings()
    knobs = Knobs(settings.behaviour, settings.unknowns)
    if args.creation_seconds is not None:
        knobs.change(behaviour={"creation_seconds": args.creation_seconds})
    return SageMakerAsyncEmulator(
        host=args.host,
        port=args.port,
        images={**settings.images, **dict(args.image)},
        behaviour=knobs.behaviour,
        unknowns=knobs.unknowns,
        faults=settings.faults,
        seed=settings.seed if args.seed is None else args.seed,
        state=args.state,
        clock=SteppedClock() if args.stepped else Clock(speed=args.speed),
    )


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], object]]:
    # A signal comes in the middle of whatever its thread does, also of the wait for it. An Event takes a lock
    # for both, and would lock the thread out from itself; this queue is made for being used like that.
    signals: SimpleQueue[int] = SimpleQueue()
    interrupted = False

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        signals.put(number)

    # What is ignored stays ignored: nohup asks for that.
    handled = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield signals.get
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it is a number from 0 to {_LAST_PORT}")
    return int(text)


def _image(text: str) -> tuple[str, str]:
    name, equals, stand = text.partition("=")
    if not (name and equals and stand):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=STAND")
    return name, stand


def _introduction(url: str) -> str:
    proxies = "".join(f"{name}={shlex.quote(value)}\n" for name, value in past_proxies(url).items())
    return (
        f"SageMaker Asynchronous Inference emulator: {url}\n"
        f"Page: {url}/   Control: {url}/_emulator/\n"
        f"AIRFLOW_CONN_AWS_DEFAULT={shlex.quote(airflow_connection(url))}\n"
        f"AWS_ENDPOINT_URL={url}\n"
        f"{proxies}"
        "Stop it with Ctrl-C.\n"
    )
