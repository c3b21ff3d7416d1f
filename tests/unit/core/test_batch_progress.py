"""How far a batch is, in numbers and in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.progress import Progress


def progress(**changes):
    known = {"items": 2_000, "done": 500, "failed": 0, "in_flight": 1_000, "seconds": 61.26}
    return Progress(**{**known, **changes})


@pytest.mark.parametrize(
    ("items", "done", "percent"), [(200, 0, 0), (200, 1, 0), (200, 199, 99), (200, 200, 100), (0, 0, 100)]
)
def test_a_hundred_percent_is_all_and_nothing_less(items, done, percent):
    assert progress(items=items, done=done).percent == percent


@given(st.integers(1, 10**8), st.data())
def test_whatever_is_missing_keeps_it_below(items, data):
    done = data.draw(st.integers(0, items))
    assert (progress(items=items, done=done).percent == 100) is (done == items)


class TestSentence:
    def test_it_says_no_more_than_is_known(self):
        assert str(progress()) == "25 % of 2,000 inputs done, 1,000 in the queue"

    def test_it_says_how_many_failed_if_any(self):
        assert str(progress(failed=1_234)) == "25 % of 2,000 inputs done, 1,234 failed, 1,000 in the queue"

    @pytest.mark.parametrize(
        ("rate", "words"),
        [
            (100.0, "100.0 a second, about 15 s left"),
            (12.55, "12.6 a second, about 120 s left"),
            (12.5, "12.5 a second, about 2 min left"),
            (0.25, "0.2 a second, about 100 min left"),
            (0.2, "0.2 a second, about 2.1 h left"),
        ],
    )
    def test_with_a_rate_it_says_how_long_it_takes_still(self, rate, words):
        assert str(progress(rate=rate)) == f"25 % of 2,000 inputs done, 1,000 in the queue, {words}"

    def test_nothing_is_left_of_what_is_done(self):
        done = progress(done=2_000, in_flight=0, rate=10.0)
        assert str(done) == "100 % of 2,000 inputs done, 0 in the queue, 10.0 a second"


class TestRecord:
    def test_others_read_it_as_json(self):
        written = json.loads(json.dumps(progress(failed=3, rate=1.23456).to_dict()))
        assert written == {
            "items": 2_000,
            "done": 500,
            "failed": 3,
            "in_flight": 1_000,
            "unsent": 500,
            "percent": 25,
            "seconds": 61.3,
            "rate": 1.235,
            "seconds_left": 1_215,
        }

    def test_what_is_not_known_is_null(self):
        told = progress().to_dict()
        assert (told["rate"], told["seconds_left"]) == (None, None)
