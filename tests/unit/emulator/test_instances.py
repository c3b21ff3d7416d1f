"""How instances of a fleet go from step to step, and who may take each."""

from __future__ import annotations

import itertools

import pytest

from airflow_async_sm.emulator.account.instances import Instance, Roster, Stage
from airflow_async_sm.emulator.models.callables import CallableContainer


@pytest.fixture
def numbers():
    return itertools.count(1)


@pytest.fixture
def make(numbers):
    return lambda: Instance(name=f"i-{(number := next(numbers))}", number=number, concurrency=1)


@pytest.fixture
def roster():
    return Roster()


def container():
    return CallableContainer(name="c", model=lambda body, headers: body)


def serving(roster, make, count):
    """Let so many instances serve, and return them."""
    roster.want(count)
    for instance in roster.fill(make):
        assert roster.equip(instance, container())
        roster.make_ready(instance)
        assert roster.join(instance)
        assert roster.joined(instance)
    return list(roster._wanted)


def test_instance_without_a_container_says_so(make):
    with pytest.raises(LookupError, match="i-1 has not been started"):
        make().container  # noqa: B018 - the look is what matters


def test_missing_ones_are_added_once(roster, make):
    roster.want(2)
    assert [instance.name for instance in roster.fill(make)] == ["i-1", "i-2"]
    assert roster.fill(make) == []
    assert (roster.desired, roster.in_service) == (2, 0)


def test_newest_go_first(roster, make):
    first, second, third = serving(roster, make, 3)
    assert roster.want(1) == [second, third]
    assert (roster.is_wanted(first), roster.is_wanted(third)) == (True, False)
    assert (roster.desired, roster.in_service) == (1, 1)


def test_only_one_hands_an_instance_over(roster, make):
    roster.want(1)
    [instance] = roster.fill(make)
    assert not roster.join(instance)
    roster.equip(instance, container())
    roster.make_ready(instance)
    assert roster.ready() == [instance]
    assert [roster.join(instance), roster.join(instance)] == [True, False]
    assert roster.in_service == 0
    assert roster.joined(instance)
    assert roster.in_service == 1
    assert not roster.join(instance)


def test_one_that_has_to_go_while_it_is_handed_over_is_seen_off_by_who_hands_it_over(roster, make):
    roster.want(1)
    [instance] = roster.fill(make)
    roster.equip(instance, container())
    roster.make_ready(instance)
    roster.join(instance)
    assert roster.want(0) == []
    assert not roster.joined(instance)
    assert (roster.in_service, instance.stage) == (0, Stage.LEAVING)


def test_one_that_leaves_is_known_until_its_container_has_stopped(roster, make):
    [instance] = serving(roster, make, 1)
    assert roster.leave(instance)
    assert not roster.leave(instance)
    assert roster.containers() == [instance.container]
    roster.forget(instance)
    roster.forget(instance)
    assert roster.containers() == []


def test_one_that_leaves_takes_no_further_step(roster, make):
    [instance] = serving(roster, make, 1)
    assert roster.start_again(instance)
    roster.leave(instance)
    assert not roster.equip(instance, container())
    roster.make_ready(instance)
    assert not roster.join(instance)
    assert not roster.start_again(instance)
    assert instance.stage is Stage.LEAVING


def test_one_that_starts_again_is_in_service_meanwhile(roster, make):
    [instance] = serving(roster, make, 1)
    assert roster.start_again(instance)
    assert not roster.start_again(instance)
    assert (roster.in_service, instance.stage) == (1, Stage.STARTING)


def test_nothing_begins_in_a_closed_roster(roster, make):
    roster.want(2)
    waiting, healthy = roster.fill(make)
    roster.equip(healthy, container())
    roster.make_ready(healthy)
    roster.close()
    assert not roster.equip(waiting, container())
    assert not roster.join(healthy)
    assert roster.want(5) == []
    assert roster.fill(make) == []
    assert roster.containers() == [healthy.container]


def test_retirement_keeps_those_that_serve_and_wants_none(roster, make):
    first, second = serving(roster, make, 2)
    roster.start_again(second)
    assert roster.retire() == ([first], [second])
    assert roster.desired == 0
    assert roster.fill(make) == []
    assert not roster.start_again(first)
    assert roster.is_wanted(first)
