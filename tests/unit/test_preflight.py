"""The command: its arguments, its table, its JSON and its exit codes. The looks are tested elsewhere."""

from __future__ import annotations

import json
import os
import sys
import warnings

import pytest

from airflow_async_sm import __main__ as command
from airflow_async_sm.core.preflight import Check, Level
from airflow_async_sm.hooks._preflight import PreflightCalls

GOOD = Check("connection", Level.OK, "Yes.")
DOUBTFUL = Check("failure path", Level.WARNING, "None is set,\n so nothing is told.")
BAD = Check("endpoint", Level.FAILED, "'ep' does not exist.")


@pytest.fixture
def seen(monkeypatch):
    """Return a function that says what a look sees; it returns the calls of looks."""

    def see(*checks):
        looks = []

        def look(hook, endpoint_name):
            looks.append((hook.aws_conn_id, hook.region_name, endpoint_name))
            return checks

        monkeypatch.setattr(PreflightCalls, "preflight", look)
        return looks

    return see


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard output a terminal of a width."""

    def of(columns):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


@pytest.mark.parametrize(
    ("checks", "exit_code", "last"),
    [
        ((GOOD,), 0, "Nothing failed, 0 warnings."),
        ((GOOD, DOUBTFUL), 0, "Nothing failed, 1 warning."),
        ((GOOD, BAD), 1, "1 failed, 0 warnings. Mend what failed before a request is paid for."),
        (
            (BAD, DOUBTFUL, DOUBTFUL),
            1,
            "1 failed, 2 warnings. Mend what failed before a request is paid for.",
        ),
    ],
)
def test_the_exit_code_says_whether_something_failed(seen, capsys, checks, exit_code, last):
    seen(*checks)
    assert command.main(["preflight", "ep"]) == exit_code
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_the_table_is_aligned_and_has_a_line_for_each_check(seen, capsys):
    seen(GOOD, DOUBTFUL, BAD)
    command.main(["preflight", "ep"])
    assert capsys.readouterr().out.splitlines()[:-2] == [
        "level    what          found",
        "ok       connection    Yes.",
        "warning  failure path  None is set, so nothing is told.",
        "failed   endpoint      'ep' does not exist.",
    ]


def test_on_a_terminal_the_table_is_wrapped_and_in_colours(seen, terminal, capsys):
    terminal(40)
    seen(GOOD, DOUBTFUL, BAD, Check("empty", Level.OK, ""))
    command.main(["preflight", "ep"])
    assert capsys.readouterr().out.splitlines()[:-2] == [
        "level    what          found",
        "\x1b[32mok     \x1b[0m  connection    Yes.",
        "\x1b[33mwarning\x1b[0m  failure path  None is set, so nothing is",
        "                       told.",
        "\x1b[1;31mfailed \x1b[0m  endpoint      'ep' does not exist.",
        "\x1b[32mok     \x1b[0m  empty         ",
    ]


def test_colours_are_left_out_where_they_are_not_wanted(seen, terminal, monkeypatch, capsys):
    terminal(80)
    monkeypatch.setenv("NO_COLOR", "1")
    seen(BAD)
    command.main(["preflight", "ep"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("checks", "fine"), [((GOOD, DOUBTFUL), True), ((BAD,), False)])
def test_json_says_the_same(seen, capsys, checks, fine):
    seen(*checks)
    assert command.main(["preflight", "ep", "--json"]) == (0 if fine else 1)
    assert json.loads(capsys.readouterr().out) == {
        "endpoint": "ep",
        "ok": fine,
        "checks": [{"name": c.name, "level": c.level.value, "text": c.text} for c in checks],
    }


def test_options_reach_the_hook(seen):
    looks = seen(GOOD)
    command.main(["preflight", "ep"])
    command.main(["preflight", "other", "--region", "eu-west-1", "--aws-conn-id", "mine"])
    assert looks == [(None, None, "ep"), ("mine", "eu-west-1", "other")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "required: ENDPOINT"),
        (["not a name"], "letters, digits and inner hyphens"),
        (["arn:aws:sagemaker:us-east-1:123456789012:endpoint/ep"], "a name, not an ARN"),
        (["x" * 64], "at most 63"),
        (["ep", "--region", "Ireland!"], "'Ireland!' is no region"),
        (["ep", "--no-such-option"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_end_with_2_before_anything_is_looked_at(seen, capsys, arguments, text):
    looks = seen(GOOD)
    with pytest.raises(SystemExit) as ended:
        command.main(["preflight", *arguments])
    assert (ended.value.code, looks) == (2, [])
    assert text in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_look_prints_nothing(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PreflightCalls, "preflight", interrupted)
    assert command.main(["preflight", "ep"]) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("connection", "context"), [(None, None), ("mine", "server")])
def test_what_airflow_says_meanwhile_is_not_in_the_output(monkeypatch, capsys, connection, context):
    during = {}

    def look(*_):
        during.update(os.environ)
        print("a line of a log")
        warnings.warn("a warning", stacklevel=1)
        return (GOOD,)

    monkeypatch.setattr(PreflightCalls, "preflight", look)
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    before = dict(os.environ)
    command.main(["preflight", "ep", *(["--aws-conn-id", connection] if connection else [])])
    printed = capsys.readouterr()
    assert "a line of a log" not in printed.out
    assert printed.err == "a line of a log\n"
    assert during["AIRFLOW__LOGGING__LOGGING_LEVEL"] == "CRITICAL"
    assert during.get("_AIRFLOW_PROCESS_CONTEXT") == context
    assert dict(os.environ) == before


def test_a_level_of_the_log_that_was_asked_for_is_kept(monkeypatch):
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "DEBUG")
    during = []

    def look(*_):
        during.append(os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"])
        return ()

    monkeypatch.setattr(PreflightCalls, "preflight", look)
    assert command.main(["preflight", "ep"]) == 0
    assert during == ["DEBUG"] == [os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"]]
