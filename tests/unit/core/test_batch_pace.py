"""How many requests are sent, and how fast: on a clock that the test moves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.pace import FIRST_WINDOW, SubmissionRate, again_at, room, window

SECONDS = st.floats(0, 1e6)
TTL = st.integers(60, 21_600)


def windowed(max_in_flight=10_000, *, answered=1_000, seconds=100.0, request_ttl=3_600):
    return window(max_in_flight, answered=answered, seconds=seconds, request_ttl=request_ttl)


class TestWindow:
    def test_as_many_are_sent_as_are_answered_in_half_their_time(self):
        # 10 a second, for 1,800 s.
        assert windowed(max_in_flight=100_000) == 18_000

    def test_no_more_than_the_user_allows(self):
        assert windowed() == 10_000
        assert windowed(max_in_flight=7, answered=0) == 7

    @pytest.mark.parametrize("answered", [-3, 0, 19])
    def test_a_few_answers_tell_nothing(self, answered):
        assert windowed(answered=answered, seconds=0.0) == FIRST_WINDOW

    def test_few_in_a_long_time_tell_of_a_slow_endpoint(self):
        assert windowed(answered=6, seconds=5_400.0, request_ttl=21_600) == 12
        assert windowed(answered=0, seconds=5_400.0, request_ttl=21_600) == 1

    def test_some_do(self):
        assert windowed(answered=20, seconds=20.0) == 1_800

    @given(st.integers(1, 10**7), st.integers(0, 10**6), SECONDS, TTL)
    def test_it_is_within_all_of_its_bounds(self, most, answered, seconds, ttl):
        allowed = windowed(most, answered=answered, seconds=seconds, request_ttl=ttl)
        assert 1 <= allowed <= most
        bearable = answered / max(seconds, 1.0) * ttl / 2
        assert allowed <= max(FIRST_WINDOW, bearable)

    @given(st.integers(20, 10**5), SECONDS, TTL)
    def test_a_faster_endpoint_is_never_sent_less(self, answered, seconds, ttl):
        slow = windowed(10**7, answered=answered, seconds=seconds, request_ttl=ttl)
        fast = windowed(10**7, answered=answered + 1, seconds=seconds, request_ttl=ttl)
        assert fast >= slow


class TestRoom:
    @pytest.mark.parametrize(
        ("allowed", "in_flight", "enough"),
        [(1_000, 1_000, 500), (1_000, 600, 100), (1_000, 10, 1), (1, 1, 1), (7, 7, 4), (200, 0, 1)],
    )
    def test_a_worker_is_worth_waking_when_half_is_free(self, allowed, in_flight, enough):
        assert room(allowed, in_flight) == enough

    @given(st.integers(1, 10**7), st.integers(1, 10**7))
    def test_it_is_something_that_can_happen(self, allowed, in_flight):
        assert 1 <= room(allowed, in_flight) <= in_flight


class TestAgain:
    @pytest.mark.parametrize(("attempt", "pause"), [(1, 30.0), (2, 60.0), (3, 120.0), (7, 1_920.0)])
    def test_the_pause_doubles(self, attempt, pause):
        assert again_at(1_000.0, attempt=attempt, retry_delay=30.0) == 1_000.0 + pause

    @pytest.mark.parametrize("attempt", [8, 255])
    def test_it_is_an_hour_at_most(self, attempt):
        assert again_at(1_000.0, attempt=attempt, retry_delay=30.0) == 4_600.0

    def test_none_is_none(self):
        assert again_at(1_000.0, attempt=255, retry_delay=0.0) == 1_000.0


class Sender:
    """Sends requests one after the other, each when it may be. Begins at some time of a monotonic clock."""

    def __init__(self, most, now=5_000.0):
        self.rate = SubmissionRate(most)
        self.now = now
        self.sent: list[float] = []

    def send(self, number=1):
        for _ in range(number):
            self.now += self.rate.take(self.now)
            self.sent.append(self.now)

    def for_(self, seconds, *, each=0.0):
        """Send as fast as it may for some time, where each request takes some of it."""
        until = self.now + seconds
        while self.now < until:
            self.send()
            self.now += each

    def busiest_second(self):
        """How many were sent in any span of one second, its end left out."""
        most = first = 0
        for last, at in enumerate(self.sent):
            while self.sent[first] <= at - 1.0 + 1e-6:
                first += 1
            most = max(most, last - first + 1)
        return most


class TestRate:
    def test_without_a_limit_nothing_waits(self):
        rate = SubmissionRate(None)
        assert [rate.take(now) for now in (0.0, 0.0, 5.0, 5.0)] == [0.0] * 4
        assert rate.rate == math.inf

    def test_with_one_each_has_its_place(self):
        rate = SubmissionRate(4.0)
        assert [rate.take(100.0) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]

    def test_what_would_be_too_late_takes_no_place(self):
        rate = SubmissionRate(4.0)
        assert [rate.take(100.0, 100.4) for _ in range(4)] == [0.0, 0.25, None, None]
        assert rate.take(100.0) == 0.5

    def test_what_was_not_used_is_not_saved_up(self):
        sender = Sender(10.0)
        sender.send(5)
        sender.now += 3_600.0
        sender.sent.clear()
        sender.send(50)
        assert sender.busiest_second() <= 10

    def test_a_rate_below_one_is_kept_too(self):
        sender = Sender(0.1)
        sender.send(3)
        assert sender.sent == pytest.approx([5_000.0, 5_010.0, 5_020.0])

    @given(
        st.floats(0.5, 500.0),
        st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), min_size=1, max_size=150),
    )
    def test_no_second_has_more_than_the_rate(self, most, steps):
        sender = Sender(most)
        for pause, busy in steps:
            sender.now += pause if pause > 2.5 else 0.0
            sender.send()
            if busy:
                sender.rate.turned_away(sender.now)
            assert 0 < sender.rate.rate <= most
        assert sender.busiest_second() <= math.ceil(most)


class TestThrottling:
    def sending(self, per_second, most=None):
        sender = Sender(most)
        sender.for_(0.9, each=1 / per_second)
        return sender

    def test_less_is_sent_than_the_service_turned_away(self):
        sender = self.sending(100)
        sender.rate.turned_away(sender.now)
        assert sender.rate.rate == pytest.approx(60, rel=0.05)

    def test_what_is_turned_away_at_the_same_time_is_turned_away_once(self):
        sender = self.sending(100)
        for _ in range(32):
            sender.rate.turned_away(sender.now + 0.5)
        first = sender.rate.rate
        sender.rate.turned_away(sender.now + 1.4)
        assert sender.rate.rate == first
        sender.rate.turned_away(sender.now + 1.6)
        assert sender.rate.rate < first

    def test_a_second_that_has_just_begun_tells_less_than_the_one_before(self):
        sender = self.sending(400)
        while sender.rate._counted != 1:
            sender.send()
            sender.now += 1 / 400
        sender.rate.turned_away(sender.now)
        assert sender.rate.rate == pytest.approx(240, rel=0.05)

    def test_it_recovers_by_a_tenth_each_second(self):
        sender = self.sending(100)
        sender.rate.turned_away(sender.now)
        slow = sender.rate.rate
        sender.now += 1.0
        sender.send()
        assert sender.rate.rate == pytest.approx(slow * 1.1)
        sender.now += 3.0
        sender.send()
        assert sender.rate.rate == pytest.approx(slow * 1.1**4, rel=0.01)

    @pytest.mark.parametrize("most", [None, 80.0, 20_000.0])
    def test_it_recovers_until_nothing_holds_it_up(self, most):
        sender = self.sending(100, most)
        sender.rate.turned_away(sender.now)
        assert sender.rate.rate < 80
        for _ in range(60):
            sender.now += 1.0
            sender.send()
        assert sender.rate.rate == (math.inf if most is None else most)

    def test_a_long_pause_is_recovered_from_at_once(self):
        sender = self.sending(100)
        sender.rate.turned_away(sender.now)
        sender.now += 1e9
        sender.send()
        assert sender.rate.rate == math.inf

    def test_something_is_always_sent(self):
        sender = self.sending(100)
        for _ in range(100):
            sender.send()
            sender.rate.turned_away(sender.now)
            sender.now += 1.0
            assert sender.rate.rate >= 1.0

    def test_a_service_that_takes_so_many_is_sent_about_so_many(self):
        """A bucket that holds 50 and is filled with 50 a second, as such services have one."""
        sender, tokens, before, taken = Sender(None), 50.0, 5_000.0, 0
        while sender.now < 5_300.0:
            sender.send()
            sender.now += 0.001
            tokens = min(50.0, tokens + 50.0 * (sender.now - before))
            before = sender.now
            if tokens >= 1.0:
                tokens, taken = tokens - 1.0, taken + 1
            else:
                sender.rate.turned_away(sender.now)
        assert taken > 0.8 * 50 * 300
        assert len(sender.sent) < 1.3 * taken
