"""What the reference takes from the code beside docstrings, and how names in docstrings find each other."""

from __future__ import annotations

import argparse
import os
import re
from importlib import import_module
from typing import Any

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from airflow_async_sm import emulator
from airflow_async_sm.__main__ import command_line
from airflow_async_sm.provider_info import get_provider_info

_RANGE = re.compile(r"~?(?:typing\.)?Annotated\[(.*), \S*?(?:Range|Filled)\(.*?\)\]")
# Classes of these layers say themselves what they are for; how they do it is said by the class they extend.
_SAID_ONCE = ("operators", "sensors", "triggers")


def setup(app: Sphinx) -> dict[str, bool]:
    """Take part in the reading of docstrings and in the making of links."""
    app.add_directive("command-help", CommandHelp)
    app.add_directive("provider-info", ProviderInfo)
    app.connect("autodoc-skip-member", _leave_out_what_others_explain)
    # Before types are put beside the arguments they belong to.
    app.connect("object-description-transform", _leave_out_ranges, priority=400)
    app.connect("missing-reference", _find_by_last_part)
    # The package loads its names when they are asked for, and autodoc lists those that are there.
    for name in emulator.__all__:
        getattr(emulator, name)
    return {"parallel_read_safe": True}


class CommandHelp(SphinxDirective):
    """``{command-help} demo``: what ``airflow-async-sm demo --help`` prints; without a name, all of it."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help as it is printed."""
        os.environ["COLUMNS"] = "90"
        parser = command_line()
        if self.arguments:
            (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
            parser = commands.choices[self.arguments[0]]
        return [nodes.literal_block(text=parser.format_help(), language="text")]


class ProviderInfo(SphinxDirective):
    """The provider's metadata, as YAML."""

    def run(self) -> list[nodes.Node]:
        """Return the metadata as text."""
        text = yaml.safe_dump(get_provider_info(), sort_keys=False, width=110)
        return [nodes.literal_block(text=text, language="yaml")]


def _leave_out_what_others_explain(
    _app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out what comes from Airflow, and methods that only fill in what a base class has explained."""
    function = getattr(member, "fget", None) or getattr(member, "func", member)
    module, path = str(getattr(function, "__module__", "")), getattr(function, "__qualname__", "").split(".")
    if module.startswith("airflow."):
        return True
    if len(path) != 2 or not module.startswith(tuple(f"airflow_async_sm.{layer}." for layer in _SAID_ONCE)):
        return None
    owner = getattr(import_module(module), path[0], None)
    inherited = isinstance(owner, type) and any(path[1] in vars(base) for base in owner.__mro__[1:])
    return True if inherited else None


def _leave_out_ranges(app: Sphinx, *_: Any) -> None:
    """Let ``Annotated[float, Range(...)]`` be a ``float``: docstrings say the limits in words."""
    for hints in app.env.current_document.autodoc_annotations.values():
        for name, hint in hints.items():
            hints[name] = _RANGE.sub(r"\1", hint)


def _find_by_last_part(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Link ``SageMakerAsyncHook`` to what is called so, if there is one such thing."""
    name = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or "." in name:
        return None
    known = {
        full: place
        for full, place in env.domains.python_domain.objects.items()
        if full.rpartition(".")[2] == name and not place.aliased
    }
    if len(known) != 1:
        return None
    ((full, place),) = known.items()
    return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, full)
