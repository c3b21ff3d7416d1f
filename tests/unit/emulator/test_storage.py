"""Objects that are written past HTTP are those that a client would have written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from moto.s3 import notifications
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.work import moto_s3
from airflow_async_sm.emulator.work.storage import Storage

LARGE = 6 * 1024 * 1024  # moto keeps it in a file.
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def clients():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = LocalClients(f"http://{host}:{port}")
    yield made
    made.close()
    server.stop()
    for account in s3_backends.values():
        for backend in account.values():
            backend.reset()


@pytest.fixture
def s3(clients):
    return clients.get("s3")


@pytest.fixture
def bucket(s3):
    name = f"b-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def seen(s3, bucket, key):
    """Return all that a client sees of an object but when it was written, and by which request."""
    found = {}
    for name, call in {"head": s3.head_object, "get": s3.get_object}.items():
        answer = call(Bucket=bucket, Key=key)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        # moto takes the signature's hash of the content for metadata, which S3 does not.
        for header in (
            "date",
            "last-modified",
            "x-amz-content-sha256",
            "x-amz-version-id",
            "x-amzn-requestid",
        ):
            headers.pop(header, None)
        answer.pop("ResponseMetadata")
        answer.pop("LastModified")
        answer["VersionId"] = len(answer.get("VersionId", ""))
        if name == "get":
            answer["Body"] = answer["Body"].read()
        found[name] = answer | {"headers": headers}
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]
    listed[0].pop("LastModified")
    tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    acl = s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]
    return {**found, "listed": listed, "tags": tags, "acl": acl}


def write(bucket, content, key="k", **described):
    Storage().write(S3Uri(bucket, key), io.BytesIO(content), **described)


class TestWrite:
    @pytest.mark.parametrize("content", [b"", b"\x00\xffcontent", os.urandom(LARGE)], ids=len)
    @pytest.mark.parametrize("content_type", [None, "text/csv; charset=utf-8"])
    def test_object_is_what_a_client_would_have_written(self, s3, bucket, content, content_type):
        described = {"ContentType": content_type} if content_type else {}
        s3.put_object(Bucket=bucket, Key="k", Body=content, Metadata={"Made-By": "x"}, **described)
        expected = seen(s3, bucket, "k")
        assert expected["get"]["Body"] == content
        s3.delete_object(Bucket=bucket, Key="k")
        write(bucket, content, content_type=content_type, metadata={"Made-By": "x"})
        assert seen(s3, bucket, "k") == expected
        assert expected["head"]["ContentType"] == (content_type or "binary/octet-stream")

    def test_key_of_the_encryption_can_be_seen(self, s3, bucket):
        encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY}
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **encrypted)
        expected = seen(s3, bucket, "k")
        write(bucket, b"x", kms_key_id=KMS_KEY)
        assert seen(s3, bucket, "k") == expected
        head = s3.head_object(Bucket=bucket, Key="k")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KMS_KEY)

    @pytest.mark.parametrize("kms_key_id", [None, KMS_KEY])
    def test_default_encryption_of_the_bucket_is_used(self, s3, bucket, kms_key_id):
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/theirs"}
        s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
            },
        )
        described = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **described)
        expected = seen(s3, bucket, "k")
        assert expected["head"]["SSEKMSKeyId"] == (kms_key_id or "alias/theirs")
        write(bucket, b"x", kms_key_id=kms_key_id)
        assert seen(s3, bucket, "k") == expected

    def test_bucket_with_versions_keeps_the_old_ones(self, s3, bucket):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=bucket, Key="k", Body=b"same")
        expected = seen(s3, bucket, "k")
        write(bucket, b"same")
        assert seen(s3, bucket, "k") == expected
        write(bucket, b"third")
        versions = s3.list_object_versions(Bucket=bucket)["Versions"]
        assert [version["IsLatest"] for version in versions] == [True, False, False]
        assert len({version["VersionId"] for version in versions}) == 3
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"third"

    def test_lock_of_the_bucket_is_used(self, s3):
        name = f"b-{uuid.uuid4().hex}"
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        s3.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}},
            },
        )
        write(name, b"x")
        head = s3.head_object(Bucket=name, Key="k")
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert head["ObjectLockRetainUntilDate"] > head["LastModified"]

    def test_object_that_was_replaced_leaves_no_tags(self, s3, bucket):
        s3.put_object(Bucket=bucket, Key="k", Body=b"old", Tagging="a=b")
        write(bucket, b"new")
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []

    def test_queue_hears_of_the_object_as_of_a_clients(self, clients, s3, bucket):
        sqs = clients.get("sqs")
        url = sqs.create_queue(QueueName=bucket)["QueueUrl"]
        arn = f"arn:aws:sqs:us-east-1:123456789012:{bucket}"
        config = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Id": "i"}]}
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=config)
        s3.put_object(Bucket=bucket, Key="folder/k", Body=b"x")
        write(bucket, b"x", "folder/k")
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        events = [event for message in received for event in json.loads(message["Body"]).get("Records", [])]
        assert [event.pop("eventTime") > "2" for event in events] == [True, True]
        assert events[0] == events[1]
        assert events[1]["s3"]["object"]["key"] == "folder%2Fk"

    def test_bucket_of_another_partition_is_found(self, clients):
        s3, name = clients.get("s3", "cn-north-1"), f"b-{uuid.uuid4().hex}"
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "cn-north-1"})
        s3.put_object(Bucket=name, Key="k", Body=b"x", Tagging="a=b")
        write(name, b"y")
        assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"y"
        assert s3.get_object_tagging(Bucket=name, Key="k")["TagSet"] == []

    def test_bucket_that_is_not_there(self):
        with pytest.raises(StorageError, match="bucket does not exist"):
            write("absent", b"x")

    def test_content_that_cannot_be_read_leaves_the_old_object(self, s3, bucket):
        class Broken(io.BytesIO):
            def read(self, size=-1):
                raise OSError("no space left")

        write(bucket, b"old")
        with pytest.raises(StorageError, match="no space left"):
            Storage().write(S3Uri(bucket, "k"), Broken(b"new"))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"

    def test_object_is_whole_or_not_there_while_it_is_written(self, s3, bucket):
        half_read, go_on = threading.Event(), threading.Event()

        class Slow(io.BytesIO):
            def read(self, size=-1):
                if self.tell():
                    half_read.set()
                    assert go_on.wait(20)
                return super().read(size)

        content = os.urandom(LARGE)
        arguments = S3Uri(bucket, "k"), Slow(content)
        writer = threading.Thread(target=Storage().write, args=arguments, kwargs={"content_type": "a/b"})
        writer.start()
        assert half_read.wait(20)
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        go_on.set()
        writer.join(20)
        answer = s3.get_object(Bucket=bucket, Key="k")
        assert (answer["ContentType"], answer["Body"].read()) == ("a/b", content)

    def test_writers_of_one_key_lose_no_version(self, s3, bucket):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        writers = [threading.Thread(target=write, args=(bucket, str(n).encode())) for n in range(20)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(20)
        assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 20

    def test_change_is_announced_to_who_may_hold_it_back(self, bucket, s3, monkeypatch):
        order = []

        @contextlib.contextmanager
        def changing():
            order.append("begin")
            yield
            order.append("end")

        monkeypatch.setattr(notifications, "send_event", lambda *_: order.append("event"))
        Storage(changing=changing).write(S3Uri(bucket, "k"), io.BytesIO(b"x"))
        assert order == ["begin", "event", "event", "end"]
        assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 1


class TestOpen:
    @pytest.mark.parametrize("content", [b"", b"content", os.urandom(LARGE)], ids=len)
    def test_object_of_a_client_is_read_in_pieces(self, s3, bucket, content):
        s3.put_object(Bucket=bucket, Key="a b/k%20", Body=content)
        opened, length = Storage().open(f"s3://{bucket}/a b/k%20")
        with opened:
            assert length == len(content)
            assert opened.read(3) == content[:3]
            assert b"".join(iter(lambda: opened.read(100_000), b"")) == content[3:]
            assert opened.seek(0, os.SEEK_END) == length
            assert opened.seek(1) == opened.tell() == 1
            assert opened.read() == content[1:]

    def test_object_of_several_parts_is_read(self, s3, bucket):
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        parts = [os.urandom(LARGE), b"end"]
        place = {"Bucket": bucket, "Key": "k", "UploadId": upload}
        tags = [
            {"PartNumber": n, "ETag": s3.upload_part(**place, PartNumber=n, Body=part)["ETag"]}
            for n, part in enumerate(parts, 1)
        ]
        s3.complete_multipart_upload(**place, MultipartUpload={"Parts": tags})
        opened, length = Storage().open(f"s3://{bucket}/k")
        with opened:
            assert (opened.read(), length) == (b"".join(parts), LARGE + 3)

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_content_stays_what_it_was_when_it_was_opened(self, s3, bucket, size):
        content = os.urandom(size)
        write(bucket, content)
        opened, _ = Storage().open(f"s3://{bucket}/k")
        with opened:
            begin = opened.read(5)
            write(bucket, b"other")
            s3.delete_object(Bucket=bucket, Key="k")
            assert begin + opened.read() == content
        with pytest.raises(StorageError):
            Storage().open(f"s3://{bucket}/k")

    @pytest.mark.parametrize("size", [1_000_000, LARGE])
    def test_readers_do_not_disturb_each_other(self, s3, bucket, size):
        content = os.urandom(size)
        write(bucket, content)
        wrong = []

        def read_ours():
            opened, _ = Storage().open(f"s3://{bucket}/k")
            with opened:
                if b"".join(iter(lambda: opened.read(70_000), b"")) != content:
                    wrong.append("ours")

        def read_theirs():
            if s3.get_object(Bucket=bucket, Key="k")["Body"].read() != content:
                wrong.append("theirs")

        readers = [threading.Thread(target=read) for read in (read_ours, read_theirs) * 6]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(30)
        assert wrong == []

    def test_descriptor_is_given_back_once(self, bucket, monkeypatch):
        write(bucket, os.urandom(LARGE))
        opened, _ = Storage().open(f"s3://{bucket}/k")
        closed = []
        monkeypatch.setattr(moto_s3.os, "close", closed.append)
        opened.close()
        opened.close()
        monkeypatch.undo()
        assert len(closed) == 1
        os.close(closed[0])

    def test_object_behind_a_delete_marker_is_not_there(self, s3, bucket):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        write(bucket, b"x")
        s3.delete_object(Bucket=bucket, Key="k")
        with pytest.raises(StorageError, match="key does not exist"):
            Storage().open(f"s3://{bucket}/k")

    def test_object_whose_content_is_gone_at_that_moment(self, bucket):
        write(bucket, b"x")
        moto_s3._backend(bucket).get_bucket(bucket).keys["k"].dispose()
        with pytest.raises(StorageError, match="does not exist any more"):
            Storage().open(f"s3://{bucket}/k")

    @pytest.mark.parametrize(
        ("location", "text"),
        [
            ("s3://absent/k", "bucket does not exist"),
            ("s3://{bucket}/absent", "key does not exist"),
            ("s3://{bucket}", "InputLocation"),
            ("ftp://{bucket}/k", "InputLocation"),
        ],
    )
    def test_what_is_not_there_is_an_error(self, bucket, location, text):
        with pytest.raises(StorageError, match=text):
            Storage().open(location.format(bucket=bucket))


MEASURED = """
import resource, sys, threading
from pathlib import Path
from moto.s3.models import s3_backends
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.models.containers import ProcessContainer
from airflow_async_sm.emulator.work.invocation import Exchange
from airflow_async_sm.emulator.work.storage import Storage
from tests.world import PROGRAM

SIZE = 300_000_000

class Zeros:
    left = SIZE
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)

s3_backends["123456789012"]["aws"].create_bucket("bucket", "us-east-1")
storage = Storage()
container = ProcessContainer(name="c", command=PROGRAM, environment={}, log_path=Path(sys.argv[1]),
                             behaviour=Behaviour())
container.start()
try:
    container.wait_until_healthy(20, threading.Event())
    before = peak()
    storage.write(S3Uri("bucket", "in"), Zeros())
    body, length = storage.open("s3://bucket/in")
    with body:
        answer = Exchange(5).post(container, body, length, {}, endpoint="e", calling=lambda: None)
    storage.write(S3Uri("bucket", "out"), answer.body)
    answer.close()
    after = peak()
finally:
    container.stop()
_, length = storage.open("s3://bucket/out")
s3_backends["123456789012"]["aws"].reset()
print(length, after - before)
"""


def test_large_object_passes_through_in_pieces(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "log")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    length, grown = done.stdout.split()
    assert int(length) == 300_000_000
    # The object has 286 MiB.
    assert float(grown) < 30
