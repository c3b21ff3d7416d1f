from __future__ import annotations

import logging
import threading
import time

import pytest

from airflow_async_sm.emulator.clock import Clock, SteppedClock


@pytest.fixture
def clock():
    running = Clock()
    running.start()
    yield running
    running.stop()


class TestTime:
    def test_is_the_time_of_day(self):
        assert abs(Clock().now() - time.time()) < 1

    def test_passes_sixty_times_as_fast_with_a_speed_of_sixty(self):
        clock = Clock(speed=60)
        real, emulated = time.monotonic(), clock.now()
        time.sleep(0.05)
        passed = clock.now() - emulated
        assert 3 <= passed <= 60 * (time.monotonic() - real)

    @pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
    def test_does_not_pass_at_every_speed(self, speed):
        with pytest.raises(ValueError, match="speed is"):
            Clock(speed=speed)

    def test_goes_on_where_an_earlier_clock_was(self):
        later = time.time() + 3_600
        clock = Clock()
        clock.start(not_before=later)
        clock.stop()
        assert later <= clock.now() < later + 60

    def test_does_not_step_back_to_where_an_earlier_clock_was(self):
        clock = Clock()
        clock.start(not_before=0)
        clock.stop()
        assert abs(clock.now() - time.time()) < 1


class TestPlannedCalls:
    def test_come_in_the_order_of_their_moments(self, clock):
        called, done = [], threading.Event()
        clock.after(0.15, done.set)
        clock.after(0.1, lambda: called.append("second"))
        clock.after(0.05, lambda: called.append("first"))
        assert done.wait(10)
        assert called == ["first", "second"]

    def test_come_sooner_on_a_faster_clock(self):
        clock, done = Clock(speed=1_000), threading.Event()
        clock.start()
        before = time.monotonic()
        clock.after(60, done.set)
        assert done.wait(10)
        assert 0.05 < time.monotonic() - before < 5
        clock.stop()

    def test_are_not_made_when_cancelled(self, clock):
        called, cancelled, done = [], threading.Event(), threading.Event()
        # No call is made before it is cancelled.
        clock.at(0, lambda: cancelled.wait(10))
        timer = clock.after(0.05, lambda: called.append(1))
        clock.after(0.1, done.set)
        timer.cancel()
        cancelled.set()
        assert done.wait(10)
        assert called == []
        assert timer.cancelled

    def test_leave_the_others_alone_when_one_fails(self, clock, caplog):
        done = threading.Event()
        with caplog.at_level(logging.ERROR):
            clock.at(0, lambda: 1 / 0)
            clock.at(0, done.set)
            assert done.wait(10)
        assert "ZeroDivisionError" in caplog.text

    def test_do_not_pile_up_when_cancelled(self, clock):
        kept = clock.after(600, lambda: None)
        for _ in range(5_000):
            clock.after(600, lambda: None).cancel()
        assert len(clock._plan._calls) <= 1_001
        assert any(timer is kept for _, _, timer in clock._plan._calls)

    def test_are_not_waited_for_by_stop(self):
        clock = Clock()
        clock.start()
        clock.after(600, lambda: None)
        before = time.monotonic()
        clock.stop()
        assert time.monotonic() - before < 5

    def test_are_forgotten_by_stop_and_the_clock_can_start_again(self, clock):
        called, done = [], threading.Event()
        moment = clock.now() + 600
        clock.at(moment, lambda: called.append("before"))
        clock.stop()
        # It would be due at once.
        clock.start(not_before=moment)
        clock.after(0.1, done.set)
        assert done.wait(10)
        assert called == []


class TestSteppedTime:
    def test_stands_until_it_is_moved(self):
        clock, called = SteppedClock(), []
        before = clock.now()
        clock.at(before, lambda: called.append(1))
        time.sleep(0.02)
        assert (clock.now(), called) == (before, [])
        clock.advance(10)
        assert (clock.now(), called) == (before + 10, [1])

    def test_moves_from_one_due_moment_to_the_next(self):
        clock, seen = SteppedClock(), []
        began = clock.now()

        def plan_another():
            seen.append(clock.now() - began)
            clock.after(2, lambda: seen.append(clock.now() - began))

        clock.after(3, plan_another)
        clock.after(9, lambda: seen.append("too late"))
        clock.advance(8)
        assert seen == pytest.approx([3, 5])
        clock.advance(1)
        assert seen[-1] == "too late"

    def test_does_not_step_back(self):
        with pytest.raises(ValueError, match="does not step back"):
            SteppedClock().advance(-1)

    def test_settle_makes_the_calls_that_are_due_and_moves_nothing(self):
        clock, called = SteppedClock(), []
        before = clock.now()
        clock.at(before - 5, lambda: called.append(clock.now()))
        clock.after(0.1, lambda: called.append("later"))
        clock.settle()
        assert called == [before]

    def test_waits_for_work_before_it_moves_on(self):
        clock, order = SteppedClock(), []

        def begin():
            work = clock.working()

            def carry_out():
                with work:
                    time.sleep(0.05)
                    order.append("work")

            threading.Thread(target=carry_out).start()

        clock.after(1, begin)
        clock.after(2, lambda: order.append("next moment"))
        clock.advance(2)
        assert order == ["work", "next moment"]

    def test_leaves_work_behind_that_outlasts_its_patience(self):
        clock, called = SteppedClock(), []
        hanging = clock.working()
        clock.after(1, lambda: called.append(1))
        clock.after(2, lambda: called.append(2))
        before = time.monotonic()
        clock.advance(2, patience=2)
        assert called == [1, 2]
        # Once for both moments: what was left behind is not waited for again.
        assert 2 <= time.monotonic() - before < 4
        hanging.end()

    def test_does_not_wait_for_work_that_waits_for_time(self):
        clock, called = SteppedClock(), []
        work = clock.working()

        def go_on():
            work.resume()
            called.append(clock.now())
            work.end()

        clock.after(5, go_on)
        work.end()
        before = time.monotonic()
        clock.advance(5)
        assert called == [clock.now()]
        assert time.monotonic() - before < 2

    def test_stop_waits_for_the_call_that_is_being_made_and_makes_no_other(self):
        clock, made = SteppedClock(), []
        inside, go_on = threading.Event(), threading.Event()

        def call():
            inside.set()
            assert go_on.wait(10)
            made.append("first")

        clock.after(1, call)
        clock.after(2, lambda: made.append("second"))
        moving = threading.Thread(target=clock.advance, args=(5,))
        moving.start()
        assert inside.wait(10)
        stopping = threading.Thread(target=clock.stop)
        stopping.start()
        stopping.join(0.1)
        assert stopping.is_alive()
        go_on.set()
        stopping.join(10)
        moving.join(10)
        assert made == ["first"]

    def test_stop_does_not_wait_for_work_that_hangs(self):
        clock = SteppedClock()
        clock.working()
        moving = threading.Thread(target=clock.advance, args=(5,), kwargs={"patience": 60})
        moving.start()
        clock.stop()
        moving.join(10)
        assert not moving.is_alive()

    def test_goes_on_where_an_earlier_clock_was(self):
        clock = SteppedClock()
        later = clock.now() + 1_000
        clock.start(not_before=later)
        assert clock.now() == later


def test_a_clock_says_what_it_is():
    assert Clock(speed=60).describe()["speed"] == 60
    assert Clock().describe()["kind"] == "running"
    stepped = SteppedClock()
    assert stepped.describe() == {"kind": "stepped", "speed": 0.0, "now": stepped.now()}


def test_work_on_a_running_clock_holds_nothing_up():
    with Clock().working() as work:
        work.end()
        work.resume()
