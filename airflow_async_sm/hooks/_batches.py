"""What a batch keeps in S3: its plan, its ledger, and the names of what came of its requests."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from airflow_async_sm.core.endpoint_states import capacity
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, SageMakerAsyncError, ServiceUnavailable
from airflow_async_sm.hooks._records import RecordCalls
from airflow_async_sm.hooks._rounds import RoundCalls
from airflow_async_sm.hooks._uploads import UploadCalls

# Names of the ledger's parts sort as they were written.
_DIGITS: Final = 8
_CHECKPOINT: Final = "-checkpoint"
# So many parts are read at the same time.
_READERS: Final = 8
# Pauses, in seconds, before a page is asked for again that could not be had.
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)


class BatchCalls(RoundCalls, RecordCalls, UploadCalls):
    """Write and read it. The ledger is only added to, and each of its parts is written once."""

    _pause: Callable[[float], None] = staticmethod(time.sleep)

    def write_lines(self, location: str, lines: Iterable[str]) -> None:
        """
        Write an object of lines.

        :param location: S3 URI of the object. One that is there already is replaced.
        :param lines: They, without their ends. All of them are in memory.
        :raises RequestRejected: it is not allowed.
        :raises ServiceUnavailable: S3 could not be reached or is busy.
        """
        content = "".join(f"{line}\n" for line in lines).encode()
        self.upload(io.BytesIO(content), location, content_type="application/jsonlines")

    def instances_of(self, endpoint_name: str) -> int:
        """
        Return how many instances an endpoint has in service; 0 also where that may not be seen.

        :param endpoint_name: Its name.
        """
        try:
            description = self.describe_endpoint(endpoint_name)
        except SageMakerAsyncError as error:
            self.log.debug("How many instances there are is not known: %s", error)
            return 0
        return 0 if description is None else capacity(description)[0]

    def append_to_ledger(self, folder: str, number: int, event: dict[str, Any]) -> bool:
        """
        Write the next part of a ledger, and return whether it is ours.

        It is not where another process has written a part of that number. The client repeats a write whose
        reply was lost, so what is there may be what was to be written.

        :param folder: S3 URI of the ledger, with a slash at its end.
        :param number: The number of the part.
        :param event: What it says. One that stands for all before it is named so that it is found.
        :raises RequestRejected: it is not allowed.
        :raises ServiceUnavailable: S3 could not be reached or is busy.
        """
        is_checkpoint = event["event"] == "checkpoint"
        # Two processes that write the same number must write to the same name.
        location = f"{folder}{number:0{_DIGITS}d}.json"
        if not self.replace_record(location, event, version=None) and self.read_record(location)[0] != event:
            return False
        if is_checkpoint:
            self.write_record(f"{folder}{number:0{_DIGITS}d}{_CHECKPOINT}.json", {})
        return True

    def read_ledger(self, folder: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """
        Yield what a ledger says, with the numbers of its parts: the last checkpoint, and all after it.

        :param folder: S3 URI of the ledger, with a slash at its end.
        :raises RequestRejected: it may not be listed or read.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        names = [name.removesuffix(".json") for name in self.names_in(folder)]
        marks = [int(name.removesuffix(_CHECKPOINT)) for name in names if name.endswith(_CHECKPOINT)]
        first = max(marks, default=0)
        numbers = [int(name) for name in names if not name.endswith(_CHECKPOINT) and int(name) >= first]

        def read(number: int) -> dict[str, Any]:
            event: dict[str, Any] = self.read_record(f"{folder}{number:0{_DIGITS}d}.json")[0]
            return event

        with ThreadPoolExecutor(_READERS) as pool:
            yield from zip(numbers, pool.map(read, numbers), strict=True)

    def names_in(self, folder: str, after: str = "", *, patiently: bool = True) -> Iterator[str]:
        """
        Yield the names of the objects in a folder, in their order.

        :param folder: S3 URI, with a slash at its end.
        :param after: Only names that sort after this. May be empty.
        :param patiently: Whether a page that could not be had is asked for again, some seconds long.
        :raises RequestRejected: it may not be listed.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        place = S3Uri.parse(folder, argument="folder")
        last = f"{place.key}{after}" if after else ""
        while True:
            page = self._page_of(place, last, pauses=_PAUSES if patiently else ())
            if page is None:
                raise RequestRejected(
                    f"The objects in {folder} may not be listed. The role of the connection needs "
                    "s3:ListBucket on the bucket.",
                    location=folder,
                )
            keys = [found["Key"] for found in page.get("Contents", ())]
            yield from (key[len(place.key) :] for key in keys)
            if not page.get("IsTruncated") or not keys:
                return
            last = keys[-1]

    def _page_of(self, place: S3Uri, after: str, *, pauses: Iterable[float]) -> Any:
        for pause in pauses:
            try:
                return self._page(place.bucket, place.key, after=after)
            except ServiceUnavailable as error:
                self.log.info("%s is listed again in %.1f s: %s", place, pause, error.__cause__)
                self._pause(pause)
        return self._page(place.bucket, place.key, after=after)
