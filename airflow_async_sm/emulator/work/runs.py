"""One run of a request on one instance: its input comes down, the model answers, an object goes up."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, TypeVar

from airflow_async_sm.emulator.clock import Work
from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.models.containers import Container
from airflow_async_sm.emulator.settings.faults import (
    Fault,
    InstanceLost,
    ModelCrash,
    ModelError,
    ModelLatency,
)
from airflow_async_sm.emulator.settings.unknowns import BothObjects
from airflow_async_sm.emulator.work.endings import RESPONSE_BYTES, Ending, Request, Response
from airflow_async_sm.emulator.work.invocation import (
    Answer,
    End,
    Ended,
    Exchange,
    InvocationFailed,
)
from airflow_async_sm.emulator.work.objects import text_answer
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.texts import download_failed, model_error, timed_out, upload_failed
from airflow_async_sm.emulator.work.tools import Tools

F = TypeVar("F", bound=Fault)

DOWNLOAD: Final = "download"
MODEL: Final = "model"
UPLOAD: Final = "upload"

# How much later the second object comes where both are switched on, and what stands in the failure object.
_SECOND_OBJECT_SECONDS: Final = 1.0
BESIDE_AN_OUTPUT: Final = "A failure object beside an output, as switched on in the emulator."


@dataclass(slots=True)
class _Spans:
    """How long each part of a run took, in seconds."""

    download: float | None = None
    model: float | None = None


class Run:
    """
    One attempt at a request. Another thread can end it at any moment.

    :param request: What to work on.
    :param attempt: How often it has been taken from the queue, from 1.
    :param container: The instance's model server.
    :param tools: What all endpoints share.
    :param work: Ended while the run waits for time to pass.
    :param lost: Called if the instance is to vanish while it works on this request.
    """

    def __init__(
        self,
        request: Request,
        *,
        attempt: int,
        container: Container,
        tools: Tools,
        work: Work,
        lost: Callable[[], None],
    ) -> None:
        self.request = request
        self._attempt = attempt
        self._container = container
        self._tools = tools
        self._work = work
        self._lost = lost
        self._exchange = Exchange(tools.knobs.behaviour.connect_timeout)
        self._lock = threading.Lock()
        self._pausing = False
        self._awake = threading.Event()
        self._spans = _Spans()
        self._open_files = contextlib.ExitStack()
        self._step = DOWNLOAD
        self._started_at = tools.clock.now()

    def end(self, why: End) -> None:
        """Make the run end at once. The first reason counts."""
        self._exchange.end(why)
        self._wake()

    def perform(self) -> Ending:
        """
        Do everything, and return how it ended. The objects are written by then.

        :raises Ended: it was ended from outside for another reason than its time limit.
        """
        deadline = self._tools.clock.after(
            self.request.submission.invocation_timeout, lambda: self.end(End.TIMED_OUT)
        )
        with self._open_files:
            try:
                return self._succeed(self._answer())
            except Ended as ended:
                if ended.why is not End.TIMED_OUT:
                    raise
                return self._fail(InvocationFailed(timed_out(self.request.output)))
            except InvocationFailed as failure:
                return self._fail(failure)
            finally:
                deadline.cancel()

    def _answer(self) -> Answer:
        body, length = self._download()
        self._open_files.enter_context(body)
        self._step = MODEL
        began = self._tools.clock.now()
        answer = self._call(body, length)
        self._open_files.callback(answer.close)
        self._delay_answer()
        self._spans.model = self._tools.clock.now() - began
        if self._draw(InstanceLost):
            self._lost()
            raise Ended(End.LOST)
        if not 200 <= answer.status < 300:
            raise InvocationFailed(model_error(answer.status), answer)
        return answer

    def _download(self) -> tuple[BinaryIO, int]:
        submission = self.request.submission
        if submission.input_location is None:
            body = submission.body or b""
            return io.BytesIO(body), len(body)
        began = self._tools.clock.now()
        try:
            opened, length = self._tools.objects.open_input(self.request)
        except StorageError as error:
            raise InvocationFailed(download_failed(submission.input_location)) from error
        self._spans.download = self._tools.clock.now() - began
        self._exchange.check()
        return opened, length

    def _call(self, body: BinaryIO, length: int) -> Answer:
        if instead := self._draw(ModelError):
            self._count()
            return text_answer(instead.body, status=instead.status, content_type=instead.content_type)
        return self._exchange.post(
            self._container,
            body,
            length,
            self._headers(),
            endpoint=self.request.endpoint,
            calling=self._calling,
        )

    def _calling(self) -> None:
        self._count()
        if self._draw(ModelCrash):
            self._container.crash()

    def _count(self) -> None:
        self._tools.requests.count_invocation(self.request.request_id)
        self._tools.tally.invoked(self.request.submission)

    def _headers(self) -> dict[str, str]:
        headers = self.request.submission.container_headers()
        if self._tools.knobs.unknowns.container_inference_id:
            headers["X-Amzn-SageMaker-Inference-Id"] = self.request.submission.inference_id
        return headers

    def _delay_answer(self) -> None:
        if slow := self._draw(ModelLatency):
            self._pause(slow.seconds_for(self._tools.board.random("latency", self.request.request_id)))

    def _pause(self, seconds: float) -> None:
        """Wait for time to pass, unless the run is ended meanwhile."""
        self._awake.clear()
        # The timer cannot wake it before it is asleep: waking takes the lock too.
        with self._lock:
            self._pausing = True
            timer = self._tools.clock.after(seconds, self._wake)
            self._work.end()
        try:
            self._exchange.check()
            self._awake.wait()
            self._exchange.check()
        finally:
            timer.cancel()
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._pausing:
                self._pausing = False
                self._work.resume()
                self._awake.set()

    def _succeed(self, answer: Answer) -> Ending:
        self._step = UPLOAD
        ending = self._ending(RequestState.SUCCEEDED, answer)
        if self._tools.knobs.unknowns.both_objects is BothObjects.OUTPUT_AFTER_FAILURE:
            self._tools.objects.write_failure(self.request, text_answer(BESIDE_AN_OUTPUT))
            self._pause(_SECOND_OBJECT_SECONDS)
        self._let_the_message_go_first(ending)
        self._exchange.check()
        began = self._tools.clock.now()
        try:
            self._tools.objects.write_output(self.request, answer)
        except StorageError as error:
            raise InvocationFailed(upload_failed(self.request.output)) from error
        now = self._tools.clock.now()
        if self._tools.knobs.unknowns.both_objects is BothObjects.FAILURE_AFTER_OUTPUT:
            beside = text_answer(BESIDE_AN_OUTPUT)
            self._tools.clock.after(
                _SECOND_OBJECT_SECONDS, lambda: self._tools.objects.write_failure(self.request, beside)
            )
        return replace(ending, upload_seconds=now - began, finished_at=now)

    def _fail(self, failure: InvocationFailed) -> Ending:
        ending = self._ending(RequestState.FAILED, failure.answer, failure)
        with contextlib.suppress(Ended):  # The time limit is behind it; only the order matters here.
            self._let_the_message_go_first(ending)
        self._tools.objects.write_failure(self.request, failure.answer or text_answer(failure.reason))
        return replace(ending, finished_at=self._tools.clock.now())

    def _let_the_message_go_first(self, ending: Ending) -> None:
        lead = self._tools.herald.before_object(self.request, ending)
        if lead > 0:
            self._pause(lead)

    def _ending(
        self, state: RequestState, answer: Answer | None, failure: InvocationFailed | None = None
    ) -> Ending:
        return Ending(
            state=state,
            status=answer.status if answer else None,
            reason=failure.reason if failure else None,
            notice=failure.notice if failure else None,
            response=_response(answer) if answer else None,
            content_type=answer.content_type if answer else None,
            started_at=self._started_at,
            finished_at=self._tools.clock.now(),
            download_seconds=self._spans.download,
            model_seconds=self._spans.model,
            failed_step=self._step if failure else None,
        )

    def _draw(self, kind: type[F]) -> F | None:
        key = f"{self.request.request_id}/{self._attempt}"
        return self._tools.board.draw(kind, key=key, endpoint=self.request.endpoint)


def _response(answer: Answer) -> Response | None:
    if answer.length > RESPONSE_BYTES:
        return None
    content = answer.body.read()
    answer.body.seek(0)
    return Response(content, answer.content_type)
