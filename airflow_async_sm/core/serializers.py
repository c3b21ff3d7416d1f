"""A value becomes the bytes of a payload, as its content type asks."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from importlib import import_module
from typing import Any, Final, NoReturn, TypeAlias

from airflow_async_sm.core.limits import CONTENT_TYPE, InvalidInput
from airflow_async_sm.core.texts import sentence, shortened

__all__ = ["BINARY", "JSON_LINES", "TEXT", "Serializer", "serialize"]

Serializer: TypeAlias = Callable[[Any], bytes | str]

BINARY: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_NPY: Final = "application/x-npy"
JSON_LINES: Final = frozenset(
    f"application/{prefix}{name}" for prefix in ("", "x-") for name in ("jsonlines", "jsonl", "ndjson")
)
"""The content types of JSON values, one a line. None of them is registered, so each is in use somewhere."""

_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)
_WAYS_OUT: Final = "Give JSON values, text or bytes, or a serializer that makes them."


def serialize(
    value: Any, content_type: str | None = None, serializer: Serializer | None = None
) -> tuple[bytes, str]:
    """
    Return the bytes to send, and their content type.

    Bytes are sent as they are, whatever the content type. Text that is given for JSON, JSON Lines or CSV is
    taken for what was written already. Text is encoded as the content type's ``charset`` says, else as UTF-8.

    :param value: What to send.
    :param content_type: JSON, JSON Lines, CSV or NumPy's ``application/x-npy``; as any other type only text
        and bytes can be sent. ``None``: what fits the value's Python type, which is JSON unless it is text,
        bytes or a NumPy array.
    :param serializer: Makes the bytes, or the text, in place of all this. It gets ``value``.
    :raises InvalidInput: the value does not fit the content type, or the serializer failed.
    """
    if content_type:
        CONTENT_TYPE.check("content_type", content_type)
    if serializer is not None:
        value = _called(serializer, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), content_type or BINARY
    if serializer is not None or (not content_type and isinstance(value, str)):
        return _encode(value, content_type), content_type or TEXT
    content_type = content_type or (_NPY if _is_array(value) else _JSON)
    return _written(value, content_type), content_type


def _called(serializer: Any, value: Any) -> bytes | str:
    name = getattr(serializer, "__qualname__", type(serializer).__name__)
    if not callable(serializer):
        raise InvalidInput(f"serializer is {serializer!r}; give a function that returns bytes or text.")
    try:
        made = serializer(value)
    except Exception as error:  # noqa: BLE001 - somebody else's function may raise anything
        # The trace shows where it happened. The error's own text may quote the payload, so it is cut.
        trace = RuntimeError(f"{name} raised {type(error).__name__}").with_traceback(error.__traceback__)
        raise InvalidInput(
            f"serializer {name} failed on a payload of type {type(value).__name__}: "
            f"{type(error).__name__}: {sentence(shortened(str(error)))}"
        ) from trace
    if not isinstance(made, bytes | bytearray | memoryview | str):
        raise InvalidInput(
            f"serializer {name} returned {type(made).__name__}; it has to return bytes or text."
        )
    return made if isinstance(made, str) else bytes(made)


def _is_array(value: Any) -> bool:
    """Whether a value is a NumPy array: it cannot be one before somebody has loaded NumPy."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _written(value: Any, content_type: str) -> bytes:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _NPY:
        return _npy(value)
    if kind == _JSON or kind.endswith("+json"):
        text = _json_text(value) if isinstance(value, str) else _json(value)
    elif kind in JSON_LINES:
        text = _json_lines(value)
    elif isinstance(value, str):
        text = value
    elif kind == "text/csv":
        text = _csv(value)
    else:
        raise _refusal(
            value, f"cannot be written as {kind}. Give text or bytes, or a serializer that makes them."
        )
    return _encode(text, content_type)


def _encode(text: str, content_type: str | None) -> bytes:
    found = _CHARSET.search(content_type or "")
    charset = found[1] if found else "utf-8"
    try:
        return text.encode(charset)
    except UnicodeEncodeError as error:
        name = "UTF-8" if charset.lower() == "utf-8" else charset
        raise InvalidInput(
            f"payload has text that {name} cannot hold at character {error.start + 1:,} ({error.reason}). "
            + ("Give bytes." if name == "UTF-8" else "Use charset=utf-8.")
        ) from error
    except (LookupError, ValueError) as error:
        raise InvalidInput(
            f"content_type names the charset {charset!r}, which Python does not know. Use charset=utf-8."
        ) from error


def _json(value: Any, what: str = "JSON") -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(value, f"cannot be written as {what} ({error}). {_WAYS_OUT}") from error


def _plain(value: Any) -> Any:
    """Return what a value stands for: the outputs of mapped tasks a list, a NumPy number a number."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("JSON has no bytes: put them in as base64 text")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if callable(as_list := getattr(value, "tolist", None)):
        return as_list()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _json_text(text: str, where: str = "payload") -> str:
    """Return text that is JSON as it is. Quoting it in silence would send a text in place of an object."""
    try:
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{where} is text that is no JSON ({error}), and text is sent as it is. "
            "Give the value itself, or write a text with json.dumps."
        ) from error
    return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _json_lines(value: Any) -> str:
    if isinstance(value, str):
        # Not splitlines: JSON may have other line breaks, such as U+2028, within a text.
        for number, line in enumerate(value.split("\n"), start=1):
            if line.strip():
                _json_text(line, f"line {number:,} of the payload")
        return value
    items = _items(value, "JSON Lines", "a list of JSON values, one for each line")
    return "".join(f"{_json(item, f'line {number:,}')}\n" for number, item in enumerate(items, start=1))


def _items(value: Any, form: str, wanted: str) -> list[Any]:
    """Return the items of a sequence, of the outputs of mapped tasks or of an array."""
    if not isinstance(value, Mapping) and not isinstance(value, str):
        try:
            plain = _plain(value)
        except TypeError:
            plain = None
        if isinstance(plain, list):
            return plain
    raise _refusal(value, f"cannot be written as {form}. Give {wanted}, or text or bytes.")


def _csv(value: Any) -> str:
    rows = _items(value, "CSV", "a list of rows, each a list of cells or a mapping from column to cell")
    if rows and isinstance(rows[0], Mapping):
        rows = list(_table(rows))
    return "".join(f"{_line(row, number)}\n" for number, row in enumerate(rows, start=1))


def _table(rows: Sequence[Any]) -> Iterable[list[Any]]:
    """Yield the header and the rows of a sequence of mappings, which all need the same keys."""
    columns = list(rows[0])
    yield columns
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InvalidInput(
                f"Row {number:,} of the payload is {type(row).__name__}, the first is a mapping."
            )
        if row.keys() != rows[0].keys():
            different = ", ".join(sorted(map(repr, row.keys() ^ rows[0].keys())))
            raise InvalidInput(
                f"Row {number:,} of the payload has other columns than the first: {different}. "
                "Give each row every column; None is an empty cell."
            )
        yield [row[column] for column in columns]


def _line(row: Any, number: int) -> str:
    cells = _items(row, f"row {number:,} of a CSV", "a list of cells")
    for cell in cells:
        if isinstance(cell, bytes | bytearray | memoryview | Mapping | Set) or (
            isinstance(cell, Sequence) and not isinstance(cell, str)
        ):
            raise InvalidInput(
                f"Row {number:,} of the payload has a {type(cell).__name__} in it; a cell of a CSV is "
                "text, a number or None."
            )
    # The writer is asked for its own line ends, since it quotes only the line breaks that it knows of.
    written = io.StringIO(newline="")
    csv.writer(written).writerow(cells)
    return written.getvalue().removesuffix("\r\n")


def _npy(value: Any) -> bytes:
    if isinstance(value, str | Mapping | None):
        raise _refusal(value, "cannot be written as .npy. Give a NumPy array, a list of numbers or bytes.")
    try:
        numpy = import_module("numpy")
    except ImportError as error:
        raise InvalidInput(
            f"content_type {_NPY} needs NumPy, which cannot be loaded here ({error}). "
            "Install numpy, or give the bytes of an .npy file."
        ) from error
    try:
        array = numpy.asarray(value)
    except (TypeError, ValueError) as error:
        raise _refusal(value, f"is no NumPy array ({error}). Give rows of one length.") from error
    if array.dtype.hasobject:
        raise _refusal(
            value,
            "has Python objects in it, which an .npy file can only hold as a pickle. "
            "Give numbers, all of one kind, or bytes.",
        )
    written = io.BytesIO()
    numpy.save(written, array, allow_pickle=False)
    return written.getvalue()


def _refusal(value: Any, why: str) -> InvalidInput:
    return InvalidInput(f"payload of type {type(value).__name__} {why}")
