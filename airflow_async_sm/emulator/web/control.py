"""The control address: what the emulator is, and what it is to do, as JSON over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.settings.faults import Fault, fault_from_data
from airflow_async_sm.emulator.settings.values import SettingError, check_names, mapping
from airflow_async_sm.emulator.web.bodies import read_body
from airflow_async_sm.emulator.web.insight import Insight
from airflow_async_sm.emulator.web.replies import Reply, json_reply
from airflow_async_sm.emulator.work.records import RequestState

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# AWS gives no new bucket such a name: underscores are not allowed in one.
PAGES: Final = "/_emulator/"

# A number of a request, and a hundred years in seconds: more than that is a mistake.
_DIGITS: Final = 18
_LONGEST: Final = 3_155_760_000
# How much of a bad value is repeated in the text about it.
_SHOWN: Final = 40

_HEADERS: Final = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

Query = Mapping[str, str]
Action = Callable[[Query, Any], Any]


class _Refused(Exception):
    """A request that cannot be answered as it was meant."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """
    Answers below ``/_emulator/``.

    :param insight: What can be seen, and where it is changed.
    :param reset: Called to let the emulator be as it was at its start.
    """

    def __init__(self, insight: Insight, *, reset: Callable[[], None]) -> None:
        self._insight = insight
        self._reset = reset
        self._actions: dict[str, dict[str, Action]] = {
            "": {"GET": lambda _query, _body: self._index()},
            "requests": {"GET": self._requests},
            "endpoints": {"GET": lambda _query, _body: insight.endpoints()},
            "counters": {"GET": self._counters, "DELETE": self._reset_counters},
            "settings": {"GET": lambda _query, _body: insight.settings(), "PATCH": self._change_settings},
            "faults": {
                "GET": lambda _query, _body: self._faults(),
                "POST": self._add_faults,
                "PUT": self._replace_faults,
                "DELETE": self._clear_faults,
            },
            "clock": {"GET": lambda _query, _body: insight.clock.describe(), "POST": self._advance},
            "reset": {"POST": self._start_anew},
        }

    def answer(self, environ: WSGIEnvironment) -> Reply:
        """Answer a request, or say what is wrong with it."""
        name = environ["PATH_INFO"].removeprefix(PAGES)
        method = environ["REQUEST_METHOD"]
        try:
            action = self._find(name, method)
            query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
            value = action(query, None if method in ("GET", "DELETE") else _body(environ))
        except _Refused as refusal:
            return _error(str(refusal), refusal.status)
        except SettingError as error:
            return _error(str(error), 400)
        return json_reply(value, headers=_HEADERS)

    def _find(self, name: str, method: str) -> Action:
        kind, _, fault_id = name.partition("/")
        if kind == "faults" and fault_id:
            methods: dict[str, Action] = {"DELETE": lambda _query, _body: self._remove_fault(fault_id)}
        elif name in self._actions:
            methods = self._actions[name]
        else:
            there = ", ".join(self._index())
            raise _Refused(f"{PAGES}{name} is not there. There are {there}.", status=404)
        if method not in methods:
            raise _Refused(f"{PAGES}{name} takes {' and '.join(methods)}, not {method}.", status=405)
        return methods[method]

    def _index(self) -> dict[str, list[str]]:
        there = {f"{PAGES}{name}": list(methods) for name, methods in self._actions.items() if name}
        return {**there, f"{PAGES}faults/<id>": ["DELETE"]}

    def _requests(self, query: Query, _body: Any) -> list[dict[str, Any]]:
        check_names(query, ("state", "endpoint", "limit", "after"), kind="requests")
        found = self._insight.requests(
            state=_state(query.get("state")), endpoint=query.get("endpoint"), after=_whole(query, "after", 0)
        )
        limit = _whole(query, "limit", len(found))
        return [record.as_json() for record in found[:limit]]

    def _counters(self, query: Query, _body: Any) -> dict[str, Any]:
        check_names(query, ("identities",), kind="counters")
        wish = query.get("identities", "yes")
        if wish not in ("yes", "no"):
            raise SettingError(("identities",), f"is {wish!r}; it must be yes or no.")
        return self._insight.counters.as_data(identities=wish == "yes")

    def _reset_counters(self, _query: Query, _body: Any) -> dict[str, Any]:
        self._insight.counters.reset()
        return self._insight.counters.as_data()

    def _change_settings(self, _query: Query, body: Any) -> dict[str, Any]:
        wanted = mapping(body)
        check_names(wanted, ("behaviour", "unknowns"), kind="settings")
        self._insight.knobs.change(behaviour=wanted.get("behaviour"), unknowns=wanted.get("unknowns"))
        return self._insight.settings()

    def _faults(self) -> dict[str, Any]:
        return {"seed": self._insight.board.seed, "faults": self._insight.faults()}

    def _add_faults(self, _query: Query, body: Any) -> dict[str, Any]:
        faults = _read_faults(body) if isinstance(body, list) else [fault_from_data(body)]
        return {"added": [self._insight.board.add(fault) for fault in faults], **self._faults()}

    def _replace_faults(self, _query: Query, body: Any) -> dict[str, Any]:
        if not isinstance(body, list):
            raise SettingError((), "is no list; send all faults that are to be on.")
        self._insight.board.replace(_read_faults(body))
        return self._faults()

    def _clear_faults(self, _query: Query, _body: Any) -> dict[str, Any]:
        self._insight.board.clear()
        return self._faults()

    def _remove_fault(self, fault_id: str) -> dict[str, Any]:
        try:
            self._insight.board.remove(fault_id)
        except KeyError:
            raise _Refused(f"No fault {fault_id!r} is on.", status=404) from None
        return self._faults()

    def _advance(self, _query: Query, body: Any) -> dict[str, Any]:
        wanted = mapping(body)
        check_names(wanted, ("advance", "patience"), kind="clock")
        clock = self._insight.clock
        if not isinstance(clock, SteppedClock):
            raise _Refused("The clock runs by itself; only a stepped one can be moved.", status=409)
        clock.advance(_seconds(wanted, "advance", 0.0), patience=_seconds(wanted, "patience", 5.0))
        return clock.describe()

    def _start_anew(self, _query: Query, _body: Any) -> dict[str, Any]:
        self._reset()
        return {"endpoints": self._insight.endpoints(), "requests": len(self._insight.requests())}


def _error(message: str, status: int) -> Reply:
    return json_reply({"error": message}, status=status, headers=_HEADERS)


def _body(environ: WSGIEnvironment) -> Any:
    content = read_body(environ)
    try:
        return json.loads(content) if content else {}
    except ValueError as error:
        raise _Refused(f"The body is not JSON: {error}.") from error
    except RecursionError as error:
        raise _Refused("The body is not JSON that can be read: it is nested too deeply.") from error


def _read_faults(body: list[Any]) -> list[Fault]:
    faults = []
    for position, data in enumerate(body):
        try:
            faults.append(fault_from_data(data))
        except SettingError as error:
            raise error.below((position,)) from None
    return faults


def _state(name: str | None) -> RequestState | None:
    if name is None:
        return None
    if name not in (states := [state.value for state in RequestState]):
        raise SettingError(("state",), f"is {name!r}; it must be one of {', '.join(states)}.")
    return RequestState(name)


def _whole(query: Query, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise SettingError(
            (name,),
            f"is {text[:_SHOWN]!r}; it must be a whole number of at least 0 with at most {_DIGITS} digits.",
        )
    return int(text)


def _seconds(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise SettingError(
            (name,), f"is {str(value)[:_SHOWN]}; it must be a number of seconds from 0 to {_LONGEST:,}."
        )
    return float(value)
