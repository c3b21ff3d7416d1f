"""A file in YAML or JSON: what is in it, and in which line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]


class NotationError(ValueError):
    """
    A file that is not what it should be.

    :param problem: What is wrong with it.
    :param line: The line, from 1, if it is known.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class Notation:
    """
    The content of a file.

    :param data: Mappings, lists, texts, numbers, booleans and ``None``.
    :param tree: The same with lines, or ``None`` if there is nothing to tell lines from.
    """

    data: Any
    tree: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> Notation:
        """
        Read a file.

        :param path: A file whose name ends in ``.json`` holds JSON; every other one holds YAML.
        :raises NotationError: it does not, or a mapping has a key twice, or it is not text in UTF-8.
        :raises OSError: the file cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise NotationError(f"It is not text in UTF-8: {error}.") from error
        return _from_json(text) if path.suffix.lower() == ".json" else _from_yaml(text)

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """
        Return the line of a setting, or of the nearest thing around it that is written down.

        :param path: Where the setting is, from the outside in.
        """
        node, line = self.tree, None
        for step in path:
            found = _inside(node, step)
            if found is None:
                break
            line, node = found
        if line is None and self.tree is not None:
            line = self.tree.start_mark.line
        return None if line is None else line + 1


def _inside(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    """Return the line where a part of a node begins, from 0, and the part."""
    content = [] if node is None else node.value
    if isinstance(step, int):
        part = content[step]
        return part.start_mark.line, part
    for key, value in content:
        if key.value == step:
            return key.start_mark.line, value
    return None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads what is safe to read, and no mapping that says two things about one key."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise NotationError(f"The key {key.value!r} is there twice.", key.start_mark.line + 1)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def _from_yaml(text: str) -> Notation:
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        return Notation(None if tree is None else loader.construct_document(tree), tree)
    except NotationError:
        raise
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise NotationError(f"It is not YAML: {problem}.", line) from error
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is a date that does not exist, and the like.
        raise NotationError(f"It is not YAML: {error}.") from error


def _from_json(text: str) -> Notation:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise NotationError(f"It is not JSON: {error.msg}.", error.lineno) from error
    try:
        # For the lines alone. JSON is YAML but for tabs, which JSON has only between values.
        return Notation(data, _Loader(text.replace("\t", " ")).get_single_node())
    except yaml.YAMLError:
        return Notation(data, None)
