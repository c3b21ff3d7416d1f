"""What became of a batch as a whole: counts, times, and what the calls cost."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.core.batches.manifest import ItemEnd, ManifestIncomplete, Row

__all__ = ["BatchSummary", "SummaryFacts", "cost_of_calls", "percentile"]

_UNSUCCESSFUL: Final = frozenset({ItemEnd.FAILED, ItemEnd.EXPIRED, ItemEnd.REFUSED})
_TEXTS: Final = 3
_PERCENTILES: Final = (50, 90, 95, 99)

# US dollars a request. S3 Standard, us-east-1: https://aws.amazon.com/s3/pricing/
_S3_WRITE: Final = 0.005 / 1_000
_S3_READ: Final = 0.000_4 / 1_000
# us-east-1, beyond the free tier: https://aws.amazon.com/cloudwatch/pricing/
_CLOUDWATCH: Final = 0.01 / 1_000

_S3_PRICES: Final[Mapping[str, float]] = {
    "CompleteMultipartUpload": _S3_WRITE,
    "CopyObject": _S3_WRITE,
    "CreateMultipartUpload": _S3_WRITE,
    "GetObject": _S3_READ,
    "HeadObject": _S3_READ,
    "ListObjectsV2": _S3_WRITE,
    "PutObject": _S3_WRITE,
    "UploadPart": _S3_WRITE,
    "UploadPartCopy": _S3_WRITE,
}
_CLOUDWATCH_PRICES: Final[Mapping[str, float]] = {
    "DescribeAlarms": _CLOUDWATCH,
    # For each metric that is asked for: here it is one.
    "GetMetricData": _CLOUDWATCH,
    "GetMetricStatistics": _CLOUDWATCH,
    "ListMetrics": _CLOUDWATCH,
    "PutMetricAlarm": _CLOUDWATCH,
    "PutMetricData": _CLOUDWATCH,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SummaryFacts:
    """
    What a summary says that the manifest does not know.

    :param calls: How often each operation of AWS was called, by its name: ``PutObject``. Default: none.
    :param duplicates: How many inputs have the same content as one before them. Default 0.
    :param unreadable: How many rows of the source were no input. Default 0.
    :param instance_seconds: How long instances of the endpoint ran during the batch, added up. Default
        ``None``: not known.
    :param started_at: When the batch began, in seconds since 1970 (UTC). Default ``None``: not known.
    """

    calls: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    unreadable: int = 0
    instance_seconds: float | None = None
    started_at: float | None = None


class BatchSummary:
    """
    The rows of a manifest, added up. It takes 8 bytes for each answer.

    :param count: How many inputs the batch has.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.counts: Counter[str] = Counter(dict.fromkeys((end.value for end in ItemEnd), 0))
        self._failed: Counter[str] = Counter()
        self._texts: dict[str, list[str]] = {}
        self._latencies = array("d")
        self._first_sent = math.inf
        self._last_answered = -math.inf

    def add(self, row: Row) -> None:
        """
        Take in the next row.

        :param row: The row.
        """
        self.counts[row["end"]] += 1
        if row["end"] in _UNSUCCESSFUL:
            self._failed[row["class"]] += 1
            texts = self._texts.setdefault(row["class"], [])
            if len(texts) < _TEXTS and row["reason"] not in texts:
                texts.append(row["reason"])
        if row["submitted_at"] is not None:
            self._first_sent = min(self._first_sent, row["submitted_at"])
        if row["answered_at"] is not None:
            self._last_answered = max(self._last_answered, row["answered_at"])
        if row["seconds"] is not None:
            self._latencies.append(row["seconds"])

    def check(self) -> None:
        """
        Raise unless each input is counted.

        :raises ManifestIncomplete: the counts do not add up to the number of inputs.
        """
        if (total := self.counts.total()) != self.count:
            raise ManifestIncomplete(
                f"The batch has {self.count} inputs, and the manifest {total} rows. Nothing was written."
            )

    def to_dict(self, facts: SummaryFacts) -> dict[str, Any]:
        """
        Return the summary, as JSON values.

        :param facts: What the rows do not tell.
        :raises ManifestIncomplete: the counts do not add up to the number of inputs.
        """
        self.check()
        seconds = self._seconds()
        succeeded = self.counts[ItemEnd.SUCCEEDED]
        return {
            "version": 1,
            "inputs": self.count,
            "counts": dict(self.counts),
            "failures": {
                kind: {"count": count, "texts": self._texts[kind]}
                for kind, count in self._failed.most_common()
            },
            "duplicates": facts.duplicates,
            "unreadable": facts.unreadable,
            "started_at": facts.started_at,
            "first_submitted_at": _finite(self._first_sent),
            "last_answered_at": _finite(self._last_answered),
            "seconds": seconds,
            "answers_per_second": round(succeeded / seconds, 3) if seconds else None,
            "latency_seconds": self._latency(),
            "instance_seconds": facts.instance_seconds,
            "aws_calls": dict(sorted(facts.calls.items())),
            "estimated_cost_usd": cost_of_calls(facts.calls),
        }

    def _seconds(self) -> float | None:
        """Return the time from the first submission to the last answer."""
        seconds = self._last_answered - self._first_sent
        return round(max(0.0, seconds), 3) if math.isfinite(seconds) else None

    def _latency(self) -> dict[str, float] | None:
        if not self._latencies:
            return None
        ordered = array("d", sorted(self._latencies))
        return {**{f"p{rank}": percentile(ordered, rank) for rank in _PERCENTILES}, "max": ordered[-1]}


def percentile(ordered: Sequence[float], rank: int) -> float:
    """
    Return the smallest of some numbers that at least ``rank`` percent of them do not exceed.

    :param ordered: The numbers in ascending order, at least one.
    :param rank: From 1 to 100.
    """
    # In whole numbers: 0.95 times 20 is a little more than 19.
    return ordered[-(-rank * len(ordered) // 100) - 1]


def cost_of_calls(calls: Mapping[str, int]) -> dict[str, float]:
    """
    Return what the requests to S3 and CloudWatch cost, in US dollars, and the sum. Others cost nothing.

    :param calls: How often each operation was called.
    """
    costs = {
        service: round(sum(prices.get(name, 0.0) * number for name, number in calls.items()), 6)
        for service, prices in (("s3", _S3_PRICES), ("cloudwatch", _CLOUDWATCH_PRICES))
    }
    return {**costs, "total": round(sum(costs.values()), 6)}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
