from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ElementTree

import pytest

from airflow_async_sm.emulator.clock import Clock, SteppedClock
from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.faults import (
    ExpiredCredentials,
    ListDenied,
    ReplyLost,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    SlowAnswer,
    Throttled,
)
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.web.calls import Call, Protocol
from airflow_async_sm.emulator.web.pauses import Pauses
from airflow_async_sm.emulator.web.refusals import Refusals
from airflow_async_sm.emulator.web.replies import Reply, error_code, error_reply
from tests.world import eventually

SUBMIT = Call("sagemaker-runtime", "InvokeEndpointAsync", Protocol.REST_JSON, "us-east-1", "KEY", "e")
GET = Call("s3", "GetObject", Protocol.S3, "us-east-1", "KEY", None, "near")
BUCKETS = {"near": "us-east-1", "far": "eu-west-1"}


def refusals(*faults, seed=None):
    return Refusals(
        board=FaultBoard(faults, seed=seed),
        knobs=Knobs(),
        account_id="123456789012",
        bucket_region=BUCKETS.get,
    )


def outcome(door, call):
    answer = door.refuse(call, door.key(call))
    return None if answer is None else (answer.status, error_code(answer))


def test_without_faults_everything_passes():
    door = refusals()
    for call in (SUBMIT, GET, GET._replace(bucket=None, operation="ListBuckets")):
        key = door.key(call)
        assert door.refuse(call, key) is door.slow(call, key) is door.lost(call, key) is None


def test_key_is_a_running_number_for_each_operation():
    door = refusals()
    assert [door.key(SUBMIT), door.key(GET), door.key(SUBMIT)] == [
        "sagemaker-runtime.InvokeEndpointAsync/1",
        "s3.GetObject/1",
        "sagemaker-runtime.InvokeEndpointAsync/2",
    ]


@pytest.mark.parametrize(
    ("fault", "call", "expected"),
    [
        (Throttled(), SUBMIT, (400, "ThrottlingException")),
        (Throttled(endpoint="E"), SUBMIT, (400, "ThrottlingException")),
        (Throttled(endpoint="other"), SUBMIT, None),
        (Throttled(), GET, None),
        (ServiceFailed(), SUBMIT, (500, "InternalFailure")),
        (ServiceFailed(status=503), GET, (503, "ServiceUnavailable")),
        (ServiceFailed(), GET, (500, "InternalError")),
        (ServiceFailed(service="sqs"), GET, None),
        (ExpiredCredentials(), GET, (400, "ExpiredToken")),
        (ExpiredCredentials(access_key_id="KEY"), SUBMIT, (403, "ExpiredTokenException")),
        (ExpiredCredentials(access_key_id="OTHER"), SUBMIT, None),
        (S3SlowDown(), GET, (503, "SlowDown")),
        (S3SlowDown(), SUBMIT, None),
        (S3SlowDown(bucket="far"), GET, None),
        (S3Denied(), GET, (403, "AccessDenied")),
        (S3Denied(operation="PutObject"), GET, None),
        (ListDenied(), GET, None),
        (ListDenied(), GET._replace(operation="ListObjectsV2"), (403, "AccessDenied")),
        (ListDenied(), GET._replace(operation="HeadBucket", head=True), (403, "403")),
    ],
)
def test_fault_hits_what_it_is_about(fault, call, expected):
    assert outcome(refusals(fault), call) == expected


def test_expired_credentials_come_first():
    assert outcome(refusals(ServiceFailed(), ExpiredCredentials()), GET) == (400, "ExpiredToken")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("GetObject", (301, "PermanentRedirect")),
        ("HeadBucket", (301, "PermanentRedirect")),
        ("CreateBucket", None),
        ("GetBucketLocation", None),
    ],
)
def test_bucket_of_another_region(operation, expected):
    call = GET._replace(bucket="far", operation=operation)
    assert outcome(refusals(), call) == expected
    assert outcome(refusals(), call._replace(region="eu-west-1")) is None
    # An unsigned request is meant for no region.
    assert outcome(refusals(), call._replace(region=None)) is None


def test_redirect_says_where_to():
    door = refusals()
    answer = door.refuse(GET._replace(bucket="far", head=True), "1")
    assert dict(answer.headers)["x-amz-bucket-region"] == "eu-west-1"
    assert b"".join(answer.body) == b""


class TestHide:
    MISSING = Reply(404, [], [b"<Code>NoSuchKey</Code>"])

    def hidden(self, call, reply=MISSING):
        answer = refusals(ListDenied()).hide(call, "1", reply)
        return answer.status

    def test_missing_key(self):
        assert self.hidden(GET) == 403
        assert self.hidden(GET._replace(operation="HeadObject", head=True)) == 403

    def test_everything_else_stays(self):
        assert self.hidden(GET, Reply(200, [], [])) == 200
        assert self.hidden(GET._replace(bucket="nowhere")) == 404
        assert self.hidden(GET._replace(operation="GetBucketPolicy")) == 404
        assert refusals().hide(GET, "1", self.MISSING) is self.MISSING


def test_what_is_slow_or_lost_is_said():
    door = refusals(SlowAnswer(seconds=7.0), ReplyLost(seconds=2.0))
    assert door.slow(GET, "1") == 7.0
    assert door.lost(GET, "1") is None
    assert door.lost(SUBMIT, "1").seconds == 2.0


def test_rate_is_repeatable():
    def run():
        door = refusals(Throttled(rate=0.5), seed=3)
        return [outcome(door, SUBMIT) for _ in range(50)]

    assert run() == run()
    assert 10 < run().count(None) < 40


class TestErrors:
    ERROR = AwsError("Some<Code", "what & why", status=400)

    def test_s3(self):
        answer = error_reply(self.ERROR, GET)
        found = ElementTree.fromstring(b"".join(answer.body))
        assert (found.tag, found.findtext("Code"), found.findtext("Message")) == (
            "Error",
            "Some<Code",
            "what & why",
        )

    def test_query(self):
        answer = error_reply(self.ERROR, Call("sns", "Publish", Protocol.QUERY))
        found = ElementTree.fromstring(b"".join(answer.body))
        assert (found.tag, found.findtext("Error/Code"), found.findtext("Error/Type")) == (
            "ErrorResponse",
            "Some<Code",
            "Sender",
        )

    @pytest.mark.parametrize(
        ("protocol", "content_type"),
        [(Protocol.JSON, "application/x-amz-json-1.1"), (Protocol.REST_JSON, "application/json")],
    )
    def test_json(self, protocol, content_type):
        answer = error_reply(self.ERROR, Call("any", "Call", protocol))
        headers = dict(answer.headers)
        assert (headers["Content-Type"], headers["x-amzn-ErrorType"]) == (content_type, "Some<Code")
        assert json.loads(b"".join(answer.body)) == {"__type": "Some<Code", "message": "what & why"}

    @pytest.mark.parametrize("code", ["Short", "A" * 23, "A" * 24, "A" * 200])
    def test_cbor_is_counted_by_its_code(self, code):
        content = bytes([0x60 + len(code)]) if len(code) < 24 else bytes([0x78, len(code)])
        answer = Reply(400, [], [b"\xa1\x66__type" + content + code.encode()])
        assert error_code(answer) == code

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b'{"__type": "com.amazonaws#Bad", "x": 1}', "Bad"),
            (b"<Code>NoSuchKey</Code>", "NoSuchKey"),
            (b"", "404"),
        ],
    )
    def test_code_of_a_foreign_answer(self, body, code):
        assert error_code(Reply(404, [], [body])) == code


class TestPauses:
    def test_stepped_time_waits_until_the_answer_is_given(self):
        clock = SteppedClock()
        pauses = Pauses(clock)
        began, end, over = threading.Event(), threading.Event(), threading.Event()

        def serve():
            with pauses.wait(10):
                began.set()
                end.wait(10)
            over.set()

        thread = threading.Thread(target=serve)
        thread.start()
        eventually(lambda: clock.advance(1, patience=0.1) or began.is_set())
        stepping = threading.Thread(target=clock.advance, args=(1,), kwargs={"patience": 10})
        stepping.start()
        stepping.join(0.2)
        assert stepping.is_alive()
        end.set()
        for waiting in (stepping, thread):
            waiting.join(10)
            assert not waiting.is_alive()
        assert over.is_set()

    def test_closing_ends_all_waiting_and_later_nobody_waits(self):
        clock = Clock()
        pauses = Pauses(clock)
        threads = [threading.Thread(target=pauses.wait, args=(3600,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        pauses.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        pauses.wait(3600).end()
