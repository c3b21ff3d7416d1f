"""DescribeScalingActivities: order, selection, pages and age."""

from __future__ import annotations

import pytest

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.scaling.activities import DIMENSION, Activities

US = "us-east-1"
ONE, TWO = "endpoint/one/variant/v", "endpoint/two/variant/v"
DAY = 86_400.0


@pytest.fixture
def activities():
    made = Activities()
    for number in range(1, 6):
        made.begin(US, ONE if number % 2 else TWO, count=number, cause="test", now=number * DAY)
    return made


def described(activities, region=US, **request):
    answer = activities.describe(region, request)
    return [int(one["Description"].split()[-1][:-1]) for one in answer["ScalingActivities"]], answer.get(
        "NextToken"
    )


def test_newest_first(activities):
    assert described(activities) == ([5, 4, 3, 2, 1], None)


def test_selection(activities):
    assert described(activities, ResourceId=TWO) == ([4, 2], None)
    assert described(activities, ScalableDimension=DIMENSION)[0] == [5, 4, 3, 2, 1]
    assert described(activities, ScalableDimension="ecs:service:DesiredCount") == ([], None)
    assert described(activities, region="eu-west-1") == ([], None)


def test_pages_stay_apart_when_something_happens_between_them(activities):
    first, token = described(activities, MaxResults=2)
    activities.begin(US, ONE, count=6, cause="test", now=6 * DAY)
    second, token = described(activities, MaxResults=2, NextToken=token)
    third, end = described(activities, MaxResults=2, NextToken=token)
    assert (first, second, third, end) == ([5, 4], [3, 2], [1], None)


@pytest.mark.parametrize("size", [-1, 51, "2"])
def test_bad_page_size(activities, size):
    with pytest.raises(AwsError, match="MaxResults must be between 1 and 50"):
        activities.describe(US, {"MaxResults": size})


@pytest.mark.parametrize("token", ["x", "-1", 5])
def test_bad_token(activities, token):
    with pytest.raises(AwsError) as refusal:
        activities.describe(US, {"NextToken": token})
    assert refusal.value.code == "InvalidNextTokenException"


def test_six_weeks_are_kept(activities):
    activities.forget_before(44 * DAY)
    assert described(activities)[0] == [5, 4, 3, 2]


def test_what_has_ended_stays_as_it_is(activities):
    newest = activities.begin(US, ONE, count=7, cause="test", now=7 * DAY)
    activities.follow(newest, desired=7, instances=3, now=7 * DAY + 1)
    assert newest.status == "InProgress"
    activities.follow(newest, desired=7, instances=7, now=7 * DAY + 2)
    activities.fail(newest, "too late", 8 * DAY)
    activities.follow(newest, desired=1, instances=1, now=8 * DAY)
    assert (newest.status, newest.ended_at) == ("Successful", 7 * DAY + 2)


def test_ids_are_different(activities):
    answer = activities.describe(US, {})["ScalingActivities"]
    assert len({one["ActivityId"] for one in answer}) == 5
