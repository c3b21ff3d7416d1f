"""Notifications on their way through moto's SNS to a queue, as a subscriber reads them."""

from __future__ import annotations

import json

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.notifications.notifier import Notifier
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.web import http_server
from airflow_async_sm.emulator.work.endings import RESPONSE_BYTES, Ending, Request, Response
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.submissions import Submission


@pytest.fixture
def clients():
    """Clients of a moto that is on its own."""
    http_server.reset_moto()
    server = http_server.HttpServer("127.0.0.1", 0)
    server.start(http_server.moto_application())
    clients = LocalClients(f"http://127.0.0.1:{server.port}")
    yield clients
    clients.close()
    server.stop()
    http_server.reset_moto()


class Subscriber:
    """A topic in a region and a queue that is subscribed to it."""

    def __init__(self, clients, region, *, raw):
        sns, self._sqs = clients.get("sns", region), clients.get("sqs", region)
        self.topic = sns.create_topic(Name="t")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="q")["QueueUrl"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=found["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": str(raw).lower()},
        )

    def messages(self):
        got = self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return got.get("Messages", [])


def request(topic, **config):
    notification = {"SuccessTopic": topic, "ErrorTopic": topic, **config}
    return Request(
        request_id="k",
        endpoint="e",
        region="us-east-1",
        variant="v",
        submission=Submission(
            body=b"x",
            input_location=None,
            content_type="text/csv",
            accept=None,
            custom_attributes=None,
            inference_id="i",
            output_path_extension=None,
            filename=None,
            request_ttl=60,
            invocation_timeout=60,
        ),
        output=S3Uri("b", "k.out"),
        failure=None,
        config={"OutputConfig": {"NotificationConfig": notification}},
        submitted_at=0.0,
        expires_at=60.0,
    )


@pytest.fixture
def notifier(clients):
    """A notifier, with its clock and the requests whose notifications failed as attributes."""
    clock, failed = SteppedClock(), []
    notifier = Notifier(clock=clock, clients=clients, board=FaultBoard(), knobs=Knobs(), failed=failed.append)
    notifier.clock, notifier.failures = clock, failed
    notifier.start()
    yield notifier
    notifier.stop()


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_subscribed_queue_gets_what_was_published(clients, notifier, region, raw):
    subscriber = Subscriber(clients, region, raw=raw)
    asked = request(subscriber.topic)
    notifier.started(asked.config)
    notifier.ended(asked, Ending(state=RequestState.SUCCEEDED, finished_at=1.0, content_type="text/plain"))
    notifier.ended(asked, Ending(state=RequestState.FAILED, finished_at=1.0, reason="r"))
    notifier.clock.settle()
    messages = subscriber.messages()
    assert all("MessageAttributes" not in message for message in messages)
    bodies = [json.loads(message["Body"]) for message in messages]
    if not raw:
        assert all("Subject" not in body and "MessageAttributes" not in body for body in bodies)
        assert all(body["TopicArn"] == subscriber.topic for body in bodies)
        bodies = [json.loads(body["Message"]) for body in bodies]
    trial, success, failure = bodies
    assert trial["eventName"] == "TestNotification"
    assert (success["invocationStatus"], success["awsRegion"]) == ("Completed", "us-east-1")
    assert success["responseParameters"] == {"contentType": "text/plain", "outputLocation": "s3://b/k.out"}
    assert (failure["invocationStatus"], failure["failureReason"]) == ("Failed", "r")
    assert notifier.failures == []


def test_largest_response_fits(clients, notifier):
    subscriber = Subscriber(clients, "us-east-1", raw=False)
    asked = request(subscriber.topic, IncludeInferenceResponseIn=["SUCCESS_NOTIFICATION_TOPIC"])
    response = Response(bytes(RESPONSE_BYTES), None)
    notifier.ended(asked, Ending(state=RequestState.SUCCEEDED, finished_at=1.0, response=response))
    notifier.clock.settle()
    (message,) = subscriber.messages()
    said = json.loads(json.loads(message["Body"])["Message"])
    assert len(said["responseBody"]["content"]) == 4 * -(-RESPONSE_BYTES // 3)
    assert notifier.failures == []


def test_topic_that_does_not_exist_is_a_failure(clients, notifier):
    asked = request("arn:aws:sns:us-east-1:123456789012:gone")
    notifier.ended(asked, Ending(state=RequestState.SUCCEEDED, finished_at=1.0))
    notifier.clock.settle()
    assert notifier.failures == [asked]
