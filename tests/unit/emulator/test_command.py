from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from airflow_async_sm.emulator import Behaviour, SteppedClock, Unknowns
from airflow_async_sm.emulator.__main__ import main
from airflow_async_sm.emulator.command import add_arguments, make_emulator


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults_are_those_of_the_emulator():
    args = parsed()
    assert (args.host, args.port, args.image) == ("127.0.0.1", 0, [])
    assert (args.settings, args.state, args.seed, args.speed, args.stepped) == (None, None, None, 1.0, False)


def test_images_are_commands_or_addresses():
    args = parsed("--image", "a=python -m 'my server'", "--image", "b:1=http://127.0.0.1:1")
    assert args.image == [("a", "python -m 'my server'"), ("b:1", "http://127.0.0.1:1")]


def test_settings_of_a_file_are_used_and_options_win(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "seed: 1\n"
        "behaviour: {creation_seconds: 9, queue_seconds: 0}\n"
        "unknowns: {expiry_object: text}\n"
        "faults: [{kind: model_crash, rate: 0.5}]\n"
        "images: {a: [python, -m, x]}\n"
    )
    emulator = make_emulator(parsed("--settings", str(file), "--creation-seconds", "3", "--speed", "60"))
    assert emulator.knobs.behaviour == Behaviour(creation_seconds=3, queue_seconds=0)
    assert emulator.knobs.unknowns == Unknowns(expiry_object="text")
    assert [fault.kind for fault in emulator.faults.all().values()] == ["model_crash"]
    assert (emulator.faults.seed, emulator.clock.speed) == (1, 60.0)
    assert make_emulator(parsed("--settings", str(file), "--seed", "2")).faults.seed == 2


def test_time_may_stand():
    assert isinstance(make_emulator(parsed("--stepped")).clock, SteppedClock)


@pytest.mark.parametrize("image", ["name", "=command", "name="])
def test_image_without_both_sides_is_a_mistake(image, capsys):
    with pytest.raises(SystemExit) as leaving:
        parsed("--image", image)
    assert leaving.value.code == 2
    assert "is not NAME=STAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--creation-seconds", "-1"], "creation_seconds is -1.0"),
        (["--image", "a=https://h"], "'a' is mapped to"),
        (["--settings", "/no/such/file"], "No such file"),
        (["--speed", "0"], "speed is 0.0"),
    ],
)
def test_start_that_fails_says_why(arguments, message, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert (said.out, message in said.err) == ("", True)


# Waits for a signal again and again. Each time it comes one line later, until the wait has no more lines:
# then an alarm ends it.
INTERRUPTED_EVERYWHERE = """
import faulthandler, itertools, signal, sys
from airflow_async_sm.emulator.command import _until_interrupted

def end(number, frame):
    sys.settrace(None)
    signal.raise_signal(signal.SIGINT)

def interrupt_at(line):
    seen = itertools.count(1)

    def trace(frame, event, argument):
        if frame.f_code is end.__code__:
            return None
        if event == "line" and next(seen) == line:
            signal.raise_signal(signal.SIGINT)
        return trace

    with _until_interrupted() as wait:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        sys.settrace(trace)
        wait()
        sys.settrace(None)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return next(seen) > line

faulthandler.dump_traceback_later(20, exit=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGALRM, end)
line = 1
while interrupt_at(line):
    line += 1
"""


def test_signal_may_come_at_any_point_of_the_wait():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_EVERYWHERE],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
