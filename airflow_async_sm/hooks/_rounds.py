"""Looks for the answers to many requests at once."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

from botocore.exceptions import ClientError

from airflow_async_sm.core.buckets import Heads, Listing, Seen, Sight
from airflow_async_sm.core.costs import DENIED, cost_of_listing
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import RequestRejected, SageMakerAsyncError, Throttled
from airflow_async_sm.hooks._looks import LookCalls
from airflow_async_sm.hooks._translate import is_denial, status_code, translated

# So many keys that cannot be asked for mean that the others cannot be either.
_FAILURES: Final = 2
# Pages come one after the other, so many would take long, whatever they cost.
_MOST_PAGES: Final = 20


class RoundCalls(LookCalls):
    """They only find out whether objects are there. What that means is said elsewhere."""

    def heads(self, ask: Heads) -> Seen:
        """
        Ask for each key of a few.

        What fails for one does not fail for the others. But after two that fail, or one that S3 is too busy
        for, the rest is not asked.

        :param ask: The keys.
        :raises RequestRejected: S3 refuses to answer for any of them, for example because of the credentials.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        keys = list(dict.fromkeys(spot.key for spot in ask.spots))
        sights, wrong, failed = dict[str, Sight](), dict[str, Exception](), dict[str, Exception]()
        for key in keys:
            if len(failed) >= _FAILURES or any(isinstance(error, Throttled) for error in failed.values()):
                break
            try:
                sights[key] = self._sight(S3Uri(ask.bucket, key))
            except (RequestRejected, UnicodeError) as error:
                wrong[key] = error
            except SageMakerAsyncError as error:
                failed[key] = error
        if not sights:
            raise next(iter({**failed, **wrong}.values()))
        why = next((_told(error) for error in failed.values()), "")
        return Seen(
            frozenset(key for key, sight in sights.items() if sight is Sight.PRESENT),
            # A look at each of these alone tells why.
            refused=frozenset(
                wrong.keys() | {key for key, sight in sights.items() if sight is Sight.REFUSED}
            ),
            failed={key: why for key in keys if key not in sights and key not in wrong},
            requests=len(sights) + len(wrong) + len(failed),
        )

    def listed(self, ask: Listing) -> Seen:
        """
        Ask for all awaited keys of a folder, and leave out what lies where none is awaited.

        Where so much else is there that it would cost more than asking for each key, that is given up.

        :param ask: The folder, and the keys.
        :raises RequestRejected: S3 refuses to answer at all, for example because of the credentials.
        :raises ServiceUnavailable: S3 could not be asked.
        """
        awaited, wanted = ask.keys, set(ask.keys)
        there, covered, pages, keys = set[str](), 0, 0, 0
        # What is a key without its last character sorts before it.
        after = awaited[0][:-1]
        while True:
            page = self._page(ask.bucket, ask.folder.name, after=after)
            if page is None:
                return Seen(frozenset(), is_whole=False, cost=DENIED)
            found = [one["Key"] for one in page.get("Contents", ())]
            there |= wanted.intersection(found)
            pages, keys = pages + 1, keys + len(found)
            cost = cost_of_listing(pages=pages, keys=keys)
            covered = bisect_right(awaited, found[-1]) if page.get("IsTruncated") and found else len(awaited)
            if covered == len(awaited):
                return Seen(frozenset(there), cost=cost, requests=pages)
            # Where none was reached, twice as much may not suffice either.
            in_all = cost * len(awaited) / max(covered, 0.5)
            if in_all > ask.worth or pages == _MOST_PAGES:
                dear = in_all if in_all > ask.worth else DENIED
                return Seen(frozenset(there), is_whole=False, cost=dear, requests=pages)
            after = max(found[-1], awaited[covered][:-1])

    def _page(self, bucket: str, folder: str, *, after: str) -> Any:
        """Return a page of a listing; ``None``: the right to list is missing."""
        with translated(f"list s3://{bucket}/{folder}"):
            try:
                place: Any = {"Prefix": folder, **({"StartAfter": after} if after else {})}
                return self._s3_looking.list_objects_v2(Bucket=bucket, **place)
            except ClientError as error:
                # Some stores that are like S3 have no such listing.
                if not is_denial(error) and status_code(error) not in (405, 501):
                    raise
                return None


def _told(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
