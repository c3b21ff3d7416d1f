from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import pytest

from airflow_async_sm.emulator.settings.values import (
    Count,
    Name,
    Range,
    Seconds,
    SettingError,
    Share,
    SomeSeconds,
    build,
    check_fields,
    check_names,
    mapping,
    nearest,
    plain,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Sample:
    needed: Seconds
    made: str = field(default_factory=str)
    colour: Colour = Colour.RED
    status: Literal[500, 503] = 500
    word: Literal["a", "b"] | None = None
    share: Share = 0.5
    name: Name | None = None
    wait: SomeSeconds = 1.0
    count: Count = 1
    flag: bool = False

    def __post_init__(self):
        check_fields(self)


def test_values_become_what_their_fields_are():
    sample = Sample(needed=1, colour="blue", status=503, word="b", share=1, flag=True)
    assert sample == Sample(needed=1.0, colour=Colour.BLUE, status=503, word="b", share=1.0, flag=True)
    assert sample.colour is Colour.BLUE
    assert [type(value) for value in (sample.needed, sample.share)] == [float, float]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"needed": -0.5}, "needed is -0.5; it must be a number of at least 0."),
        ({"wait": 0}, "wait is 0.0; it must be a number greater than 0."),
        ({"share": 1.5}, "share is 1.5; it must be a number from 0 to 1."),
        ({"needed": "2"}, "needed is '2'; it must be a finite number."),
        ({"needed": True}, "needed is True; it must be a finite number."),
        ({"needed": None}, "needed is None; it must be a finite number."),
        ({"needed": float("nan")}, "needed is nan; it must be a finite number."),
        ({"needed": 10**400}, f"needed is {10**400}; it must be a finite number."),
        ({"count": 1.0}, "count is 1.0; it must be a whole number."),
        ({"count": True}, "count is True; it must be a whole number."),
        ({"made": 1}, "made is 1; it must be a text."),
        ({"name": ""}, "name is ''; it must not be empty."),
        ({"flag": 1}, "flag is 1; it must be true or false."),
        ({"flag": "true"}, "flag is 'true'; it must be true or false."),
        ({"colour": "green"}, "colour is 'green'; it must be one of 'red', 'blue'."),
        ({"colour": ["red"]}, "colour is ['red']; it must be one of 'red', 'blue'."),
        ({"status": 501}, "status is 501; it must be one of 500, 503."),
        ({"status": 500.0}, "status is 500.0; it must be one of 500, 503."),
        ({"word": True}, "word is True; it must be one of 'a', 'b'."),
    ],
)
def test_value_that_does_not_fit_is_refused(values, text):
    with pytest.raises(SettingError) as refused:
        Sample(**{"needed": 1, **values})
    assert str(refused.value) == text
    assert refused.value.path == (next(iter(values)),)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "What was given is []; it must be a mapping of names to values."),
        ({1: 2}, "What was given has the key 1; keys must be texts."),
        ({"needed": 1, "shar": 1}, "shar is not known: sample has no such name. Did you mean share?"),
        ({"share": 1}, "needed is missing; sample needs it."),
    ],
)
def test_data_that_is_no_such_thing_is_refused(data, text):
    with pytest.raises(SettingError) as refused:
        build(Sample, data, kind="sample")
    assert str(refused.value) == text


def test_name_like_no_other_is_answered_with_all():
    assert nearest("zzzz", ["one", "two"]) == " There are: one, two."


def test_known_names_pass():
    check_names(["a"], ["b", "a"], kind="a thing")
    assert mapping({"a": 1}) == {"a": 1}


def test_plain_data_makes_the_same_again():
    sample = Sample(needed=2, colour=Colour.BLUE, name="x")
    assert plain(sample)["colour"] == "blue"
    assert type(plain(sample)["colour"]) is str
    assert build(Sample, plain(sample), kind="sample") == sample


def test_place_of_an_error_is_written_from_the_outside_in():
    error = SettingError(("seconds",), "is wrong.").below(("faults", 2))
    assert str(error) == "faults[2].seconds is wrong."
    assert error.path == ("faults", 2, "seconds")


def test_ends_of_a_range():
    assert 0 in Range(0)
    assert 0 not in Range(0, above=True)
    assert [number in Range(1, 2) for number in (0.9, 1, 2, 2.1)] == [False, True, True, False]
