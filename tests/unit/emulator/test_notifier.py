"""When notifications are published, how often, and what happens if they cannot be."""

from __future__ import annotations

import json
import threading

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.clock import Clock, SteppedClock
from airflow_async_sm.emulator.notifications.notifier import Notifier
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import (
    NotificationDoubled,
    NotificationEarly,
    NotificationLate,
    NotificationLost,
)
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.work.endings import Ending, Request
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.submissions import Submission

SUCCESS = "arn:aws:sns:us-east-1:123456789012:good"
ERROR = "arn:aws:sns:eu-west-1:123456789012:bad"
CONFIG = {"OutputConfig": {"NotificationConfig": {"SuccessTopic": SUCCESS, "ErrorTopic": ERROR}}}


def request(number=1, *, endpoint="e", config=CONFIG):
    return Request(
        request_id=str(number),
        endpoint=endpoint,
        region="us-east-1",
        variant="v",
        submission=Submission(
            body=b"x",
            input_location=None,
            content_type=None,
            accept=None,
            custom_attributes=None,
            inference_id=f"id-{number}",
            output_path_extension=None,
            filename=None,
            request_ttl=60,
            invocation_timeout=60,
        ),
        output=S3Uri("b", "k"),
        failure=None,
        config=config,
        submitted_at=0.0,
        expires_at=60.0,
    )


SUCCEEDED = Ending(state=RequestState.SUCCEEDED, finished_at=1.0)
FAILED = Ending(state=RequestState.FAILED, finished_at=1.0, reason="r")


class Topics:
    """SNS in memory. It can be made to refuse, to break, or to wait."""

    def __init__(self):
        self.published = []
        self.refusal = None
        self.gate = threading.Event()
        self.gate.set()

    def get(self, service, region_name):
        assert service == "sns"
        return _Client(self, region_name)

    def said(self):
        return [json.loads(text).get("inferenceId") for _, _, text in self.published]


class _Client:
    def __init__(self, topics, region):
        self._topics = topics
        self._region = region

    def publish(self, *, TopicArn, Message):  # noqa: N803 - as boto3 spells them
        self._topics.gate.wait(10)
        if self._topics.refusal:
            raise self._topics.refusal
        self._topics.published.append((self._region, TopicArn, Message))


class Desk:
    """A notifier with a stepped clock and everything around it."""

    def __init__(self, *faults, **unknowns):
        self.clock = SteppedClock()
        self.topics = Topics()
        self.failed = []
        self.notifier = Notifier(
            clock=self.clock,
            clients=self.topics,
            board=FaultBoard(faults),
            knobs=Knobs(unknowns=Unknowns(**unknowns)),
            failed=self.note_failure,
        )
        self.clock.start()
        self.notifier.start()

    def note_failure(self, request):
        self.failed.append(request.request_id)

    def said(self):
        self.clock.settle()
        return self.topics.said()


@pytest.fixture
def desk():
    desks = []

    def make(*faults, **unknowns):
        desks.append(Desk(*faults, **unknowns))
        return desks[-1]

    yield make
    for made in desks:
        made.topics.gate.set()
        made.notifier.stop()
        made.clock.stop()


def test_each_end_goes_to_its_topic_in_the_region_of_the_topic(desk):
    it = desk()
    it.notifier.ended(request(1), SUCCEEDED)
    it.notifier.ended(request(2), FAILED)
    assert it.said() == ["id-1", "id-2"]
    assert [(region, topic) for region, topic, _ in it.topics.published] == [
        ("us-east-1", SUCCESS),
        ("eu-west-1", ERROR),
    ]
    assert it.failed == []


def test_new_endpoint_tries_each_topic(desk):
    it = desk(NotificationLost())
    it.notifier.started(CONFIG)
    it.clock.settle()
    assert [topic for _, topic, _ in it.topics.published] == [SUCCESS, ERROR]
    assert {json.loads(text)["eventName"] for _, _, text in it.topics.published} == {"TestNotification"}


@pytest.mark.parametrize("config", [{}, {"OutputConfig": {}}])
def test_endpoint_without_topics_publishes_nothing_and_uses_up_no_fault(desk, config):
    it = desk(NotificationLost(times=1), NotificationEarly(seconds=1))
    it.notifier.started(config)
    assert it.notifier.before_object(request(config=config), SUCCEEDED) == 0
    it.notifier.ended(request(config=config), SUCCEEDED)
    assert it.said() == []
    it.notifier.ended(request(2), SUCCEEDED)
    assert it.said() == []
    it.notifier.ended(request(3), SUCCEEDED)
    assert it.said() == ["id-3"]


def test_topic_that_waits_holds_up_nobody_but_stepped_time(desk):
    it = desk()
    it.topics.gate.clear()
    it.notifier.ended(request(), SUCCEEDED)
    it.clock.advance(1, patience=0.05)
    assert it.topics.published == []
    it.topics.gate.set()
    assert it.said() == ["id-1"]


REFUSED = ClientError({"Error": {"Code": "NotFound", "Message": "Topic does not exist"}}, "Publish")


def test_topic_that_is_gone_is_counted_and_logged(desk, caplog):
    it = desk()
    it.topics.refusal = REFUSED
    it.notifier.ended(request(1), SUCCEEDED)
    it.notifier.started(CONFIG)
    assert it.said() == []
    assert it.failed == ["1"]
    assert caplog.text.count("Topic does not exist") == 3
    it.topics.refusal = None
    it.notifier.ended(request(2), SUCCEEDED)
    assert it.said() == ["id-2"]


def test_topic_that_has_no_region_is_counted(desk):
    it = desk()
    config = {"OutputConfig": {"NotificationConfig": {"SuccessTopic": "nonsense"}}}
    it.notifier.ended(request(config=config), SUCCEEDED)
    assert it.said() == []
    assert it.failed == ["1"]


def test_bug_costs_one_notification(desk, caplog):
    it = desk()
    it.topics.refusal = ZeroDivisionError("a bug")
    it.notifier.ended(request(1), SUCCEEDED)
    assert it.said() == []
    it.topics.refusal = None
    it.notifier.ended(request(2), SUCCEEDED)
    assert it.said() == ["id-2"]
    assert "a bug" in caplog.text


class TestFaults:
    def test_lost(self, desk):
        it = desk(NotificationLost(times=1))
        it.notifier.ended(request(1), SUCCEEDED)
        it.notifier.ended(request(2), SUCCEEDED)
        assert it.said() == ["id-2"]

    def test_doubled(self, desk):
        it = desk(NotificationDoubled(times=1))
        it.notifier.ended(request(1), SUCCEEDED)
        it.notifier.ended(request(2), SUCCEEDED)
        assert it.said() == ["id-1", "id-1", "id-2"]

    def test_late(self, desk):
        it = desk(NotificationLate(seconds=30, times=1))
        it.notifier.ended(request(1), SUCCEEDED)
        it.notifier.ended(request(2), SUCCEEDED)
        assert it.said() == ["id-2"]
        it.clock.advance(29.9)
        assert it.said() == ["id-2"]
        it.clock.advance(0.1)
        assert it.said() == ["id-2", "id-1"]

    def test_both_copies_of_a_late_one_are_late(self, desk):
        it = desk(NotificationLate(seconds=30), NotificationDoubled())
        it.notifier.ended(request(1), SUCCEEDED)
        assert it.said() == []
        it.clock.advance(30)
        assert it.said() == ["id-1", "id-1"]

    def test_of_another_endpoint(self, desk):
        it = desk(NotificationLost(endpoint="other"))
        it.notifier.ended(request(1), SUCCEEDED)
        it.notifier.ended(request(2, endpoint="other"), SUCCEEDED)
        assert it.said() == ["id-1"]

    def test_chance_is_of_the_request(self, desk):
        heard = []
        for _ in range(2):
            it = desk()
            it.notifier._board = FaultBoard([NotificationLost(rate=0.5)], seed=7)
            for number in range(40):
                it.notifier.ended(request(number), SUCCEEDED)
            heard.append(it.said())
        assert heard[0] == heard[1]
        assert 5 < len(heard[0]) < 35


class TestBeforeTheObject:
    def test_normally_the_object_comes_first(self, desk):
        it = desk()
        assert it.notifier.before_object(request(), SUCCEEDED) == 0
        assert it.said() == []
        it.notifier.ended(request(), SUCCEEDED)
        assert it.said() == ["id-1"]

    def test_fault_announces_once_whatever_comes_after(self, desk):
        it = desk(NotificationEarly(seconds=5, times=1))
        assert it.notifier.before_object(request(), SUCCEEDED) == 5
        assert it.said() == ["id-1"]
        # The writing failed: there is one notification for a request, and it has been sent.
        assert it.notifier.before_object(request(), FAILED) == 0
        it.notifier.ended(request(), FAILED)
        assert it.said() == ["id-1"]
        assert it.notifier.before_object(request(2), SUCCEEDED) == 0

    def test_unknown_order_of_the_service(self, desk):
        it = desk(notification_lead_seconds=0.5)
        assert it.notifier.before_object(request(), FAILED) == 0.5
        assert it.said() == ["id-1"]
        assert it.topics.published[0][1] == ERROR

    def test_end_without_a_notification_is_not_held_back(self, desk):
        it = desk(notification_lead_seconds=0.5)
        config = {"OutputConfig": {"NotificationConfig": {"SuccessTopic": SUCCESS}}}
        assert it.notifier.before_object(request(config=config), FAILED) == 0

    def test_lost_one_still_holds_the_object_back(self, desk):
        it = desk(NotificationEarly(seconds=5), NotificationLost())
        assert it.notifier.before_object(request(), SUCCEEDED) == 5
        it.notifier.ended(request(), SUCCEEDED)
        assert it.said() == []


def test_end_publishes_what_is_due():
    topics = Topics()
    notifier = Notifier(
        clock=Clock(), clients=topics, board=FaultBoard(), knobs=Knobs(), failed=lambda request: None
    )
    for number in range(20):
        notifier.ended(request(number), SUCCEEDED)
    notifier.start()
    notifier.stop()
    assert topics.said() == [f"id-{number}" for number in range(20)]


def test_end_does_not_wait_for_ever(caplog):
    topics = Topics()
    topics.gate.clear()
    notifier = Notifier(
        clock=Clock(), clients=topics, board=FaultBoard(), knobs=Knobs(), failed=lambda request: None
    )
    notifier.start()
    notifier.ended(request(), SUCCEEDED)
    notifier.stop(patience=0.05)
    assert "not published within 0.05 seconds" in caplog.text
    topics.gate.set()
    notifier.stop()
    assert topics.said() == ["id-1"]


def test_flush_returns_when_what_is_due_has_been_published(desk):
    made = desk()
    made.topics.gate.clear()
    for number in (1, 2):
        made.notifier.ended(request(number), SUCCEEDED)
    opening = threading.Timer(0.2, made.topics.gate.set)
    opening.start()
    made.notifier.flush()
    assert made.topics.said() == ["id-1", "id-2"]


def test_flush_does_not_wait_for_ever(desk, caplog):
    made = desk()
    made.topics.gate.clear()
    made.notifier.ended(request(), SUCCEEDED)
    made.notifier.flush(0.05)
    assert "not published within 0.05 seconds" in caplog.text
