from __future__ import annotations

import pytest

from airflow_async_sm.emulator.account.listing import CONFIGS, ENDPOINTS, MODELS, list_page
from airflow_async_sm.emulator.errors import AwsError

SUMMARIES = [
    {
        "EndpointName": name,
        "EndpointStatus": status,
        "CreationTime": float(number),
        "LastModifiedTime": float(number) + 100,
    }
    for number, (name, status) in enumerate([("b", "InService"), ("Ab", "Failed"), ("c", "InService")])
]


def names(**request):
    return [endpoint["EndpointName"] for endpoint in list_page(ENDPOINTS, SUMMARIES, request)["Endpoints"]]


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
    first = list_page(ENDPOINTS, SUMMARIES, {"MaxResults": 2})
    second = list_page(ENDPOINTS, SUMMARIES, {"MaxResults": 2, "NextToken": first["NextToken"]})
    assert len(first["Endpoints"]) == 2
    assert [endpoint["EndpointName"] for endpoint in second["Endpoints"]] == ["b"]
    assert "NextToken" not in second


@pytest.mark.parametrize(
    "request_",
    [
        {"MaxResults": 0},
        {"MaxResults": 101},
        {"MaxResults": "a"},
        {"SortBy": "x"},
        {"SortOrder": "x"},
        {"NameContains": 1},
        {"CreationTimeAfter": "today"},
        {"LastModifiedTimeBefore": True},
        {"NextToken": "x"},
        {"NextToken": 1},
    ],
)
def test_bad_request_is_refused(request_):
    with pytest.raises(AwsError) as refusal:
        list_page(ENDPOINTS, SUMMARIES, request_)
    assert refusal.value.code == "ValidationException"


@pytest.mark.parametrize(("listing", "what"), [(MODELS, "Model"), (CONFIGS, "EndpointConfig")])
class TestWithoutStatus:
    @pytest.fixture
    def listed(self, listing, what):
        summaries = [
            {f"{what}Name": name, "CreationTime": float(number)}
            for number, name in enumerate([*"abcdefghijk", "Last"])
        ]

        def listed(**request):
            page = list_page(listing, summaries, request)
            return [one[f"{what}Name"] for one in page[f"{what}s"]], page.get("NextToken")

        return listed

    def test_pages_have_ten_entries_newest_first(self, listed):
        names, token = listed()
        assert names == ["Last", *"kjihgfedc"]
        assert listed(NextToken=token) == (["b", "a"], None)

    def test_order_and_filters(self, listed):
        assert listed(SortBy="Name", MaxResults=2)[0] == ["k", "j"]
        assert listed(SortOrder="Ascending", MaxResults=2)[0] == ["a", "b"]
        assert listed(NameContains="LA") == (["Last"], None)
        assert listed(CreationTimeAfter=3, CreationTimeBefore=4) == (["e", "d"], None)

    def test_there_is_no_order_by_status(self, listed):
        with pytest.raises(AwsError, match=r"\[Name, CreationTime\]"):
            listed(SortBy="Status")
