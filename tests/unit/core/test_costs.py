"""What is listed and what is asked for one by one: fixed cases, then what holds for all sets of keys."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.costs import (
    DENIED,
    LISTED_AT_ONCE,
    ListingCosts,
    cost_of_listing,
    folders_to_list,
    under,
)

EMPTY = cost_of_listing(pages=1, keys=0)


def costs(**known):
    """Return what listing costs, where only some folders are known; one that is not is taken to be empty."""
    by_folder = {folder.replace("_", "/"): cost for folder, cost in known.items()}
    return lambda folder: by_folder.get(folder, EMPTY)


def keys(folder, number):
    return sorted(f"{folder}{index:04}.out" for index in range(number))


def test_few_keys_are_asked_for_one_by_one():
    assert folders_to_list(keys("out/", 3), costs()) == []


def test_many_keys_in_a_folder_are_listed():
    assert folders_to_list(keys("out/", 4), costs()) == ["out/"]


def test_keys_in_folders_of_their_own_are_listed_together():
    each_its_own = sorted(f"out/run/{index}/answer.out" for index in range(50))
    assert folders_to_list(each_its_own, costs()) == ["out/run/"]


def test_answers_and_failures_are_listed_together_where_nothing_is_between_them():
    both = sorted(keys("out-failures/", 10) + keys("out/", 10))
    assert folders_to_list(both, costs()) == [""]


def test_where_much_is_between_folders_each_is_listed():
    both = sorted(keys("out-failures/", 10) + keys("out/", 10))
    assert folders_to_list(both, lambda folder: EMPTY if folder else 500.0) == ["out-failures/", "out/"]


def test_a_folder_with_too_much_in_it_is_not_listed():
    assert folders_to_list(keys("out/", 100), costs(out_=101.0)) == []


def test_a_dear_folder_is_listed_for_those_who_are_many():
    assert folders_to_list(keys("out/", 102), costs(out_=101.0)) == ["out/"]


def test_what_is_not_allowed_is_not_done_and_what_is_below_it_is_tried():
    two = sorted(keys("a/x/", 10) + keys("a/y/", 10))
    assert folders_to_list(two, costs(a_=DENIED)) == ["a/x/", "a/y/"]


def test_a_whole_is_listed_where_its_parts_cost_more():
    parts = sorted(key for part in "abcdefgh" for key in keys(f"out/{part}/", 10))
    assert folders_to_list(parts, costs(out_=7.9 * EMPTY)) == ["out/"]
    assert len(folders_to_list(parts, costs(out_=8 * EMPTY + 1))) == 8


def test_nothing_awaited_is_nothing_to_list():
    assert folders_to_list([], costs()) == []


def test_a_listing_costs_by_its_pages_and_by_its_keys():
    full = cost_of_listing(pages=1, keys=LISTED_AT_ONCE)
    assert cost_of_listing(pages=2, keys=2 * LISTED_AT_ONCE) == 2 * full
    assert full > EMPTY


class TestMemory:
    def test_what_a_listing_cost_is_remembered(self):
        memory = ListingCosts()
        memory.learn("out/", 70.0, now=0)
        assert memory.of("out/") == 70.0
        assert memory.of("other/") == EMPTY

    def test_nothing_is_cheaper_than_a_page(self):
        memory = ListingCosts()
        memory.learn("out/", 0.0, now=0)
        assert memory.of("out/") == EMPTY

    def test_it_is_forgotten_after_ten_minutes(self):
        memory = ListingCosts()
        memory.learn("dear/", DENIED, now=0)
        memory.learn("later/", 70.0, now=300)
        memory.forget(now=599)
        assert len(memory) == 2
        memory.forget(now=600)
        assert memory.of("dear/") == EMPTY
        assert memory.of("later/") == 70.0


names = st.text(alphabet="ab-/.é\U0001f600\U0010ffff", min_size=1, max_size=8)
awaited = st.lists(names, unique=True, max_size=60).map(sorted)


@pytest.mark.parametrize("folder", ["", "a/", "é/", "\U0001f600/"])
@given(all_keys=awaited)
def test_what_is_under_a_folder_is_what_begins_with_it(folder, all_keys):
    assert all_keys[under(all_keys, folder)] == [key for key in all_keys if key.startswith(folder)]


@given(all_keys=awaited, prices=st.dictionaries(names.map(lambda name: f"{name}/"), st.floats(EMPTY, 100)))
def test_folders_never_overlap_and_listing_them_is_never_dearer_than_asking_for_each(all_keys, prices):
    prices[""] = prices.get("", EMPTY)
    price = lambda folder: prices.get(folder, EMPTY)  # noqa: E731 - said once
    folders = folders_to_list(all_keys, price)
    assert folders == sorted(folders)
    assert all(not folder or folder.endswith("/") for folder in folders)
    assert all(not other.startswith(one) for one, other in itertools.permutations(folders, 2))
    members = [all_keys[under(all_keys, folder)] for folder in folders]
    for folder, those in zip(folders, members, strict=True):
        assert price(folder) <= len(those)
