"""The wait engine: fixed cases first, then what holds for every wait there can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, LookError, Pending, Settled
from airflow_async_sm.core.waiting import Finish, Pace, Sleep, WaitEngine


def engine(**changes):
    arguments = {"started_at": 0.0, "deadline_at": 100.0, "pace": Pace()}
    return WaitEngine(**(arguments | changes))


def ended(step):
    assert isinstance(step, Finish)
    return step.outcome.end


def test_an_output_object_is_success_even_after_the_deadline():
    assert ended(engine().after(Settled(True), now=500)) is End.SUCCEEDED


def test_a_failure_object_is_failure_and_keeps_its_reason():
    step = engine().after(Settled(False, "no memory"), now=5)
    assert ended(step) is End.FAILED
    assert step.outcome.detail == "no memory"
    assert step.outcome.seen_at == 5


def test_a_young_wait_is_looked_at_often_and_an_old_one_rarely():
    pauses = [engine(deadline_at=1e6).after(Pending(), now=age).seconds for age in (0, 3, 10, 17, 5_000)]
    assert pauses == [1.0, 1.0, 3.0, 5.0, 5.0]


def test_the_last_sleep_ends_at_the_deadline_and_not_after_it():
    wait = engine()
    assert wait.after(Pending(), now=98).seconds == 2.0
    assert ended(wait.after(Pending(), now=100)) is End.TIMED_OUT


def test_a_request_that_nothing_can_come_of_has_expired():
    assert ended(engine(expires_at=50.0).after(Pending(), now=50)) is End.EXPIRED


def test_the_deadline_before_the_expiry_is_a_time_out():
    assert ended(engine(expires_at=150.0).after(Pending(), now=100)) is End.TIMED_OUT


def test_after_both_moments_it_has_expired_because_that_says_more():
    assert ended(engine(expires_at=150.0).after(Pending(), now=200)) is End.EXPIRED


def test_failed_looks_are_borne_for_a_quarter_of_an_hour_with_growing_pauses():
    wait, now, pauses = engine(deadline_at=1e6), 0.0, []
    while isinstance(step := wait.after(LookError("no route"), now=now), Sleep):
        pauses.append(step.seconds)
        now += step.seconds
    assert pauses[:6] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert 15 * 60 < now < 20 * 60
    assert ended(step) is End.LOOK_FAILED
    assert step.outcome.detail == "no route"


def test_one_good_look_forgives_the_failed_ones():
    wait = engine(deadline_at=1e6)
    for now in range(100):
        seen = Pending() if now % 20 == 19 else LookError("slow down")
        assert isinstance(wait.after(seen, now=float(now)), Sleep)


def test_a_fatal_error_ends_the_wait_at_once():
    assert ended(engine().after(LookError("no such address", fatal=True), now=1)) is End.LOOK_FAILED


def test_a_failed_look_at_the_deadline_does_not_claim_that_nothing_came():
    assert ended(engine(expires_at=50.0).after(LookError("no route"), now=50)) is End.LOOK_FAILED


def test_a_wait_that_is_over_cannot_be_asked_again():
    wait = engine()
    wait.after(Settled(True), now=1)
    with pytest.raises(RuntimeError, match="ends once"):
        wait.after(Pending(), now=2)


def test_pauses_can_be_stretched_but_not_past_the_end():
    assert engine().after(Pending(), now=50, stretch=0.5).seconds == 2.5
    assert engine().after(Pending(), now=50, stretch=4.0).seconds == 20.0
    assert engine().after(Pending(), now=90, stretch=4.0).seconds == 10.0


def test_what_is_in_trouble_is_not_asked_sooner():
    assert engine().after(LookError("slow down"), now=50, stretch=0.5).seconds == 5.0
    assert engine().after(LookError("slow down"), now=50, stretch=2.0).seconds == 10.0


@pytest.mark.parametrize("longest", [0.5, 0, -1, float("inf"), float("nan")])
def test_a_poll_interval_that_cannot_be_kept_is_refused(longest):
    with pytest.raises(InvalidInput, match="poll_interval is"):
        Pace(longest=longest)


moments = st.floats(min_value=0, max_value=1e9)
looks = st.one_of(
    st.builds(Pending),
    st.builds(LookError, st.just("no route"), st.booleans()),
    st.builds(Settled, st.booleans()),
)
waiting_looks = st.one_of(st.builds(Pending), st.builds(LookError, st.just("no route")))
paces = st.builds(
    Pace,
    longest=st.floats(min_value=1, max_value=600),
    share=st.floats(min_value=0, max_value=1),
    tolerated_errors=st.integers(min_value=0, max_value=10),
)


@given(
    started_at=moments,
    patience=st.floats(min_value=0, max_value=5_000),
    life=st.none() | st.floats(min_value=0, max_value=5_000),
    pace=paces,
    seen=st.lists(waiting_looks, min_size=1),
    stretch=st.floats(min_value=0.5, max_value=20),
    lateness=st.floats(min_value=0, max_value=10),
)
def test_every_wait_ends_and_sleeps_neither_past_its_end_nor_for_nothing(
    started_at, patience, life, pace, seen, stretch, lateness
):
    """Whatever is seen, however late the driver wakes: a finite number of looks, the last one at the end."""
    expires_at = None if life is None else started_at + life
    wait = WaitEngine(
        started_at=started_at,
        deadline_at=started_at + patience,
        expires_at=expires_at,
        pace=pace,
    )
    assert wait.ends_at <= started_at + patience
    now, taken = started_at, 0
    while isinstance(step := wait.after(seen[taken % len(seen)], now=now, stretch=stretch), Sleep):
        assert step.seconds > 0
        # One part in 10^15 of a point in time is what adding floating-point numbers may lose.
        assert now + step.seconds <= wait.ends_at + 1e-6
        now += step.seconds + lateness / 1000
        taken += 1
        assert taken < 200_000
    assert step.outcome.end in {End.EXPIRED, End.TIMED_OUT, End.LOOK_FAILED}
    if step.outcome.end is not End.LOOK_FAILED:
        assert step.outcome.seen_at >= wait.ends_at


@given(seen=st.lists(looks, min_size=1), gaps=st.lists(st.floats(min_value=0, max_value=50), min_size=1))
def test_a_wait_never_finishes_twice(seen, gaps):
    wait, now, finishes = engine(), 0.0, 0
    for number, look in enumerate(seen):
        now += gaps[number % len(gaps)]
        if finishes:
            with pytest.raises(RuntimeError):
                wait.after(look, now=now)
        else:
            finishes += isinstance(wait.after(look, now=now), Finish)
    assert finishes <= 1


@given(seen=st.lists(waiting_looks), pace=paces)
def test_whatever_was_seen_before_an_output_object_is_success(seen, pace):
    wait = engine(deadline_at=1e9, pace=pace)
    for number, look in enumerate(seen):
        if isinstance(wait.after(look, now=float(number)), Finish):
            return
    assert ended(wait.after(Settled(True), now=1e11)) is End.SUCCEEDED
