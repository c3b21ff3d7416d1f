"""Metrics: names, units, dimensions and aggregation."""

from __future__ import annotations

import threading

import pytest

from airflow_async_sm.emulator.scaling.metrics import UNITS, Load, Metric, Metrics, Summary

US, IE = "us-east-1", "eu-west-1"

# As published: the four of the endpoint, and those of the variant.
PUBLISHED = {
    "ApproximateBacklogSize": "Count",
    "ApproximateBacklogSizePerInstance": "Count",
    "ApproximateAgeOfOldestRequest": "Seconds",
    "HasBacklogWithoutCapacity": "Count",
    "RequestDownloadFailures": "Count",
    "ResponseUploadFailures": "Count",
    "NotificationFailures": "Count",
    "ExpiredRequests": "Count",
    "InvocationFailures": "Count",
    "InvocationsProcesssed": "Count",
    "RequestDownloadLatency": "Microseconds",
    "ResponseUploadLatency": "Microseconds",
    "TimeInBacklog": "Milliseconds",
    "TotalProcessingTime": "Milliseconds",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
    "ModelLatency": "Microseconds",
}


def load(**changes):
    return Load(**{"queued": 0, "running": 0, "oldest_age": None, "instances": 1, "desired": 1, **changes})


def test_names_and_units_are_the_published_ones():
    assert {metric.value: unit for metric, unit in UNITS.items()} == PUBLISHED


def test_gauges_of_a_busy_endpoint():
    assert load(queued=6, running=4, oldest_age=12.5, instances=2).gauges() == {
        "ApproximateBacklogSize": 10,
        "ApproximateBacklogSizePerInstance": 5,
        "ApproximateAgeOfOldestRequest": 12.5,
        "HasBacklogWithoutCapacity": 0,
    }


def test_gauges_at_zero_instances():
    gauges = load(queued=3, oldest_age=1.0, instances=0).gauges()
    assert gauges[Metric.BACKLOG_PER_INSTANCE] == 3
    assert gauges[Metric.BACKLOG_WITHOUT_CAPACITY] == 1


def test_an_idle_endpoint_has_no_oldest_request():
    for instances in (0, 2):
        assert load(instances=instances).gauges() == {
            "ApproximateBacklogSize": 0,
            "ApproximateBacklogSizePerInstance": 0,
            "HasBacklogWithoutCapacity": 0,
        }


def test_counting():
    metrics = Metrics()
    metrics.count(US, "ep", "v", "InvocationsProcesssed")
    metrics.count(US, "ep", "v", Metric.PROCESSED, 2)
    ((region, measurement),) = metrics.take()
    assert region == US
    assert measurement.as_datum() == {
        "MetricName": "InvocationsProcesssed",
        "Dimensions": [{"Name": "EndpointName", "Value": "ep"}, {"Name": "VariantName", "Value": "v"}],
        "Unit": "Count",
        "StatisticValues": {"Minimum": 1, "Maximum": 2, "Sum": 3, "SampleCount": 2},
    }
    assert list(metrics.take()) == []


def test_a_zero_makes_the_average_a_rate():
    metrics = Metrics()
    for value in (0, 1, 0, 0):
        metrics.count(US, "ep", "v", "Invocation4XXErrors", value)
    ((_, measurement),) = metrics.take()
    assert measurement.summary.statistic("Average") == 0.25


def test_everything_that_tells_values_apart():
    metrics = Metrics()
    metrics.count(US, "ep", "v", "ExpiredRequests")
    metrics.count(IE, "ep", "v", "ExpiredRequests")
    metrics.count(US, "other", "v", "ExpiredRequests")
    metrics.count(US, "ep", "w", "ExpiredRequests")
    metrics.count(US, "ep", None, "ExpiredRequests")
    metrics.count(US, "ep", "v", "InvocationFailures")
    taken = list(metrics.take())
    assert len(taken) == 6
    assert all(measurement.summary == Summary.of(1) for _, measurement in taken)
    assert [{"Name": "EndpointName", "Value": "ep"}] in [measurement.dimensions for _, measurement in taken]


@pytest.mark.parametrize(
    ("name", "published"),
    [("ModelLatency", 1_500_000), ("TimeInBacklog", 1_500), ("ApproximateAgeOfOldestRequest", 1.5)],
)
def test_times_are_published_in_the_unit_of_their_metric(name, published):
    metrics = Metrics()
    metrics.observe(US, "ep", "v", name, 1.5)
    ((_, measurement),) = metrics.take()
    assert measurement.summary.total == pytest.approx(published)
    assert measurement.as_datum()["Unit"] == PUBLISHED[name]


def test_what_is_not_a_time_is_not_observed():
    with pytest.raises(ValueError, match="is not a time"):
        Metrics().observe(US, "ep", "v", "ExpiredRequests", 1)


@pytest.mark.parametrize("name", ["Invocations", "InvocationsProcessed", "OverheadLatency"])
def test_no_other_metric_is_published(name):
    with pytest.raises(ValueError, match="is not a valid Metric"):
        Metrics().count(US, "ep", "v", name)


def test_statistics():
    summary = Summary.of(1.0).plus(Summary.of(4.0)).plus(Summary.of(1.0))
    names = ("Average", "Sum", "Minimum", "Maximum", "SampleCount", "p99")
    assert [summary.statistic(name) for name in names] == [2.0, 6.0, 1.0, 4.0, 3.0, None]
    assert Summary(0, 0, 0, 0).statistic("Average") is None


def test_counting_from_many_threads_loses_nothing():
    metrics = Metrics()

    def count():
        for _ in range(500):
            metrics.count(US, "ep", "v", "InvocationsProcesssed")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(measurement.summary.total for _, measurement in metrics.take()) == 2_000
