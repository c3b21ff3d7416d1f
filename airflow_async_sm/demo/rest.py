"""Airflow's REST API, as much of it as a run needs: version 2 (Airflow 3) and version 1 (Airflow 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

# Every supported Airflow requires httpx. It keeps connections open, which matters for a poll three times a
# second.
import httpx

from airflow_async_sm.demo.configuration import Login
from airflow_async_sm.demo.errors import RestError

PAGE = 100  # the most that both versions give at once
READ_PATIENCE = 120.0  # in seconds, of reading from a server that is busy
READ_PAUSE = 0.5  # in seconds
WRITE_PAUSES = (0.5, 1.0, 2.0, 4.0)  # in seconds, after an attempt that failed
TEARDOWN_RULE = "all_done_setup_success"


@dataclass(frozen=True, kw_only=True)
class TaskInstance:
    """
    One task of one run, as the API tells it now.

    :param task_id: Task.
    :param map_index: Position in a mapped task, -1 if it is not mapped.
    :param state: Airflow's word for the state; ``None`` before the scheduler has looked at it.
    :param try_number: Number of the latest try, from 1; 0 before the first.
    :param started_at: When the latest try started.
    :param ended_at: When it ended.
    :param duration: Seconds between the two, as Airflow counts them.
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    duration: float | None


class RestClient:
    """
    A client for one local Airflow.

    :param url: Address of the API server (Airflow 3) or the web server (Airflow 2), without a path.
    :param major: Major version of that Airflow.
    :param login: User to log in as; ``None`` where no login is needed.
    :param timeout: Seconds to wait for an answer.
    :param ensure_alive: Called before each attempt; raises where there is nobody to ask. Default: nothing.
    :param transport: Where the requests go instead of the network; for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        major: int,
        login: Login | None = None,
        timeout: float = 30.0,
        ensure_alive: Callable[[], None] = lambda: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._v2 = major >= 3
        self._login = login
        self._ensure_alive = ensure_alive
        # The loopback address must never go through a proxy of the caller's environment.
        self._http = httpx.Client(base_url=url, timeout=timeout, trust_env=False, transport=transport)
        if login is not None and not self._v2:
            self._http.auth = httpx.BasicAuth(login.username, login.password)

    def close(self) -> None:
        self._http.close()

    def health(self) -> dict[str, str | None]:
        """State of each part of Airflow, for example ``{"scheduler": "healthy"}``."""
        answer = _json(self._send("GET", self._path("/monitor/health" if self._v2 else "/health")))
        return {part: about.get("status") for part, about in answer.items()}

    def has_dag(self, dag_id: str) -> bool:
        try:
            self._read(f"/dags/{_part(dag_id)}")
        except RestError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def import_errors(self) -> dict[str, str]:
        """Error text per DAG file that cannot be imported."""
        found = self._pages("/importErrors", "import_errors")
        return {error["filename"]: error["stack_trace"] for error in found}

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self._write("PATCH", f"/dags/{_part(dag_id)}", json={"is_paused": False})

    def is_due(self, dag_id: str) -> bool:
        """Whether the schedule makes a run now, unless the DAG is paused."""
        name = "next_dagrun_run_after" if self._v2 else "next_dagrun_create_after"
        due = self._read(f"/dags/{_part(dag_id)}").get(name)
        return due is not None and datetime.fromisoformat(due) <= datetime.now(UTC)

    def runs(self, dag_id: str) -> list[str]:
        """The runs of a DAG."""
        return [str(run["dag_run_id"]) for run in self._pages(f"/dags/{_part(dag_id)}/dagRuns", "dag_runs")]

    def leaf_tasks(self, dag_id: str) -> list[str]:
        """Tasks that nothing but teardowns comes after, teardowns left out."""
        tasks = self._read(f"/dags/{_part(dag_id)}/tasks")["tasks"]
        # The API does not say which tasks are teardowns, but all of them, and nothing else, have this rule.
        working = {task["task_id"]: task for task in tasks if task["trigger_rule"] != TEARDOWN_RULE}
        return [name for name, task in working.items() if not set(task["downstream_task_ids"]) & set(working)]

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None, run_id: str | None) -> str:
        path, run_id = f"/dags/{_part(dag_id)}/dagRuns", run_id or f"manual__{datetime.now(UTC).isoformat()}"
        body: dict[str, Any] = {"dag_run_id": run_id, "conf": conf or {}}
        if self._v2:
            body["logical_date"] = None
        try:
            self._write("POST", path, json=body)
        except RestError as error:
            if error.status is not None:
                raise
            self._trigger_unless_there(path, body)
        return run_id

    def _trigger_unless_there(self, path: str, body: dict[str, Any]) -> None:
        """Ask again for a run, which may have begun although the answer was not seen."""
        try:
            self._write("POST", path, json=body)
        except RestError as error:
            if error.status != httpx.codes.CONFLICT:
                raise

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self._read(_run(dag_id, run_id))["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        found = self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")
        return [_task_instance(fields) for fields in found]

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str, map_index: int) -> Any:
        """The value a task returned or pushed; ``None`` if there is none."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}"
        try:
            return self._read(path, params={"map_index": map_index, "stringify": "false"})["value"]
        except RestError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, *, map_index: int) -> str:
        """The log of one try, as text."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{_part(task_id)}/logs/{try_number}"
        params = {"map_index": map_index, "full_content": "true"}
        if not self._v2:
            return self._patiently(path, params, accept="text/plain").text
        events = self._read(path, params=params)["content"]
        return "\n".join(line for event in events for line in _log_lines(event))

    def occupied_slots(self) -> int:
        """Worker slots in use: tasks of the default pool that run or are on their way to a worker."""
        return int(self._read("/pools/default_pool")["occupied_slots"])

    def _pages(self, path: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self._read(path, params={"limit": PAGE, "offset": len(found)})
            found += answer[key]
            if not answer[key] or len(found) >= answer["total_entries"]:
                return found

    def _path(self, path: str) -> str:
        return f"/api/{'v2' if self._v2 else 'v1'}{path}"

    def _read(self, path: str, *, params: dict[str, Any] | None = None) -> Any:
        return _json(self._patiently(path, params))

    def _patiently(
        self, path: str, params: dict[str, Any] | None, *, accept: str = "application/json"
    ) -> httpx.Response:
        """Ask, and ask again while the server is busy: a run takes long, and reading changes nothing."""
        give_up_at = time.monotonic() + READ_PATIENCE
        while True:
            try:
                return self._send("GET", self._path(path), params=params, accept=accept)
            except RestError as error:
                may_pass = error.status is None or httpx.codes.is_server_error(error.status)
                if not may_pass or time.monotonic() > give_up_at:
                    raise
            time.sleep(READ_PAUSE)

    def _write(self, method: str, path: str, *, json: dict[str, Any]) -> Any:
        """
        Call, and call again while the server is busy.

        SQLite takes one write at a time. A write that does not get its turn is answered with a server error,
        and nothing of it is left.
        """
        for pause in WRITE_PAUSES:
            try:
                return _json(self._send(method, self._path(path), json=json))
            except RestError as error:
                if error.status is None or not httpx.codes.is_server_error(error.status):
                    raise
            time.sleep(pause)
        return _json(self._send(method, self._path(path), json=json))

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        json: Any = None,
        accept: str = "application/json",
    ) -> httpx.Response:
        self._ensure_alive()
        self._get_token()
        headers = {"Accept": accept}
        if method != "GET":
            # The server ends a connection after an error of its own, but not at once: the next attempt must
            # not go out on it.
            headers["Connection"] = "close"
        try:
            response = self._http.request(method, path, params=params, json=json, headers=headers)
        except httpx.HTTPError as error:
            raise RestError(f"{method} {path}", None, repr(error)) from error
        if response.is_error:
            raise RestError(f"{method} {path}", response.status_code, response.text[:500])
        return response

    def _get_token(self) -> None:
        """
        Get what Airflow 3 wants to see with each request, once.

        Where no login is needed it gives a token to whoever asks. 3.1 insists on it, the others do without.
        """
        if not self._v2 or "Authorization" in self._http.headers:
            return
        if self._login is None:
            method, credentials = "GET", None
        else:
            method, credentials = "POST", {"username": self._login.username, "password": self._login.password}
        try:
            response = self._http.request(method, "/auth/token", json=credentials)
        except httpx.HTTPError as error:
            raise RestError(f"{method} /auth/token", None, repr(error)) from error
        if response.is_error:
            raise RestError(f"{method} /auth/token", response.status_code, response.text[:500])
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        # Unknown addresses are answered with the web page, and status 200.
        request = response.request
        about = f"{request.method} {request.url.path}"
        raise RestError(about, response.status_code, "the answer is not JSON") from None


def _part(text: str) -> str:
    """Quote one part of a path: run ids hold colons and plus signs."""
    return quote(text, safe="")


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"


def _task_instance(fields: dict[str, Any]) -> TaskInstance:
    return TaskInstance(
        task_id=fields["task_id"],
        map_index=fields["map_index"],
        state=fields["state"],
        try_number=fields["try_number"],
        started_at=_when(fields["start_date"]),
        ended_at=_when(fields["end_date"]),
        duration=fields["duration"],
    )


def _when(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _log_lines(event: str | dict[str, Any]) -> Iterator[str]:
    """One entry of a structured log as lines of text, with the exceptions it carries."""
    if isinstance(event, str):
        yield event
        return
    yield " ".join(
        str(part) for part in (event.get("timestamp"), event.get("level"), event["event"]) if part is not None
    )
    for error in event.get("error_detail") or []:
        yield from _error_lines(error)


def _error_lines(error: dict[str, Any]) -> Iterator[str]:
    for frame in error.get("frames") or []:
        yield f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
    yield f"{error.get('exc_type')}: {error.get('exc_value')}"
