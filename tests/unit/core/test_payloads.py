"""A payload that others may carry is not one that they may show."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.payloads import Concealed, revealed


@pytest.mark.parametrize(
    ("payload", "description"),
    [
        ("secret", "<str, 6 characters>"),
        (b"secret", "<bytes, 6 bytes>"),
        ({"secret": 1}, "<dict, 1 items>"),
        (4711, "<int>"),
    ],
)
def test_a_concealed_payload_shows_kind_and_size_only(payload, description):
    concealed = Concealed(payload)
    assert str(concealed) == repr(concealed) == description
    assert revealed(concealed) == revealed(payload) == payload
