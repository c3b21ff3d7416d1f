"""Our own message comes before any of Airflow's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.deadlines import before_airflow


def test_without_a_limit_of_airflows_nothing_changes():
    assert before_airflow(500.0, began_at=0.0, execution_timeout=None) == 500.0


def test_an_earlier_deadline_stays():
    assert before_airflow(500.0, began_at=100.0, execution_timeout=3_600.0) == 500.0


@pytest.mark.parametrize(
    ("limit", "deadline"), [(3_600.0, 3_585.0), (150.0, 135.0), (60.0, 54.0), (1.0, 0.9)]
)
def test_a_margin_is_left_for_the_ending(limit, deadline):
    assert before_airflow(1e6, began_at=0.0, execution_timeout=limit) == pytest.approx(deadline)


@given(
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.floats(0.001, 1e6),
)
def test_it_is_never_later_than_either(deadline_at, began_at, limit):
    ends_at = before_airflow(deadline_at, began_at=began_at, execution_timeout=limit)
    assert ends_at <= deadline_at
    assert ends_at <= began_at + limit
