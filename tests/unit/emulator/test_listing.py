from __future__ import annotations

import pytest

from airflow_async_sm.emulator.account.listing import list_page
from airflow_async_sm.emulator.errors import AwsError

ENDPOINTS = [
    {
        "EndpointName": name,
        "EndpointStatus": status,
        "CreationTime": float(number),
        "LastModifiedTime": float(number) + 100,
    }
    for number, (name, status) in enumerate([("b", "InService"), ("Ab", "Failed"), ("c", "InService")])
]


def names(**request):
    return [endpoint["EndpointName"] for endpoint in list_page(ENDPOINTS, request)["Endpoints"]]


def test_newest_comes_first():
    assert names() == ["c", "Ab", "b"]


def test_order_can_be_chosen():
    assert names(SortBy="Name", SortOrder="Ascending") == ["Ab", "b", "c"]
    assert names(SortBy="Status", SortOrder="Ascending") == ["Ab", "b", "c"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"NameContains": "B"}, ["Ab", "b"]),
        ({"StatusEquals": "InService"}, ["c", "b"]),
        ({"CreationTimeAfter": 1}, ["c", "Ab"]),
        ({"CreationTimeBefore": 1, "LastModifiedTimeAfter": 101}, ["Ab"]),
    ],
)
def test_filters_narrow_the_list(request_, expected):
    assert names(**request_) == expected


def test_pages_follow_each_other():
    first = list_page(ENDPOINTS, {"MaxResults": 2})
    second = list_page(ENDPOINTS, {"MaxResults": 2, "NextToken": first["NextToken"]})
    assert len(first["Endpoints"]) == 2
    assert [endpoint["EndpointName"] for endpoint in second["Endpoints"]] == ["b"]
    assert "NextToken" not in second


@pytest.mark.parametrize(
    "request_",
    [{"MaxResults": 0}, {"MaxResults": 101}, {"MaxResults": "a"}, {"SortBy": "x"}, {"NextToken": "x"}],
)
def test_bad_request_is_refused(request_):
    with pytest.raises(AwsError) as refusal:
        list_page(ENDPOINTS, request_)
    assert refusal.value.code == "ValidationException"
