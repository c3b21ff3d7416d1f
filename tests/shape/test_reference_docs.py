"""The reference is whole: what users import, and what is in a layer that they use, has its place there."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.pages import DOCS, ROOT, blocks, pages
from tests.shape.discovery import in_layer, module_names, source

LAYERS = ("decorators", "hooks", "operators", "sensors", "triggers")
# Each is one step of every operator. Nobody calls them, and what they do is told where it shows.
INSIDE = {"assets", "lineage", "metrics", "preflight", "sources"}
SHOWN = [
    name
    for page in (DOCS / "reference").glob("*.md")
    for name in re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(), re.MULTILINE)
]


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def declares_names(path: Path) -> bool:
    return any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for node in ast.parse(path.read_text()).body
    )


def imported_by_users() -> set[str]:
    """Return the modules of this package that a page's code or an example imports."""
    texts = [block.text for page in pages() for block in blocks(page, "python")]
    texts += [path.read_text() for path in (ROOT / "dags").rglob("*.py")]
    return {
        str(node.module)
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "airflow_async_sm"
    }


def test_no_module_is_shown_twice_and_each_exists():
    assert len(SHOWN) == len(set(SHOWN))
    assert set(SHOWN) <= set(module_names())


@pytest.mark.parametrize("layer", LAYERS)
def test_every_public_module_of_a_layer_that_users_use_is_shown(layer):
    existing = {
        name
        for name in module_names()
        if in_layer(name, layer) and is_public(name) and source(name).name != "__init__.py"
    }
    assert {name for name in SHOWN if in_layer(name, layer)} == existing


def test_every_public_module_outside_the_layers_is_shown_unless_it_is_said_to_be_inside():
    outside = [name for name in module_names() if name.count(".") == 1 and is_public(name)]
    existing = {name for name in outside if declares_names(source(name))}
    inside = {f"airflow_async_sm.{name}" for name in INSIDE}
    assert inside <= existing
    assert {name for name in SHOWN if name.count(".") == 1} == existing - inside


def test_what_pages_and_examples_import_is_shown():
    used = imported_by_users()
    assert len(used) >= 10
    assert used <= set(SHOWN)


@pytest.mark.parametrize("index", sorted(DOCS.rglob("index.md")), ids=lambda page: page.parent.name)
def test_every_page_is_in_its_folders_table_of_contents(index):
    listed = {line for block in blocks(index, "{toctree}") for line in block.text.splitlines()}
    beside = {path.stem for path in index.parent.glob("*.md")} - {"index"}
    folders = {f"{path.parent.name}/index" for path in index.parent.glob("*/index.md")}
    missing = {name for name in beside | folders if not any(fnmatchcase(name, line) for line in listed)}
    assert not missing
