"""Sets of numbers as short texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.ranges import members, ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([7], "7"),
        ([0, 1], "0-1"),
        ([0, 2], "0,2"),
        ([*range(500), 512], "0-499,512"),
        ([3, 4, 5, 9, 11, 12], "3-5,9,11-12"),
    ],
)
def test_runs_are_written_by_their_ends(numbers, text):
    assert ranges(iter(numbers)) == text
    assert list(members(text)) == numbers


@given(st.sets(st.integers(min_value=0, max_value=10**8 - 1)))
def test_all_numbers_come_back(numbers):
    assert list(members(ranges(sorted(numbers)))) == sorted(numbers)


@given(st.sets(st.integers(min_value=0, max_value=60)))
def test_a_text_is_no_longer_than_its_runs(numbers):
    text = ranges(sorted(numbers))
    begins = [number for number in numbers if number - 1 not in numbers]
    assert len(text.split(",")) == max(1, len(begins))
