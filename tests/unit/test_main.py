"""The command hands over to the part that was asked for."""

from __future__ import annotations

import pytest

from airflow_async_sm import __main__ as command
from airflow_async_sm import __version__


@pytest.mark.parametrize("name", ["demo", "emulator"])
def test_a_part_gets_its_options_and_gives_the_exit_code(monkeypatch, name):
    seen = []
    part, _ = command._COMMANDS[name]
    monkeypatch.setattr(part, "run", lambda arguments: seen.append(arguments) or 7)
    assert command.main([name]) == 7
    assert [arguments.command for arguments in seen] == [name]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["--version"], 0, __version__),
        (["--help"], 0, "run an example DAG"),
        (["emulator", "--help"], 0, "--port"),
        ([], 2, "required: command"),
        (["no-such-part"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_run_is_explained(capsys, arguments, exit_code, text):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == exit_code
    printed = capsys.readouterr()
    assert text in printed.out + printed.err
