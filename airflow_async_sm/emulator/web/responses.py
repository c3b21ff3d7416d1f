"""The front door: the way of a request, from the gate to its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from werkzeug.wsgi import ClosingIterator

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.web.bodies import check_length, endpoint_name, read_body
from airflow_async_sm.emulator.web.calls import Call, identify, is_form, is_internal
from airflow_async_sm.emulator.web.control import PAGES, Control
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.web.gate import Gate
from airflow_async_sm.emulator.web.page import Page, wants_page
from airflow_async_sm.emulator.web.pauses import Pauses
from airflow_async_sm.emulator.web.refusals import Refusals
from airflow_async_sm.emulator.web.replies import (
    Reply,
    ReplyWithheld,
    access_denied,
    error_code,
    error_reply,
    internal_failure,
    json_reply,
)
from airflow_async_sm.emulator.web.services import Services
from airflow_async_sm.emulator.web.traffic import Traffic

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

# moto's own pages, and what of its control address only looks.
_MOTO_API: Final = "/moto-api"
_MOTO_LOOKS: Final = frozenset(
    f"{_MOTO_API}/{name}" for name in ("", "lib.js", "data.json", "state-manager/get-transition")
) | {"/favicon.ico"}

# What users stored may be a page with programs in it. Shown by a browser, it must not act as the emulator's
# own page, which may do everything.
_SANDBOX: Final = [("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff")]

_STOPPING: Final = "The emulator is stopping."


class FrontDoor:
    """
    A WSGI application that all requests come through.

    :param gate: Refuses requests of web pages.
    :param control: Answers below ``/_emulator/``.
    :param page: Answers people.
    :param services: Carries calls of AWS out.
    :param refusals: Says what goes wrong with them.
    :param pauses: Holds them back.
    :param counters: Counts them.
    :param account_id: The one account, whatever the credentials say.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        control: Control,
        page: Page,
        services: Services,
        refusals: Refusals,
        pauses: Pauses,
        counters: Counters,
        account_id: str,
    ) -> None:
        self._gate = gate
        self._control = control
        self._page = page
        self._services = services
        self._refusals = refusals
        self._pauses = pauses
        self._counters = counters
        self._account_id = account_id
        self._traffic = Traffic()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # moto gives the credentials of an assumed role an account of their own, in which there is nothing.
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account_id
        # The emulator's calls of itself belong to something else that is going on, and go on with it.
        if is_internal(environ):
            return self._reply(environ).send(start_response)
        if not self._traffic.enter():
            return self._reply(environ, closed=True).send(start_response)
        try:
            body = self._reply(environ).send(start_response)
        except BaseException:
            self._traffic.leave()
            raise
        return ClosingIterator(body, self._traffic.leave)

    def reset(self) -> None:
        """Forget what was called."""
        self._counters.reset()
        self._refusals.reset()

    def close(self) -> None:
        """Let go of every request that is held back. Call it before the server is stopped."""
        self._pauses.close()

    def shut(self, patience: float = 5.0) -> None:
        """
        Serve nobody from outside any more, for good: every further request is answered with 503.

        Requests that are being served are served to their end, those that are held back at once. The
        emulator's calls of itself go on. When this returns, nothing comes in that could change anything.

        :param patience: How many real seconds to wait for requests that are being served. One that takes
            longer, such as a long poll of a queue, is left to itself.
        """
        self._pauses.close()
        left = self._traffic.shut(patience)
        if left:
            log.warning("%d requests were still being served after %g seconds", left, patience)

    def _reply(self, environ: WSGIEnvironment, *, closed: bool = False) -> Reply:
        """Return the answer to a request. Whatever goes wrong is said in the protocol of the call."""
        call = None if _for_people(environ) else identify(environ)
        try:
            check_length(environ)
            if call is not None and is_form(environ):
                call = identify(environ, read_body(environ))
            if closed:
                return _closed(environ, call)
            self._check_sender(environ, call)
            return self._answer(environ, call)
        except AwsError as refusal:
            return error_reply(refusal, call)
        except ConnectionError:  # Its client is gone, or is to be left without an answer.
            raise
        except Exception:  # A mistake of the emulator's: its caller must not get a page with a traceback.
            log.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            return _failed(environ, call)

    def _answer(self, environ: WSGIEnvironment, call: Call | None) -> Reply:
        path = environ["PATH_INFO"]
        if path.startswith(PAGES):
            return self._control.answer(environ)
        if call is None:
            return self._page.answer(environ.get("QUERY_STRING", ""))
        if path.startswith(f"{_MOTO_API}/") and not (
            path in _MOTO_LOOKS and environ["REQUEST_METHOD"] in ("GET", "HEAD")
        ):
            return _past_the_emulator(environ)
        if call.internal or path in _MOTO_LOOKS:
            return self._carry_out(environ, call)
        answer = self._serve(environ, call)
        if environ["REQUEST_METHOD"] != "GET":  # A browser shows what it got by following an address.
            return answer
        return answer._replace(headers=[*answer.headers, *_SANDBOX])

    def _check_sender(self, environ: WSGIEnvironment, call: Call | None) -> None:
        # A link may lead to the pages: reading them changes nothing, and the site with the link cannot see
        # what they say.
        linked = call is None and environ["REQUEST_METHOD"] in ("GET", "HEAD")
        try:
            self._gate.check(
                host=environ.get("HTTP_HOST", ""),
                origin=environ.get("HTTP_ORIGIN"),
                site=None if linked else environ.get("HTTP_SEC_FETCH_SITE"),
            )
        except AwsError as refusal:
            raise access_denied(call, refusal.message) from refusal

    def _serve(self, environ: WSGIEnvironment, call: Call) -> Reply:
        """Answer a user's call: count it, let happen to it what is to happen, and carry it out."""
        if call.service == "sagemaker":
            call = call._replace(endpoint=endpoint_name(environ))
        self._counters.called(call)
        key = self._refusals.key(call)
        answer = self._refusals.refuse(call, key)
        if answer is None:
            answer = self._refusals.hide(call, key, self._in_time(environ, call, key))
            self._withhold(call, key)
        if answer.status >= 300 and answer.status != 304:
            self._counters.refused(error_code(answer))
        return answer

    def _in_time(self, environ: WSGIEnvironment, call: Call, key: str) -> Reply:
        seconds = self._refusals.slow(call, key)
        if seconds is None:
            return self._carry_out(environ, call)
        with self._pauses.wait(seconds):
            return self._carry_out(environ, call)

    def _carry_out(self, environ: WSGIEnvironment, call: Call) -> Reply:
        try:
            return self._services.answer(environ, call)
        except AwsError as refusal:
            return error_reply(refusal, call)
        except ConnectionError:
            raise
        except Exception:  # A mistake of the emulator's or of moto's. It counts as any other error does.
            log.exception("%s failed", call)
            return error_reply(internal_failure(call), call)

    def _withhold(self, call: Call, key: str) -> None:
        lost = self._refusals.lost(call, key)
        if lost is None:
            return
        if lost.seconds is None:
            raise ReplyWithheld
        self._pauses.wait(lost.seconds).end()


def _for_people(environ: WSGIEnvironment) -> bool:
    return environ["PATH_INFO"].startswith(PAGES) or wants_page(environ)


def _failed(environ: WSGIEnvironment, call: Call | None) -> Reply:
    if environ["PATH_INFO"].startswith(PAGES):
        return json_reply({"error": "The emulator itself failed; see its log."}, status=500)
    return error_reply(internal_failure(call), call)


def _closed(environ: WSGIEnvironment, call: Call | None) -> Reply:
    if environ["PATH_INFO"].startswith(PAGES):
        return json_reply({"error": _STOPPING}, status=503)
    return error_reply(AwsError("ServiceUnavailable", _STOPPING, status=503), call)


def _past_the_emulator(environ: WSGIEnvironment) -> Reply:
    text = (
        f"{environ['PATH_INFO']} is not served: it would change moto without the emulator's knowledge. Use "
        f"the emulator's own control address {PAGES}, for example POST {PAGES}reset."
    )
    return json_reply({"error": text}, status=405, headers=[("Allow", "GET, HEAD")])
