"""What became of a batch's requests is told by the objects that they left."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.batches.failures import ItemFailure
from airflow_async_sm.core.batches.state import BatchState, Phase
from airflow_async_sm.core.failures import FailureKind
from airflow_async_sm.core.outcomes import Pending, Settled
from airflow_async_sm.exceptions import ResultUnreadable
from airflow_async_sm.operators._batch_looks import BatchLooker, Patience

OUT, FAILED = "s3://bucket/out/own/", "s3://bucket/failures/own/"
PATIENCE = Patience(request_ttl=3_600, invocation_timeout=900, max_attempts=3, retry_delay=30.0)


def answer(index, attempt=1):
    return f"{index:08d}-0123456789-{attempt}.out"


def failure(index, attempt=1):
    return f"{answer(index, attempt)}-error.out"


class Hook:
    """The bucket."""

    def __init__(self):
        self.folders = {OUT: [], FAILED: []}
        self.said = {}
        self.results = {}

    def names_in(self, folder, after=""):
        yield from (name for name in sorted(self.folders[folder]) if name > after)

    def read_failure(self, location):
        said = self.said.get(location, "it broke")
        if isinstance(said, Exception):
            raise said
        return said

    def look_at_result(self, handle, *, on_403):
        assert on_403 == "wait"
        return self.results.get(handle.output_location, Pending())


class Ledger:
    def __init__(self, count):
        self.state = BatchState(count)
        self.events = []

    def write(self, event):
        self.events.append(event)


class World:
    def __init__(self, count=6, *, expected=(OUT, FAILED)):
        self.hook, self.ledger, self.now = Hook(), Ledger(count), 1_000.0
        self.looker = BatchLooker(
            hook=self.hook, ledger=self.ledger, expected=expected, patience=PATIENCE, clock=lambda: self.now
        )
        self.state = self.ledger.state

    def send(self, *items, attempt=1, accepted=True, places=None, folders=(OUT, FAILED)):
        self.state.sending(attempt, items, self.now)
        if accepted:
            self.state.sent(items, places=places, folders=folders)

    def look(self):
        self.looker.look()
        return [self.state.phase(index) for index in range(self.state.count)]


@pytest.fixture
def world():
    world = World()
    world.send(*range(6))
    return world


class TestByName:
    def test_answers_and_failures_are_found(self, world):
        world.hook.folders = {OUT: [answer(0), answer(2)], FAILED: [failure(1)]}
        assert world.look()[:3] == [Phase.SUCCEEDED, Phase.WAITING, Phase.SUCCEEDED]
        assert world.state.failure(1) == ItemFailure(FailureKind.UNKNOWN, "it broke", f"{FAILED}{failure(1)}")
        assert world.state.next_again_at() == 1_030.0

    def test_where_nothing_is_new_nothing_is_written(self, world):
        world.hook.folders[OUT] = [answer(0)]
        world.look()
        world.look()
        assert len(world.ledger.events) == 1

    def test_of_both_the_answer_counts(self, world):
        world.hook.folders = {OUT: [answer(0)], FAILED: [failure(0)]}
        assert world.look()[0] is Phase.SUCCEEDED

    def test_a_failure_of_an_earlier_attempt_is_not_one_of_this(self, world):
        world.hook.folders[FAILED] = [failure(0)]
        world.look()
        world.send(0, attempt=2)
        assert world.look()[0] is Phase.OPEN
        world.hook.folders[FAILED].append(failure(0, 2))
        assert world.look()[0] is Phase.WAITING

    def test_an_answer_to_an_earlier_attempt_is_one(self, world):
        world.hook.folders[FAILED] = [failure(0)]
        world.look()
        world.hook.folders[OUT] = [answer(0)]
        assert world.look()[0] is Phase.SUCCEEDED

    def test_those_whose_submission_nobody_saw_end_are_found_where_they_are_expected(self):
        world = World()
        world.send(0, 1, accepted=False)
        world.hook.folders = {OUT: [answer(0)], FAILED: [failure(1)]}
        assert world.look()[:2] == [Phase.SUCCEEDED, Phase.WAITING]

    def test_what_is_nobodys_is_passed_over(self, world):
        world.hook.folders[OUT] = ["notes.txt", answer(17)]
        assert world.look() == [Phase.OPEN] * 6
        assert world.looker.counted_after(0) == 0

    @pytest.mark.parametrize("names", [[answer(0), failure(1)], [failure(1), answer(0), failure(0)]])
    def test_one_folder_may_be_for_both(self, names):
        world = World()
        world.send(0, 1, 2, folders=(OUT, OUT))
        world.hook.folders = {OUT: names}
        assert world.look()[:3] == [Phase.SUCCEEDED, Phase.WAITING, Phase.OPEN]
        assert world.state.failure(1).location == f"{OUT}{failure(1)}"
        assert world.looker.counted_after(0) == len(names)


class TestOneByOne:
    PLACES = {0: ("s3://b/x.out", "s3://b/x-error.out"), 1: ("s3://b/y.out", None), 2: ("s3://b/z.out", None)}

    def test_what_does_not_go_by_its_name_is_looked_for_where_it_is(self):
        world = World(expected=(None, None))
        world.send(0, 1, 2, places=self.PLACES, folders=(None, None))
        world.hook.results = {"s3://b/x.out": Settled(False), "s3://b/y.out": Settled(True)}
        assert world.look()[:3] == [Phase.WAITING, Phase.SUCCEEDED, Phase.OPEN]
        assert world.state.failure(0).location == "s3://b/x-error.out"

    def test_what_an_earlier_attempt_left_there_is_not_taken_for_the_next_ones(self):
        world = World(expected=(None, None))
        world.send(0, places={0: self.PLACES[0]}, folders=(None, None))
        world.hook.results = {"s3://b/x.out": Settled(False)}
        world.look()
        # The worker dies, so nobody knows whether the service has it, and it must not be sent once more.
        world.send(0, attempt=2, accepted=False)
        assert world.look()[0] is Phase.SENDING


class TestEnd:
    def test_nothing_can_come_of_what_is_too_old(self, world):
        world.hook.folders[OUT] = [answer(0)]
        world.now += PATIENCE.seconds
        assert world.look()[:2] == [Phase.SUCCEEDED, Phase.OPEN]
        world.now += 1.0
        assert world.look() == [Phase.SUCCEEDED] + [Phase.WAITING] * 5
        assert world.state.failure(1).kind == FailureKind.EXPIRED

    def test_it_is_tried_as_often_as_it_may_be(self, world):
        for attempt in (1, 2, 3):
            world.hook.folders[FAILED].append(failure(0, attempt))
            assert world.look()[0] is (Phase.WAITING if attempt < 3 else Phase.FAILED)
            if attempt < 3:
                assert world.state.next_again_at() == world.now + 30.0 * 2 ** (attempt - 1)
                world.send(0, attempt=attempt + 1)

    def test_what_would_fail_in_the_same_way_is_not_tried_again(self, world):
        world.hook.folders[FAILED] = [failure(0)]
        world.hook.said[f"{FAILED}{failure(0)}"] = '{"code": 400, "message": "bad"}'
        assert world.look()[0] is Phase.FAILED
        assert world.state.failure(0).kind == FailureKind.MODEL_REJECTED

    def test_a_failure_that_cannot_be_read_is_one_all_the_same(self, world):
        world.hook.folders[FAILED] = [failure(0)]
        world.hook.said[f"{FAILED}{failure(0)}"] = ResultUnreadable("AccessDenied")
        assert world.look()[0] is Phase.WAITING
        assert world.state.failure(0).text == "(it could not be read: AccessDenied)"


def test_it_says_how_many_objects_it_has_seen_from_an_item_on(world):
    world.hook.folders = {OUT: [answer(0), answer(1), answer(4)], FAILED: [failure(2), failure(4)]}
    world.look()
    assert [world.looker.counted_after(index) for index in range(6)] == [5, 4, 3, 2, 2, 0]
