"""A batch's state: what it says at any moment, and that its ledger says the same to whoever reads it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_async_sm.core.batches.failures import REJECTED, ItemFailure
from airflow_async_sm.core.batches.state import BatchState, Phase
from airflow_async_sm.core.failures import FailureKind

IN_FLIGHT = {Phase.SENDING, Phase.OPEN}
UNSUCCESSFUL = {Phase.FAILED, Phase.EXPIRED, Phase.REFUSED}
ENDED = {Phase.SUCCEEDED, *UNSUCCESSFUL}
FOLDERS = ("s3://bucket/out/own/", "s3://bucket/failures/own/")
BROKE = ItemFailure(FailureKind.MODEL_BROKE, "no memory", "s3://bucket/failures/own/1")
BAD = ItemFailure(FailureKind.MODEL_REJECTED, "bad “input”")
REFUSED = ItemFailure(REJECTED, "too large")
EXPIRED = ItemFailure(FailureKind.EXPIRED, "")


def through_json(event):
    return json.loads(json.dumps(event))


def told(state):
    """Return all that a state can be asked for."""
    items = range(state.count)
    return {
        "items": [(state.phase(i), state.attempts(i), state.sent_at(i)) for i in items],
        "failure": [state.failure(i) for i in items],
        "place": [state.place(i) for i in items],
        "tallies": [state.number(phase) for phase in Phase],
        "in_flight": state.in_flight,
        "done": state.done,
        "unsuccessful": state.unsuccessful,
        "kinds": state.kinds,
        "failures": list(state.failures()),
        "first_unsettled": state.first_unsettled,
        "elsewhere": dict(state.elsewhere()),
        "oldest": state.oldest_sent_at(),
        "again": state.next_again_at(),
        "folders": state.folders,
        "calls": state.calls,
        "instance_seconds": state.instance_seconds,
        "next": [state.next_part(most, now) for most in (0, 1, 1_000) for now in (0.0, 1e9)],
        "checkpoint": through_json(state.checkpoint()),
    }


FATES = ["accepted", "accepted", "placed", "unsent", "unknown", "refused"]


@dataclass
class Known:
    """What a test knows of one item."""

    phase: Phase = Phase.PLANNED
    attempts: int = 0
    sent_at: float | None = None
    failure: ItemFailure | None = None
    place: tuple[str | None, str | None] | None = None
    again_at: float | None = None

    def end(self, phase, failure=None, again_at=None):
        self.phase, self.again_at = phase, again_at
        self.failure = failure


class Ledger:
    """Whatever may happen to a batch does, as chance has it, and is written to a ledger."""

    def __init__(self, count):
        self.state = BatchState(count)
        self.items = [Known() for _ in range(count)]
        self.events: list[dict] = []
        self.now = 1_000.0
        self.calls: Counter[str] = Counter()

    def note(self, event):
        self.events.append(through_json(event))

    def these(self, *phases):
        return [index for index, item in enumerate(self.items) if item.phase in phases]

    def some(self, chance, items):
        return [index for index in items if chance.random() < 0.4]

    def time_goes_by(self, chance):
        self.now += chance.choice([0.0, 1.0, 100.0])

    def send(self, chance):
        part = self.begin_part(chance.randint(0, 6))
        self.end_part(part, {index: chance.choice(FATES) for index in part})

    def die_while_sending(self, chance):
        self.begin_part(chance.randint(0, 6))
        self.state = self.read()

    def begin_part(self, most):
        attempt, items = self.state.next_part(most, self.now)
        self.check_part(attempt, items, most)
        self.note(self.state.sending(attempt, items, self.now))
        for index in items:
            item = self.items[index]
            item.phase, item.attempts, item.sent_at = Phase.SENDING, attempt, self.now
            item.place = item.again_at = None
        return items

    def check_part(self, attempt, items, most):
        waited = [i for i in self.these(Phase.WAITING) if self.items[i].again_at <= self.now]
        planned = self.these(Phase.PLANNED)
        assert len(items) <= most
        assert items == sorted(set(items))
        assert set(items) <= {*waited, *planned}
        if most:
            assert bool(items) == bool(waited or planned)
        for index in items:
            item = self.items[index]
            if item.phase is Phase.WAITING:
                assert attempt == item.attempts + 1
            else:
                assert attempt == max(1, item.attempts)
        # Each has its turn: the first that is planned, or the one that has waited for longest.
        if items and not waited:
            assert items[0] == planned[0]
        if items and waited:
            assert set(items) <= set(waited)

    def end_part(self, part, fates):
        of = {fate: [i for i in part if fates[i] == fate] for fate in set(fates.values())}
        places = {i: (f"s3://bucket/out/{i}-{self.now}.out", None) for i in of.get("placed", ())}
        event = self.state.sent(
            [i for i in part if fates[i] in ("accepted", "placed")],
            unsent=of.get("unsent", ()),
            unknown=of.get("unknown", ()),
            refused=dict.fromkeys(of.get("refused", ()), REFUSED),
            places=places,
            folders=FOLDERS,
        )
        self.note(event)
        for index, fate in fates.items():
            item = self.items[index]
            match fate:
                case "unsent":
                    item.phase = Phase.PLANNED
                case "refused":
                    item.end(Phase.REFUSED, REFUSED)
                case "accepted" | "placed":
                    item.phase, item.place = Phase.OPEN, places.get(index)

    def look(self, chance):
        succeeded = self.some(chance, [i for i, item in enumerate(self.items) if item.attempts])
        succeeded = [i for i in succeeded if self.items[i].phase is not Phase.SUCCEEDED][:2]
        failed = {
            index: chance.choice([BROKE, BAD])
            for index in self.some(chance, self.these(*IN_FLIGHT))
            if index not in succeeded
        }
        late = list(self.state.expired(self.now - 50.0))
        assert late == [i for i in self.these(*IN_FLIGHT) if self.items[i].sent_at < self.now - 50.0]
        expired = [i for i in late if i not in succeeded and i not in failed]
        helped = [*(i for i, failure in failed.items() if not failure.is_permanent), *expired]
        at = dict.fromkeys(helped, self.now + 10.0) if chance.random() < 0.7 else {}
        self.note(self.state.ended(succeeded=succeeded, failed=failed, expired=expired, again=at))
        for index in succeeded:
            self.items[index].end(Phase.SUCCEEDED)
        for index, failure in failed.items():
            phase = Phase.WAITING if index in at else Phase.FAILED
            self.items[index].end(phase, failure, at.get(index))
        for index in expired:
            phase = Phase.WAITING if index in at else Phase.EXPIRED
            self.items[index].end(phase, EXPIRED, at.get(index))

    def reopen(self, chance):
        again = self.some(chance, self.these(*UNSUCCESSFUL))
        self.note(self.state.reopened(again, self.now))
        for index in again:
            self.items[index].phase, self.items[index].again_at = Phase.WAITING, self.now

    def turn(self, chance):
        calls = {"InvokeEndpointAsync": chance.randint(0, 9)}
        self.note(self.state.turn(self.now, calls, 2))
        self.calls.update(calls)

    def checkpoint(self, chance):
        self.events = [through_json(self.state.checkpoint())]

    def read(self):
        state = BatchState(len(self.items))
        for event in self.events:
            state.apply(event)
        return state

    def what_it_says_is_so(self):
        state, items = self.state, self.items
        assert [state.phase(i) for i in range(len(items))] == [item.phase for item in items]
        assert [state.attempts(i) for i in range(len(items))] == [item.attempts for item in items]
        assert [state.sent_at(i) for i in range(len(items))] == [item.sent_at for item in items]
        assert [state.failure(i) for i in range(len(items))] == [item.failure for item in items]
        assert [state.place(i) for i in range(len(items))] == [item.place for item in items]
        assert [state.number(phase) for phase in Phase] == [len(self.these(phase)) for phase in Phase]
        assert sum(state.number(phase) for phase in Phase) == state.count == len(items)
        assert state.in_flight == len(self.these(*IN_FLIGHT))
        assert state.done == len(self.these(*ENDED))
        assert state.unsuccessful == len(self.these(*UNSUCCESSFUL))
        assert dict(state.failures()) == {i: items[i].failure for i in self.these(*UNSUCCESSFUL)}
        assert state.kinds == Counter(failure.kind for _, failure in state.failures())
        open_items = [i for i, item in enumerate(items) if item.phase not in ENDED]
        assert state.first_unsettled == min(open_items, default=len(items))
        assert dict(state.elsewhere()) == {
            i: items[i].place for i in self.these(*IN_FLIGHT) if items[i].place
        }
        assert state.oldest_sent_at() == min((items[i].sent_at for i in self.these(*IN_FLIGHT)), default=None)
        assert state.next_again_at() == min(
            (item.again_at for item in items if item.phase is Phase.WAITING), default=None
        )
        assert state.calls == self.calls

    def the_ledger_says_the_same(self):
        assert told(self.read()) == told(self.state)

    def go_on_well(self):
        """Let everything that is sent be answered, until nothing is left to send."""
        for _ in range(3 * len(self.items) + 1):
            self.now += 100.0
            flying = self.these(*IN_FLIGHT)
            self.note(self.state.ended(succeeded=flying))
            for index in flying:
                self.items[index].end(Phase.SUCCEEDED)
            part = self.begin_part(2)
            self.end_part(part, dict.fromkeys(part, "accepted"))


STEPS = [
    *(Ledger.send, Ledger.send, Ledger.look, Ledger.look, Ledger.time_goes_by),
    *(Ledger.die_while_sending, Ledger.reopen, Ledger.turn, Ledger.checkpoint),
]


@settings(max_examples=60)
@given(st.integers(0, 9), st.lists(st.sampled_from(STEPS), min_size=25, max_size=40), st.integers(0, 2**32))
def test_whatever_happens_the_ledger_says_so_and_each_input_comes_to_its_end(count, steps, seed):
    ledger, chance = Ledger(count), Random(seed)
    for step in steps:
        step(ledger, chance)
        ledger.what_it_says_is_so()
        ledger.the_ledger_says_the_same()
    ledger.go_on_well()
    assert ledger.state.done == ledger.state.first_unsettled == count


def test_there_is_nothing_that_does_not_happen():
    """By chance alone, some of it might never be tried."""
    seen, chance = set(), Random(7)
    for _ in range(20):
        ledger = Ledger(8)
        for _ in range(30):
            before = [item.phase for item in ledger.items]
            chance.choice(STEPS)(ledger, chance)
            after = [item.phase for item in ledger.items]
            seen |= {pair for pair in zip(before, after, strict=True) if pair[0] is not pair[1]}
    assert seen >= {
        (Phase.PLANNED, Phase.OPEN),
        (Phase.PLANNED, Phase.SENDING),
        (Phase.PLANNED, Phase.REFUSED),
        (Phase.PLANNED, Phase.SUCCEEDED),
        (Phase.SENDING, Phase.SUCCEEDED),
        (Phase.SENDING, Phase.FAILED),
        (Phase.SENDING, Phase.WAITING),
        (Phase.OPEN, Phase.SUCCEEDED),
        (Phase.OPEN, Phase.FAILED),
        (Phase.OPEN, Phase.EXPIRED),
        (Phase.OPEN, Phase.WAITING),
        (Phase.WAITING, Phase.OPEN),
        (Phase.WAITING, Phase.PLANNED),
        (Phase.WAITING, Phase.SUCCEEDED),
        (Phase.FAILED, Phase.WAITING),
        (Phase.EXPIRED, Phase.WAITING),
        (Phase.REFUSED, Phase.WAITING),
    }


@pytest.fixture
def state():
    return BatchState(6)


def flown(state, *, attempt=1, items=range(6), at=10.0):
    state.sending(attempt, items, at)
    state.sent(items, folders=FOLDERS)
    return state


class TestFailure:
    @pytest.mark.parametrize("kind", FailureKind)
    def test_it_is_permanent_where_its_kind_is(self, kind):
        assert ItemFailure(kind, "").is_permanent is kind.is_permanent
        assert ItemFailure(kind.value, "").is_permanent is kind.is_permanent

    def test_what_the_service_does_not_take_it_never_takes(self):
        assert REFUSED.is_permanent


class TestSendingAgain:
    def test_what_was_not_sent_is_sent_under_the_same_number(self, state):
        state.sending(1, range(6), 10.0)
        state.sent([], unsent=range(6))
        assert state.next_part(3, 11.0) == (1, [0, 1, 2])

    def test_a_part_has_one_number(self, state):
        flown(state)
        state.ended(failed=dict.fromkeys([0, 1, 2], BROKE), again={0: 20.0, 1: 20.0, 2: 20.0})
        state.sending(2, [1], 20.0)
        state.ended(failed={1: BROKE}, again={1: 20.0})
        assert state.next_part(9, 30.0) == (2, [0, 2])
        state.sending(2, [0, 2], 30.0)
        assert state.next_part(9, 30.0) == (3, [1])

    def test_one_that_was_left_over_from_a_later_attempt_goes_alone(self, state):
        state.sending(1, [1], 10.0)
        state.sent([1])
        state.ended(failed={1: BROKE}, again={1: 10.0})
        state.sending(2, [1], 20.0)
        state.sent([], unsent=[1])
        assert state.next_part(9, 30.0) == (1, [0])
        state.sending(1, [0], 30.0)
        assert state.next_part(9, 30.0) == (2, [1])
        state.sending(2, [1], 30.0)
        assert state.next_part(9, 30.0) == (1, [2, 3, 4, 5])

    def test_one_that_failed_waits_before_it_is_sent_again_and_comes_first_then(self, state):
        flown(state, items=[0])
        state.ended(failed={0: BROKE}, again={0: 60.0})
        assert state.next_part(2, 59.9) == (1, [1, 2])
        assert state.next_part(2, 60.0) == (2, [0])

    def test_one_that_may_never_have_been_sent_is_sent_under_another_number(self, state):
        state.sending(1, [0], 10.0)
        state.ended(expired=[0], again={0: 99.0})
        assert (state.phase(0), state.next_again_at()) == (Phase.WAITING, 99.0)
        assert state.next_part(1, 99.0) == (2, [0])

    def test_the_first_that_the_service_has_is_found_behind_one_of_which_nobody_knows(self, state):
        assert state.first(Phase.OPEN) is None
        state.sending(1, [0, 1, 2], 10.0)
        state.sent([1, 2], unknown=[0])
        assert (state.first(Phase.OPEN), state.first(Phase.SENDING)) == (1, 0)

    def test_when_each_was_sent_is_known_to_the_second(self, state):
        state.sending(1, [0, 1, 2], 10.0)
        event = state.sent([0, 1], unknown=[2], times={0: 11.2, 1: 11.9, 2: 14.0})
        again = BatchState(state.count)
        again.apply({"event": "sending", "attempt": 1, "items": "0-2", "at": 10.0})
        again.apply(through_json(event))
        for one in (state, again):
            assert [one.sent_at(index) for index in range(3)] == [11.0, 11.0, 14.0]

    def test_what_the_service_had_and_lost_has_expired(self, state):
        flown(state, items=[0, 1])
        assert list(state.expired(10.1)) == [0, 1]
        assert list(state.expired(10.0)) == []
        state.ended(expired=[0, 1], again={1: 50.0})
        assert (state.phase(0), state.phase(1)) == (Phase.EXPIRED, Phase.WAITING)
        assert state.failure(0) == state.failure(1) == EXPIRED
        assert dict(state.failures()) == {0: EXPIRED}
        assert state.next_again_at() == 50.0

    def test_an_answer_that_comes_late_counts(self, state):
        flown(state, items=[0, 1])
        state.ended(expired=[0, 1], again={1: 50.0})
        state.ended(succeeded=[0, 1])
        assert state.number(Phase.SUCCEEDED) == 2
        assert (state.failure(0), state.next_again_at(), state.first_unsettled) == (None, None, 2)

    def test_an_earlier_attempts_place_says_nothing_of_the_next_one(self, state):
        state.sending(1, [0], 10.0)
        state.sent([0], places={0: ("s3://b/x.out", "s3://b/x-error.out")})
        assert dict(state.elsewhere()) == {0: ("s3://b/x.out", "s3://b/x-error.out")}
        state.ended(failed={0: BROKE}, again={0: 10.0})
        state.sending(2, [0], 20.0)
        assert dict(state.elsewhere()) == {}
        assert state.place(0) is None


class TestTurns:
    def test_instances_are_counted_between_two_of_them(self, state):
        for at, instances in ((100.0, 9), (160.0, 2), (150.0, 7), (170.0, 0), (180.0, 1)):
            state.turn(at, {"ListObjectsV2": 1}, instances)
        assert state.instance_seconds == 60.0 * 2 + 10.0
        assert state.calls == {"ListObjectsV2": 5}


class TestLedgerOfAnotherVersion:
    def test_events_that_this_one_does_not_know_are_passed_over(self, state):
        before = told(state)
        state.apply({"event": "painted", "colour": "green"})
        assert told(state) == before


class TestSize:
    def test_a_hundred_thousand_items_take_little(self):
        state = BatchState(100_000)
        for first in range(0, 100_000, 500):
            state.sending(1, range(first, first + 500), 10.0)
            state.sent(range(first, first + 500), folders=FOLDERS)
        state.ended(succeeded=range(99_999))
        assert state.first_unsettled == 99_999
        assert len(json.dumps(state.checkpoint())) < 1_000
