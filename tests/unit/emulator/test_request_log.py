from __future__ import annotations

import dataclasses
import json

import pytest

from airflow_async_sm.emulator import RequestState
from airflow_async_sm.emulator.work.request_log import RequestLog, SavedRequests
from tests.parts import Bench


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def log():
    return RequestLog()


def accepted(bench, log, **changes):
    request = dataclasses.replace(bench.request(), **changes)
    log.accept(request)
    return request


def ids(requests):
    return [request.request_id for request in requests]


def test_a_record_is_frozen_and_plain_json(bench, log):
    made = log.get(accepted(bench, log).request_id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.state = RequestState.FAILED
    assert json.loads(json.dumps(made.as_json()))["state"] == "queued"


def test_the_order_is_that_of_acceptance_and_the_state_is_the_latest(bench, log):
    second, first = bench.request(), bench.request()
    log.accept(first)
    log.accept(second)
    log.note(first.request_id, state=RequestState.RUNNING, started_at=2.0)
    found = [(record.request_id, record.number, record.state) for record in log.all()]
    assert found == [(first.request_id, 1, "running"), (second.request_id, 2, "queued")]


def test_a_request_that_has_ended_does_not_change(bench, log):
    request = accepted(bench, log)
    log.note(request.request_id, state=RequestState.EXPIRED)
    with pytest.raises(RuntimeError, match="has ended as expired"):
        log.note(request.request_id, state=RequestState.SUCCEEDED)
    assert log.all()[0].state == "expired"


def test_an_id_is_used_once(bench, log):
    request = accepted(bench, log)
    log.note(request.request_id, state=RequestState.SUCCEEDED)
    with pytest.raises(RuntimeError, match="has been a request"):
        log.accept(request)
    assert [record.state for record in log.all()] == ["succeeded"]


def test_invocations_are_counted(bench, log):
    request = accepted(bench, log)
    for _ in range(2):
        log.count_invocation(request.request_id)
    assert log.all()[0].invocations == 2


def test_what_is_open_is_known_until_it_ends(bench, log):
    first, second = accepted(bench, log), accepted(bench, log)
    log.note(first.request_id, state=RequestState.RUNNING)
    assert log.open_requests() == [first, second]
    assert log.is_expected(first.output)
    log.note(first.request_id, state=RequestState.SUCCEEDED)
    assert log.open_requests() == [second]
    assert not log.is_expected(first.output)


def test_counts_are_of_one_endpoint_and_name_every_state(bench, log):
    accepted(bench, log)
    log.begin(endpoint="ep", region="us-east-1")
    for changes in ({}, {}, {"region": "other"}, {"endpoint": "f"}):
        last = accepted(bench, log, **changes)
        if "endpoint" not in changes and len(log.all()) == 3:
            log.note(last.request_id, state=RequestState.FAILED)
    counts = log.counts(endpoint="ep", region="us-east-1")
    assert set(counts) == {state.value for state in RequestState}
    assert {state: count for state, count in counts.items() if count} == {"queued": 1, "failed": 1}


def test_counts_follow_what_becomes_of_a_request(bench, log):
    request = accepted(bench, log)
    log.note(request.request_id, state=RequestState.RUNNING)
    log.note(request.request_id, state=RequestState.SUCCEEDED)
    counts = log.counts(endpoint="ep", region="us-east-1")
    assert {state: count for state, count in counts.items() if count} == {"succeeded": 1}
    assert not any(log.counts(endpoint="unknown", region="r").values())


def test_a_restored_log_goes_on_where_it_was(bench, log):
    ended, still_open = accepted(bench, log), accepted(bench, log)
    log.note(ended.request_id, state=RequestState.FAILED)
    later = RequestLog()
    later.restore(log.save())
    assert later.all() == log.all()
    assert later.open_requests() == [still_open]
    assert later.counts(endpoint="ep", region="us-east-1")["failed"] == 1
    assert later.get(accepted(bench, later).request_id).number == 3
    later.restore(SavedRequests())
    assert (later.all(), later.open_requests()) == ([], [])
    assert later.get(accepted(bench, later).request_id).number == 1
