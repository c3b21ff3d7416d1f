"""The page for people: what the emulator holds and does, rendered anew for every look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

import jinja2

from airflow_async_sm.emulator.reaching import airflow_connection
from airflow_async_sm.emulator.web.insight import Insight
from airflow_async_sm.emulator.web.replies import Reply, reply
from airflow_async_sm.emulator.work.records import RequestRecord, RequestState

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ROWS: Final = 50
_REFRESH_SECONDS: Final = 5
_HEADERS: Final = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'",
    ),
]


def wants_page(environ: WSGIEnvironment) -> bool:
    """Return whether a request is a person's look at the page; clients of S3 ask for their buckets there."""
    return (
        environ["PATH_INFO"] == "/"
        and environ["REQUEST_METHOD"] == "GET"
        and "text/html" in environ.get("HTTP_ACCEPT", "")
        and "HTTP_AUTHORIZATION" not in environ
        and "x-amz-" not in environ.get("QUERY_STRING", "").lower()
    )


class Page:
    """
    Renders the page.

    :param insight: What can be seen.
    :param url: The emulator's address.
    """

    def __init__(self, insight: Insight, *, url: str) -> None:
        self._insight = insight
        self._url = url
        environment = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        environment.filters |= {"moment": _moment, "duration": _duration}
        template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self._template = environment.from_string(template)

    def answer(self, query: str) -> Reply:
        """
        Return the page.

        :param query: The request's query: ``endpoint``, ``state``, ``before`` and ``refresh``. What makes no
            sense is left out of account.
        """
        content = self._template.render(self._values(dict(parse_qsl(query))))
        return reply(content.encode(), content_type="text/html; charset=utf-8", headers=_HEADERS)

    def _values(self, query: Mapping[str, str]) -> dict[str, Any]:
        insight = self._insight
        endpoint = query.get("endpoint") or None
        state = next((state for state in RequestState if state == query.get("state")), None)
        before = query.get("before", "")
        number = int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None
        found = insight.requests(endpoint=endpoint, state=state, before=number)
        shown = found[-_ROWS:][::-1]
        chosen = {"endpoint": endpoint or "", "state": state or "", "before": number or ""}
        refresh = query.get("refresh") != "off"

        def link(**changes: Any) -> str:
            values = {**chosen, "refresh": "" if refresh else "off", **changes}
            return "/?" + urlencode({name: value for name, value in values.items() if value})

        return {
            "url": self._url,
            "connection": airflow_connection(self._url),
            "clock": insight.clock.describe(),
            "endpoints": insight.endpoints(),
            "faults": insight.faults(),
            "counters": insight.counters.as_data(identities=False),
            "requests": [_row(record) for record in shown],
            "matching": len(found),
            "older": link(before=shown[-1].number) if len(found) > len(shown) else None,
            "newest": link(before="") if number else None,
            "states": list(RequestState),
            "chosen": chosen,
            "refresh": _REFRESH_SECONDS if refresh else None,
            "toggle": link(refresh="off" if refresh else ""),
            "link": link,
        }


def _row(record: RequestRecord) -> dict[str, Any]:
    return {
        **record.as_json(),
        "waited": _between(record.submitted_at, record.started_at or record.finished_at),
        "ran": _between(record.started_at, record.finished_at),
    }


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _moment(seconds: float | None) -> str:
    """Return a point in time as text, to the millisecond."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
