"""An S3 inventory: its ``manifest.json`` names files, and each row of a file is an object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.locations import located
from airflow_async_sm.core.inputs.records import csv_cells, csv_records, origin_of
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import shortened

__all__ = ["Inventory"]

_ARN: Final = ":s3:::"
_FORMAT: Final = "CSV"


@dataclass(frozen=True, slots=True)
class Inventory:
    """
    What a manifest says of an inventory.

    :param files: S3 URIs of the files with the rows.
    :param columns: What stands in a row: ``Bucket``, ``Key``, perhaps ``ETag``, ``Size`` and others.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]

    @staticmethod
    def is_one(document: Mapping[str, Any]) -> bool:
        """Return whether a JSON object is the manifest of an inventory."""
        return {"fileFormat", "fileSchema", "files"} <= document.keys()

    @classmethod
    def of(cls, document: Mapping[str, Any], source: str) -> Inventory:
        """
        Return what a manifest says.

        :param document: The manifest.
        :param source: Where it is: an S3 URI.
        :raises InvalidInput: it is not of CSV files, or is not complete.
        """
        kind = document["fileFormat"]
        if kind != _FORMAT:
            raise InvalidInput(
                f"{source} is an S3 inventory of {shortened(str(kind))} files; only one of CSV files can be "
                "read. Let S3 write it as CSV, or give its locations as JSON Lines or CSV."
            )
        columns = tuple(name.strip() for name in str(document["fileSchema"]).split(","))
        if missing := {"Bucket", "Key"} - set(columns):
            raise InvalidInput(f"{source} is an S3 inventory without the column {min(missing)}.")
        try:
            bucket = document["destinationBucket"].rpartition(_ARN)[2]
            files = tuple(f"s3://{bucket}/{file['key']}" for file in document["files"])
        except (AttributeError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{source} is an S3 inventory that does not say where its files are."
            ) from error
        return cls(files, columns)

    def read(
        self, lines: Iterable[bytes], source: str, *, content_type: str | None = None
    ) -> Iterator[BatchInput | Unreadable]:
        """
        Yield the objects of one file: no folders, no empty objects, no old versions.

        :param lines: The file's lines, unpacked.
        :param source: Where it is: an S3 URI.
        :param content_type: Type of the objects. Default: not known.
        """
        for found in csv_records(lines, source):
            if isinstance(found, Unreadable):
                yield found
                continue
            origin = origin_of(source, found.first, found.last)
            try:
                row = self._row(csv_cells(found.content))
            except InvalidInput as error:
                yield Unreadable(origin, str(error))
                continue
            if _is_input(row):
                yield located(
                    f"s3://{row['Bucket']}/{row['Key']}",
                    origin=origin,
                    size=int(row.get("Size") or 0),
                    version=row.get("ETag", ""),
                    content_type=content_type,
                )

    def _row(self, cells: list[str]) -> dict[str, str]:
        if len(cells) != len(self.columns):
            raise InvalidInput(
                f"has {len(cells):,} cells where the inventory has {len(self.columns):,} columns."
            )
        row = dict(zip(self.columns, cells, strict=True))
        if not (row.get("Size") or "0").isdecimal():
            raise InvalidInput(f"has the size {shortened(row['Size'])!r}, which is no number.")
        # S3 writes a space as a plus, and a plus as %2B.
        return {**row, "Key": unquote_plus(row["Key"])}


def _is_input(row: Mapping[str, str]) -> bool:
    """Whether a row is an object that can be sent: the endpoint would read its latest version."""
    return (
        not row["Key"].endswith("/")
        and row.get("Size") != "0"
        and row.get("IsLatest", "true") != "false"
        and row.get("IsDeleteMarker", "false") != "true"
    )
