"""What a batch is to infer: from a list to an object with a million records, one input after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from email.message import Message
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.inventories import Inventory
from airflow_async_sm.core.inputs.locations import located
from airflow_async_sm.core.inputs.manifests import read_manifest
from airflow_async_sm.core.inputs.rows import csv_requests, json_requests
from airflow_async_sm.core.limits import CONTENT_TYPE, INPUT_OBJECT_BYTES, InvalidInput
from airflow_async_sm.core.serializers import JSON_LINES, Serializer
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.sources import as_input_location, open_source

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = ["BatchInputs"]

_SOURCES: Final = ("inputs", "input_locations", "input_prefix", "input_manifest", "input_records")
# Which source an argument goes with. It is given if it is not its default.
_BELONGS: Final = {
    "input_pattern": "input_prefix",
    "records_per_request": "input_records",
    "csv_header": "input_records",
    "serializer": "inputs",
}
_CSV_NAMES: Final = (".csv",)
_JSON_NAMES: Final = (".jsonl", ".jsonlines", ".ndjson", ".json")
_CSV_TYPES: Final = frozenset({"text/csv", "application/csv"})
_JSON_TYPES: Final = JSON_LINES | {"application/json"}
_WILD: Final = "*?["


@dataclass(frozen=True, kw_only=True)
class BatchInputs:
    """
    The inputs of a batch. Exactly one of the first five that are called inputs is given.

    :param inputs: Payloads: a list or another iterable, a function without arguments that returns one, or
        what mapped tasks returned. Each is JSON, text, bytes, or a path object, which stands for its file.
    :param input_locations: S3 URIs of payloads, which the endpoint reads itself; the same forms.
    :param input_prefix: S3 URI of a folder. Each object below it is an input.
    :param input_pattern: Which objects of the folder: a pattern such as ``2026-*/*.json`` for what stands
        after the folder in their keys. ``*`` is any text, also with slashes. Default: all.
    :param input_manifest: S3 URI of an object that names the inputs: JSON Lines, CSV, a SageMaker manifest
        file, or the ``manifest.json`` of an S3 inventory.
    :param input_records: S3 URI of a JSON Lines or a CSV file. Each of its records is an input.
    :param records_per_request: How many records make an input, at least 1. Default: 1.
    :param csv_header: Whether the first row of a CSV file names its columns. Default: ``True``.
    :param serializer: Makes bytes or text of each of ``inputs``.
    :param content_type: Type of all inputs. Default: what fits each.
    """

    inputs: Any = field(default=None, repr=False)
    input_locations: Any = field(default=None, repr=False)
    input_prefix: str | None = None
    input_pattern: str | None = None
    input_manifest: str | None = None
    input_records: str | None = None
    records_per_request: int = 1
    csv_header: bool = True
    serializer: Serializer | None = None
    content_type: str | None = None

    def check(self) -> None:
        """
        Raise unless the arguments fit together. Nothing is read or called.

        :raises InvalidInput: none or several are given, one goes with another, or one is wrong.
        """
        kind = self._kind()
        for name, goes_with in _BELONGS.items():
            if goes_with != kind and getattr(self, name) != getattr(type(self), name):
                raise InvalidInput(f"{name} goes with {goes_with}; {kind} is given.")
        if self.content_type is not None:
            CONTENT_TYPE.check("content_type", self.content_type)
        given = getattr(self, kind)
        if kind in ("inputs", "input_locations"):
            if not callable(given):
                _check_iterable(kind, given)
                _check_repeatable(kind, given)
        else:
            _parse(kind, given, needs_key=kind != "input_prefix")
        if self.input_pattern is not None and (
            not isinstance(self.input_pattern, str) or not self.input_pattern.strip("/")
        ):
            raise InvalidInput(f"input_pattern is {self.input_pattern!r}; give a pattern such as '*.json'.")
        if kind == "input_records":
            self._check_records()

    def read(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput | Unreadable]:
        """
        Return the inputs, and what stands where one should, in an order that stays the same.

        They are looked for and read as they are asked for, and none is kept.

        :param hook: What reads S3.
        :raises InvalidInput: as for :meth:`check`; or, at the one in question, a value of ``inputs`` that
            cannot be written, or an object that is not what it should be.
        :raises RequestRejected: S3 refuses to read or to list.
        :raises ServiceUnavailable: S3 could not be reached or is busy; a retry may succeed.
        """
        self.check()
        return getattr(self, f"_read_{self._kind()}")(hook)  # type: ignore[no-any-return]

    @property
    def origin(self) -> S3Uri | None:
        """The folder in which all objects are inputs, and the batch's own must not be; ``None``: none is."""
        return None if self.input_prefix is None else _parse("input_prefix", self.input_prefix)

    def overlaps(self, folder: S3Uri) -> bool:
        """
        Return whether what is written to a folder would be an input of the batch.

        :param folder: The folder, with or without its last slash.
        """
        if self.origin is None or self.origin.bucket != folder.bucket:
            return False
        inside = self.origin.key.rstrip("/")
        return not inside or f"{folder.key.rstrip('/')}/".startswith(f"{inside}/")

    def _kind(self) -> str:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            what = "none of them is" if not given else f"{' and '.join(given)} are"
            raise InvalidInput(f"Give exactly one of {', '.join(_SOURCES)}; {what} given.")
        return given[0]

    def _check_records(self) -> None:
        size = self.records_per_request
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidInput(f"records_per_request is {size!r}; give a whole number of at least 1.")
        if not self._is_csv and not self.csv_header:
            raise InvalidInput("csv_header goes with a CSV file; the records are JSON Lines.")
        try:
            is_fit = "\n".encode(self._charset) == b"\n"
        except (LookupError, UnicodeError):
            is_fit = False
        if not is_fit:
            raise InvalidInput(
                f"content_type names the charset {self._charset!r}, in which lines cannot be told apart. "
                "Write the records as UTF-8."
            )

    @property
    def _is_csv(self) -> bool:
        """Whether the records are rows of a CSV: by the object's name, or else by the content type."""
        name = str(self.input_records).lower().removesuffix(".gz")
        kind = (self.content_type or "").partition(";")[0].strip().lower()
        if name.endswith(_CSV_NAMES) or (kind in _CSV_TYPES and not name.endswith(_JSON_NAMES)):
            return True
        if name.endswith(_JSON_NAMES) or kind in _JSON_TYPES:
            return False
        raise InvalidInput(
            f"input_records is {self.input_records!r}, whose name does not say what it is. Give content_type "
            "text/csv or application/jsonlines, or a name that ends with .csv or .jsonl."
        )

    @property
    def _charset(self) -> str:
        described = Message()
        described["content-type"] = self.content_type or ""
        return described.get_content_charset("utf-8")

    def _read_inputs(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput]:  # noqa: ARG002 - as the others
        for number, value in enumerate(_each("inputs", self.inputs)):
            where = f"inputs[{number}]"
            try:
                yield self._written(value, where)
            except InvalidInput as error:
                raise InvalidInput(f"{where}: {error}") from error

    def _written(self, value: Any, where: str) -> BatchInput:
        location = as_input_location(value)
        if location is not None:
            found = located(location, origin=location, content_type=self.content_type)
            if isinstance(found, Unreadable):
                raise InvalidInput(found.reason)
            return found
        source = open_source(value, content_type=self.content_type, serializer=self.serializer)
        if not source.size:
            raise InvalidInput("The payload is empty; the service takes that for no payload at all.")
        if source.size > INPUT_OBJECT_BYTES:
            raise InvalidInput(
                f"The payload has {source.size:,} bytes; SageMaker accepts at most {INPUT_OBJECT_BYTES:,}."
            )
        return BatchInput(origin=where, body=source.read(), content_type=source.content_type)

    def _read_input_locations(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput | Unreadable]:  # noqa: ARG002
        for number, value in enumerate(_each("input_locations", self.input_locations)):
            where = f"input_locations[{number}]"
            location = value if isinstance(value, str) else as_input_location(value)
            if location is None:
                raise InvalidInput(f"{where} is of type {type(value).__name__}; give S3 URIs as text.")
            yield located(location, origin=where, content_type=self.content_type)

    def _read_input_prefix(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput | Unreadable]:
        folder, pattern = str(self.origin), (self.input_pattern or "*").lstrip("/")
        beginning = f"{folder.rstrip('/')}/"
        # What comes before the first wildcard need not be listed to be compared.
        plain = min((pattern.find(mark) for mark in _WILD if mark in pattern), default=len(pattern))
        for found in hook.list_inputs(folder, begin=pattern[:plain]):
            if fnmatchcase(found.location.removeprefix(beginning), pattern):
                yield located(
                    found.location,
                    origin=found.location,
                    size=found.size,
                    version=found.etag,
                    content_type=self.content_type,
                )

    def _read_input_manifest(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput | Unreadable]:
        source = str(self.input_manifest)
        found = read_manifest(hook.input_blocks(source), source, content_type=self.content_type)
        if not isinstance(found, Inventory):
            yield from found
            return
        for file in found.files:
            yield from found.read(hook.input_lines(file), file, content_type=self.content_type)

    def _read_input_records(self, hook: SageMakerAsyncHook) -> Iterator[BatchInput | Unreadable]:
        source = str(self.input_records)
        lines = hook.input_lines(source)
        size, kind, charset = self.records_per_request, self.content_type, self._charset
        if self._is_csv:
            return csv_requests(
                lines, source, header=self.csv_header, size=size, content_type=kind, charset=charset
            )
        return json_requests(lines, source, size=size, content_type=kind, charset=charset)


def _parse(argument: str, value: Any, *, needs_key: bool = False) -> S3Uri:
    if not isinstance(value, str):
        raise InvalidInput(f"{argument} is of type {type(value).__name__}; give an S3 URI as text.")
    return S3Uri.parse(value, argument=argument, needs_key=needs_key)


def _each(argument: str, given: Any) -> Iterator[Any]:
    """Return the values that are given, or that a function returns."""
    if callable(given):
        function: Callable[[], Any] = given
        given = function()
        argument = f"What {argument} returned"
    return iter(_check_iterable(argument, given))


def _check_repeatable(argument: str, given: Any) -> None:
    if isinstance(given, Iterator):
        raise InvalidInput(
            f"{argument} is a {type(given).__name__}, which can be gone through only once, and a retry has "
            "to see what it was. Give a list, or a function that returns it."
        )


def _check_iterable(argument: str, given: Any) -> Iterable[Any]:
    """Return it as it is. What would be gone through in a way that nobody means is refused."""
    # A table is gone through by the names of its columns.
    is_table = not callable(getattr(given, "columns", callable))
    if isinstance(given, str | bytes | bytearray | memoryview | Mapping | Set) or is_table:
        why = "has no order" if isinstance(given, Set) else "is one value"
        raise InvalidInput(
            f"{argument} is of type {type(given).__name__}, which {why}; give a list of values."
        )
    if not isinstance(given, Iterable):
        raise InvalidInput(
            f"{argument} is of type {type(given).__name__}; give a list or another iterable, or a function "
            "that returns one."
        )
    return given
