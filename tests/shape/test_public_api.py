"""``__all__`` is what is public: no more and no less than a module defines without an underscore."""

from __future__ import annotations

import ast

import pytest

from tests.shape.discovery import module_names, source

# The emulator and the demo are entered through their packages; their modules are nobody's interface.
PUBLIC = [
    name
    for name in module_names()
    if not any(part.startswith("_") for part in name.split("."))
    and not (name.split(".")[1] in {"emulator", "demo"} and name.count(".") > 1)
]


def defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name()):
                names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def declared(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]:
            return ast.literal_eval(node.value)
    return []


@pytest.mark.parametrize("module_name", PUBLIC)
def test_all_names_what_a_module_defines(module_name):
    tree = ast.parse(source(module_name).read_text())
    names = declared(tree)
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    # A package's own file may offer what its modules define.
    if source(module_name).name != "__init__.py":
        assert set(names) == defined(tree)
