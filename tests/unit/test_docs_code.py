"""
The code in the pages works, and the commands in them exist.

Blocks of Python run one after the other, page by page, in one namespace for each page: they build DAGs,
define functions, and talk to an emulator that they start themselves. A block that begins with ``# name.py``
is also that file for the blocks after it. A page with tests is a test-suite, which passes. A block that
cannot run here says so above itself, where readers of its source see it:
``<!-- not run: needs an endpoint -->``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from airflow_async_sm.__main__ import command_line
from airflow_async_sm._compat import BaseOperator
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.task_groups import sagemaker_async_endpoint
from benchmarks import options as benchmark_options
from benchmarks.__main__ import OF_BATCHES
from tests.pages import DOCS, ROOT, Block, blocks, commands, pages, prose
from tests.shape.discovery import classes

# The pages are written for Airflow 3.
pytestmark = pytest.mark.default_airflow

PYTHON = {page: blocks(page, "python") for page in pages()}
WITH_PYTHON = [page for page, found in PYTHON.items() if found]
WITH_TESTS = [page for page in WITH_PYTHON if any("\ndef test_" in block.text for block in PYTHON[page])]
CONSOLE = [block for page in pages() for block in blocks(page, "console")]
TASKS = {cls.__name__: cls for cls in classes(BaseOperator, "operators", "sensors")}
LONGEST_SUITE_SECONDS = 300


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def placed(block: Block) -> str:
    """Return a block's text behind so many empty lines that errors tell its lines in the page."""
    return "\n" * (block.line - 1) + block.text


# What runs


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to work in, from which files can be imported; what was imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write_down(block: Block, folder: Path, *, otherwise: str | None = None) -> None:
    """Add a block to the file that it says it is."""
    if name := block.file or otherwise:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(block.text + "\n\n")


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_blocks_of_a_page_run_one_after_the_other(page, elsewhere):
    namespace: dict[str, Any] = {"__name__": "a_page"}
    for block in PYTHON[page]:
        code = compile(placed(block), str(page), "exec")
        if block.reason is None:
            write_down(block, elsewhere)
            exec(code, namespace)


@pytest.mark.parametrize("page", WITH_TESTS, ids=name_of)
def test_the_tests_of_a_page_pass(page, tmp_path):
    """Also in a process of its own, as the reader's suite is, with a plugin and no settings of this one's."""
    for block in PYTHON[page]:
        write_down(block, tmp_path, otherwise="test_page.py" if "\ndef test_" in block.text else None)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "."]
    # The package is found as a user's pytest finds it, installed or not.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SUITE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = sum(path.read_text().count("\ndef test_") for path in tmp_path.rglob("test_*.py"))
    assert f"{written} passed" in done.stdout


def test_there_is_something_to_run():
    assert len(WITH_PYTHON) >= 8
    assert len(WITH_TESTS) >= 2
    assert sum(block.reason is None for found in PYTHON.values() for block in found) >= 40


# What is named


def imported(tree: ast.AST) -> Iterator[tuple[str, str, str | None]]:
    """Yield what is imported of this package: the name it gets, the module, and the name within that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow_async_sm":
            yield from ((one.asname or one.name, str(node.module), one.name) for one in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (one.asname or one.name, one.name, None)
                for one in node.names
                if one.name.split(".")[0] == "airflow_async_sm"
            )


def named(module: str, attribute: str | None) -> Any:
    found = importlib.import_module(module)
    if attribute is None:
        return found
    if not hasattr(found, attribute):
        return importlib.import_module(f"{module}.{attribute}")
    return getattr(found, attribute)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_every_argument_that_is_given_to_something_of_ours_exists(page):
    known: dict[str, Any] = dict(TASKS)
    for block in PYTHON[page]:
        tree = ast.parse(placed(block))
        known |= {name: named(module, attribute) for name, module, attribute in imported(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (accepted := arguments_of(node.func, known)):
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert given <= accepted, f"{block}, line {node.lineno}: {sorted(given - accepted)}"


def arguments_of(function: ast.expr, known: dict[str, Any]) -> set[str] | None:
    """Return which arguments what is called takes; ``None``: it is not ours, or it takes anything."""
    if isinstance(function, ast.Attribute) and function.attr in {"partial", "expand"}:
        return arguments_of(function.value, known)
    if ast.unparse(function) == "task.sagemaker_async":
        of_tasks = map(task_arguments, (SageMakerAsyncInvokeOperator, SageMakerAsyncBatchOperator))
        return {"batch", "multiple_outputs"}.union(*of_tasks)
    found = known.get(ast.unparse(function))
    if inspect.isclass(found) and issubclass(found, BaseOperator):
        return task_arguments(found)
    if found is sagemaker_async_endpoint:
        return {*inspect.signature(found).parameters, *task_arguments(SageMakerAsyncDeployOperator)}
    if not callable(found):
        return None
    parameters = inspect.signature(found).parameters.values()
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}


def task_arguments(cls: type) -> set[str]:
    """Return the arguments of an operator or a sensor, Airflow's own among them."""
    makers = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    return {name for maker in makers for name in inspect.signature(maker).parameters} - {"self"}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_name_of_ours_in_a_page_exists(page):
    for found in set(re.findall(r"\bairflow_async_sm(?:\.[A-Za-z_]\w*)+", page.read_text())):
        if re.search(r"\.(py|md|log)$", found):
            continue
        module, _, attribute = found.rpartition(".")
        try:
            importlib.import_module(found)
        except ModuleNotFoundError:
            assert named(module, attribute) is not None


@pytest.mark.parametrize("page", [page for page in pages() if not page.is_relative_to(DOCS)], ids=name_of)
def test_every_link_of_a_page_that_is_not_in_the_site_leads_somewhere(page):
    for place, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        target = page.parent / place if place else page
        assert target.exists(), place
        assert not anchor or anchor in headings(target), f"{place}#{anchor}"


def headings(page: Path) -> set[str]:
    """Return what links call the headings of a page."""
    titles = re.findall(r"^#{1,4} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# What is typed


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_every_command_in_a_block_exists_with_its_options(block):
    for program, *arguments in commands(block):
        check_command(program, arguments, block)


def check_command(program: str, arguments: list[str], block: Block) -> None:
    if program == "airflow-async-sm":
        parses(command_line().parse_args, arguments)
    elif program.startswith("scripts/"):
        check_script(ROOT / program, arguments)
    elif program in {"python", "python3"}:
        check_python(arguments, block)
    elif program == "pip":
        check_extras(arguments)


def parses(parse: Callable[[list[str]], Any], arguments: list[str]) -> None:
    try:
        parse(arguments)
    except SystemExit as end:
        if end.code:  # --help and --version end with 0
            pytest.fail(f"{arguments} are refused")


def check_script(script: Path, arguments: list[str]) -> None:
    assert os.access(script, os.X_OK), f"There is no {script.name}, or it cannot be executed"
    text = script.read_text()
    if script.name == "bench":
        if arguments and arguments[0] in OF_BATCHES:
            module = importlib.import_module(f"benchmarks.{OF_BATCHES[arguments[0]]}")
            parses(module._parsed, arguments[1:])
        else:
            parses(benchmark_options.parsed, arguments)
    elif handed_on := re.search(r'^exec airflow-async-sm ([\w .\-/]*)"\$@"', text, re.MULTILINE):
        parses(command_line().parse_args, [*handed_on[1].split(), *arguments])
    else:
        beside = script.with_suffix(".py")
        text += beside.read_text() if beside.exists() else ""
        for argument in arguments:
            if argument.startswith("--"):
                assert argument.partition("=")[0] in text
            elif re.fullmatch(r"\d+\.\d+\.\d+", argument):
                assert (ROOT / "scripts" / "constraints" / f"airflow-{argument}.txt").exists()
            elif "/" in argument:
                assert (ROOT / argument).exists()


def check_python(arguments: list[str], block: Block) -> None:
    if arguments[:1] == ["-m"]:
        name, *rest = arguments[1:]
        if name == "airflow_async_sm.emulator":
            parses(command_line().parse_args, ["emulator", *rest])
        elif name.split(".")[0] in {"airflow_async_sm", "benchmarks"}:
            assert importlib.util.find_spec(name)
    elif arguments and arguments[0].endswith(".py"):
        of_the_page = {one.file for one in PYTHON[block.page]}
        assert (ROOT / arguments[0]).exists() or arguments[0] in of_the_page, f"There is no {arguments[0]}"


def check_extras(arguments: list[str]) -> None:
    known = set(metadata("airflow-async-sm").get_all("Provides-Extra") or ())
    for argument in arguments:
        if extras := re.match(r"airflow-async-sm\[([^]]*)\]", argument):
            assert set(extras[1].split(",")) <= known


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_in_a_sentence_exists(page):
    (subcommands,) = (a for a in command_line()._actions if isinstance(a.choices, dict))
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        program, *arguments = code.split() or [""]
        if program.startswith("scripts/") and "." not in program:
            assert (ROOT / program).exists(), code
        if program == "airflow-async-sm" and arguments and not arguments[0].startswith("-"):
            known = subcommands.choices[arguments[0]]._option_string_actions
            assert {word for word in arguments if word.startswith("--")} <= set(known), code


def test_there_are_commands_to_check():
    typed = [command for block in CONSOLE for command in commands(block)]
    assert sum(command[0] == "airflow-async-sm" for command in typed) >= 4
    assert sum(command[0].startswith("scripts/") for command in typed) >= 10
