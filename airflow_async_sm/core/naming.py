"""Names that fit the service's limits, also for what is made along with an endpoint."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["fit_name", "is_part_of", "part_name", "stem"]

# Models, configurations and endpoints have the same limit.
_LONGEST: Final = 63
_MARK: Final = 8
# Not a number, so that a name which ends with a date or a time is never taken for one of ours.
_CONTENT: Final = re.compile(r"x[0-9a-f]{10}")
_CONTENT_LENGTH: Final = 11


def fit_name(text: str, *, longest: int = _LONGEST) -> str:
    """
    Return a name for a model, a configuration or an endpoint, made of any text.

    What fits is returned as it is. In anything else, characters that a name cannot have become hyphens, the
    end is cut off, and a mark made of the whole text is added: different texts have different names.

    :param text: What the name is made of, for example ``"scoring.v2 / manual__2026-01-01"``.
    :param longest: Most characters, at least 16. Default 63, the service's limit.
    :raises InvalidInput: there is no letter and no digit in the text, or no room.
    """
    if longest < 2 * _MARK:
        raise InvalidInput(f"longest is {longest}; at least {2 * _MARK} characters are needed.")
    name = re.sub(r"[^a-zA-Z0-9-]", "-", text).strip("-")
    if not name:
        raise InvalidInput(f"{text!r} has no letter and no digit that a name could be made of.")
    if name == text and len(name) <= longest:
        return name
    return f"{name[: longest - _MARK - 1].rstrip('-')}-{_digest(text)[:_MARK]}"


def part_name(endpoint_name: str, content: Any) -> str:
    """
    Return the name of a model or a configuration that is made for an endpoint.

    :param endpoint_name: The endpoint.
    :param content: What it is made of, as JSON values. The same content has the same name, so what has not
        changed is not made again.
    :raises InvalidInput: the content holds something that is no JSON value.
    """
    try:
        written = json.dumps(content, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The API arguments hold what cannot be sent: {error}.") from error
    return f"{stem(endpoint_name)}-x{_digest(written)[: _CONTENT_LENGTH - 1]}"


def is_part_of(endpoint_name: str, name: str) -> bool:
    """Return whether :func:`part_name` could have made this name for the endpoint."""
    beginning, _, content = name.rpartition("-")
    return beginning == stem(endpoint_name) and _CONTENT.fullmatch(content) is not None


def stem(endpoint_name: str) -> str:
    """Return what the names of all parts of an endpoint begin with."""
    return fit_name(endpoint_name, longest=_LONGEST - _CONTENT_LENGTH - 1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
