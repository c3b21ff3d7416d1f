"""What is published to topics, as a queue receives it; on the real AWS and on the emulator."""

from __future__ import annotations

import json
import uuid


class Inbox:
    """Two topics, for successes and errors, and a queue that is subscribed to both."""

    def __init__(self, service):
        self._service = service
        self._seen = []
        name = f"contract-{uuid.uuid4().hex[:16]}"
        self.queue = service.sqs.create_queue(QueueName=name)["QueueUrl"]
        service.later(service.sqs.delete_queue, QueueUrl=self.queue)
        attributes = service.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        arn = attributes["Attributes"]["QueueArn"]
        self.topics = {side: self._topic(f"{name}-{side}", arn) for side in ("success", "error")}
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": list(self.topics.values())}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        service.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": policy})

    @property
    def config(self):
        """The NotificationConfig that publishes to this inbox."""
        return {"SuccessTopic": self.topics["success"], "ErrorTopic": self.topics["error"]}

    def wait(self, wanted):
        """Return the first (side, message) for which ``wanted(message)`` holds, waiting for it."""

        def found():
            self._receive()
            return next(((side, message) for side, message in self._seen if wanted(message)), None)

        return self._service.eventually(found, within=self._service.patience.message)

    def about(self, response):
        """Return the side and the message about a request, waiting for it."""
        return self.wait(lambda message: message.get("inferenceId") == response["InferenceId"])

    def sides(self, wanted, count):
        """Wait for so many messages for which ``wanted(message)`` holds, and return their sides."""

        def found():
            self._receive()
            sides = [side for side, message in self._seen if wanted(message)]
            return sides if len(sides) >= count else None

        return sorted(self._service.eventually(found, within=self._service.patience.message))

    def _topic(self, name, queue_arn):
        arn = self._service.sns.create_topic(Name=name)["TopicArn"]
        self._service.later(self._service.sns.delete_topic, TopicArn=arn)
        subscribed = self._service.sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, ReturnSubscriptionArn=True
        )
        self._service.later(self._service.sns.unsubscribe, SubscriptionArn=subscribed["SubscriptionArn"])
        return arn

    def _receive(self):
        sqs = self._service.sqs
        got = sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        sides = {arn: side for side, arn in self.topics.items()}
        for message in got.get("Messages", []):
            envelope = json.loads(message["Body"])
            self._seen.append((sides[envelope["TopicArn"]], json.loads(envelope["Message"])))
            sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
