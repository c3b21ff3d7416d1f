"""The queue's rules: who works on what, in which order, and what becomes of requests and instances."""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import pytest

from airflow_async_sm.emulator.models.callables import CallableContainer
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import InstanceLost, ModelCrash
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from tests.parts import Bench


@pytest.fixture
def make_bench():
    made = []

    def make(**settings):
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


class Gate:
    """A model that answers when it is let."""

    def __init__(self):
        self.open = threading.Event()
        self.inside = threading.Semaphore(0)
        self.bodies = []

    def __call__(self, body, headers):
        self.bodies.append(body)
        self.inside.release()
        assert self.open.wait(20)
        return body

    def entered(self, times=1):
        for _ in range(times):
            assert self.inside.acquire(timeout=10)


def out_of_threads(thread):
    raise RuntimeError("can't start new thread")


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


class TestQueue:
    def test_a_request_waits_until_there_is_an_instance(self, bench):
        request = bench.submit()
        bench.settle()
        assert bench.state(request) == "queued"
        bench.instance()
        bench.settle()
        assert bench.state(request) == "succeeded"
        assert bench.output(request) == b"payload"

    def test_requests_are_taken_in_the_order_of_arrival(self, bench):
        taken = []
        requests = [bench.submit(str(number).encode()) for number in range(20)]
        bench.instance(lambda body, headers: taken.append(body) or body, concurrency=1)
        bench.settle()
        assert taken == [request.submission.body for request in requests]

    def test_a_request_stays_in_the_queue_for_its_time_although_an_instance_is_free(self, make_bench):
        bench = make_bench(behaviour=Behaviour(queue_seconds=0.15))
        bench.instance()
        request = bench.submit()
        bench.advance(0.14)
        assert bench.state(request) == "queued"
        bench.advance(0.01)
        assert bench.state(request) == "succeeded"
        assert bench.record(request).started_at == pytest.approx(bench.began + 0.15)

    def test_no_more_than_the_concurrency_of_all_instances_run_at_a_time(self, bench, gate):
        for _ in range(2):
            bench.instance(gate, concurrency=3)
        requests = [bench.submit() for _ in range(10)]
        gate.entered(6)
        assert [bench.state(request) for request in requests] == ["running"] * 6 + ["queued"] * 4
        backlog = bench.engine.backlog()
        assert (backlog.queued, backlog.running, backlog.oldest) == (4, 6, bench.began)
        gate.open.set()
        bench.settle()
        assert {bench.state(request) for request in requests} == {"succeeded"}
        assert bench.engine.backlog().oldest is None

    def test_work_is_spread_over_the_instances(self, bench, gate):
        other = Gate()
        bench.instance(gate, concurrency=4)
        bench.instance(other, concurrency=4)
        for _ in range(4):
            bench.submit()
        gate.entered(2)
        other.entered(2)
        other.open.set()

    def test_time_in_the_queue_runs_out_exactly_then_and_leaves_nothing(self, bench):
        request = bench.submit(ttl=60)
        bench.advance(59.9)
        assert bench.state(request) == "queued"
        bench.advance(0.1)
        assert bench.state(request) == "expired"
        assert bench.record(request).finished_at == pytest.approx(bench.began + 60)
        assert bench.memory.objects == {}

    def test_an_expired_request_is_not_run_when_an_instance_comes(self, bench):
        request = bench.submit(ttl=60)
        bench.advance(61)
        bench.instance()
        bench.settle()
        assert bench.record(request).invocations == 0

    def test_a_request_that_runs_does_not_expire(self, bench, gate):
        bench.instance(gate)
        request = bench.submit(ttl=60)
        gate.entered()
        bench.advance(61, patience=0.1)
        assert bench.state(request) == "running"
        gate.open.set()
        bench.settle()
        assert bench.state(request) == "succeeded"

    def test_everybody_hears_of_an_end_once(self, bench):
        bench.instance()
        done, lost = bench.submit(), bench.submit(ttl=60, input_location="s3://b/none")
        bench.settle()
        heard = [(request.request_id, ending.state.value) for request, ending in bench.ears.ends]
        # Metrics and notifications share the ears.
        assert sorted(heard) == sorted([(done.request_id, "succeeded"), (lost.request_id, "failed")] * 2)


class TestClosing:
    def test_a_closed_queue_takes_nothing(self, bench):
        bench.close()
        assert not bench.engine.submit(bench.request())

    def test_what_waits_and_what_runs_is_dropped_without_objects(self, bench, gate):
        bench.instance(gate, concurrency=1)
        running, waiting = bench.submit(), bench.submit()
        gate.entered()
        bench.engine.shut()
        gate.open.set()
        bench.close()
        assert [bench.state(request) for request in (running, waiting)] == ["dropped", "dropped"]
        assert bench.memory.objects == {}

    def test_or_fails_where_that_is_switched_on(self, make_bench, gate):
        bench = make_bench(unknowns=Unknowns(deleted_queue="failed"))
        bench.instance(gate, concurrency=1)
        running, waiting = bench.submit(), bench.submit()
        gate.entered()
        bench.engine.shut()
        gate.open.set()
        bench.close()
        for request in (running, waiting):
            assert bench.state(request) == "failed"
            assert b"endpoint was deleted" in bench.failure(request)

    def test_what_is_kept_stays_open_and_goes_on_in_another_queue(self, bench, gate):
        bench.instance(gate, concurrency=1)
        running, waiting = bench.submit(), bench.submit()
        gate.entered()
        bench.engine.shut(keep=True)
        gate.open.set()
        bench.close()
        kept = bench.log.open_requests()
        assert kept == [running, waiting]
        assert [bench.state(request) for request in kept] == ["running", "queued"]
        assert bench.memory.objects == {}
        later = Bench()
        later.log.restore(bench.log.save())
        for request in kept:
            later.engine.restore(request)
        later.instance()
        later.settle()
        assert [later.state(request) for request in kept] == ["succeeded", "succeeded"]
        later.close()

    def test_what_is_given_back_to_a_kept_queue_stays_open(self, bench, gate):
        instance = bench.instance(gate)
        request = bench.submit()
        gate.entered()
        bench.engine.lose(instance, requeue=True)
        bench.engine.shut(keep=True)
        gate.open.set()
        bench.close()
        assert bench.log.open_requests() == [request]

    def test_what_is_kept_is_not_dropped_by_a_second_closing(self, bench):
        request = bench.submit()
        bench.engine.shut(keep=True)
        bench.close()
        assert bench.log.open_requests() == [request]

    def test_a_closed_queue_takes_no_instance(self, bench):
        instance = bench.instance()
        bench.engine.shut()
        assert not bench.engine.attach(instance)

    def test_what_runs_on_an_instance_that_was_given_up_is_ended_too(self, bench, gate):
        container = CallableContainer(name="dying", model=gate)
        bench.instance(container=container, concurrency=2)
        request = bench.submit()
        gate.entered()
        container.crash()
        other = bench.submit()
        assert len(bench.broken) == 1
        assert (bench.engine.backlog().queued, bench.engine.backlog().running) == (1, 1)
        bench.engine.shut()
        gate.open.set()
        bench.close()
        assert {bench.state(request), bench.state(other)} <= {"dropped", "failed"}
        assert bench.log.open_requests() == []

    def test_a_thread_that_does_not_end_is_reported_and_not_waited_for(self, bench, gate, caplog):
        bench.instance(gate)
        bench.submit()
        gate.entered()
        with caplog.at_level(logging.WARNING):
            bench.engine.close(0.05)
        assert "did not end in time" in caplog.text

    def test_queues_that_were_shut_together_are_waited_for_together(self, make_bench, gate):
        benches = [make_bench() for _ in range(8)]
        for bench in benches:
            bench.instance(gate)
            bench.submit()
            gate.entered()
        began = time.monotonic()
        for bench in benches:
            bench.engine.shut()
        for bench in benches:
            bench.engine.close(0.5)
        assert 0.5 <= time.monotonic() - began < 4.0


class TestInstances:
    def test_a_detached_instance_finishes_what_it_works_on_and_gets_nothing_more(self, bench, gate):
        gone = []
        first = bench.instance(gate)
        running = bench.submit()
        gate.entered()
        bench.engine.detach(first, lambda: gone.append(first.name))
        waiting = bench.submit()
        assert gone == []
        gate.open.set()
        bench.settle()
        assert gone == [first.name]
        assert [bench.state(request) for request in (running, waiting)] == ["succeeded", "queued"]

    def test_an_idle_instance_is_gone_at_once(self, bench):
        gone = []
        instance = bench.instance()
        bench.engine.detach(instance, lambda: gone.append(1))
        bench.engine.detach(instance, lambda: gone.append(2))
        assert gone == [1, 2]

    def test_a_dead_container_gets_nothing_and_is_reported(self, bench):
        instance = bench.instance()
        instance.container.crash()
        request = bench.submit()
        bench.settle()
        assert bench.broken == [(instance, False)]
        assert bench.state(request) == "queued"

    def test_an_instance_works_on_a_queue_once(self, bench):
        instance = bench.instance()
        assert not bench.engine.attach(instance)

    def test_who_is_told_of_a_broken_instance_can_ask_the_queue(self, bench):
        asked = []
        bench.engine._broken = lambda *_: asked.append(bench.engine.backlog())
        bench.instance().container.crash()
        bench.submit()
        assert [backlog.queued for backlog in asked] == [1]

    def test_a_request_waits_for_a_thread_where_the_machine_has_none(self, bench, monkeypatch, caplog):
        bench.instance()
        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", out_of_threads)
            request = bench.submit(ttl=60)
            bench.settle()
        assert bench.state(request) == "queued"
        assert "waits for a thread: can't start new thread" in caplog.text
        bench.advance(1)
        assert bench.state(request) == "succeeded"

    def test_a_request_that_finds_no_thread_can_expire(self, bench, monkeypatch):
        monkeypatch.setattr(threading.Thread, "start", out_of_threads)
        bench.instance()
        request = bench.submit(ttl=60)
        bench.advance(60)
        assert bench.state(request) == "expired"

    def test_a_lost_instance_that_nobody_has_is_no_matter(self, bench):
        bench.engine.lose(SimpleNamespace(name="i-none"))


class TestLostInstance:
    def lose(self, bench, gate):
        instance = bench.instance(gate)
        request = bench.submit()
        gate.entered()
        bench.engine.lose(instance)
        gate.open.set()
        bench.settle()
        return request

    def test_its_requests_run_again_on_another_one_with_the_same_keys(self, bench, gate):
        request = self.lose(bench, gate)
        assert bench.state(request) == "queued"
        assert bench.record(request).started_at is None
        bench.instance()
        bench.settle()
        assert bench.state(request) == "succeeded"
        assert bench.record(request).invocations == 2
        assert bench.memory.order == [str(request.output)]

    def test_a_request_that_was_given_back_goes_before_the_others(self, bench, gate):
        later = []
        instance = bench.instance(gate, concurrency=1)
        first, second = bench.submit(b"1"), bench.submit(b"2")
        gate.entered()
        bench.engine.lose(instance)
        gate.open.set()
        bench.settle()
        bench.instance(lambda body, headers: later.append(body) or body, concurrency=1)
        bench.settle()
        assert later == [first.submission.body, second.submission.body]

    def test_a_second_loss_is_a_failure(self, bench):
        gates = [Gate(), Gate()]
        request = None
        for gate in gates:
            instance = bench.instance(gate)
            request = request or bench.submit()
            gate.entered()
            bench.engine.lose(instance)
            gate.open.set()
            bench.settle()
        assert bench.state(request) == "failed"
        assert b"could not get a response" in bench.failure(request)
        assert bench.output(request) is None

    def test_or_the_first_one_is(self, make_bench, gate):
        bench = make_bench(unknowns=Unknowns(lost_instance="failed"))
        request = self.lose(bench, gate)
        assert bench.state(request) == "failed"
        assert b"could not get a response" in bench.failure(request)

    def test_or_they_vanish_without_any_sign(self, make_bench, gate):
        bench = make_bench(unknowns=Unknowns(lost_instance="lost"))
        request = self.lose(bench, gate)
        assert bench.state(request) == "dropped"
        assert bench.memory.objects == {}

    def test_requests_that_are_moved_to_new_instances_are_no_losses(self, bench):
        request = None
        for _ in range(3):
            gate = Gate()
            instance = bench.instance(gate)
            request = request or bench.submit()
            gate.entered()
            bench.engine.lose(instance, requeue=True)
            gate.open.set()
            bench.settle()
            assert bench.state(request) == "queued"

    def test_a_request_that_is_given_back_to_a_closed_queue_is_dropped(self, bench, gate):
        instance = bench.instance(gate)
        request = bench.submit()
        gate.entered()
        bench.engine.lose(instance, requeue=True)
        bench.engine.shut()
        gate.open.set()
        bench.settle()
        assert bench.state(request) == "dropped"

    def test_time_in_the_queue_counts_from_the_submission_also_after_a_loss(self, bench, gate):
        instance = bench.instance(gate)
        request = bench.submit(ttl=60)
        gate.entered()
        bench.advance(50, patience=0.1)
        bench.engine.lose(instance)
        gate.open.set()
        bench.advance(10)
        assert bench.state(request) == "expired"


class TestFaults:
    def test_an_instance_vanishes_while_it_works(self, bench):
        bench.board.add(InstanceLost(times=1))
        instance = bench.instance()
        request = bench.submit()
        bench.settle()
        assert bench.broken == [(instance, True)]
        assert bench.state(request) == "queued"
        assert bench.record(request).invocations == 1
        bench.instance()
        bench.settle()
        assert bench.state(request) == "succeeded"

    def test_a_container_dies_when_it_has_the_request(self, bench):
        bench.board.add(ModelCrash(times=1))
        instance = bench.instance()
        request, later = bench.submit(), bench.submit()
        bench.settle()
        ends = sorted(bench.state(one) for one in (request, later))
        assert ends in (["failed", "queued"], ["failed", "failed"], ["failed", "succeeded"])
        assert b"Connection reset by peer for the ep endpoint" in (
            bench.failure(request) or bench.failure(later)
        )
        assert (instance, False) in bench.broken or ends != ["failed", "queued"]
