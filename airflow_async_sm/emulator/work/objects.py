"""The objects of a request in S3: its input, its output, its failure object, and who may touch them."""

from __future__ import annotations

import io
import logging
from typing import BinaryIO

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import RoleDenied
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.invocation import Answer
from airflow_async_sm.emulator.work.storage import Storage

log = logging.getLogger(__name__)


class Objects:
    """
    Reads and writes in the name of the execution role.

    :param storage: Where objects are.
    :param knobs: Limits, and what is not known about the service.
    :param board: Faults of the role.
    """

    def __init__(self, *, storage: Storage, knobs: Knobs, board: FaultBoard) -> None:
        self._storage = storage
        self._knobs = knobs
        self._board = board

    def open_input(self, request: Request) -> tuple[BinaryIO, int]:
        """
        Open the object at ``InputLocation`` and return it with its length.

        :raises StorageError: it is not there, is too large, or the role may not read it.
        """
        location = request.submission.input_location or ""
        self._refuse_for_role("GetObject", request, location)
        opened, length = self._storage.open(location)
        limit = self._knobs.behaviour.input_limit_bytes
        if length > limit:
            opened.close()
            raise StorageError(f"{location} has {length} bytes; the limit is {limit}.")
        return opened, length

    def write_output(self, request: Request, answer: Answer) -> None:
        """
        Write the output object.

        :raises StorageError: there is no such bucket, or the role may not write there.
        """
        self._write(request, request.output, answer)

    def write_failure(self, request: Request, answer: Answer) -> None:
        """Write the failure object where there is a place for one. It is never an error that it cannot be."""
        if request.failure is None:
            return
        try:
            self._write(request, request.failure, answer)
        except StorageError as error:
            log.warning("The failure object of request %s cannot be written: %s", request.request_id, error)

    def exists(self, place: S3Uri) -> bool:
        """Return whether there is an object."""
        try:
            opened, _ = self._storage.open(str(place))
        except StorageError:
            return False
        opened.close()
        return True

    def _write(self, request: Request, place: S3Uri, answer: Answer) -> None:
        self._refuse_for_role("PutObject", request, str(place))
        # What the platform says itself has no status.
        given = answer.content_type
        content_type = self._knobs.unknowns.content_type(given) if answer.status else given
        self._storage.write(place, answer.body, content_type=content_type, kms_key_id=request.kms_key_id)

    def _refuse_for_role(self, operation: str, request: Request, location: str) -> None:
        bucket = location.partition("://")[2].partition("/")[0]
        denied = self._board.draw(
            RoleDenied,
            key=request.request_id,
            endpoint=request.endpoint,
            operation=operation,
            bucket=bucket,
        )
        if denied:
            raise StorageError(f"The execution role may not call {operation} for {location}.")


def text_answer(text: str, *, status: int = 0, content_type: str = "text/plain") -> Answer:
    """Return what the platform, or a fault, says in place of a model."""
    content = text.encode()
    return Answer(status, content_type, io.BytesIO(content), len(content))
