"""What is written, logged and said about a request: when it is begun, given back, and ended."""

from __future__ import annotations

import logging
from typing import Final

from airflow_async_sm.emulator.settings.unknowns import ExpiryObject
from airflow_async_sm.emulator.work.endings import Ending, Request
from airflow_async_sm.emulator.work.objects import text_answer
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.texts import no_response
from airflow_async_sm.emulator.work.tools import Tools

log = logging.getLogger(__name__)

# Nobody has seen what the service writes in these cases, if it writes anything; the texts are ours.
EXPIRED: Final = "The request was not processed within RequestTTLSeconds and has expired."
DELETED: Final = "The endpoint was deleted before the request was processed."
OUR_FAULT: Final = "The emulator itself failed on the request; see its log."


class Conclusions:
    """
    Keeps the log of requests true and tells everybody who has to know.

    :param tools: What all endpoints share.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def begin(self, request: Request) -> None:
        """Note that an instance has taken the request."""
        self._tools.requests.note(
            request.request_id, state=RequestState.RUNNING, started_at=self._tools.clock.now()
        )

    def requeue(self, request: Request) -> None:
        """Note that the request is in the queue again."""
        self._tools.requests.note(request.request_id, state=RequestState.QUEUED, started_at=None)

    def conclude(self, request: Request, ending: Ending) -> None:
        """Note an end and pass it on. What is to be in S3 is there by now."""
        self._tools.requests.note(
            request.request_id,
            state=ending.state,
            finished_at=ending.finished_at,
            status=ending.status,
            reason=ending.reason,
        )
        log.debug("Request %s of endpoint %s %s", request.request_id, request.endpoint, ending.state)
        self._tools.metrics.ended(request, ending)
        self._tools.herald.ended(request, ending)

    def expire(self, request: Request) -> None:
        """End a request whose time in the queue is over."""
        write = self._tools.knobs.unknowns.expiry_object is ExpiryObject.TEXT
        self._fail(request, EXPIRED, state=RequestState.EXPIRED, write=write)

    def lose(self, request: Request) -> None:
        """End a request with a failure because its instance is gone."""
        self._fail(request, no_response(request.endpoint))

    def fail_deleted(self, request: Request) -> None:
        """End a request with a failure because its endpoint is gone."""
        self._fail(request, DELETED)

    def vanish(self, request: Request) -> None:
        """End a request without an object or a message."""
        self._end(request, RequestState.DROPPED, None)

    def our_fault(self, request: Request) -> None:
        """End a request with a failure because the emulator itself failed on it."""
        self._fail(request, OUR_FAULT)

    def _fail(
        self,
        request: Request,
        reason: str,
        *,
        state: RequestState = RequestState.FAILED,
        write: bool = True,
    ) -> None:
        try:
            if write:
                self._tools.objects.write_failure(request, text_answer(reason))
        finally:
            self._end(request, state, reason)

    def _end(self, request: Request, state: RequestState, reason: str | None) -> None:
        self.conclude(request, Ending(state=state, reason=reason, finished_at=self._tools.clock.now()))
