"""What is awaited in a bucket."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.buckets import Bucket, Heads, Listing, Seen, Sight, Spot
from airflow_async_sm.core.costs import DENIED


def bucket_of(*keys):
    bucket = Bucket("b")
    spots = [Spot(number, "b", key) for number, key in enumerate(keys)]
    for spot in spots:
        bucket.add(spot)
    bucket.plan(0.0)
    return bucket, spots


MANY = [f"out/{index}" for index in range(8)]


def test_a_folder_is_listed_for_all_who_are_in_it_though_one_is_due():
    bucket, spots = bucket_of(*MANY, "far.out")
    (ask,) = bucket.asks(spots[3:4], 10)
    assert isinstance(ask, Listing)
    assert (ask.folder, ask.spots, ask.worth) == ("", [spots[8], *spots[:8]], 9.0)
    assert all(spot.is_asked for spot in spots)


def test_a_folder_that_is_being_listed_is_not_listed_again():
    bucket, spots = bucket_of(*MANY)
    (ask,) = bucket.asks(spots[:1], 10)
    late = Spot(9, "b", "out/9")
    bucket.add(late)
    assert list(bucket.asks([late], 10)) == []
    assert not late.is_asked
    bucket.answered(ask, Seen(frozenset(), cost=4.0), 1.0)
    (again,) = bucket.asks([late], 10)
    assert again.spots == [late]


def test_keys_apart_are_asked_for_in_parts_and_no_more_than_may_be():
    bucket, spots = bucket_of(*(f"{index}/far/out" for index in range(25)))
    bucket.answered(Listing("b", spots, ""), Seen(frozenset(), reached="", cost=DENIED), 0.0)
    bucket.plan(0.0)
    asks = list(bucket.asks(spots, 22))
    assert [type(ask) for ask in asks] == [Heads, Heads, Heads]
    assert [len(ask.spots) for ask in asks] == [10, 10, 2]
    assert [spot.is_asked for spot in spots] == [True] * 22 + [False] * 3


def test_a_listing_that_was_given_up_is_not_made_again_before_there_is_another_plan():
    bucket, spots = bucket_of(*MANY)
    (ask,) = bucket.asks(spots[:1], 10)
    bucket.answered(ask, Seen(frozenset(), reached="out/3", cost=99.0), 1.0)
    for spot in spots:
        spot.is_asked = False
    assert all(isinstance(ask, Heads) for ask in bucket.asks(spots, 10))
    bucket.plan(2.0)
    assert [spot.key for spot in bucket.apart()] == MANY
    # Later it is tried again.
    bucket.plan(602.0)
    assert list(bucket.apart()) == []


def test_a_listing_that_failed_teaches_nothing():
    bucket, spots = bucket_of(*MANY)
    (ask,) = bucket.asks(spots[:1], 10)
    bucket.answered(ask, None, 1.0)
    spots[0].is_asked = False
    (again,) = bucket.asks(spots[:1], 10)
    assert isinstance(again, Listing)


def test_heads_teach_nothing():
    bucket, spots = bucket_of("a")
    (ask,) = bucket.asks(spots, 10)
    bucket.answered(ask, Seen(frozenset()), 1.0)
    assert [spot.key for spot in bucket.apart()] == ["a"]


def test_who_is_apart_is_neither_before_nor_after_nor_between_folders_that_are_listed():
    listed = [f"{folder}/{index}" for folder in ("b", "d") for index in range(5)]
    bucket, spots = bucket_of("a/1", *listed, "c/1", "e/1")
    bucket.answered(Listing("b", spots, ""), Seen(frozenset(), reached="", cost=DENIED), 0.0)
    bucket.plan(0.0)
    assert [spot.key for spot in bucket.apart()] == ["a/1", "c/1", "e/1"]


def test_several_may_wait_for_one_key():
    bucket, (one, other) = bucket_of("a", "a")
    bucket.remove(one)
    assert bucket
    bucket.plan(1.0)
    assert list(bucket.apart()) == [other]
    bucket.remove(other)
    assert not bucket


@pytest.mark.parametrize(
    ("key", "sight"),
    [
        ("there", Sight.PRESENT),
        ("secret", Sight.REFUSED),
        ("m", Sight.ABSENT),
        ("z", Sight.UNREACHED),
    ],
)
def test_what_is_seen_at_a_key(key, sight):
    seen = Seen(frozenset({"there"}), reached="n", refused=frozenset({"secret"}))
    assert seen.at(key) is sight


def test_without_a_limit_all_is_reached():
    assert Seen(frozenset()).at("z") is Sight.ABSENT
