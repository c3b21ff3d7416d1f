"""The inputs of a batch, read from S3: each kind of source, what is large, and what goes wrong on the way."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
import uuid
from collections import deque
from itertools import islice
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import IncompleteReadError
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from airflow_async_sm.batch_inputs import BatchInputs
from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.emulator.settings.faults import ListDenied, S3Denied, S3SlowDown
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.shaky import Proxy
from tests.world import BUCKET

# Airflow has no part in it.
pytestmark = pytest.mark.default_airflow


@pytest.fixture
def hook(world, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    return SageMakerAsyncHook()


@pytest.fixture
def faults(world):
    yield world.emulator.faults
    world.emulator.faults.clear()


@pytest.fixture
def proxy(world, hook, monkeypatch):
    """What stands between the hook, which reads its connection later, and S3, and can break connections."""
    proxy = Proxy(world.emulator.url)
    proxy.start()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(proxy.url))
    yield proxy
    proxy.stop()


@pytest.fixture
def calls(hook):
    """The parameters of what was asked of S3, by operation, in order."""
    asked = []
    hook._s3.meta.events.register(
        "provide-client-params.s3", lambda params, model, **_: asked.append((model.name, dict(params)))
    )
    return asked


@pytest.fixture(scope="module")
def many(world):
    """A folder with 2,500 objects, every fifth of which is of another kind, and with what is no input."""
    folder = f"many-{uuid.uuid4().hex[:8]}"
    keys = [f"{folder}/{n // 500}/{n:04d}.{'csv' if n % 5 == 0 else 'json'}" for n in range(2_500)]
    # Not over HTTP, which would take half a minute.
    for key in keys:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, key, b"[1]")
    for key in (f"{folder}/", f"{folder}/0/", f"{folder}/empty.json", f"{folder}-2/neighbour.json"):
        world.put(b"" if not key.endswith("neighbour.json") else b"1", key)
    return f"s3://{BUCKET}/{folder}", [f"s3://{BUCKET}/{key}" for key in keys]


@pytest.fixture(scope="module")
def long(world):
    """An object of 200,000 lines, 28 MB."""
    lines = (json.dumps({"number": number, "text": "x" * 110}) + "\n" for number in range(200_000))
    return world.put("".join(lines).encode(), f"records/{uuid.uuid4()}.jsonl")


def read(hook, **arguments):
    return list(BatchInputs(**arguments).read(hook))


def locations(found):
    return [each.input_location for each in found]


def named(suffix):
    return f"in/{uuid.uuid4()}{suffix}"


class TestPrefix:
    def test_all_objects_of_all_pages_are_inputs(self, hook, many, calls):
        folder, expected = many
        found = read(hook, input_prefix=folder, content_type="application/json")
        assert locations(found) == expected
        assert [name for name, _ in calls] == ["ListObjectsV2"] * 3
        etag = hook.describe_result(expected[0]).etag
        assert found[0] == BatchInput(
            origin=expected[0], input_location=expected[0], version=etag, content_type="application/json"
        )
        assert etag

    def test_a_pattern_chooses_among_all_pages(self, hook, many):
        folder, expected = many
        found = read(hook, input_prefix=f"{folder}/", input_pattern="*.csv")
        assert locations(found) == [each for each in expected if each.endswith(".csv")]
        assert len(found) == 500

    def test_what_a_pattern_begins_with_is_all_that_is_listed(self, hook, many, calls):
        folder, expected = many
        assert locations(read(hook, input_prefix=folder, input_pattern="3/*")) == expected[1_500:2_000]
        assert len(calls) == 1

    def test_pages_are_fetched_as_they_are_needed(self, hook, many, calls):
        folder, _ = many
        found = BatchInputs(input_prefix=folder).read(hook)
        assert calls == []
        assert len(list(islice(found, 990))) == 990
        assert len(calls) == 1

    def test_an_object_that_changes_is_another_input(self, world, hook):
        folder = uuid.uuid4().hex
        location = world.put(b"one", f"{folder}/a key+with=all%20kinds of&signs.json")
        (before,) = read(hook, input_prefix=f"s3://{BUCKET}/{folder}")
        world.put(b"two", location.removeprefix(f"s3://{BUCKET}/"))
        (after,) = read(hook, input_prefix=f"s3://{BUCKET}/{folder}")
        assert before.input_location == after.input_location == location
        assert before.digest != after.digest

    def test_nothing_there_is_no_input(self, hook):
        assert read(hook, input_prefix=f"s3://{BUCKET}/nothing/here") == []

    def test_a_missing_right_is_named(self, hook, faults, many):
        faults.add(ListDenied())
        with pytest.raises(
            RequestRejected, match=rf"Could not list {many[0]}: .*AccessDenied.*s3:ListBucket"
        ):
            read(hook, input_prefix=many[0])

    def test_a_missing_bucket_is_named(self, hook):
        with pytest.raises(RequestRejected, match="Could not list s3://no-such-bucket/a: .*NoSuchBucket"):
            read(hook, input_prefix="s3://no-such-bucket/a")

    def test_that_s3_is_too_busy_may_pass(self, hook, faults, many, monkeypatch):
        monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
        faults.add(S3SlowDown())
        with pytest.raises(ServiceUnavailable, match=f"Could not list {many[0]}.* A retry may succeed"):
            read(hook, input_prefix=many[0])


class TestRecords:
    def test_a_long_object_is_read_as_it_is_needed(self, hook, long):
        found = BatchInputs(input_records=long).read(hook)
        # What the client itself keeps is loaded first.
        assert next(found).body.startswith(b'{"number": 0, ')
        tracemalloc.start()
        number, last = deque(enumerate(found, start=2), maxlen=1).pop()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (number, last.origin) == (200_000, f"{long} line 200000")
        assert last.body.startswith(b'{"number": 199999, ')
        # The object has 28 MB, and the server reads it in this process.
        assert peak < 8_000_000

    def test_many_records_are_one_request(self, hook, long):
        found = read(hook, input_records=long, records_per_request=1_500)
        assert len(found) == 134
        assert found[-1].origin == f"{long} lines 199501-200000"
        assert found[0].body.count(b"\n") == 1_500

    def test_one_that_cannot_be_read_is_kept_apart(self, world, hook):
        location = world.put(b'\xef\xbb\xbf{"a": 1}\r\n\r\noops\r\n{"a": 2}', named(".jsonl"))
        assert read(hook, input_records=location) == [
            BatchInput(origin=f"{location} line 1", body=b'{"a": 1}', content_type="application/json"),
            Unreadable(f"{location} line 3", "is no JSON: Expecting value at character 1."),
            BatchInput(origin=f"{location} line 4", body=b'{"a": 2}', content_type="application/json"),
        ]

    def test_rows_of_a_packed_csv_get_its_header(self, world, hook):
        location = world.put(gzip.compress(b'a,b\n1,"2\n3"\n4\n5,6\n'), named(".csv.gz"))
        assert read(hook, input_records=location, records_per_request=2) == [
            Unreadable(f"{location} line 4", "has 1 cells where the first row has 2."),
            BatchInput(origin=f"{location} lines 2-5", body=b'a,b\n1,"2\n3"\n5,6\n', content_type="text/csv"),
        ]

    def test_an_empty_object_has_none(self, world, hook):
        assert read(hook, input_records=world.put(b"", named(".csv"))) == []

    def test_an_object_that_is_not_there_is_named(self, hook):
        with pytest.raises(
            RequestRejected, match=rf"Could not read s3://{BUCKET}/no.csv: .*NoSuchKey.*s3:GetObject"
        ):
            read(hook, input_records=f"s3://{BUCKET}/no.csv")

    def test_a_missing_right_is_named(self, world, hook, faults):
        location = world.put(b"1", named(".jsonl"))
        faults.add(S3Denied(bucket=BUCKET))
        with pytest.raises(RequestRejected, match=rf"Could not read {location}: .*s3:GetObject.*kms:Decrypt"):
            read(hook, input_records=location)

    def test_half_of_a_packed_object_is_noticed(self, world, hook):
        location = world.put(gzip.compress(b"a\n1\n" * 1_000)[:-10], named(".csv.gz"))
        with pytest.raises(InvalidInput, match=f"{location} is packed with gzip, and its end is missing"):
            read(hook, input_records=location)


class TestBrokenConnections:
    def test_what_is_missing_is_read_then(self, proxy, hook, long, calls):
        found = BatchInputs(input_records=long).read(hook)
        numbers = []
        for line, each in enumerate(found):
            numbers.append(int(each.body[11:].partition(b",")[0]))
            if line in (10, 100_000):
                proxy.reset()
        assert numbers == list(range(200_000))
        first, *others = [params for name, params in calls if name == "GetObject"]
        assert "Range" not in first
        assert others
        for other in others:
            assert other["IfMatch"]
            assert int(other["Range"].removeprefix("bytes=").removesuffix("-")) > 0

    def test_an_object_that_changes_meanwhile_is_not_mixed(self, world, proxy, hook):
        key = named(".jsonl")
        first, second = b'"first%s"' % bytes(b"x" * 10_000), b'"second%s"' % bytes(b"x" * 10_000)
        location = world.put((first + b"\n") * 3_000, key)
        found = BatchInputs(input_records=location).read(hook)
        assert next(found).body == first
        world.put((second + b"\n") * 3_000, key)
        proxy.reset()
        with pytest.raises(
            RequestRejected, match=f"Could not read {location}: .*It changed while it was read"
        ):
            assert {each.body for each in found} == {first}

    def test_one_that_breaks_again_and_again_is_given_up(self, world, hook, monkeypatch, calls):
        location = world.put(b"1\n2\n", named(".jsonl"))

        def broken(_, amount):
            raise IncompleteReadError(actual_bytes=0, expected_bytes=4)

        monkeypatch.setattr("botocore.response.StreamingBody.read", broken)
        with pytest.raises(
            ServiceUnavailable, match=rf"read {location}: the connection broke 5 times in a row, 0"
        ):
            read(hook, input_records=location)
        assert len(calls) == 5


class TestManifests:
    def test_a_list_of_addresses(self, world, hook):
        one, two = "s3://data/one", "s3://data/two"
        for suffix, text in {
            ".jsonl": f'"{one}"\n{{"input_location": "{two}"}}\n',
            ".csv": f"id,input_location\n1,{one}\n2,{two}\n",
            ".txt": f"{one}\n{two}\n",
            ".manifest": json.dumps([{"prefix": "s3://data/"}, "one", "two"]),
        }.items():
            location = world.put(text.encode(), named(suffix))
            assert locations(read(hook, input_manifest=location)) == [one, two]
            packed = world.put(gzip.compress(text.encode()), named(suffix))
            assert locations(read(hook, input_manifest=packed)) == [one, two]

    def test_what_failed_before(self, world, hook):
        rows = [
            {
                "item_id": "0",
                "origin": "s3://data/r.csv line 8",
                "text": "a\n1\n",
                "content_type": "text/csv",
            },
            {"item_id": "1", "origin": "s3://data/one", "input_location": "s3://data/one"},
        ]
        location = world.put("\n".join(map(json.dumps, rows)).encode(), named("/dead-letter.jsonl"))
        assert read(hook, input_manifest=location) == [
            BatchInput(origin="s3://data/r.csv line 8", body=b"a\n1\n", content_type="text/csv"),
            BatchInput(origin="s3://data/one", input_location="s3://data/one"),
        ]

    def test_an_inventory(self, world, hook):
        folder = f"inventory-{uuid.uuid4().hex[:8]}"
        keys = [[f"folder {file}/a+b={n}.json" for n in range(3)] + ["folder/"] for file in range(2)]
        for file, names in enumerate(keys):
            rows = io.StringIO()
            csv.writer(rows, quoting=csv.QUOTE_ALL).writerows(
                ["data", quote_plus(name, safe="/"), 0 if name.endswith("/") else 7, "etag"] for name in names
            )
            world.put(gzip.compress(rows.getvalue().encode()), f"{folder}/data/{file}.csv.gz")
        manifest = {
            "sourceBucket": "data",
            "destinationBucket": f"arn:aws:s3:::{BUCKET}",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size, ETag",
            "files": [{"key": f"{folder}/data/{file}.csv.gz", "size": 1} for file in range(2)],
        }
        location = world.put(json.dumps(manifest, indent=2).encode(), f"{folder}/manifest.json")
        found = read(hook, input_manifest=location, content_type="application/json")
        assert locations(found) == [
            f"s3://data/folder {file}/a+b={n}.json" for file in (0, 1) for n in range(3)
        ]
        assert found[3] == BatchInput(
            origin=f"s3://{BUCKET}/{folder}/data/1.csv.gz line 1",
            input_location="s3://data/folder 1/a+b=0.json",
            version="etag",
            content_type="application/json",
        )

    def test_a_file_of_an_inventory_that_is_not_there_is_named(self, world, hook):
        manifest = {
            "destinationBucket": f"arn:aws:s3:::{BUCKET}",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key",
            "files": [{"key": "gone.csv.gz"}],
        }
        location = world.put(json.dumps(manifest).encode(), named("/manifest.json"))
        with pytest.raises(RequestRejected, match=f"Could not read s3://{BUCKET}/gone.csv.gz: .*NoSuchKey"):
            read(hook, input_manifest=location)


class TestValues:
    def test_a_path_in_s3_is_not_read(self, hook, calls):
        try:
            from airflow.sdk import ObjectStoragePath
        except ImportError:
            from airflow.io.path import ObjectStoragePath

        place = f"s3://{BUCKET}/not/there"
        assert read(hook, inputs=[ObjectStoragePath(place), {"a": 1}]) == [
            BatchInput(origin=place, input_location=place),
            BatchInput(origin="inputs[1]", body=b'{"a":1}', content_type="application/json"),
        ]
        assert read(hook, input_locations=[place])[0].input_location == place
        assert calls == []
