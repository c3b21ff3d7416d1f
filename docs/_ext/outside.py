"""
Links to files beside ``docs/`` are for readers of the repository. In the site they lead to copies.

Sphinx does so by itself where the file cannot be one of its pages. A ``.md`` file could, so it is told.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

_LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+\.md)(#[^)\s]*)?\)")
# Files that have a page here after all.
_PAGES = {"CHANGELOG.md": "/changelog.md"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Take part in the reading of the pages."""
    app.connect("source-read", _rewrite)
    return {"parallel_read_safe": True}


def _rewrite(app: Sphinx, page: str, source: list[str]) -> None:
    docs = Path(app.srcdir)

    def target(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(docs / Path(page).parent / link[1]))
        if path.is_relative_to(docs):
            return link[0]
        own = _PAGES.get(str(path.relative_to(docs.parent)))
        return f"]({own}{link[2] or ''})" if own else f"](path:{link[1]})"

    source[0] = _LINK.sub(target, source[0])
