"""The CloudWatch metrics of asynchronous endpoints: their names, units and dimensions, and their counting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

NAMESPACE: Final = "AWS/SageMaker"


class Metric(StrEnum):
    """
    The names that the service publishes for asynchronous endpoints; there are no others.

    The first four describe the queue at the end of a minute and belong to the endpoint. The others are
    collected during the minute and belong to the variant.
    """

    BACKLOG = "ApproximateBacklogSize"
    BACKLOG_PER_INSTANCE = "ApproximateBacklogSizePerInstance"
    OLDEST_REQUEST = "ApproximateAgeOfOldestRequest"
    BACKLOG_WITHOUT_CAPACITY = "HasBacklogWithoutCapacity"
    DOWNLOAD_FAILURES = "RequestDownloadFailures"
    UPLOAD_FAILURES = "ResponseUploadFailures"
    NOTIFICATION_FAILURES = "NotificationFailures"
    EXPIRED = "ExpiredRequests"
    FAILURES = "InvocationFailures"
    # The service's documentation spells it with three s.
    PROCESSED = "InvocationsProcesssed"
    DOWNLOAD_LATENCY = "RequestDownloadLatency"
    UPLOAD_LATENCY = "ResponseUploadLatency"
    TIME_IN_BACKLOG = "TimeInBacklog"
    TOTAL_TIME = "TotalProcessingTime"
    ERRORS_4XX = "Invocation4XXErrors"
    ERRORS_5XX = "Invocation5XXErrors"
    MODEL_LATENCY = "ModelLatency"


UNITS: Final[Mapping[Metric, str]] = MappingProxyType(
    {
        **dict.fromkeys(Metric, "Count"),
        Metric.OLDEST_REQUEST: "Seconds",
        Metric.DOWNLOAD_LATENCY: "Microseconds",
        Metric.UPLOAD_LATENCY: "Microseconds",
        Metric.MODEL_LATENCY: "Microseconds",
        Metric.TIME_IN_BACKLOG: "Milliseconds",
        Metric.TOTAL_TIME: "Milliseconds",
        Metric.ERRORS_4XX: "None",
        Metric.ERRORS_5XX: "None",
    }
)

# How many of the units in which times are published are in a second.
_PER_SECOND: Final = {"Seconds": 1.0, "Milliseconds": 1_000.0, "Microseconds": 1_000_000.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    How much an endpoint has to do, and with what.

    :param queued: Requests that wait.
    :param running: Requests that instances work on.
    :param oldest_age: Age of the oldest request that waits, in seconds; ``None`` if none does.
    :param instances: Instances in service. One that is still starting does not count.
    :param desired: How many instances there shall be.
    """

    queued: int
    running: int
    oldest_age: float | None
    instances: int
    desired: int

    @property
    def backlog(self) -> int:
        """Requests that wait or are worked on."""
        return self.queued + self.running

    def gauges(self) -> dict[Metric, float]:
        """
        Return the metrics that describe a moment.

        ``ApproximateBacklogSize`` is what waits and what is worked on. ``ApproximateBacklogSizePerInstance``
        is the same divided by the instances in service; at zero instances it is the whole backlog, so that a
        policy on it can bring up the first instance. ``ApproximateAgeOfOldestRequest`` is there only while a
        request waits. ``HasBacklogWithoutCapacity`` is 1 while there is a backlog and no instance in service,
        else 0; an instance that is starting leaves it at 1.
        """
        gauges = {
            Metric.BACKLOG: float(self.backlog),
            Metric.BACKLOG_PER_INSTANCE: self.backlog / max(1, self.instances),
            Metric.BACKLOG_WITHOUT_CAPACITY: float(self.backlog > 0 and self.instances == 0),
        }
        if self.oldest_age is not None:
            gauges[Metric.OLDEST_REQUEST] = self.oldest_age
        return gauges


@dataclass(frozen=True, slots=True)
class Summary:
    """Several values as CloudWatch keeps them."""

    minimum: float
    maximum: float
    total: float
    count: float

    @classmethod
    def of(cls, value: float) -> Summary:
        """Return the summary of one value."""
        return cls(value, value, value, 1.0)

    def plus(self, other: Summary) -> Summary:
        """Return the summary of the values of both."""
        return Summary(
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.total + other.total,
            self.count + other.count,
        )

    def statistic(self, name: str) -> float | None:
        """Return ``Average``, ``Sum``, ``Minimum``, ``Maximum`` or ``SampleCount``; ``None`` for another."""
        values = {
            "Average": self.total / self.count if self.count else None,
            "Sum": self.total,
            "Minimum": self.minimum,
            "Maximum": self.maximum,
            "SampleCount": self.count,
        }
        return values.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one metric of one endpoint, or of its variant, was during a minute."""

    endpoint: str
    variant: str | None
    metric: Metric
    summary: Summary

    @property
    def dimensions(self) -> list[dict[str, str]]:
        """The dimensions in the form of CloudWatch's API."""
        named = {"EndpointName": self.endpoint}
        if self.variant is not None:
            named["VariantName"] = self.variant
        return [{"Name": name, "Value": value} for name, value in named.items()]

    def as_datum(self) -> dict[str, Any]:
        """Return it as ``PutMetricData`` takes it, without the time."""
        return {
            "MetricName": self.metric.value,
            "Dimensions": self.dimensions,
            "Unit": UNITS[self.metric],
            "StatisticValues": {
                "Minimum": self.summary.minimum,
                "Maximum": self.summary.maximum,
                "Sum": self.summary.total,
                "SampleCount": self.summary.count,
            },
        }


class Metrics:
    """
    Collects what happens at the endpoints until the minute is over.

    A metric of which nothing was said during a minute is not published for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collected: dict[tuple[str, str, str | None, Metric], Summary] = {}

    def count(self, region: str, endpoint: str, variant: str | None, name: str, value: float = 1) -> None:
        """
        Count an event.

        :param region: Region of the endpoint.
        :param endpoint: Its name, spelled as its creator did.
        :param variant: The variant's name.
        :param name: One of :class:`Metric`.
        :param value: 1 for an event. 0 says that it could have happened and did not: the service does so for
            ``Invocation4XXErrors`` and ``Invocation5XXErrors``, so that their average is a rate.
        :raises ValueError: there is no such metric.
        """
        self._add(region, endpoint, variant, Metric(name), float(value))

    def observe(self, region: str, endpoint: str, variant: str | None, name: str, seconds: float) -> None:
        """
        Note a measured time.

        :param region: Region of the endpoint.
        :param endpoint: Its name, spelled as its creator did.
        :param variant: The variant's name.
        :param name: One of :class:`Metric`.
        :param seconds: The time. It is published in the metric's own unit.
        :raises ValueError: there is no such metric, or it is not a time.
        """
        metric = Metric(name)
        if UNITS[metric] not in _PER_SECOND:
            raise ValueError(f"{metric} is published in {UNITS[metric]}, and is not a time.")
        self._add(region, endpoint, variant, metric, seconds * _PER_SECOND[UNITS[metric]])

    def take(self) -> Iterator[tuple[str, Measurement]]:
        """Forget what was collected, and return it: regions with measurements."""
        with self._lock:
            collected, self._collected = self._collected, {}
        for (region, endpoint, variant, metric), summary in collected.items():
            yield (
                region,
                Measurement(endpoint=endpoint, variant=variant, metric=metric, summary=summary),
            )

    def _add(self, region: str, endpoint: str, variant: str | None, metric: Metric, value: float) -> None:
        key = (region, endpoint, variant, metric)
        one = Summary.of(value)
        with self._lock:
            known = self._collected.get(key)
            self._collected[key] = one if known is None else known.plus(one)
