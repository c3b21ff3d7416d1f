"""What is awaited in a bucket."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.buckets import Bucket, Folder, Seen, Sight, Spot, heads
from airflow_async_sm.core.costs import DENIED

MANY = [f"out/{index}" for index in range(8)]


def bucket_of(*keys):
    bucket = Bucket("b")
    spots = [Spot(number, "b", key) for number, key in enumerate(keys)]
    for spot in spots:
        bucket.add(spot)
    return bucket, spots


def test_a_folder_with_many_in_it_is_listed_for_all_of_them():
    bucket, spots = bucket_of(*MANY, "far.out")
    (folder,), gone = bucket.plan(0.0)
    assert (folder.bucket, folder.name, gone) == ("b", "", [])
    assert all(bucket.folder_of(spot) is folder for spot in spots)
    (listing,) = bucket.listing(folder, 1.0)
    assert listing.keys == ["far.out", *MANY]
    assert listing.worth == 9.0
    assert folder.is_asked


def test_plans_are_made_when_something_has_changed_and_now_and_then():
    bucket, _ = bucket_of(*MANY)
    ((folder,), _) = bucket.plan(0.0)
    assert bucket.plan(30.0) == ([], [])
    bucket.learn(folder, Seen(frozenset(), is_whole=False, cost=DENIED), 31.0)
    assert bucket.plan(32.0) == ([], [])
    # What was found to be dear is tried again after ten minutes.
    assert bucket.plan(600.0) == ([], [])
    (again,), _ = bucket.plan(661.0)
    assert again.name == "out/"


def test_a_listing_that_was_given_up_is_not_made_again_before_there_is_another_plan():
    bucket, spots = bucket_of(*MANY)
    ((folder,), _) = bucket.plan(0.0)
    assert bucket.learn(folder, Seen(frozenset(), is_whole=False, cost=99.0), 1.0) == [folder]
    assert folder.is_left
    assert bucket.folder_of(spots[0]) is None
    assert list(bucket.apart()) == spots
    assert bucket.learn(folder, Seen(frozenset(), is_whole=False, cost=99.0), 1.0) == []


def test_a_listing_that_came_to_its_end_goes_on():
    bucket, spots = bucket_of(*MANY)
    ((folder,), _) = bucket.plan(0.0)
    assert bucket.learn(folder, Seen(frozenset(), cost=3.3), 1.0) == []
    assert bucket.plan(2.0) == ([], [])
    assert bucket.folder_of(spots[0]) is folder


def test_a_folder_gives_way_to_a_larger_one():
    bucket, _ = bucket_of(*(f"a/b/{index}" for index in range(5)))
    ((small,), _) = bucket.plan(0.0)
    late = Spot(9, "b", "a/c/1")
    bucket.add(late)
    (large,), gone = bucket.plan(1.0)
    assert (small.name, large.name, gone) == ("a/b/", "a/", [small])
    assert small.is_left


def test_a_folder_nobody_waits_in_is_not_listed():
    bucket, spots = bucket_of(*MANY, "far.out")
    ((folder,), _) = bucket.plan(0.0)
    for spot in spots:
        bucket.remove(spot)
    assert bucket.listing(folder, 1.0) == []
    assert not folder.is_asked
    assert not bucket
    bucket.leave()
    assert folder.is_left


def test_who_is_apart_is_neither_before_nor_after_nor_between_folders_that_are_listed():
    listed = [f"{folder}/{index}" for folder in ("b", "d") for index in range(5)]
    bucket, _ = bucket_of("a/1", *listed, "c/1", "e/1")
    ((root,), _) = bucket.plan(0.0)
    bucket.learn(root, Seen(frozenset(), is_whole=False, cost=DENIED), 0.0)
    bucket.plan(0.0)
    assert [spot.key for spot in bucket.apart()] == ["a/1", "c/1", "e/1"]


def test_several_may_wait_for_one_key():
    bucket, (one, other) = bucket_of("a", "a")
    assert bucket.at("a") == [one, other]
    bucket.remove(one)
    assert list(bucket.apart()) == [other]
    bucket.remove(other)
    assert bucket.at("a") == []


def test_keys_are_asked_for_in_parts():
    spots = [Spot(number, "b", str(number)) for number in range(22)]
    asks = list(heads("b", spots, 1.0))
    assert [len(ask.spots) for ask in asks] == [10, 10, 2]
    assert all(spot.is_asked for spot in spots)


class TestPauses:
    """Of a folder: as long as they want who wait there, and answers go before failures."""

    def spots(self):
        return Spot(1, "b", "x"), Spot(2, "b", "y"), Spot(3, "b", "z", is_failure=True)

    def test_the_shortest_pause_for_answers_counts(self):
        folder = Folder("b", "out/")
        one, other, failure = self.spots()
        for spot, pause in ((one, 5.0), (other, 2.0), (failure, 1.0)):
            folder.note(spot, pause, until=10.0)
        assert folder.pause(10.0) == 2.0

    def test_a_pause_that_was_not_asked_for_again_counts_no_more(self):
        folder = Folder("b", "out/")
        one, other, _ = self.spots()
        folder.note(one, 2.0, until=20.0)
        folder.note(one, 2.0, until=10.0)
        folder.note(other, 5.0, until=30.0)
        assert folder.pause(20.0) == 2.0
        assert folder.pause(20.1) == 5.0

    def test_where_only_failures_are_awaited_they_count(self):
        folder = Folder("b", "failures/")
        folder.note(self.spots()[2], 10.0, until=5.0)
        assert folder.pause(0.0) == 10.0

    def test_before_anybody_was_told_it_is_a_second(self):
        assert Folder("b", "out/").pause(0.0) == 1.0


@pytest.mark.parametrize(
    ("key", "sight"),
    [("there", Sight.PRESENT), ("secret", Sight.REFUSED), ("slow", Sight.FAILED), ("m", Sight.ABSENT)],
)
def test_what_is_seen_at_a_key(key, sight):
    seen = Seen(frozenset({"there"}), refused=frozenset({"secret"}), failed={"slow": "too slow"})
    assert seen.at(key) is sight
