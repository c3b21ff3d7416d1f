from __future__ import annotations

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.templates import number, optional, whole_number


@pytest.mark.parametrize(("value", "meant"), [("", None), (None, None), ("a", "a"), ([], []), (0, 0)])
def test_a_template_that_comes_to_nothing_gives_nothing(value, meant):
    assert optional("argument", value) == meant


@pytest.mark.parametrize("read", [number, optional, whole_number])
def test_the_text_none_is_a_mistake(read):
    with pytest.raises(InvalidInput, match="argument is the text 'None'"):
        read("argument", "None")


@pytest.mark.parametrize(("value", "meant"), [(0, 0), (7, 7), ("7", 7), (" 12 ", 12)])
def test_a_number_may_be_given_as_its_digits(value, meant):
    assert whole_number("argument", value) == meant


@pytest.mark.parametrize("value", [None, "", "two", "1.5", "-1", -1, 1.0, True, [1]])
def test_anything_else_is_no_number(value):
    with pytest.raises(InvalidInput, match="argument is .*; a whole number of at least 0 is needed"):
        whole_number("argument", value)


@pytest.mark.parametrize(("value", "meant"), [(None, None), ("", None), (0, 0), (7, 7), ("7", 7), (" 0 ", 0)])
def test_a_number_may_be_left_out(value, meant):
    assert number("argument", value) == meant


@pytest.mark.parametrize("value", ["two", "1.5", -1, 1.0, True, [1]])
def test_what_is_given_all_the_same_is_a_number(value):
    with pytest.raises(InvalidInput, match="argument is .*; a whole number of at least 0 is needed"):
        number("argument", value)
