from __future__ import annotations

import dataclasses
import json

import pytest

from airflow_async_sm.emulator import RequestRecord, RequestState
from airflow_async_sm.emulator.work.records import RequestLog


def record(number=1, **changes):
    made = RequestRecord(
        request_id=str(number),
        number=number,
        endpoint="e",
        region="r",
        inference_id="i",
        state=RequestState.QUEUED,
        input_location=None,
        output_location="s3://b/o",
        failure_location=None,
        submitted_at=1.0,
    )
    return dataclasses.replace(made, **changes)


def test_record_is_frozen_and_plain_json():
    made = record()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.state = RequestState.FAILED
    assert json.loads(json.dumps(made.as_json()))["state"] == "queued"


def test_log_keeps_order_and_latest_state():
    log = RequestLog()
    log.add(record(2))
    log.add(record(1))
    log.note("2", state=RequestState.RUNNING, started_at=2.0)
    assert [(r.request_id, r.state) for r in log.all()] == [("2", "running"), ("1", "queued")]


def test_ended_request_does_not_change():
    log = RequestLog()
    log.add(record())
    log.note("1", state=RequestState.EXPIRED)
    with pytest.raises(RuntimeError, match="has ended as expired"):
        log.note("1", state=RequestState.SUCCEEDED)
    assert log.all()[0].state == "expired"


def test_invocations_are_counted():
    log = RequestLog()
    log.add(record())
    for _ in range(2):
        log.count_invocation("1")
    assert log.all()[0].invocations == 2


def test_counts_are_of_one_endpoint_and_name_every_state():
    log = RequestLog()
    log.add(record(9, submitted_at=0.5))
    log.begin(endpoint="e", region="r")
    for number, changes in enumerate(
        ({}, {"state": RequestState.FAILED}, {"region": "other"}, {"endpoint": "f"})
    ):
        log.add(record(number, **changes))
    counts = log.counts(endpoint="e", region="r")
    assert set(counts) == {state.value for state in RequestState}
    assert {state: count for state, count in counts.items() if count} == {"queued": 1, "failed": 1}


def test_counts_follow_what_becomes_of_a_request():
    log = RequestLog()
    log.add(record())
    log.note("1", state=RequestState.RUNNING)
    log.note("1", state=RequestState.SUCCEEDED)
    counts = log.counts(endpoint="e", region="r")
    assert {state: count for state, count in counts.items() if count} == {"succeeded": 1}
    assert not any(log.counts(endpoint="unknown", region="r").values())


def test_a_restored_log_goes_on_counting_where_it_was():
    log = RequestLog()
    # A number can be missing: its request was refused at the last moment.
    log.restore([record(1), record(3, state=RequestState.FAILED)])
    assert log.get("3").state == "failed"
    assert log.next_number() == 4
    assert log.counts(endpoint="e", region="r")["failed"] == 1
    log.restore(())
    assert (log.all(), log.next_number()) == ([], 1)
