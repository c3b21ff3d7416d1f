"""The API client against a transport that checks the requests and answers as each version of Airflow does."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.errors import ComponentFailed, RestError
from airflow_async_sm.demo.rest import PAGE, RestClient

LOGIN = Login(username="admin", password="pw")
RUN = "manual__2026-01-01T00:00:00+00:00"
RUN_IN_PATH = "manual__2026-01-01T00%3A00%3A00%2B00%3A00"


def client(
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    major: int = 3,
    login: Login | None = None,
    **options: Any,
) -> RestClient:
    """Return a client; where no login is needed, the token that Airflow 3 gives to everybody is there."""

    def answer_or_token(request: httpx.Request) -> httpx.Response:
        if major >= 3 and login is None and (request.method, request.url.path) == ("GET", "/auth/token"):
            return httpx.Response(201, json={"access_token": "everybody"})
        return answer(request)

    transport = httpx.MockTransport(answer_or_token)
    return RestClient("http://127.0.0.1:1", major=major, login=login, transport=transport, **options)


def answers(
    expected: str, value: Any, *, method: str = "GET", status: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    """Answer one kind of request, and no other."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        assert (request.method, path) == (method, expected)
        return httpx.Response(status, json=value)

    return answer


@pytest.mark.parametrize(
    ("major", "path"), [(3, "/api/v2/monitor/health"), (2, "/api/v1/health")], ids=["v2", "v1"]
)
def test_health(major: int, path: str) -> None:
    value = {"scheduler": {"status": "healthy"}, "dag_processor": {"status": None}}
    states = client(answers(path, value), major=major).health()
    assert states == {"scheduler": "healthy", "dag_processor": None}


class TestTrigger:
    @pytest.mark.parametrize(("major", "logical_date"), [(3, {"logical_date": None}), (2, {})])
    def test_body(self, major: int, logical_date: dict[str, None]) -> None:
        bodies = []

        def answer(request: httpx.Request) -> httpx.Response:
            bodies.append(json.loads(request.content))
            return httpx.Response(200, json={})

        rest = client(answer, major=major)
        named = rest.trigger("d", conf=None, run_id=None)
        assert named.startswith("manual__20")
        assert rest.trigger("d", conf={"a": 1}, run_id="r1") == "r1"
        assert bodies == [
            {"conf": {}, "dag_run_id": named, **logical_date},
            {"conf": {"a": 1}, "dag_run_id": "r1", **logical_date},
        ]

    @pytest.mark.parametrize(("second", "begun"), [(200, True), (409, True), (404, False)])
    def test_a_run_whose_answer_was_lost_is_asked_for_again(self, second: int, begun: bool) -> None:
        wanted = []

        def answer(request: httpx.Request) -> httpx.Response:
            wanted.append(json.loads(request.content)["dag_run_id"])
            if len(wanted) == 1:
                raise httpx.ReadTimeout("busy")
            return httpx.Response(second, json={})

        if begun:
            assert client(answer).trigger("d", conf=None, run_id=None) == wanted[0]
        else:
            with pytest.raises(RestError, match="HTTP 404"):
                client(answer).trigger("d", conf=None, run_id=None)
        assert len(wanted) == 2
        assert wanted[0] == wanted[1]

    def test_a_name_that_is_taken_is_an_error(self) -> None:
        rest = client(answers("/api/v2/dags/d/dagRuns", {}, method="POST", status=409))
        with pytest.raises(RestError, match="HTTP 409"):
            rest.trigger("d", conf=None, run_id="r1")

    def test_unpause(self) -> None:
        client(answers("/api/v2/dags/d", {}, method="PATCH")).unpause("d")


def test_run_id_is_quoted_in_the_path() -> None:
    rest = client(answers(f"/api/v2/dags/d/dagRuns/{RUN_IN_PATH}", {"state": "running"}))
    assert rest.run_state("d", RUN) == "running"


def test_task_instances_are_read_page_by_page() -> None:
    everything = [
        {
            "task_id": "a",
            "map_index": index,
            "state": "success" if index else None,
            "try_number": 1,
            "start_date": "2026-01-01T00:00:00Z",
            "end_date": None,
            "duration": 1.5,
        }
        for index in range(PAGE + 1)
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        page = everything[offset : offset + limit]
        return httpx.Response(200, json={"task_instances": page, "total_entries": len(everything)})

    found = client(answer).task_instances("d", "r")
    assert [instance.map_index for instance in found] == list(range(PAGE + 1))
    assert found[0].state is None
    assert found[1].started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert found[1].ended_at is None
    assert found[1].duration == 1.5


@pytest.mark.parametrize(
    ("major", "path", "field"),
    [(3, "/api/v2/dags/d", "next_dagrun_run_after"), (2, "/api/v1/dags/d", "next_dagrun_create_after")],
    ids=["v2", "v1"],
)
@pytest.mark.parametrize(
    ("when", "due"), [(None, False), ("2026-01-01T02:00:00Z", True), ("9999-01-01T02:00:00+00:00", False)]
)
def test_a_dag_is_due_once_its_next_run_could_begin(
    major: int, path: str, field: str, when: str | None, due: bool
) -> None:
    assert client(answers(path, {field: when}), major=major).is_due("d") is due


class TestWriting:
    @pytest.fixture(autouse=True)
    def pauses(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        slept: list[float] = []
        monkeypatch.setattr("airflow_async_sm.demo.rest.time.sleep", slept.append)
        return slept

    @pytest.fixture(params=["unpause", "trigger"])
    def write(self, request: pytest.FixtureRequest) -> Callable[..., int]:
        """Unpause or trigger with a server that answers so; return how often it was asked."""

        def written(*statuses: int) -> int:
            left = list(statuses)
            self.wanted = []

            def answer(request: httpx.Request) -> httpx.Response:
                self.wanted.append((request.method, request.url.path, json.loads(request.content)))
                return httpx.Response(left.pop(0), json={"dag_run_id": "r1"})

            rest = client(answer)
            if request.param == "unpause":
                rest.unpause("d")
            else:
                assert rest.trigger("d", conf=None, run_id="r1") == "r1"
            return len(self.wanted)

        return written

    def test_a_busy_server_is_asked_again(self, write: Callable[..., int], pauses: list[float]) -> None:
        assert write(500, 503, 200, 200) == 3
        assert pauses == [0.5, 1.0]
        assert self.wanted[1:] == self.wanted[:-1]

    def test_each_attempt_has_a_connection_of_its_own(self) -> None:
        """The server ends one after an error, some time after it has answered."""
        statuses, connections = [500, 500, 200], []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(201, {"access_token": "t0k"})

            def do_PATCH(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                connections.append(self.client_address)
                self.answer(statuses.pop(0), {})
                # Only the client may end it, as the busy server has not come to that yet.
                self.close_connection = False

            def answer(self, status: int, value: dict[str, str]) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            rest = RestClient(f"http://127.0.0.1:{server.server_port}", major=3)
            try:
                rest.unpause("d")
            finally:
                rest.close()
                server.shutdown()
        assert len(set(connections)) == len(connections) == 3

    def test_a_server_that_stays_busy_is_an_error(
        self, write: Callable[..., int], pauses: list[float]
    ) -> None:
        with pytest.raises(RestError, match="HTTP 500"):
            write(*[500] * 9)
        assert (len(self.wanted), pauses) == (5, [0.5, 1.0, 2.0, 4.0])

    def test_a_refusal_is_an_error_at_once(self, write: Callable[..., int], pauses: list[float]) -> None:
        with pytest.raises(RestError, match="HTTP 404"):
            write(404, 200)
        assert pauses == []


def test_runs_of_a_dag() -> None:
    value = {"dag_runs": [{"dag_run_id": "r1"}, {"dag_run_id": "r2"}], "total_entries": 2}
    assert client(answers("/api/v2/dags/d/dagRuns", value)).runs("d") == ["r1", "r2"]


def test_import_errors_by_file() -> None:
    value = {"import_errors": [{"filename": "bad.py", "stack_trace": "boom"}], "total_entries": 1}
    assert client(answers("/api/v2/importErrors", value)).import_errors() == {"bad.py": "boom"}


def test_leaf_tasks_leave_out_teardowns() -> None:
    def task(name: str, after: list[str], rule: str = "all_success") -> dict[str, Any]:
        return {"task_id": name, "downstream_task_ids": after, "trigger_rule": rule}

    tasks = [
        task("first", ["second", "clean"]),
        task("second", ["clean"]),
        task("side", []),
        task("clean", [], "all_done_setup_success"),
    ]
    assert client(answers("/api/v2/dags/d/tasks", {"tasks": tasks})).leaf_tasks("d") == ["second", "side"]


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits: a pause moves the clock."""
    clock = {"now": 0.0}
    monkeypatch.setattr("airflow_async_sm.demo.rest.time.monotonic", lambda: clock["now"])
    monkeypatch.setattr(
        "airflow_async_sm.demo.rest.time.sleep", lambda pause: clock.update(now=clock["now"] + pause)
    )


@pytest.mark.usefixtures("time_passes")
class TestReading:
    def reader(self, *said: int | Exception, **options: Any) -> RestClient:
        """Return a client of a server that says one thing after the other, and the last one for ever."""
        left = list(said)

        def answer(request: httpx.Request) -> httpx.Response:
            saying = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(saying, Exception):
                raise saying
            return httpx.Response(saying, json={"state": "running"})

        return client(answer, **options)

    @pytest.mark.parametrize("busy", [500, 503, httpx.ReadTimeout("busy"), httpx.ConnectError("refused")])
    def test_a_busy_server_is_asked_until_it_answers(self, busy: int | Exception) -> None:
        assert self.reader(busy, busy, busy, 200).run_state("d", "r") == "running"

    @pytest.mark.parametrize("busy", [500, httpx.ReadTimeout("busy")])
    def test_a_server_that_stays_busy_is_an_error_after_two_minutes(self, busy: int | Exception) -> None:
        with pytest.raises(RestError):
            self.reader(busy).run_state("d", "r")
        assert 120 <= time.monotonic() < 125

    def test_a_refusal_is_an_error_at_once(self) -> None:
        with pytest.raises(RestError, match="HTTP 403"):
            self.reader(403, 200).run_state("d", "r")

    def test_an_airflow_that_starts_is_not_waited_for_here(self) -> None:
        with pytest.raises(RestError, match="refused"):
            self.reader(httpx.ConnectError("refused"), 200).health()

    def test_a_server_that_has_died_is_not_asked_again(self) -> None:
        looks = iter([None, None, ComponentFailed("api-server", 1, "boom")])

        def ensure_alive() -> None:
            if (error := next(looks)) is not None:
                raise error

        with pytest.raises(ComponentFailed, match="boom"):
            self.reader(httpx.ConnectError("refused"), ensure_alive=ensure_alive).run_state("d", "r")


@pytest.mark.usefixtures("time_passes")
class TestHasDag:
    def test_yes(self) -> None:
        assert client(answers("/api/v2/dags/d", {"dag_id": "d"})).has_dag("d")

    def test_no(self) -> None:
        assert not client(answers("/api/v2/dags/d", {}, status=404)).has_dag("d")

    def test_other_answers_are_not_taken_for_no(self) -> None:
        with pytest.raises(RestError, match="HTTP 500"):
            client(answers("/api/v2/dags/d", {}, status=500)).has_dag("d")


class TestXCom:
    PATH = "/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries/return_value"

    def test_value_comes_as_it_is(self) -> None:
        rest = client(answers(self.PATH, {"value": {"a": [1]}}))
        assert rest.xcom("d", "r", "t", key="return_value", map_index=-1) == {"a": [1]}

    def test_map_index_is_asked_for(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"value": dict(request.url.params)})

        value = client(answer).xcom("d", "r", "t", key="k", map_index=4)
        assert value == {"map_index": "4", "stringify": "false"}

    def test_missing_value_is_none(self) -> None:
        rest = client(answers(self.PATH, {}, status=404))
        assert rest.xcom("d", "r", "t", key="return_value", map_index=-1) is None

    def test_refusal_is_not_taken_for_a_missing_value(self) -> None:
        with pytest.raises(RestError, match="HTTP 403"):
            client(answers(self.PATH, {}, status=403)).xcom("d", "r", "t", key="return_value", map_index=-1)


class TestLog:
    PATH = "/dags/d/dagRuns/r/taskInstances/t/logs/2"

    def test_structured_log_becomes_text(self) -> None:
        events = [
            {"timestamp": "12:00", "level": "info", "event": "hello"},
            {"event": "no more than this"},
            "a plain line",
            {
                "timestamp": "12:01",
                "level": "error",
                "event": "Task failed with exception",
                "error_detail": [
                    {
                        "exc_type": "ValueError",
                        "exc_value": "broken",
                        "frames": [{"filename": "dag.py", "lineno": 7, "name": "work"}],
                    }
                ],
            },
        ]
        rest = client(answers("/api/v2" + self.PATH, {"content": events}))
        assert rest.log("d", "r", "t", 2, map_index=-1).splitlines() == [
            "12:00 info hello",
            "no more than this",
            "a plain line",
            "12:01 error Task failed with exception",
            '  File "dag.py", line 7, in work',
            "ValueError: broken",
        ]

    def test_airflow_2_is_asked_for_text(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url.path == "/api/v1" + self.PATH
            assert request.headers["Accept"] == "text/plain"
            return httpx.Response(200, text="line 1\nline 2")

        assert client(answer, major=2).log("d", "r", "t", 2, map_index=0) == "line 1\nline 2"


def test_occupied_slots() -> None:
    assert client(answers("/api/v2/pools/default_pool", {"occupied_slots": 3})).occupied_slots() == 3


class TestLogin:
    def test_airflow_3_gets_a_token_once(self) -> None:
        seen = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append((request.url.path, request.headers.get("Authorization")))
            if request.url.path == "/auth/token":
                assert json.loads(request.content) == {"username": "admin", "password": "pw"}
                return httpx.Response(201, json={"access_token": "t0k"})
            return httpx.Response(200, json={"state": "queued"})

        rest = client(answer, login=LOGIN)
        rest.run_state("d", "r")
        rest.run_state("d", "r")
        run = ("/api/v2/dags/d/dagRuns/r", "Bearer t0k")
        assert seen == [("/auth/token", None), run, run]

    def test_airflow_3_gives_a_token_to_everybody_where_no_login_is_needed(self) -> None:
        seen = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append((request.method, request.url.path, request.headers.get("Authorization")))
            if request.url.path == "/auth/token":
                assert not request.content
                return httpx.Response(201, json={"access_token": "t0k"})
            return httpx.Response(200, json={"state": "queued"})

        transport = httpx.MockTransport(answer)
        rest = RestClient("http://127.0.0.1:1", major=3, transport=transport)
        rest.run_state("d", "r")
        rest.run_state("d", "r")
        run = ("GET", "/api/v2/dags/d/dagRuns/r", "Bearer t0k")
        assert seen == [("GET", "/auth/token", None), run, run]

    def test_airflow_2_wants_no_token_where_no_login_is_needed(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            assert "Authorization" not in request.headers
            return httpx.Response(200, json={"state": "queued"})

        assert client(answer, major=2).run_state("d", "r") == "queued"

    def test_airflow_2_sends_name_and_password(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            expected = base64.b64encode(b"admin:pw").decode()
            assert request.headers["Authorization"] == f"Basic {expected}"
            return httpx.Response(200, json={"state": "queued"})

        assert client(answer, major=2, login=LOGIN).run_state("d", "r") == "queued"

    def test_refused_login(self) -> None:
        rest = client(answers("/auth/token", {"detail": "no"}, method="POST", status=401), login=LOGIN)
        with pytest.raises(RestError, match="/auth/token: HTTP 401"):
            rest.run_state("d", "r")

    @pytest.mark.usefixtures("time_passes")
    def test_server_is_away(self) -> None:
        with pytest.raises(RestError, match="/auth/token: no answer"):
            client(refuse, login=LOGIN).run_state("d", "r")


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.usefixtures("time_passes")
def test_no_answer_is_a_rest_error() -> None:
    with pytest.raises(RestError, match="no answer") as caught:
        client(refuse).occupied_slots()
    assert caught.value.status is None


def test_web_page_instead_of_an_answer_is_a_rest_error() -> None:
    rest = client(lambda _request: httpx.Response(200, text="<html>"))
    with pytest.raises(RestError, match="not JSON"):
        rest.run_state("d", "r")


def test_close_ends_the_connections() -> None:
    rest = client(answers("/api/v2/pools/default_pool", {"occupied_slots": 0}))
    rest.close()
    with pytest.raises(RuntimeError, match="closed"):
        rest.occupied_slots()
