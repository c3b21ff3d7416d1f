from __future__ import annotations

from airflow_async_sm.core.failures import failure_text


def test_a_small_failure_object_is_shown_whole():
    assert failure_text(b' {"error": "bad row"}\n', total_bytes=22) == '{"error": "bad row"}'


def test_of_a_large_failure_object_the_end_is_shown():
    assert failure_text(b"the cause", total_bytes=9_000) == "(the last 9 of 9,000 bytes) …the cause"


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are():
    assert failure_text(b"caf\xe9", total_bytes=4) == "caf�"


def test_an_empty_failure_object_is_named_as_such():
    assert failure_text(b"", total_bytes=0) == "(the failure object is empty)"
