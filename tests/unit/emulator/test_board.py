from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import Fault, ModelCrash, ModelError, ModelLatency, S3Denied

KEYS = [f"request-{number}" for number in range(2000)]


def hit_keys(board, keys=KEYS):
    return {key for key in keys if board.draw(ModelCrash, key)}


def test_empty_board_hits_nothing():
    board = FaultBoard()
    assert board.draw(ModelCrash, "a") is None
    assert board.all() == board.hits() == {}


def test_only_faults_of_the_kind_are_drawn():
    board = FaultBoard([ModelError(), ModelLatency(1)])
    assert board.draw(ModelCrash, "a") is None
    assert board.draw(ModelError, "a") == ModelError()
    assert board.draw(Fault, "a") == ModelError()
    assert board.hits() == {"fault-1": 2, "fault-2": 0}


def test_first_fault_that_is_about_the_case_counts():
    board = FaultBoard([ModelLatency(1, endpoint="a"), ModelLatency(2), ModelLatency(3)])
    assert board.draw(ModelLatency, "k", endpoint="a").seconds == 1
    assert board.draw(ModelLatency, "k", endpoint="b").seconds == 2
    assert board.draw(ModelLatency, "k").seconds == 2
    assert board.hits() == {"fault-1": 1, "fault-2": 2, "fault-3": 0}


def test_fault_that_is_used_up_leaves_the_case_to_the_next():
    board = FaultBoard([ModelLatency(1, times=2), ModelLatency(2)])
    assert [board.draw(ModelLatency, key).seconds for key in "abc"] == [1, 1, 2]


def test_times_counts_hits_and_not_misses():
    board = FaultBoard([ModelCrash(rate=0.5, times=3), S3Denied(bucket="b", times=1)], seed=1)
    missed = [
        key for key in KEYS[:20] if not FaultBoard([ModelCrash(rate=0.5)], seed=1).draw(ModelCrash, key)
    ]
    for key in missed:
        assert board.draw(ModelCrash, key) is None
    assert board.draw(S3Denied, "k", bucket="c") is None
    assert board.hits() == {"fault-1": 0, "fault-2": 0}
    assert len(hit_keys(board)) == 3
    assert board.draw(S3Denied, "k", bucket="b")
    assert board.draw(S3Denied, "k", bucket="b") is None
    assert board.hits() == {"fault-1": 3, "fault-2": 1}


def test_ids_are_never_used_twice():
    board = FaultBoard([ModelCrash()])
    assert board.add(ModelError()) == "fault-2"
    board.remove("fault-2")
    assert board.add(ModelError()) == "fault-3"
    board.replace([ModelLatency(1)])
    assert board.all() == {"fault-4": ModelLatency(1)}
    assert board.hits() == {"fault-4": 0}
    board.clear()
    assert board.all() == {}


@pytest.mark.parametrize("fault_id", ["fault-1", "nonsense"])
def test_fault_that_is_not_on_cannot_be_removed(fault_id):
    board = FaultBoard([ModelCrash()])
    board.remove("fault-1")
    with pytest.raises(KeyError):
        board.remove(fault_id)


def test_removed_fault_hits_nothing():
    board = FaultBoard([ModelCrash()])
    assert board.draw(ModelCrash, "a")
    board.remove("fault-1")
    assert board.draw(ModelCrash, "a") is None


@given(st.integers(), st.floats(0.05, 0.95), st.permutations(KEYS[:30]))
def test_seed_decides_whatever_the_order(seed, rate, order):
    faults = [ModelCrash(rate=rate)]
    assert hit_keys(FaultBoard(faults, seed=seed), order) == hit_keys(
        FaultBoard(faults, seed=seed), KEYS[:30]
    )


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_rate_is_the_share_that_is_hit(rate, seed):
    hits = len(hit_keys(FaultBoard([ModelCrash(rate=rate)], seed=seed)))
    # Six standard deviations.
    assert hits / len(KEYS) == pytest.approx(rate, abs=6 * (rate * (1 - rate) / len(KEYS)) ** 0.5)


@pytest.mark.parametrize(("rate", "count"), [(0, 0), (1, len(KEYS))])
def test_rate_at_its_ends(rate, count):
    assert len(hit_keys(FaultBoard([ModelCrash(rate=rate)]))) == count


def test_seed_fault_and_key_each_make_a_difference():
    fault = ModelCrash(rate=0.5)
    first = hit_keys(FaultBoard([fault], seed=1))
    assert first != hit_keys(FaultBoard([fault], seed=2))
    later = FaultBoard([ModelError(), fault], seed=1)
    assert first != hit_keys(later)
    assert hit_keys(FaultBoard([fault])) != hit_keys(FaultBoard([fault]))


@pytest.mark.parametrize("seed", [None, 3])
def test_who_asks_twice_hears_the_same(seed):
    board = FaultBoard([ModelCrash(rate=0.5)], seed=seed)
    assert hit_keys(board) == hit_keys(board)


def test_threads_do_not_change_what_is_hit_and_no_hit_is_lost():
    board = FaultBoard([ModelCrash(rate=0.4), ModelError(times=100)], seed=5)
    start = threading.Barrier(8)

    def ask(number):
        start.wait(10)
        keys = KEYS[number::8]
        return hit_keys(board, keys), sum(board.draw(ModelError, key) is not None for key in keys)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    crashed = set().union(*(keys for keys, _ in found))
    assert crashed == hit_keys(FaultBoard([ModelCrash(rate=0.4)], seed=5))
    assert sum(errors for _, errors in found) == 100
    assert board.hits() == {"fault-1": len(crashed), "fault-2": 100}


@given(st.text(), st.text(), st.text(), st.text())
def test_source_of_chance_is_its_purposes_and_keys_own(purpose, key, other_purpose, other_key):
    def numbers(*about):
        return FaultBoard(seed=1).random(*about).random()

    assert numbers(purpose, key) == numbers(purpose, key)
    same = (purpose, key) == (other_purpose, other_key)
    assert (numbers(purpose, key) == numbers(other_purpose, other_key)) is same


def test_source_of_chance_differs_between_runs_without_a_seed():
    assert FaultBoard().random("a", "b").random() != FaultBoard().random("a", "b").random()


@pytest.mark.parametrize("seed", [None, 1])
def test_ids_look_like_random_uuids_and_are_all_different(seed):
    board = FaultBoard(seed=seed)
    ids = [board.new_id(purpose) for purpose in ("request", "inference") for _ in range(200)]
    assert len(set(ids)) == len(ids)
    assert all(uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text for text in ids)


def test_ids_are_repeated_with_the_seed_only():
    def ids(seed):
        board = FaultBoard(seed=seed)
        return [board.new_id("a"), board.new_id("b"), board.new_id("a")]

    assert ids(1) == ids(1)
    assert not set(ids(1)) & set(ids(2))
    assert not set(ids(None)) & set(ids(None))


def test_ids_of_one_purpose_do_not_depend_on_others():
    first, second = FaultBoard(seed=1), FaultBoard(seed=1)
    for _ in range(5):
        first.new_id("other")
    assert first.new_id("a") == second.new_id("a")


def test_ids_of_many_threads_are_those_of_one():
    board, alone = FaultBoard(seed=9), FaultBoard(seed=9)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: board.new_id("a"), range(400)))
    assert sorted(together) == sorted(alone.new_id("a") for _ in range(400))


def test_no_id_is_made_twice_by_a_board_that_goes_on():
    whole, first, second = (FaultBoard(seed=5) for _ in range(3))
    ids = [whole.new_id("request") for _ in range(4)]
    early = [first.new_id("request") for _ in range(2)]
    second.restore(first.save())
    assert early + [second.new_id("request") for _ in range(2)] == ids
