"""The emulator's pages say what the code says: every switch, fault, option and address, with its default."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import get_type_hints
from unittest import mock

import pytest
import yaml

from airflow_async_sm.emulator.command import add_arguments
from airflow_async_sm.emulator.scaling.metrics import Metric
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import Fault, fault_kinds
from airflow_async_sm.emulator.settings.files import read_settings
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.web.control import Control
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.work.records import RequestRecord, RequestState

DOCS = Path(__file__).resolve().parents[2] / "docs"
MANUAL, REFERENCE = DOCS / "emulator.md", DOCS / "emulator-settings.md"
NEEDED = "needed"


def section(page, title):
    """Return a section's text, up to the next title of the same rank or a higher one."""
    rank, begun, lines = None, False, []
    for line in page.read_text().splitlines():
        found = re.fullmatch(r"(#+) (.*)", line)
        if found and begun and len(found[1]) <= rank:
            break
        if found and found[2] == title:
            rank, begun = len(found[1]), True
        elif begun:
            lines.append(line)
    assert begun, f"{page.name} has no section {title!r}"
    return "\n".join(lines)


def tables(text):
    """Return each table as a list of rows, each a mapping of column titles to cells."""
    found, lines = [], [*text.splitlines(), ""]
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|(-+\|)+", line):
            titles, rows = cells(lines[number - 1]), []
            for row in lines[number + 1 :]:
                if not row.startswith("|"):
                    break
                assert len(cells(row)) == len(titles), f"A row has not as many cells as the table: {row}"
                rows.append(dict(zip(titles, cells(row), strict=True)))
            found.append(rows)
    return found


def cells(line):
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def table(page, title, *columns):
    """Return the table of a section whose first columns are these."""
    found = [rows for rows in tables(section(page, title)) if rows]
    fitting = [rows for rows in found if tuple(rows[0])[: len(columns)] == columns]
    assert len(fitting) == 1, f"{title!r} of {page.name} has {len(fitting)} tables that begin with {columns}"
    return fitting[0]


def name(cell):
    """Return the first name in a cell, without its quotes."""
    return re.search(r"`([^`]+)`", cell)[1]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def plain(value):
    return value.value if isinstance(value, StrEnum) else value


def default(field):
    return NEEDED if field.default is dataclasses.MISSING else plain(field.default)


def defaults(cls):
    return {field.name: default(field) for field in dataclasses.fields(cls)}


def stated(rows, column):
    """Return the default that each row states, by the name in a column."""
    return {name(row[column]): yaml.safe_load(row["Default"]) for row in rows}


def test_every_behaviour_is_described_with_its_default():
    rows = table(REFERENCE, "Behaviour", "Name", "Default")
    assert stated(rows, "Name") == defaults(Behaviour)


def test_exactly_the_marked_behaviours_may_be_zero():
    def may_be_zero(field):
        try:
            Behaviour(**{field: 0})
        except ValueError:
            return False
        return True

    rows = table(REFERENCE, "Behaviour", "Name", "Default")
    marked = {name(row["Name"]) for row in rows if row["Name"].endswith("*")}
    assert marked == {field for field in defaults(Behaviour) if may_be_zero(field)}


def test_every_unknown_is_described_with_its_default():
    rows = table(REFERENCE, "Unknowns", "Name", "Positions")
    assert stated(rows, "Name") == defaults(Unknowns)


def test_every_position_of_an_unknown_is_named():
    kinds = get_type_hints(Unknowns)
    for row in table(REFERENCE, "Unknowns", "Name", "Positions"):
        kind = kinds[name(row["Name"])]
        if kind is bool:
            assert names(row["Positions"]) == ["false", "true"]
        elif issubclass(kind, StrEnum):
            assert names(row["Positions"]) == [position.value for position in kind], row["Name"]
        else:
            assert row["Positions"].startswith("a ")


def test_every_kind_of_fault_is_described():
    rows = table(REFERENCE, "Faults", "`kind`", "In Python")
    described = {name(row["`kind`"]): name(row["In Python"]) for row in rows}
    assert described == {kind: cls.__name__ for kind, cls in fault_kinds().items()}
    assert all(row["What happens"] and row["Who is hit: one case is"] for row in rows)


def test_every_field_of_a_fault_is_described_with_its_default():
    common = table(REFERENCE, "Fields", "Field", "Default", "Meaning")
    assert stated([row for row in common if name(row["Field"]) != "kind"], "Field") == defaults(Fault)
    found = {}
    for row in table(REFERENCE, "Fields", "`kind`", "Field"):
        found.setdefault(name(row["`kind`"]), []).append(row)
    for kind, cls in fault_kinds().items():
        own = {field: value for field, value in defaults(cls).items() if field not in defaults(Fault)}
        assert stated(found.pop(kind, []), "Field") == own, kind
    assert not found


def test_faults_without_endpoint_are_named():
    rows = {name(row["Field"]): row for row in table(REFERENCE, "Fields", "Field", "Default", "Meaning")}
    without = {kind for kind, cls in fault_kinds().items() if not cls.has_endpoint}
    assert set(names(rows["endpoint"]["Meaning"])) - {"null"} == without


def test_every_option_of_the_command_is_described_with_its_default():
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    options = {action.option_strings[0]: action for action in parser._actions}
    rows = {name(row["Option"]).split()[0]: row for row in table(MANUAL, "As a command", "Option")}
    assert rows.keys() == options.keys()
    for option, action in options.items():
        if action.default and isinstance(action.default, str | int | float):
            assert yaml.safe_load(rows[option]["Default"]) == action.default, option
    assert f"{Behaviour.creation_seconds:g}" == rows["--creation-seconds"]["Default"]


def test_every_control_address_is_described_with_its_methods():
    environ = {"PATH_INFO": "/_emulator/", "REQUEST_METHOD": "GET"}
    answer = Control(mock.Mock(), reset=mock.Mock()).answer(environ)
    there = {path: set(methods) for path, methods in json.loads(b"".join(answer.body)).items()}
    rows = table(MANUAL, "The control address", "Address", "Methods")
    described = {name(row["Address"]): set(row["Methods"].split(", ")) for row in rows}
    assert described == {"/_emulator/": {"GET"}, **there}


def test_every_field_and_state_of_a_request_is_described():
    rows = table(MANUAL, "Requests", "Field", "Meaning")
    assert [one for row in rows for one in names(row["Field"])] == list(defaults(RequestRecord))
    assert {state.value for state in RequestState} <= set(names(section(MANUAL, "Requests")))


def test_every_counter_is_described():
    rows = table(MANUAL, "Counters", "Name", "Content")
    assert [name(row["Name"]) for row in rows] == list(Counters().as_data())


def test_every_metric_is_described():
    rows = table(MANUAL, "Metrics", "Metric", "Dimensions")
    assert {one for row in rows for one in names(row["Metric"])} == {metric.value for metric in Metric}


def blocks(language):
    """Return every example in a language, named by its place."""
    return [
        pytest.param(found[1], id=f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}")
        for page in (MANUAL, REFERENCE)
        for text in [page.read_text()]
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize("block", blocks("yaml"))
def test_an_example_of_settings_can_be_read(block, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(block)
    assert read_settings(path)


@pytest.mark.parametrize("block", blocks("python"))
def test_an_example_in_python_compiles_and_imports_what_is_there(block):
    tree = ast.parse(block)
    compile(tree, "example", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("airflow_async_sm"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("page", [MANUAL, REFERENCE], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [MANUAL, REFERENCE], ids=lambda page: page.name)
def test_links_within_the_pages_lead_to_titles(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
