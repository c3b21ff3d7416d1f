"""The queue's rules, with no container behind it."""

from __future__ import annotations

import http.client
import threading
import time

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator import Behaviour, RequestRecord, RequestState
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.models.containers import Address
from airflow_async_sm.emulator.timers import Timers
from airflow_async_sm.emulator.work.engine import Engine, Job, Tools
from airflow_async_sm.emulator.work.invocation import (
    Answer,
    End,
    Ended,
    Exchange,
    InvocationFailed,
    download_failed,
)
from airflow_async_sm.emulator.work.records import RequestLog
from airflow_async_sm.emulator.work.storage import StorageError
from tests.world import eventually

NOWHERE = Address("127.0.0.1", 9)


class Memory:
    """Storage in a dictionary."""

    def __init__(self):
        self.objects = {}

    def read(self, location):
        raise StorageError(location)

    def write(self, place, content, content_type):
        self.objects[str(place)] = (content, content_type)


class Broken(Memory):
    def read(self, location):
        raise ZeroDivisionError("a bug of the emulator")


@pytest.fixture
def tools():
    timers = Timers(Clock())
    timers.start()
    yield Tools(behaviour=Behaviour(), clock=Clock(), timers=timers, requests=RequestLog(), storage=Memory())
    timers.stop()


def submit(
    engine,
    tools,
    number=1,
    *,
    ready_in=0.0,
    expires_in=600.0,
    failure="s3://bucket/failure",
    input_location=None,
):
    job = Job(
        request_id=str(number),
        endpoint="e",
        payload=None if input_location else b"x",
        input_location=input_location,
        headers={},
        output=S3Uri.parse("s3://bucket/output"),
        failure=S3Uri.parse(failure) if failure else None,
        ready_at=tools.clock.now() + ready_in,
        expires_at=tools.clock.now() + expires_in,
        invocation_timeout=600,
    )
    record = RequestRecord(
        request_id=job.request_id,
        endpoint="e",
        region="r",
        inference_id="i",
        state=RequestState.QUEUED,
        input_location=input_location,
        output_location="s3://bucket/output",
        failure_location=failure,
        submitted_at=tools.clock.now(),
    )
    return engine.submit(job, record)


def ends(tools, number=0):
    eventually(lambda: tools.requests.all()[number].state not in ("queued", "running"))
    return tools.requests.all()[number]


def test_request_expires_without_a_worker_and_without_an_object(tools):
    engine = Engine("e", tools)
    submit(engine, tools, 1, expires_in=0.05)
    submit(engine, tools, 2)
    assert ends(tools).state == "expired"
    assert tools.requests.all()[1].state == "queued"
    assert tools.storage.objects == {}
    engine.close(1)


def test_closed_engine_drops_its_queue_and_takes_nothing(tools):
    engine = Engine("e", tools)
    submit(engine, tools, 1, expires_in=0.2)
    engine.close(1)
    assert ends(tools).state == "dropped"
    assert not submit(engine, tools, 2)
    assert len(tools.requests.all()) == 1
    engine.close(1)


def test_container_that_is_not_there_is_a_lost_connection(tools):
    engine = Engine("e", tools)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools)
    record = ends(tools)
    assert (record.state, record.invocations) == ("failed", 0)
    text = b"Connection reset by peer for the e endpoint. Please retry."
    assert tools.storage.objects == {"s3://bucket/failure": (text, "text/plain")}
    engine.close(1)


def test_failure_without_a_place_leaves_nothing(tools):
    engine = Engine("e", tools)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools, failure=None)
    assert ends(tools).state == "failed"
    assert tools.storage.objects == {}
    engine.close(1)


def test_bug_of_the_emulator_costs_one_request_and_no_worker(tools, caplog):
    broken = Tools(
        behaviour=tools.behaviour,
        clock=tools.clock,
        timers=tools.timers,
        requests=tools.requests,
        storage=Broken(),
    )
    engine = Engine("e", broken)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools, 1, input_location="s3://bucket/k")
    submit(engine, tools, 2)
    first, second = ends(tools, 0), ends(tools, 1)
    assert (first.state, first.reason) == ("failed", "The emulator itself failed; see its log.")
    assert second.reason.startswith("Connection reset")
    assert "a bug of the emulator" in caplog.text
    engine.close(1)


def test_worker_that_does_not_end_is_reported_and_not_waited_for(tools, caplog):
    release = threading.Event()

    class Slow(Memory):
        def read(self, location):
            release.wait(30)
            raise StorageError(location)

    slow = Tools(
        behaviour=tools.behaviour,
        clock=tools.clock,
        timers=tools.timers,
        requests=tools.requests,
        storage=Slow(),
    )
    engine = Engine("e", slow)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools, input_location="s3://bucket/k")
    eventually(lambda: tools.requests.all()[0].state == "running")
    before = time.monotonic()
    engine.close(0.1)
    assert time.monotonic() - before < 5
    assert "did not end within 0.1 seconds" in caplog.text
    release.set()
    assert ends(tools).state == "failed"


def never():
    raise AssertionError("nobody was to be called")


def test_every_call_of_the_model_is_counted(tools, monkeypatch):
    def twice(exchange, *arguments, calling, **options):
        calling()
        calling()
        return Answer(200, b"ok", None)

    monkeypatch.setattr(Exchange, "post", twice)
    engine = Engine("e", tools)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools)
    record = ends(tools)
    assert (record.state, record.invocations) == ("succeeded", 2)
    engine.close(1)


def test_time_limit_that_ends_with_the_answer_lets_no_upload_begin(tools, monkeypatch):
    def late(exchange, *arguments, **options):
        exchange.end(End.TIMED_OUT)
        return Answer(200, b"too late", None)

    monkeypatch.setattr(Exchange, "post", late)
    engine = Engine("e", tools)
    engine.add_instance(NOWHERE, 1)
    submit(engine, tools)
    assert ends(tools).state == "failed"
    text = b"Timed out uploading object (bucket: bucket, key: output)"
    assert tools.storage.objects == {"s3://bucket/failure": (text, "text/plain")}
    engine.close(1)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("s3://b/k/l", "bucket: b, key: k/l"),
        ("https://b.s3.eu-west-1.amazonaws.com/k/l", "bucket: b, key: k/l"),
        ("https://s3.amazonaws.com/b/k", "bucket: b, key: k"),
        ("https://elsewhere/k", "bucket: elsewhere, key: k"),
    ],
)
def test_failed_download_names_the_object(place, named):
    assert download_failed(place) == f"Failed to download object ({named})"


class TestExchange:
    def test_ended_exchange_calls_nobody(self):
        exchange = Exchange(1)
        exchange.end(End.DROPPED)
        exchange.end(End.TIMED_OUT)
        with pytest.raises(Ended) as ended:
            exchange.post(NOWHERE, b"", {}, endpoint="e", calling=never)
        assert ended.value.why is End.DROPPED

    def test_container_that_does_not_accept_is_no_response(self, monkeypatch):
        def connect(connection):
            raise TimeoutError

        monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
        with pytest.raises(InvocationFailed, match="could not get a response from the e endpoint"):
            Exchange(1).post(NOWHERE, b"", {}, endpoint="e", calling=never)


def test_a_request_stays_in_the_queue_for_its_time_although_a_worker_is_free(tools):
    engine = Engine("e", tools)
    engine.add_instance(NOWHERE, 2)
    submit(engine, tools, ready_in=0.3, input_location="s3://bucket/missing")
    submit(engine, tools, 2, ready_in=0.3, input_location="s3://bucket/missing")
    try:
        eventually(lambda: all(record.started_at for record in tools.requests.all()))
        assert all(record.started_at - record.submitted_at >= 0.29 for record in tools.requests.all())
    finally:
        engine.close(5)
