from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.naming import fit_name, is_part_of, part_name

NAMES = st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", fullmatch=True).filter(
    lambda name: len(name) <= 63
)


class TestFitName:
    @given(NAMES)
    def test_what_fits_is_left_as_it_is(self, name):
        assert fit_name(name) == name

    @given(st.text().filter(lambda text: re.search("[a-zA-Z0-9]", text)), st.integers(16, 63))
    def test_whatever_comes_the_name_fits(self, text, longest):
        name = fit_name(text, longest=longest)
        limits.ENDPOINT_NAME.check("name", name)
        limits.MODEL_NAME.check("name", name)
        assert len(name) <= longest

    def test_texts_that_differ_have_names_that_differ(self):
        long = "scoring-" * 10
        texts = ["scoring.v2", "scoring/v2", "scoring-v2", f"{long}a", f"{long}b"]
        assert len({fit_name(text) for text in texts}) == len(texts)

    def test_a_name_can_be_recognised(self):
        assert fit_name("Scoring v2 / daily").startswith("Scoring-v2---daily-")

    @pytest.mark.parametrize("text", ["", "---", "\u00e9\u00e9"])
    def test_a_text_without_a_letter_makes_no_name(self, text):
        with pytest.raises(InvalidInput, match="no letter and no digit"):
            fit_name(text)

    def test_a_name_needs_room(self):
        with pytest.raises(InvalidInput, match="at least 16"):
            fit_name("a", longest=15)


class TestParts:
    @given(NAMES, st.dictionaries(st.text(), st.integers()))
    def test_a_part_fits_and_is_known_again(self, endpoint_name, content):
        name = part_name(endpoint_name, content)
        limits.ENDPOINT_CONFIG_NAME.check("name", name)
        assert is_part_of(endpoint_name, name)

    @given(NAMES, NAMES)
    def test_the_parts_of_another_endpoint_are_not_its_own(self, one, other):
        assert (one == other) == is_part_of(one, part_name(other, {}))

    def test_content_that_cannot_be_sent_is_refused(self):
        with pytest.raises(InvalidInput, match="what cannot be sent"):
            part_name("e", {"a": object()})

    def test_the_same_content_has_the_same_name_in_any_order(self):
        assert part_name("e", {"a": 1, "b": 2}) == part_name("e", {"b": 2, "a": 1})
        assert part_name("e", {"a": 1}) != part_name("e", {"a": 2})

    @pytest.mark.parametrize("name", ["e", "e-2", "e-x0123456789a", "f-x0123456789", "e-1732195200"])
    def test_other_names_are_somebody_elses(self, name):
        assert not is_part_of("e", name)
