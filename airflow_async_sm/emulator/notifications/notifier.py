"""Publishes notifications, without ever being in a request's way."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from airflow_async_sm.emulator.clock import Clock, Work
from airflow_async_sm.emulator.notifications.messages import (
    Notification,
    Topics,
    notification,
    trial_notification,
)
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import (
    Fault,
    NotificationDoubled,
    NotificationEarly,
    NotificationLate,
    NotificationLost,
)
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.work.endings import Ending, Request

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Fault)


class Clients(Protocol):
    """Where clients come from."""

    def get(self, service: str, region_name: str) -> Any:
        """Return the boto3 client of ``service`` in ``region_name``."""


class Notifier:
    """
    One thread that publishes, in the order of the ends of requests, and what goes wrong with it on purpose.

    None of its methods waits for a topic, and none raises because of one.

    :param clock: When a late notification is published.
    :param clients: Where the SNS clients come from.
    :param board: Faults: notifications lost, late, doubled and early.
    :param knobs: What is not known about the form and the time of notifications.
    :param failed: Called with the request whose notification could not be published, on the thread of the
        notifier.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        clients: Clients,
        board: FaultBoard,
        knobs: Knobs,
        failed: Callable[[Request], None],
    ) -> None:
        self._clock = clock
        self._clients = clients
        self._board = board
        self._knobs = knobs
        self._failed = failed
        self._lock = threading.Lock()
        self._announced: set[str] = set()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="emulator-notifier", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def flush(self, patience: float = 3.0) -> None:
        """
        Publish what is due, and return when that has been done.

        :param patience: Real seconds to wait for that.
        """
        done = threading.Event()
        self._queue.put(done.set)
        if not done.wait(patience):
            log.warning("Notifications were not published within %g seconds", patience)

    def stop(self, patience: float = 3.0) -> None:
        """
        Publish what is due, and end. What is still to come late is not published any more.

        :param patience: Real seconds to wait for that.
        """
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("Notifications were not published within %g seconds", patience)

    def started(self, config: Mapping[str, Any] | None) -> None:
        """
        Send the test message to each topic of an endpoint that is being created.

        :param config: The endpoint's ``AsyncInferenceConfig``.
        """
        for topic in Topics.of(config).all():
            self._publish_later(trial_notification(topic), None)

    def before_object(self, request: Request, ending: Ending) -> float:
        """
        Say that a request's object is about to be written, and return how many seconds to hold it back.

        It is 0 unless the notification has to come first. Then it is published now, and :meth:`ended` will
        not publish another one, however the writing ends.

        :param request: The request.
        :param ending: How it is going to end.
        """
        message = notification(request, ending, Topics.of(request.config), self._knobs.unknowns)
        if message is None or self._has_announced(request):
            return 0.0
        fault = self._draw(NotificationEarly, request)
        lead = fault.seconds if fault else self._knobs.unknowns.notification_lead_seconds
        if lead > 0:
            with self._lock:
                self._announced.add(request.request_id)
            self._deliver(message, request)
        return lead

    def ended(self, request: Request, ending: Ending) -> None:
        """
        Notify of the end of a request, as far as its endpoint and its end ask for that.

        :param request: The request.
        :param ending: How it ended.
        """
        if self._has_announced(request):
            with self._lock:
                self._announced.discard(request.request_id)
            return
        message = notification(request, ending, Topics.of(request.config), self._knobs.unknowns)
        if message is not None:
            self._deliver(message, request)

    def _has_announced(self, request: Request) -> bool:
        with self._lock:
            return request.request_id in self._announced

    def _deliver(self, message: Notification, request: Request) -> None:
        if self._draw(NotificationLost, request):
            return
        copies = 2 if self._draw(NotificationDoubled, request) else 1

        def publish() -> None:
            for _ in range(copies):
                self._publish_later(message, request)

        if late := self._draw(NotificationLate, request):
            self._clock.after(late.seconds, publish)
        else:
            publish()

    def _draw(self, kind: type[F], request: Request) -> F | None:
        return self._board.draw(kind, key=request.request_id, endpoint=request.endpoint)

    def _publish_later(self, message: Notification, request: Request | None) -> None:
        self._queue.put(partial(self._publish, message, request, self._clock.working()))

    def _run(self) -> None:
        while (step := self._queue.get()) is not None:
            try:
                step()
            except Exception:  # A bug of ours must not cost the next notification.
                log.exception("The notifier failed")

    def _publish(self, message: Notification, request: Request | None, work: Work) -> None:
        with work:
            self._try_to_publish(message, request)

    def _try_to_publish(self, message: Notification, request: Request | None) -> None:
        try:
            # A topic is in the region that its ARN names, wherever the endpoint is.
            client = self._clients.get("sns", message.topic.split(":")[3])
            client.publish(TopicArn=message.topic, Message=message.text)
        except (BotoCoreError, ClientError, IndexError) as error:
            log.warning("A notification cannot be published to %s: %s", message.topic, error)
            if request is not None:
                self._failed(request)
