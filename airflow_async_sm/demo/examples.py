"""The example DAGs of a folder: which there are, and what each is about, without importing one."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from airflow_async_sm.demo.errors import LocalAirflowError

FIRST = "example_invoke_single"
"""Where somebody new begins."""

STARTED_BY = {"example_consumer_on_asset": "example_nightly_batch"}
"""DAGs that run because another one has updated an asset, by that other one."""


class NoSuchExample(LocalAirflowError):
    """There is no example, or none of that name."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """
    An example DAG, which is called as its file is.

    :param file: The file.
    """

    file: Path

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def title(self) -> str:
        """The first line of the module's docstring, without the marks of a heading."""
        story = ast.get_docstring(ast.parse(self.file.read_bytes())) or ""
        return story.partition("\n")[0].lstrip("# ").strip()


def find_examples(folder: Path) -> list[Example]:
    """
    Return the examples in a folder: the one to begin with, then the others by name.

    :raises NoSuchExample: there are none.
    """
    found = [Example(file=file) for file in sorted(folder.glob("example_*.py"))]
    if not found:
        raise NoSuchExample(f"There are no examples in {folder}. Name a file of your own with --dag-file.")
    return sorted(found, key=lambda example: example.name != FIRST)


def listing(folder: Path) -> list[str]:
    """Return a line for each example in a folder: its name, and what it is about."""
    found = find_examples(folder)
    width = max(len(example.name) for example in found)
    return [f"{example.name:{width}}  {example.title}" for example in found]


def find_example(folder: Path, name: str) -> Example:
    """
    Return an example.

    :param folder: Folder with the examples.
    :param name: Its name; the name of its file will do.
    :raises NoSuchExample: it is not there; names those that are.
    """
    found = {example.name: example for example in find_examples(folder)}
    wanted = Path(name).name.removesuffix(".py")
    if wanted not in found:
        raise NoSuchExample(f"There is no example {name}. There are: {', '.join(found)}.")
    return found[wanted]
