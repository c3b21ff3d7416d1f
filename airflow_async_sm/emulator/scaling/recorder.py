"""What the metrics learn from a request that has ended."""

from __future__ import annotations

from airflow_async_sm.emulator.scaling.metrics import Metric, Metrics
from airflow_async_sm.emulator.work.endings import Ending, Request
from airflow_async_sm.emulator.work.records import RequestState

_STEP_FAILURES = {"download": Metric.DOWNLOAD_FAILURES, "upload": Metric.UPLOAD_FAILURES}


class Recorder:
    """
    Hears of every request that ends.

    :param metrics: Where it goes.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ended(self, request: Request, ending: Ending) -> None:
        """Count an end, and note how long its parts took."""
        if ending.state is RequestState.EXPIRED:
            self._count(request, Metric.EXPIRED)
        elif ending.state is not RequestState.DROPPED:
            self._processed(request, ending)

    def notification_failed(self, request: Request) -> None:
        """Count a notification that could not be published."""
        self._count(request, Metric.NOTIFICATION_FAILURES)

    def _processed(self, request: Request, ending: Ending) -> None:
        self._count(request, Metric.PROCESSED)
        if ending.state is RequestState.FAILED:
            self._count(request, Metric.FAILURES)
            if ending.failed_step in _STEP_FAILURES:
                self._count(request, _STEP_FAILURES[ending.failed_step])
        if ending.status is not None:
            self._count(request, Metric.ERRORS_4XX, float(400 <= ending.status < 500))
            self._count(request, Metric.ERRORS_5XX, float(ending.status >= 500))
        taken = None if ending.started_at is None else ending.started_at - request.submitted_at
        for metric, seconds in (
            (Metric.TIME_IN_BACKLOG, taken),
            (Metric.TOTAL_TIME, ending.finished_at - request.submitted_at),
            (Metric.DOWNLOAD_LATENCY, ending.download_seconds),
            (Metric.MODEL_LATENCY, ending.model_seconds),
            (Metric.UPLOAD_LATENCY, ending.upload_seconds),
        ):
            if seconds is not None:
                self._metrics.observe(request.region, request.endpoint, request.variant, metric, seconds)

    def _count(self, request: Request, metric: Metric, value: float = 1) -> None:
        self._metrics.count(request.region, request.endpoint, request.variant, metric, value)
