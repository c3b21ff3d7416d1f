"""Payloads that go through S3: against the emulator's S3, and against one that keeps nothing."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
import tracemalloc
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.sources import open_source
from tests.world import BUCKET, eventually

# Hook and emulator: Airflow gives the connection, which other tests look at on each of its versions.
pytestmark = pytest.mark.default_airflow

MIB = 1024 * 1024
PART = 16 * MIB


@pytest.fixture
def connect(monkeypatch):
    """Return a function that makes a hook for the server at an address."""

    def hook_for(url, **arguments):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(url))
        return SageMakerAsyncHook(**arguments)

    return hook_for


@pytest.fixture
def hook(world, connect):
    return connect(world.emulator.url)


def place(name):
    return f"s3://{BUCKET}/uploads/{name}"


class TestUpload:
    def test_a_small_payload_is_one_object_of_its_type(self, world, hook):
        source = open_source([[1, 2]], content_type="text/csv")
        with source.open() as file:
            hook.upload(file, place("small"), content_type=source.content_type)
        found = world.get(place("small"))
        assert (found["Body"].read(), found["ContentType"]) == (b"1,2\n", "text/csv")
        assert "SSEKMSKeyId" not in found
        assert "-" not in found["ETag"]

    def test_a_large_file_goes_in_parts_and_arrives_whole(self, world, hook, tmp_path):
        path = tmp_path / "large.bin"
        path.write_bytes(b"".join(number.to_bytes(4, "big") for number in range(8 * MIB + 1)))
        source = open_source(path)
        with source.open() as file:
            hook.upload(file, place("large"))
        found = world.get(place("large"))
        assert found["ETag"].strip('"').endswith("-3")
        assert hashlib.sha256(found["Body"].read()).hexdigest() == source.digest()

    def test_a_source_that_can_only_be_read_once_is_uploaded(self, world, hook):
        class Stream(io.BytesIO):
            def seekable(self):
                return False

            def seek(self, *args):
                raise io.UnsupportedOperation("seek")

        content = b"x" * (PART + 1)
        hook.upload(Stream(content), place("stream"))
        assert world.body(place("stream")) == content

    @pytest.mark.parametrize("size", [5, PART + 1], ids=["at once", "in parts"])
    def test_it_is_encrypted_with_the_key_that_is_asked_for(self, world, hook, size):
        hook.upload(io.BytesIO(b"x" * size), place("secret"), sse_kms_key_id="alias/mine")
        found = world.get(place("secret"))
        assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")

    def test_an_endpoint_reads_what_was_uploaded(self, world, hook):
        hook.upload(io.BytesIO(b"for the model"), place("for-the-model"))
        response = world.submit(world.deploy(), InputLocation=place("for-the-model"))
        world.ended(response)
        assert world.body(response["OutputLocation"]) == b"for the model"


class TestDelete:
    def test_an_object_is_deleted_and_deleting_it_again_is_fine(self, world, hook):
        hook.upload(io.BytesIO(b"x"), place("gone"))
        assert world.exists(place("gone"))
        for _ in range(2):
            hook.delete_object(place("gone"))
        assert not world.exists(place("gone"))


class Forgetful(BaseHTTPRequestHandler):
    """An S3 that takes uploads and keeps nothing, or refuses them."""

    protocol_version = "HTTP/1.1"
    refusal = None

    def do_POST(self):
        self.swallow()
        kind = "InitiateMultipartUploadResult" if "uploads" in self.path else "CompleteMultipartUploadResult"
        self.reply(200, f"<{kind}><UploadId>1</UploadId><ETag>e</ETag></{kind}>")

    def do_PUT(self):
        self.server.note(self.path)
        self.swallow()
        self.hold()
        if self.refusal:
            status, code = self.refusal
            self.reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>")
        else:
            self.reply(200, "", ETag='"e"')

    def hold(self):
        """Wait before the answer to a part."""

    def do_DELETE(self):
        self.server.note(f"DELETE {self.path}")
        self.reply(*((403, "<Error><Code>AccessDenied</Code></Error>") if self.refusal else (204, "")))

    def swallow(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            left -= len(self.rfile.read(min(left, 64 * 1024)))

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@contextmanager
def storage(**attributes):
    """Serve an S3 on a free port; yield its address and the requests that it noted."""
    noted = []
    handler = type("Storage", (Forgetful,), attributes)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving.daemon_threads = True
    serving.note = noted.append
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}", noted
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


class Watched(io.FileIO):
    """A file that knows when it was last read."""

    def __init__(self, path):
        super().__init__(path)
        self.reads, self.read_at = 0, time.monotonic()

    def read(self, size=-1):
        content = super().read(size)
        self.reads, self.read_at = self.reads + 1, time.monotonic()
        return content

    def is_waiting(self, *, after):
        """Return whether it is read no more; one that was read less often may only be read slowly."""
        return time.monotonic() - self.read_at > (0.5 if self.reads >= after else 10)


def test_an_upload_of_any_size_takes_the_memory_of_a_few_parts(connect, tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as large:
        large.truncate(200 * MIB)
    file, stalled_at = Watched(path), []

    def hold(self):
        # No part is acknowledged before the sender has read ahead as far as it ever does.
        stalled_at or eventually(lambda: stalled_at or file.is_waiting(after=5))
        stalled_at.append(file.reads)

    with storage(hold=hold) as (url, noted), file:
        hook = connect(url)
        hook._s3  # noqa: B018 - made before memory is counted
        tracemalloc.start()
        try:
            hook.upload(file, place("large"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    parts = {found[1] for request in noted if (found := re.search(r"partNumber=(\d+)", request))}
    assert len(parts) == 13
    # Four parts that are sent, one that is read, and what HTTP takes.
    assert stalled_at[0] == 5
    assert 5 * PART <= peak < 7 * PART


class TestErrors:
    def test_a_bucket_that_is_not_there_is_named_with_the_rights_to_check(self, hook):
        with pytest.raises(
            RequestRejected, match="upload the payload to s3://nowhere/a: .*NoSuchBucket"
        ) as told:
            hook.upload(io.BytesIO(b"x"), "s3://nowhere/a")
        assert told.value.location == "s3://nowhere/a"

    def test_a_right_that_is_missing_is_told(self, connect):
        with storage(refusal=(403, "AccessDenied")) as (url, noted):
            hook = connect(url)
            with pytest.raises(RequestRejected, match="AccessDenied.*s3:PutObject.*kms:GenerateDataKey"):
                hook.upload(io.BytesIO(b"x"), place("denied"))
            with pytest.raises(RequestRejected, match=f"Could not delete {place('denied')}: .*AccessDenied"):
                hook.delete_object(place("denied"))
        assert len(noted) == 2

    def test_an_upload_in_parts_that_is_refused_leaves_no_parts(self, connect):
        with storage(refusal=(403, "AccessDenied")) as (url, noted):
            with pytest.raises(RequestRejected, match="AccessDenied"):
                connect(url).upload(io.BytesIO(b"x" * (PART + 1)), place("denied"))
        assert any(re.match(r"DELETE .*uploadId=1", request) for request in noted)

    def test_a_busy_storage_is_worth_a_retry(self, connect):
        with storage(refusal=(503, "SlowDown")) as (url, _):
            hook = connect(url, botocore_config={"retries": {"total_max_attempts": 1}})
            with pytest.raises(
                ServiceUnavailable, match=f"to {place('busy')}: .*SlowDown.*retry may succeed"
            ):
                hook.upload(io.BytesIO(b"x"), place("busy"))

    def test_what_the_source_raises_is_left_as_it_is(self, hook):
        class Broken(io.BytesIO):
            def read(self, size=-1):
                raise OSError(5, "Input/output error")

        with pytest.raises(OSError, match="Input/output error"):
            hook.upload(Broken(b"x"), place("broken"))

    @pytest.mark.parametrize(
        ("location", "arguments", "sentence"),
        [
            ("/tmp/a", {}, "location is '/tmp/a'; expected s3://bucket/key"),
            (f"s3://{BUCKET}/folder/", {}, "it names no object"),
            (
                place("a"),
                {"sse_kms_key_id": "my key"},
                "sse_kms_key_id is 'my key'; SageMaker accepts a KMS key id",
            ),
            (place("a"), {"sse_kms_key_id": 7}, "sse_kms_key_id must be text, not int"),
        ],
    )
    def test_bad_input_is_refused_before_the_network(self, connect, location, arguments, sentence):
        with storage() as (url, noted):
            with pytest.raises(InvalidInput, match=sentence):
                connect(url).upload(io.BytesIO(b"x"), location, **arguments)
        assert noted == []

    def test_an_address_of_a_folder_deletes_nothing(self, hook):
        with pytest.raises(InvalidInput, match="names no object"):
            hook.delete_object(f"s3://{BUCKET}/")
