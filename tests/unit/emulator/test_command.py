from __future__ import annotations

import argparse

import pytest

from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.__main__ import main
from airflow_async_sm.emulator.command import add_arguments


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults_are_those_of_the_emulator():
    args = parsed()
    assert (args.host, args.port, args.image) == ("127.0.0.1", 0, [])
    assert args.creation_seconds == Behaviour().creation_seconds


def test_images_are_commands_or_addresses():
    args = parsed("--image", "a=python -m 'my server'", "--image", "b:1=http://127.0.0.1:1")
    assert args.image == [("a", ["python", "-m", "my server"]), ("b:1", "http://127.0.0.1:1")]


@pytest.mark.parametrize("image", ["name", "=command", "name="])
def test_image_without_both_sides_is_a_mistake(image, capsys):
    with pytest.raises(SystemExit) as leaving:
        parsed("--image", image)
    assert leaving.value.code == 2
    assert "is not NAME=COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--creation-seconds", "-1"], "creation_seconds is -1.0"),
        (["--image", "a=https://h"], "'a' is mapped to"),
    ],
)
def test_start_that_fails_says_why(arguments, message, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert (said.out, message in said.err) == ("", True)
