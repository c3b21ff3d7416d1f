from __future__ import annotations

from html.parser import HTMLParser

import pytest

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.faults import Throttled
from airflow_async_sm.emulator.web.page import Page, wants_page
from airflow_async_sm.emulator.work.records import RequestState
from tests.unit.emulator.looks import make_insight, make_looked_at, record

URL = "http://127.0.0.1:4000"
VOID = {"meta", "input", "br"}


class Document(HTMLParser):
    """The texts and links of a page, and whether its elements are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.tags, self.rows = [], {}, [], {}
        self.section = None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = values["id"]
            self.rows[self.section] = []
        if tag == "tr":
            self.rows[self.section].append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if "href" in values:
            self.links[values.get("id") or values["href"]] = values["href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            row = self.rows[self.section][-1]
            row[-1] = f"{row[-1]} {data.strip()}".strip()


def look(insight, query=""):
    answer = Page(insight, url=URL).answer(query)
    assert answer.status == 200
    text = b"".join(answer.body).decode()
    return text, Document(text)


def numbers(document):
    return [int(row[0]) for row in document.rows["requests"][1:]]


def test_empty_emulator_has_a_page_that_says_so():
    text, document = look(make_insight())
    assert "There are no endpoints." in text
    assert "There are no requests." in text
    assert "No fault is switched on." in text
    assert f"AWS_ENDPOINT_URL={URL}" in text
    assert "AIRFLOW_CONN_AWS_DEFAULT=" in text
    assert ("html", {"lang": "en"}) in document.tags
    # Nothing is loaded from anywhere, and no script runs.
    assert not {"script", "link", "img"} & {tag for tag, _ in document.tags}
    assert "://" not in text.replace(URL, "")


def test_endpoints():
    insight = make_insight()
    insight._endpoints.add("up")
    insight._endpoints.add("broken", "Failed", FailureReason="no <image>")
    insight._endpoints.rows[0]["Requests"] |= {"queued": 41, "running": 2}
    insight._endpoints.rows[0]["Instances"] = [{"Name": "up/1", "State": "InService", "Running": 2}]
    _, document = look(insight)
    _, up, broken = document.rows["endpoints"]
    assert up[:2] == ["up", "us-east-1"]
    assert up[3:7] == ["up-config", "AllTraffic: 1 / 2 up/1: InService, 2 running", "41", "2"]
    # What it is stands there as a word, and not as a colour alone.
    assert "InService" in up[2]
    assert "Failed" in broken[2]
    assert "no <image>" in broken[2]


def test_requests_are_newest_first_with_their_times():
    insight = make_looked_at(
        record(1, started_at=1_800_000_003.5, finished_at=1_800_000_070.0, invocations=1),
        record(2, RequestState.EXPIRED, finished_at=1_800_003_663.0),
        record(3, RequestState.QUEUED, inference_id="<b>&"),
    )
    _, document = look(insight)
    _, third, second, first = document.rows["requests"]
    assert (third[0], third[2], third[5], third[6]) == ("3", "<b>&", "", "")
    assert (second[5], second[6]) == ("1 h 01 min", "")
    assert first[4:8] == ["2027-01-15 08:00:01.000 UTC", "2.50 s", "1 min 06 s", "1"]
    assert [row[1].split()[-1] for row in (third, second, first)] == ["queued", "expired", "succeeded"]


def test_pages_and_filters():
    insight = make_looked_at(
        *(record(number, endpoint="odd" if number % 2 else "even") for number in range(1, 121))
    )
    _, document = look(insight)
    assert numbers(document) == list(range(120, 70, -1))
    _, second = look(insight, document.links["older"].partition("?")[2])
    assert numbers(second) == list(range(70, 20, -1))
    _, third = look(insight, second.links["older"].partition("?")[2])
    assert numbers(third) == list(range(20, 0, -1))
    assert "older" not in third.links
    _, even = look(insight, "endpoint=EVEN&state=succeeded")
    assert numbers(even) == list(range(120, 20, -2))
    assert even.links["older"] == "/?endpoint=EVEN&state=succeeded&before=22"
    text, _ = look(insight, "state=failed")
    assert "There are no requests that match." in text


@pytest.mark.parametrize("query", ["before=x", "before=-1", "before=" + "9" * 30, "state=nonsense", "a=b&a"])
def test_senseless_query_is_left_out_of_account(query):
    insight = make_looked_at(record(1))
    assert numbers(look(insight, query)[1]) == [1]


def test_filter_cannot_carry_html():
    text, _ = look(make_insight(), "endpoint=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script" not in text


def test_refresh_can_be_paused_and_stays_paused():
    insight = make_looked_at(*(record(number) for number in range(1, 61)))
    text, document = look(insight)
    assert 'http-equiv="refresh" content="5"' in text
    paused, document = look(insight, document.links["refresh"].partition("?")[2])
    assert 'http-equiv="refresh"' not in paused
    assert document.links["older"] == "/?before=11&refresh=off"
    assert document.links["refresh"] == "/?"


def test_faults_and_counters():
    insight = make_insight()
    insight.board.add(Throttled(endpoint="e", times=3))
    insight.board.draw(Throttled, "1", endpoint="e")
    insight.counters.refused("ThrottlingException")
    text, document = look(insight)
    assert document.rows["faults"][1] == ["fault-1", "throttled", "times: 3, endpoint: e", "1"]
    assert "ThrottlingException 1" in text


@pytest.mark.parametrize(
    ("clock", "words"),
    [(None, "it stands until"), (Clock(), "real time"), (Clock(speed=60), "60 emulated seconds pass in one")],
)
def test_clock(clock, words):
    assert words in look(make_insight(clock=clock))[0]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"QUERY_STRING": "endpoint=e"}, True),
        ({"HTTP_ACCEPT": "*/*"}, False),
        ({"HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256"}, False),
        ({"QUERY_STRING": "X-Amz-Credential=a"}, False),
        ({"PATH_INFO": "/bucket"}, False),
        ({"REQUEST_METHOD": "POST"}, False),
    ],
)
def test_page_is_for_people(changes, wanted):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT": "text/html,*/*;q=0.8", **changes}
    assert wants_page(environ) is wanted
