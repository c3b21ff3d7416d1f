"""The pages as tests read them: which there are, and the blocks of code and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BESIDE_DOCS = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n+)?"
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# ([\w/]+\.py)\b")
_BETWEEN_COMMANDS = {"&&", "||", "|", ";", "&"}
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<<-? *'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """
    A fenced block of a page.

    :param page: The page.
    :param line: The line of its first line of text, from 1.
    :param language: What stands behind the fence.
    :param text: What is in it.
    :param reason: Why it is not run; ``None``: it is.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def file(self) -> str | None:
        """The file that the block says it is, in its first line."""
        found = _FILE.match(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return all pages."""
    found = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return [*(ROOT / name for name in BESIDE_DOCS), *sorted(found)]


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in some languages, in their order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("text")) + 1,
            language=found["language"].strip(),
            text=textwrap.dedent(found["text"]),
            reason=found["reason"],
        )
        for found in _FENCE.finditer(text)
        if found["language"].strip() in languages
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", page.read_text())


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands that somebody types, each as the words that a shell makes of it."""
    lines = iter(block.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue  # What a command prints.
        typed = line[2:]
        while not _is_whole(typed):
            typed = f"{typed.removesuffix(chr(92))}\n{next(lines)}"
        if ends_with := _HERE_DOCUMENT.search(typed):
            while next(lines) != ends_with[1]:
                pass
        yield from _split(typed)


def _is_whole(typed: str) -> bool:
    try:
        shlex.split(typed, comments=True)
    except ValueError:
        return False
    return not typed.endswith("\\")


def _split(typed: str) -> Iterator[list[str]]:
    words = shlex.shlex(typed.replace("\n", " "), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in _BETWEEN_COMMANDS:
            command.append(word)
            continue
        while command and _ASSIGNMENT.fullmatch(command[0]):
            del command[0]
        if command:
            yield command
        command = []
