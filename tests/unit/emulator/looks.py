"""Parts of an emulator to look at, without the emulator."""

from __future__ import annotations

from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.web.insight import Insight
from airflow_async_sm.emulator.work.records import RequestRecord, RequestState
from airflow_async_sm.emulator.work.request_log import RequestLog, SavedRequests


class Endpoints:
    def __init__(self):
        self.rows = []

    def overview(self):
        return self.rows

    def add(self, name, status="InService", **more):
        variant = {"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "DesiredInstanceCount": 2}
        self.rows.append(
            {
                "EndpointName": name,
                "EndpointStatus": status,
                "EndpointConfigName": f"{name}-config",
                "Region": "us-east-1",
                "ProductionVariants": [variant],
                "Requests": dict.fromkeys((state.value for state in RequestState), 0),
                **more,
            }
        )


def make_insight(*, clock=None, board=None):
    return Insight(
        requests=RequestLog(),
        endpoints=Endpoints(),
        counters=Counters(),
        board=board or FaultBoard(),
        knobs=Knobs(),
        clock=clock or SteppedClock(),
    )


def make_looked_at(*records):
    """Return an insight into an emulator that has had these requests."""
    insight = make_insight()
    insight._requests.restore(SavedRequests(records=records))
    return insight


def record(number, state=RequestState.SUCCEEDED, endpoint="e", **more):
    return RequestRecord(
        request_id=f"request-{number}",
        number=number,
        endpoint=endpoint,
        region="us-east-1",
        inference_id=more.pop("inference_id", f"id-{number}"),
        state=state,
        input_location=None,
        output_location=f"s3://b/out/{number}.out",
        failure_location=None,
        submitted_at=1_800_000_000.0 + number,
        **more,
    )
