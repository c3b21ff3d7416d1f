from __future__ import annotations

import io
import json

import pytest

from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.web.control import Control
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.request_log import SavedRequests
from tests.unit.emulator.looks import make_insight, record

SLOW = {"kind": "slow_answer", "seconds": 2.0}


class Talk:
    """Short words for requests to the control address."""

    def __init__(self, insight=None):
        self.insight = insight or make_insight()
        self.resets = []
        self.control = Control(self.insight, reset=lambda: self.resets.append(True))

    def __call__(self, method, path, body=None, *, raw=None):
        name, _, query = path.partition("?")
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        answer = self.control.answer(
            {
                "REQUEST_METHOD": method,
                "PATH_INFO": f"/_emulator/{name}",
                "QUERY_STRING": query,
                "CONTENT_LENGTH": str(len(content)),
                "wsgi.input": io.BytesIO(content),
            }
        )
        assert dict(answer.headers)["Cache-Control"] == "no-store"
        return answer.status, json.loads(b"".join(answer.body))

    def wrong(self, *arguments, **options):
        status, value = self(*arguments, **options)
        assert set(value) == {"error"}
        return status, value["error"]


@pytest.fixture
def talk():
    return Talk()


class TestRequests:
    @pytest.fixture(autouse=True)
    def _requests(self, talk):
        records = (
            record(1),
            record(2, RequestState.FAILED, endpoint="Other"),
            record(3, RequestState.QUEUED),
            record(4),
        )
        talk.insight._requests.restore(SavedRequests(records=records))

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ("", [1, 2, 3, 4]),
            ("?state=failed", [2]),
            ("?endpoint=OTHER", [2]),
            ("?endpoint=e&state=succeeded", [1, 4]),
            ("?after=2", [3, 4]),
            ("?limit=2", [1, 2]),
            ("?after=1&limit=2", [2, 3]),
            ("?limit=0", []),
        ],
    )
    def test_they_can_be_chosen(self, talk, query, numbers):
        status, found = talk("GET", f"requests{query}")
        assert (status, [request["number"] for request in found]) == (200, numbers)

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("?state=done", "queued, running, succeeded"),
            ("?limit=-1", "limit is '-1'"),
            ("?after=x", "after is 'x'"),
            ("?stat=failed", "Did you mean state?"),
            ("?limit=" + "9" * 5000, "at most 18 digits"),
            ("?after=" + "9" * 19, "at most 18 digits"),
        ],
    )
    def test_senseless_choice_is_refused(self, talk, query, words):
        status, error = talk.wrong("GET", f"requests{query}")
        assert (status, words in error) == (400, True)


def test_endpoints(talk):
    talk.insight._endpoints.add("mine")
    status, found = talk("GET", "endpoints")
    assert (status, found[0]["EndpointName"]) == (200, "mine")


def test_counters_are_read_and_reset(talk):
    talk.insight.counters.refused("SlowDown")
    assert talk("GET", "counters")[1]["errors"] == {"SlowDown": 1}
    assert "by_payload" in talk("GET", "counters")[1]["submissions"]
    assert "by_payload" not in talk("GET", "counters?identities=no")[1]["submissions"]
    assert talk.wrong("GET", "counters?identities=perhaps")[0] == 400
    assert talk("DELETE", "counters")[1]["errors"] == {}


class TestSettings:
    def test_some_are_changed_and_the_others_stay(self, talk):
        _, before = talk("GET", "settings")
        change = {"behaviour": {"queue_seconds": 7}, "unknowns": {"filename_reuse": "rejected"}}
        status, after = talk("PATCH", "settings", change)
        assert (status, after) == (200, talk("GET", "settings")[1])
        assert after["behaviour"] == {**before["behaviour"], "queue_seconds": 7.0}
        assert after["unknowns"] == {**before["unknowns"], "filename_reuse": "rejected"}
        assert talk.insight.knobs.behaviour.queue_seconds == 7

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"behaviour": {"queue_secnds": 7}}, "Did you mean queue_seconds?"),
            ({"behaviour": {"queue_seconds": -1}, "unknowns": {}}, "behaviour.queue_seconds"),
            ({"unknowns": {"filename_reuse": "perhaps"}}, "unknowns.filename_reuse"),
            ({"behavior": {}}, "Did you mean behaviour?"),
            ([], "must be a mapping"),
        ],
    )
    def test_what_cannot_be_is_refused_as_a_whole(self, talk, change, words):
        before = talk("GET", "settings")
        status, error = talk.wrong("PATCH", "settings", change)
        assert (status, words in error) == (400, True), error
        assert talk("GET", "settings") == before


class TestFaults:
    def test_one_is_added_and_removed(self, talk):
        status, answer = talk("POST", "faults", SLOW)
        assert (status, answer["added"]) == (200, ["fault-1"])
        assert talk("GET", "faults")[1]["faults"] == [{"id": "fault-1", "hits": 0, **SLOW}]
        assert talk("DELETE", "faults/fault-1")[1]["faults"] == []
        assert talk.wrong("DELETE", "faults/fault-1") == (404, "No fault 'fault-1' is on.")

    def test_several_are_added_replaced_and_cleared(self, talk):
        assert talk("POST", "faults", [SLOW, {"kind": "throttled"}])[1]["added"] == ["fault-1", "fault-2"]
        replaced = talk("PUT", "faults", [{"kind": "list_denied"}])[1]["faults"]
        assert [fault["kind"] for fault in replaced] == ["list_denied"]
        assert talk("DELETE", "faults")[1]["faults"] == []

    def test_seed_is_shown(self):
        talk = Talk(make_insight(board=FaultBoard(seed=7)))
        assert talk("GET", "faults")[1] == {"seed": 7, "faults": []}

    @pytest.mark.parametrize(
        ("method", "body", "words"),
        [
            ("POST", {"kind": "slow_anser"}, "Did you mean slow_answer?"),
            ("POST", {"kind": "slow_answer"}, "seconds is missing"),
            ("POST", [SLOW, {"kind": "throttled", "rate": 2}], "[1].rate"),
            ("POST", "slow_answer", "must be a mapping"),
            ("PUT", SLOW, "is no list"),
            ("PUT", [1], "[0]"),
        ],
    )
    def test_what_is_none_is_refused_and_changes_nothing(self, talk, method, body, words):
        talk("POST", "faults", {"kind": "throttled"})
        status, error = talk.wrong(method, "faults", body)
        assert (status, words in error) == (400, True), error
        assert len(talk("GET", "faults")[1]["faults"]) == 1


class TestClock:
    def test_stepped_one_is_moved(self, talk):
        _, before = talk("GET", "clock")
        status, after = talk("POST", "clock", {"advance": 90})
        assert (status, after["kind"], after["now"]) == (200, "stepped", before["now"] + 90)

    def test_running_one_cannot_be_moved(self):
        status, error = Talk(make_insight(clock=Clock(speed=60)))("POST", "clock", {"advance": 1})
        assert (status, error) == (
            409,
            {"error": "The clock runs by itself; only a stepped one can be moved."},
        )

    @pytest.mark.parametrize(
        "body",
        [
            {"advance": -1},
            {"advance": "1"},
            {"advance": True},
            {"advance": 1e300},
            {"advance": 10**4000},
            {"advance": float("inf")},
            {"advance": float("nan")},
            {"forward": 1},
            [],
        ],
    )
    def test_senseless_move_is_refused(self, talk, body):
        assert talk.wrong("POST", "clock", body)[0] == 400


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000])
def test_deeply_nested_body_is_refused(talk, raw):
    assert talk.wrong("POST", "faults", raw=raw) == (
        400,
        "The body is not JSON that can be read: it is nested too deeply.",
    )


def test_large_limit_is_no_limit(talk):
    assert talk("GET", "requests?limit=" + "9" * 18) == (200, [])


def test_reset_calls_whoever_can_do_it(talk):
    assert talk("POST", "reset") == (200, {"endpoints": [], "requests": 0})
    assert talk.resets == [True]


def test_index_has_every_address_and_what_it_takes(talk):
    status, index = talk("GET", "")
    assert (status, index["/_emulator/requests"]) == (200, ["GET"])
    assert index["/_emulator/faults"] == ["GET", "POST", "PUT", "DELETE"]
    assert index["/_emulator/faults/<id>"] == ["DELETE"]


@pytest.mark.parametrize("path", ["other", "faults/", "requests/1"])
def test_what_is_not_there_is_said_with_what_is(talk, path):
    status, error = talk.wrong("GET", path)
    assert status == 404
    assert "/_emulator/requests" in error


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "requests", "takes GET"),
        ("GET", "reset", "takes POST"),
        ("PUT", "faults/fault-1", "takes DELETE"),
    ],
)
def test_other_method_is_refused_with_those_that_there_are(talk, method, path, words):
    status, error = talk.wrong(method, path)
    assert (status, words in error) == (405, True)


def test_body_that_is_not_json_is_refused(talk):
    status, error = talk.wrong("POST", "faults", raw=b"kind=throttled")
    assert (status, "not JSON" in error) == (400, True)
