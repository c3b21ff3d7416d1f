"""The front door: the way of a request, from the gate to its answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.web.bodies import endpoint_name, read_body
from airflow_async_sm.emulator.web.calls import Call, identify, is_form
from airflow_async_sm.emulator.web.control import PAGES, Control
from airflow_async_sm.emulator.web.counters import Counters
from airflow_async_sm.emulator.web.gate import Gate
from airflow_async_sm.emulator.web.page import Page, wants_page
from airflow_async_sm.emulator.web.pauses import Pauses
from airflow_async_sm.emulator.web.refusals import Refusals
from airflow_async_sm.emulator.web.replies import Reply, ReplyWithheld, error_code, error_reply
from airflow_async_sm.emulator.web.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# moto's own page and its control address.
_MOTO_PAGES = ("/moto-api", "/favicon.ico")


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

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # moto gives the credentials of an assumed role an account of their own, in which there is nothing.
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account_id
        return self._answer(environ).send(start_response)

    def reset(self) -> None:
        """Forget what was called."""
        self._counters.reset()
        self._refusals.reset()

    def close(self) -> None:
        """Let go of every request that is held back. Call it before the server is stopped."""
        self._pauses.close()

    def _answer(self, environ: WSGIEnvironment) -> Reply:
        path = environ["PATH_INFO"]
        for_people = path.startswith(PAGES) or wants_page(environ)
        try:
            self._check_sender(environ, for_people=for_people)
        except AwsError as refusal:
            return error_reply(refusal)
        if path.startswith(PAGES):
            return self._control.answer(environ)
        if for_people:
            return self._page.answer(environ.get("QUERY_STRING", ""))
        call = identify(environ, read_body(environ) if is_form(environ) else b"")
        if call.internal or path.startswith(_MOTO_PAGES):
            return self._carry_out(environ, call)
        return self._serve(environ, call)

    def _check_sender(self, environ: WSGIEnvironment, *, for_people: bool) -> None:
        # A link may lead to the pages: reading them changes nothing, and the site with the link cannot see
        # what they say.
        linked = for_people and environ["REQUEST_METHOD"] in ("GET", "HEAD")
        self._gate.check(
            host=environ.get("HTTP_HOST", ""),
            origin=environ.get("HTTP_ORIGIN"),
            site=None if linked else environ.get("HTTP_SEC_FETCH_SITE"),
        )

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

    def _withhold(self, call: Call, key: str) -> None:
        lost = self._refusals.lost(call, key)
        if lost is None:
            return
        if lost.seconds is None:
            raise ReplyWithheld
        self._pauses.wait(lost.seconds).end()
