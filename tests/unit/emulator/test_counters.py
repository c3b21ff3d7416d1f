from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass

from airflow_async_sm.emulator.web.calls import Call, Protocol
from airflow_async_sm.emulator.web.counters import Counters, payload_identity


@dataclass
class Sent:
    inference_id: str
    body: bytes | None = b"payload"
    input_location: str | None = None


HASH = "sha256:" + hashlib.sha256(b"payload").hexdigest()
GET = Call("s3", "GetObject", Protocol.S3, bucket="a")


def test_nothing_is_counted_at_first_and_it_is_json():
    data = Counters().as_data()
    assert json.loads(json.dumps(data)) == data
    assert data["calls"] == data["errors"] == data["s3_buckets"] == {}
    assert data["submissions"]["total"] == data["model_calls"]["total"] == 0


def test_calls_are_counted_by_service_operation_and_bucket():
    counters = Counters()
    for call in (
        GET,
        GET,
        GET._replace(bucket="b"),
        GET._replace(operation="ListBuckets", bucket=None),
        Call("sns", "Publish", Protocol.QUERY),
        Call(None, None, Protocol.REST_JSON),
    ):
        counters.called(call)
    counters.refused("SlowDown")
    data = counters.as_data()
    assert data["calls"] == {
        "s3": {"GetObject": 3, "ListBuckets": 1},
        "sns": {"Publish": 1},
        "unknown": {"unknown": 1},
    }
    assert data["s3_buckets"] == {"a": {"GetObject": 2}, "b": {"GetObject": 1}}
    assert data["errors"] == {"SlowDown": 1}


def test_identity_is_the_inference_id_and_on_its_own_the_payload():
    counters = Counters()
    counters.submitted(Sent("one"))
    counters.submitted(Sent("two"))
    counters.submitted(Sent("two", body=None, input_location="s3://b/k"))
    counters.invoked(Sent("one"))
    data = counters.as_data()
    assert data["submissions"] == {
        "total": 3,
        "more_than_once": {"inference_id": 1, "payload": 1},
        "by_inference_id": {"one": 1, "two": 2},
        "by_payload": {HASH: 2, "s3://b/k": 1},
    }
    assert data["model_calls"]["by_inference_id"] == {"one": 1}
    assert data["model_calls"]["more_than_once"] == {"inference_id": 0, "payload": 0}


def test_identities_can_be_left_out():
    counters = Counters()
    counters.submitted(Sent("one"))
    assert counters.as_data(identities=False)["submissions"] == {
        "total": 1,
        "more_than_once": {"inference_id": 0, "payload": 0},
    }


def test_empty_payload_has_an_identity():
    assert payload_identity(None, None) == "sha256:" + hashlib.sha256(b"").hexdigest()


def test_reset_begins_at_zero():
    counters = Counters()
    counters.called(GET)
    counters.refused("X")
    counters.invoked(Sent("one"))
    counters.reset()
    assert counters.as_data() == Counters().as_data()


def test_no_count_is_lost_between_threads():
    counters = Counters()

    def count():
        for _ in range(2_000):
            counters.called(GET)
            counters.invoked(Sent("one"))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = counters.as_data()
    assert data["calls"]["s3"]["GetObject"] == data["model_calls"]["total"] == 16_000
