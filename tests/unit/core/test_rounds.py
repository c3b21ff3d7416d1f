"""Many waits at once: fixed cases, then whole lives of many in a small world with a clock of its own."""

from __future__ import annotations

import bisect
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_async_sm.core.buckets import Heads, Listing, Look, Seen
from airflow_async_sm.core.costs import DENIED, LISTED_AT_ONCE, cost_of_listing
from airflow_async_sm.core.outcomes import End, LookError, Pending, Settled
from airflow_async_sm.core.rounds import AT_EASE, Rounds
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.core.waiting import Pace, WaitEngine


class Wait:
    """A wait that is not in a triggerer: the real engine, with a clock that the world sets."""

    def __init__(self, world, *, deadline_at=1e6, age=0.0, lost_at=None):
        self.world = world
        self.lost_at = lost_at
        self.told_at: list[float] = []
        self.asked_at: list[float] = []
        self.engine = WaitEngine(
            started_at=world.now - age, deadline_at=deadline_at, expires_at=None, pace=Pace()
        )

    @property
    def ends_in(self):
        return self.engine.ends_at - self.world.now

    def unanswered(self):
        return None if self.lost_at is not None and self.world.now >= self.lost_at else Pending()

    def after(self, seen, stretch):
        self.told_at.append(self.world.now)
        return self.engine.after(seen, now=self.world.now, stretch=stretch)


class World:
    """S3 as a table of keys, each with the moment from which it is there; requests take their time."""

    def __init__(self, seed=0, latency=0.05):
        self.now = 0.0
        self.random = random.Random(seed)
        self.latency = latency
        self.rounds = Rounds(draw=self.random.random)
        self.objects: dict[str, float] = {}
        self.waits: dict[int, Wait] = {}
        self.places: dict[int, tuple[str, str | None]] = {}
        self.by_output: dict[str, int] = {}
        self.ended: dict[int, tuple[float, End]] = {}
        self.requests: list[tuple[float, str]] = []
        self.denied = False
        self.refused: set[str] = set()
        self.failing = 0.0
        self.trouble = lambda now: None
        self.under_way: list[tuple[float, int, object, object]] = []

    def wait_for(self, output, failure=None, **wait):
        waiting = Wait(self, **wait)
        place = S3Uri("b", output) if output else None
        name = self.rounds.add(waiting, place, S3Uri("b", failure) if failure else None, now=self.now)
        self.waits[name], self.places[name] = waiting, (output, failure)
        self.by_output[output] = name
        return name

    def cancel(self, name):
        self.rounds.remove(name)

    def is_there(self, key):
        return self.objects.get(key, float("inf")) <= self.now

    def run(self, until):
        while True:
            for ask in self.rounds.begin(self.now):
                self.note_who_is_asked_for(ask)
                answer = self.trouble(self.now) or self.answer(ask)
                bisect.insort(
                    self.under_way,
                    (self.now + self.latency, len(self.requests), ask, answer),
                    key=lambda u: u[:2],
                )
            moments = [self.under_way[0][0]] if self.under_way else []
            moments += [self.rounds.next_at] if self.rounds.next_at is not None else []
            if not moments or min(moments) > until:
                self.now = until
                return
            self.now = max(self.now, min(moments))
            while self.under_way and self.under_way[0][0] <= self.now:
                _, _, ask, answer = self.under_way.pop(0)
                for ended in self.rounds.absorb(ask, answer, self.now):
                    if ended is not None:
                        self.ended[ended[0]] = (self.now, ended[1].end)

    def note_who_is_asked_for(self, ask):
        keys = ask.keys if isinstance(ask, Listing) else [spot.key for spot in ask.spots]
        names = [] if isinstance(ask, Listing) else [spot.name for spot in ask.spots if not spot.bucket]
        names += [self.by_output[key] for key in keys if key in self.by_output]
        for name in names:
            self.waits[name].asked_at.append(self.now)

    def answer(self, ask):
        match ask:
            case Heads():
                self.requests += [(self.now, "HEAD")] * len(ask.spots)
                keys = {spot.key for spot in ask.spots}
                failed = {key: "too slow" for key in sorted(keys) if self.random.random() < self.failing}
                seen = frozenset(filter(self.is_there, keys - self.refused - failed.keys()))
                return Seen(seen, refused=frozenset(keys & self.refused), failed=failed)
            case Listing():
                return self.listed(ask)
            case Look():
                self.requests.append((self.now, "look"))
                output, failure = self.places[ask.spots[0].name]
                if output and self.is_there(output):
                    return Settled(succeeded=True)
                if failure and self.is_there(failure):
                    return Settled(succeeded=False)
                lost_at = self.waits[ask.spots[0].name].lost_at
                lost = lost_at is not None and self.now >= lost_at
                return Settled(succeeded=False, detail="lost") if lost else Pending()

    def listed(self, ask):
        assert ask.keys == sorted(ask.keys)
        assert all(key.startswith(ask.folder.name) for key in ask.keys)
        self.requests.append((self.now, "LIST"))
        if self.denied:
            return Seen(frozenset(), is_whole=False, cost=DENIED)
        first = ask.keys[0][:-1]
        folder = ask.folder.name
        there = sorted(key for key in self.objects if key > first and key.startswith(folder))
        there = [key for key in there if self.is_there(key)]
        page = there[:LISTED_AT_ONCE]
        cost = cost_of_listing(pages=1, keys=len(page))
        if len(there) > len(page) and ask.keys[-1] > page[-1]:
            return Seen(frozenset(page), is_whole=False, cost=cost * 100)
        return Seen(frozenset(page), cost=cost)

    def count(self, kind, since=0.0):
        return sum(1 for at, what in self.requests if what == kind and at >= since)


@pytest.fixture
def world():
    return World()


def test_a_wait_ends_soon_after_its_answer_is_there(world):
    name = world.wait_for("out/1", "fail/1")
    world.objects["out/1"] = 10.0
    world.run(60)
    at, end = world.ended[name]
    assert end is End.SUCCEEDED
    assert 10 <= at < 12.5
    assert world.count("look") == 0


def test_a_failure_counts_once_the_answer_was_not_there_after_it(world):
    name = world.wait_for("out/1", "fail/1")
    world.objects["fail/1"] = 10.0
    world.run(60)
    at, end = world.ended[name]
    assert end is End.FAILED
    assert 10 <= at < 17
    assert world.count("look") == 0


def test_many_failures_take_no_requests_of_their_own(world):
    names = [world.wait_for(f"out/{number}", f"out-failures/{number}", age=100) for number in range(50)]
    world.objects |= {f"out-failures/{number}": 10.0 for number in range(50)}
    world.run(20)
    assert {world.ended[name][1] for name in names} == {End.FAILED}
    assert {kind for _, kind in world.requests} == {"LIST"}


def test_a_failure_that_is_seen_while_its_answer_is_asked_for_counts_at_the_next_look(world):
    world.objects |= {f"m/{number}": -1.0 for number in range(900)}
    names = [world.wait_for(f"out/{number:04}", f"a/{number}", age=1_000) for number in range(1_000)]
    # Answers and failures are listed apart by then, and nobody is told more than now and then.
    world.run(100)
    assert len(world.rounds._buckets["b"].folders) == 2
    world.objects |= {f"a/{number}": 100.0 for number in range(1_000)}
    world.latency = 1.0
    world.run(120)
    assert {world.ended[name][1] for name in names} == {End.FAILED}


def test_an_answer_that_came_while_its_failure_was_seen_is_what_counts(world):
    world.latency = 1.0
    name = world.wait_for("out/1", "fail/1", age=1_000)
    # Both are asked for at 0.3: the failure is there, the answer is not yet.
    world.objects |= {"fail/1": 0.2, "out/1": 0.9}
    world.run(20)
    assert world.ended[name][1] is End.SUCCEEDED


def test_an_answer_that_comes_with_a_failure_is_what_counts(world):
    name = world.wait_for("out/1", "fail/1")
    world.objects |= {"out/1": 10.0, "fail/1": 10.0}
    world.run(60)
    assert world.ended[name][1] is End.SUCCEEDED


def test_a_lost_endpoint_is_confirmed_by_a_look_at_the_request(world):
    name = world.wait_for("out/1", lost_at=30.0)
    world.run(60)
    assert world.ended[name][1] is End.FAILED


def test_a_deadline_is_kept_with_a_look_at_the_request(world):
    name = world.wait_for("out/1", "fail/1", deadline_at=30.0)
    # Between the last look at both and the deadline.
    world.objects["fail/1"] = 29.9
    world.run(29.85)
    world.run(60)
    assert world.ended[name][1] is End.FAILED


def test_nothing_came_until_the_deadline(world):
    name = world.wait_for("out/1", deadline_at=30.0)
    world.run(60)
    at, end = world.ended[name]
    assert end is End.TIMED_OUT
    assert 30 <= at < 30.5


def test_what_is_refused_is_looked_at_by_itself_from_then_on(world):
    world.refused = {"out/1"}
    name = world.wait_for("out/1")
    world.run(30)
    assert world.count("HEAD") == 1
    assert world.count("look") > 5
    world.refused, world.objects["out/1"] = set(), 31.0
    world.run(60)
    assert world.ended[name][1] is End.SUCCEEDED


def test_a_wait_without_a_place_is_looked_at_by_itself(world):
    name = world.wait_for("", age=1_000)
    world.run(31)
    assert world.count("look") == pytest.approx(31 / (5 * AT_EASE), abs=2)
    assert world.count("HEAD") == world.count("LIST") == 0
    world.cancel(name)
    assert world.rounds.next_at is None


def test_who_shares_a_folder_shares_one_list_for_answers_and_failures(world):
    for number in range(1_000):
        world.wait_for(f"out/{number:04}", f"out-failures/{number:04}", age=100)
    world.run(300)
    assert world.count("HEAD") == 0
    assert world.count("LIST") == pytest.approx(300 / (5 * AT_EASE), rel=0.15)


@pytest.mark.parametrize(("history", "most"), [(0, 300), (9_000, 500)])
def test_a_thousand_waits_of_ten_minutes_take_three_hundred_requests(world, history, most):
    """With a history, so much lies between answers and failures that each folder is listed by itself."""
    world.objects |= {f"out/2025/{number:05}": -1.0 for number in range(history)}
    for burst in range(20):
        for number in range(50):
            key = f"2026/{burst:02}-{number:02}"
            world.wait_for(f"out/{key}", f"out-failures/{key}", age=7)
            world.objects[f"out/{key}"] = world.now + world.random.uniform(60, 600)
        world.run(world.now + 1)
    world.run(620)
    assert len(world.ended) == 1_000
    late = sorted(at - world.objects[world.places[name][0]] for name, (at, _) in world.ended.items())
    assert late[500] <= 1.5
    assert late[950] <= 5
    print(Counter(kind for _, kind in world.requests), late[500], late[950])
    assert len(world.requests) <= most


def test_who_is_not_there_when_a_folder_is_listed_too_far_is_asked_for_alone(world):
    world.objects |= {f"out/{number:05}-old": -1.0 for number in range(5_000)}
    names = [world.wait_for(f"out/{number * 50:05}", age=100) for number in range(100)]
    world.run(60)
    assert world.count("LIST") <= 3
    assert world.count("HEAD") > 100
    world.objects |= {f"out/{number * 50:05}": 61.0 for number in range(100)}
    world.run(75)
    assert set(world.ended) == set(names)


def test_who_may_not_list_asks_for_each(world):
    world.denied = True
    for number in range(20):
        world.wait_for(f"out/{number}", age=100)
        world.objects[f"out/{number}"] = 30.0
    world.run(60)
    assert len(world.ended) == 20
    assert world.count("LIST") <= 3


def test_a_new_wait_need_not_list_a_folder_that_is_being_listed(world):
    world.latency = 3.0
    for number in range(10):
        world.wait_for(f"out/{number}")
    world.run(1)
    late = world.wait_for("out/late")
    world.objects["out/late"] = 0.0
    world.run(2.9)
    assert world.count("LIST") == 1
    world.run(20)
    assert late in world.ended


def test_a_folder_that_everybody_has_left_is_not_listed(world):
    here = [world.wait_for(f"a/{number}", age=100) for number in range(10)]
    # After the plan, and before the folder's first listing.
    world.run(0.01)
    there = world.wait_for("z/1", age=100)
    for name in here:
        world.cancel(name)
    world.run(1)
    assert world.count("LIST") == 0
    world.objects["z/1"] = 1.0
    world.run(10)
    assert list(world.ended) == [there]


def test_who_is_being_asked_for_need_not_be_asked_for_when_a_folder_is_given_up(world):
    world.latency = 2.5
    first = [world.wait_for(f"out/{number}") for number in range(3)]
    world.run(0.5)
    assert world.count("HEAD") == 3
    world.latency = 0.1
    world.denied = True
    more = [world.wait_for(f"out/more-{number}") for number in range(5)]
    world.run(2.4)
    assert world.count("LIST") == 1
    # By one HEAD, and that LIST.
    assert [len(world.waits[name].asked_at) for name in first] == [2, 2, 2]
    world.objects |= {f"out/{number}": 3.0 for number in range(3)}
    world.objects |= {f"out/more-{number}": 3.0 for number in range(5)}
    world.run(20)
    assert set(world.ended) == {*first, *more}


def test_errors_end_nobody_before_the_engine_says_so(world):
    world.trouble = lambda now: LookError("slow down") if now < 30 else None
    names = [world.wait_for(f"out/{number}", f"fail/{number}") for number in range(50)]
    world.objects |= {f"out/{number}": 20.0 for number in range(50)}
    world.run(90)
    assert {world.ended[name][1] for name in names} == {End.SUCCEEDED}


def test_those_who_come_during_an_outage_do_not_use_up_the_patience_of_those_who_are_there(world):
    world.trouble = lambda now: LookError("no route") if 10 <= now < 600 else None
    there = [world.wait_for(f"out/{number}", age=100) for number in range(20)]
    for number in range(150):
        world.run(number * 4)
        world.wait_for(f"out/new-{number}")
    world.objects |= {f"out/{number}": 0.0 for number in range(20)}
    world.run(700)
    assert {world.ended[name][1] for name in there} == {End.SUCCEEDED}


def test_what_fails_now_and_then_ends_nobody(world):
    world.denied, world.failing = True, 0.3
    names = [world.wait_for(f"{number}/out", f"{number}/fail") for number in range(20)]
    world.objects |= {f"{number}/out": 200.0 for number in range(10)}
    world.objects |= {f"{number}/fail": 200.0 for number in range(10, 20)}
    world.run(2_000)
    ends = [world.ended[name][1] for name in names]
    assert ends == [End.SUCCEEDED] * 10 + [End.FAILED] * 10


def test_trouble_that_does_not_end_ends_the_wait(world):
    world.trouble = lambda now: LookError("slow down")
    name = world.wait_for("out/1", "fail/1")
    world.run(3_000)
    assert world.ended[name][1] is End.LOOK_FAILED


def test_a_cancelled_wait_is_forgotten_while_it_is_asked_for(world):
    name = world.wait_for("out/1", "fail/1")
    world.objects["out/1"] = 0.0
    world.run(0.31)
    assert world.under_way
    world.cancel(name)
    world.cancel(name)
    world.run(10)
    assert world.ended == {}
    assert len(world.rounds) == 0
    assert world.waits[name].told_at == []


def test_the_past_is_not_kept(world):
    stays = world.wait_for("out/stays")
    for number in range(3_000):
        world.cancel(world.wait_for(f"out/{number}", f"fail/{number}"))
    assert len(world.rounds._queue) < 1_100
    world.cancel(stays)
    world.run(2)
    assert world.rounds.next_at is None
    assert world.rounds._buckets == {}


@pytest.mark.parametrize("number", [10, 100, 1_000, 5_000])
def test_waits_that_have_to_be_asked_for_one_by_one_take_a_bounded_number_of_requests(number):
    world = World(latency=0.01)
    world.denied = True
    for index in range(number):
        world.wait_for(f"{index}/out", f"{index}/fail", age=1_000)
    world.run(20)
    heads = Counter(int(at) for at, kind in world.requests if kind == "HEAD")
    assert max(heads.values()) <= 510
    assert sum(heads.values()) <= 250 * 21
    # And each is looked at, in its turn.
    world.run(20 + number * 1.5 / 250 * 1.5)
    assert all(wait.told_at for wait in world.waits.values())


def test_folders_are_listed_no_more_often_than_keys_are_asked_for():
    world = World(latency=0.01)
    world.objects |= {f"top/{folder:04}/m-{number:03}": -1.0 for folder in range(3) for number in range(900)}
    for folder in range(1_000):
        for number in range(4):
            world.wait_for(f"top/{folder:04}/{number}", age=1_000)
    world.rounds._buckets["b"]._costs.learn("top/", DENIED, now=0.0)
    world.run(20)
    lists = Counter(int(at) for at, kind in world.requests if kind == "LIST")
    assert max(lists.values()) <= 510
    assert sum(lists.values()) <= 250 * 21
    world.run(60)
    assert all(wait.told_at for wait in world.waits.values())


lives = st.fixed_dictionaries(
    {
        "folder": st.sampled_from(["out/", "out/a/", "out/b/", "", "far/away/"]),
        "age": st.floats(0, 1_000),
        "joins_at": st.floats(0, 100),
        "answered_after": st.none() | st.floats(0, 120),
        "failed_after": st.none() | st.floats(0, 120),
        "patience": st.floats(1, 150),
        "cancelled_after": st.none() | st.floats(0.001, 100),
        "lost_after": st.none() | st.floats(0, 200),
    }
)


@settings(deadline=None, max_examples=60)
@given(
    lives=st.lists(lives, min_size=1, max_size=25),
    foreign=st.sampled_from([0, 3, 1_500]),
    denied=st.booleans(),
    storm=st.none() | st.tuples(st.floats(0, 100), st.floats(0, 30)),
    latency=st.floats(0.001, 2),
    seed=st.integers(0, 1_000),
)
def test_every_wait_ends_once_as_it_should_and_is_looked_at_till_then(
    lives, foreign, denied, storm, latency, seed
):
    world = World(seed, latency)
    world.denied = denied
    world.objects |= {f"out/{number:05}": -1.0 for number in range(foreign)}
    if storm:
        world.trouble = lambda now: LookError("storm") if storm[0] <= now < storm[0] + storm[1] else None
    names, cancelled = lived(world, lives)
    assert len(world.rounds) == 0

    # What may pass between an event and its being seen: a pause, longer after trouble, and the ways.
    slack = 10 + 4 * latency + (60 if storm else 0)
    for number, life in enumerate(lives):
        name = names[number]
        wait = world.waits[name]
        last, end = world.ended.get(name, (cancelled.get(name), None))
        assert last <= cancelled.get(name, last)
        if end is not None:
            assert last <= life["joins_at"] + life["patience"] + slack
            assert_justified(end, last, life, may_fail=storm is not None, way=latency)
        assert all(at <= last for at in [*wait.told_at, *wait.asked_at])
        moments = [life["joins_at"], *wait.asked_at, last]
        assert all(later - earlier <= slack for earlier, later in itertools.pairwise(moments))


def lived(world, lives):
    """Let waits come and go as their lives say; return their names, and when some were cancelled."""
    joins = [(life["joins_at"], number, False) for number, life in enumerate(lives)]
    cancels = [
        (life["joins_at"] + life["cancelled_after"], number, True)
        for number, life in enumerate(lives)
        if life["cancelled_after"] is not None
    ]
    names, cancelled = {}, {}
    for at, number, is_cancel in sorted(joins + cancels):
        world.run(at)
        if is_cancel:
            cancelled[names[number]] = at
            world.cancel(names[number])
        else:
            names[number] = joined(world, number, lives[number])
    world.run(1_000)
    return names, cancelled


def joined(world, number, life):
    at, folder = life["joins_at"], life["folder"]
    output, failure = f"{folder}{number}.out", f"{folder}f/{number}.out"
    for key, after in ((output, life["answered_after"]), (failure, life["failed_after"])):
        world.objects[key] = at + (float("inf") if after is None else after)
    lost_at = None if life["lost_after"] is None else at + life["lost_after"]
    deadline_at = at + life["patience"]
    return world.wait_for(output, failure, age=life["age"], deadline_at=deadline_at, lost_at=lost_at)


def assert_justified(end, at, life, *, may_fail, way):
    """An end is seen after what it is about, and a time-out only if nothing was there at the last look."""
    answered, failed, lost = (
        life["joins_at"] + (float("inf") if life[what] is None else life[what])
        for what in ("answered_after", "failed_after", "lost_after")
    )
    if end is End.SUCCEEDED:
        assert answered <= at
    elif end is End.FAILED:
        assert min(failed, lost) <= at
    else:
        assert at >= life["joins_at"] + life["patience"]
        assert end is End.TIMED_OUT or may_fail
        assert min(answered, failed) > at - way - 1e-6 or end is End.LOOK_FAILED
