"""Answers are described, read and copied, against the emulator's S3 and with boto3 in between."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import tracemalloc
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module

import pydantic
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import (
    RequestRejected,
    ResultInvalid,
    ResultTooLarge,
    ResultUnreadable,
    SageMakerAsyncError,
    ServiceUnavailable,
)
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.results import ResultSpec
from tests.world import BUCKET

# Hook and emulator: Airflow gives the connection, which other tests look at on each of its versions.
pytestmark = pytest.mark.default_airflow

MIB = 1024 * 1024
LOG = logging.getLogger("tests.results")


def connect(url, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(url))
    return SageMakerAsyncHook()


@pytest.fixture
def hook(world, monkeypatch):
    return connect(world.emulator.url, monkeypatch)


@pytest.fixture
def memory(monkeypatch):
    """A store that Airflow knows by the scheme ``memory``."""
    try:
        store = import_module("airflow.sdk.io.store")
    except ModuleNotFoundError:  # Airflow 2.11
        store = import_module("airflow.io.store")
    system = MemoryFileSystem()
    attached = store.ObjectStore(protocol="memory", conn_id=None, fs=system)
    monkeypatch.setitem(store._STORE_CACHE, "memory", attached)
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    return system


def answered(location, **changes):
    known = {"endpoint_name": "model", "inference_id": "id-1", "submitted_at": time.time(), "expires_at": 9e9}
    return InvocationHandle(output_location=location, **(known | changes))


def folder():
    return f"s3://{BUCKET}/copies/{uuid.uuid4().hex}/"


class Score(pydantic.BaseModel):
    label: str
    score: float


class TestDescribing:
    def test_an_object_is_described_without_being_read(self, world, hook):
        facts = hook.describe_result(world.put(b"content", ContentType="text/csv; charset=utf-8"))
        assert (facts.size, facts.content_type) == (7, "text/csv; charset=utf-8")
        assert facts.etag == hashlib.md5(b"content").hexdigest()
        assert abs(facts.last_modified - time.time()) < 60

    @pytest.mark.parametrize("call", ["describe_result", "read_result"])
    def test_what_is_not_there_is_unreadable(self, hook, call):
        with pytest.raises(ResultUnreadable, match=r"Could not read s3://\S+/nothing: .*s3:GetObject"):
            getattr(hook, call)(f"s3://{BUCKET}/nothing")

    def test_a_folder_is_no_object(self, hook):
        with pytest.raises(InvalidInput, match="names no object"):
            hook.describe_result(f"s3://{BUCKET}/out/")


class TestCollecting:
    @pytest.mark.parametrize(
        ("result", "content", "content_type", "value"),
        [
            ("json", b'{"label": "a"}', "application/json", {"label": "a"}),
            ("json", b"1\n2\n", "application/jsonlines", [1, 2]),
            ("json", b"[1]", None, [1]),
            ("text", "gr\u00fcn".encode("latin-1"), "text/plain; charset=latin-1", "gr\u00fcn"),
            ("text", b"", "text/plain", ""),
            ("bytes", b"\xff\x00", "application/octet-stream", "/wA="),
            ("bytes", b"", None, ""),
            (len, b"x" * 100_000, None, 100_000),
        ],
    )
    def test_an_answer_is_returned_as_it_is_wanted(self, world, hook, result, content, content_type, value):
        described = {} if content_type is None else {"ContentType": content_type}
        location = world.put(content, **described)
        collected = ResultSpec(result).collect(hook, answered(location), LOG)
        assert collected.value == value
        assert collected.answer["size"] == len(content)
        assert collected.answer["content_type"] == (content_type or "binary/octet-stream")

    def test_the_location_of_a_real_answer_comes_with_its_facts(self, world, echo, hook):
        reply = world.submit(echo, ContentType="text/plain")
        world.ended(reply)
        handle = answered(reply["OutputLocation"], input_location=f"s3://{BUCKET}/in")
        value = ResultSpec().collect(hook, handle, LOG).value
        assert value["output_location"] == reply["OutputLocation"]
        assert (value["size"], value["input_location"]) == (7, f"s3://{BUCKET}/in")
        assert value["content_type"]
        assert abs(value["answered_at"] - value["submitted_at"]) < 60
        assert json.loads(json.dumps(value)) == value

    @pytest.mark.parametrize(
        ("spec", "content", "text"),
        [
            ({"result": "json"}, b"", "it is empty"),
            ({"result": "json"}, b'{"a": NaN}', "Out of range float"),
            ({"result": "text"}, b"gr\xfcn", "it is no text in utf-8"),
            ({"result": "json", "result_schema": {"type": "array"}}, b"{}", "at $: type 'array'."),
            ({"result": "json", "result_schema": Score}, b'{"label": 5}', "at $['label']: Input should be a"),
        ],
    )
    def test_what_it_is_not_is_said(self, world, hook, spec, content, text):
        with pytest.raises(ResultInvalid) as invalid:
            ResultSpec(**spec).collect(hook, answered(world.put(content)), LOG)
        assert text in str(invalid.value)

    @pytest.mark.parametrize("schema", [{"required": ["label"]}, Score])
    def test_a_value_that_keeps_its_schema_is_returned(self, world, hook, schema):
        location = world.put(b'{"label": "a", "score": 1.0}')
        value = ResultSpec("json", schema).collect(hook, answered(location), LOG).value
        assert value == {"label": "a", "score": 1.0}

    def test_what_is_too_large_is_copied_and_not_read(self, world, hook, monkeypatch):
        location, target = world.put(b"x" * 50_000), folder()
        monkeypatch.setattr(hook, "read_result", None)
        with pytest.raises(ResultTooLarge, match=r"50,000 bytes and max_result_bytes is 49,152\."):
            ResultSpec("text").collect(hook, answered(location), LOG)
        spec = ResultSpec("text", on_large_result="location", copy_to=target)
        value = spec.collect(hook, answered(location), LOG).value
        assert world.body(value["copied_to"]) == b"x" * 50_000
        assert value["copied_to"].startswith(target)


class TestCopyingWithinS3:
    def test_s3_copies_by_itself(self, world, hook, monkeypatch):
        monkeypatch.setattr(hook, "open_result", None)
        location, target = world.put(b"content", ContentType="text/csv"), folder()
        place = hook.copy_result(location, target)
        assert place == target + location.rpartition("/")[2]
        assert world.body(place) == b"content"
        assert world.get(place)["ContentType"] == "text/csv"

    def test_a_large_object_is_copied_in_parts_and_keeps_its_type(self, world, hook):
        content = bytes(range(256)) * (70 * MIB // 256)
        location, place = world.put(content, ContentType="text/csv"), f"{folder()}large"
        assert hook.copy_result(location, place) == place
        copied = world.get(place)
        assert copied["ContentType"] == "text/csv"
        assert copied["ETag"].endswith('-2"')
        assert hashlib.sha256(copied["Body"].read()).digest() == hashlib.sha256(content).digest()

    def test_an_object_that_is_there_already_is_left_alone(self, world, hook):
        location = world.put(b"content", f"same/{uuid.uuid4()}")
        assert hook.copy_result(location, f"s3://{BUCKET}/same/") == location
        assert world.body(location) == b"content"

    def test_a_refusal_says_what_to_check_and_where_the_answer_stays(self, world, hook):
        location = world.put(b"content")
        with pytest.raises(RequestRejected) as rejected:
            hook.copy_result(location, "s3://no-such-bucket-of-ours/key")
        assert "NoSuchBucket" in str(rejected.value)
        assert "s3:PutObject" in str(rejected.value)
        assert str(rejected.value).endswith(f"The answer stays at {location}.")

    def test_an_answer_that_is_not_there_is_unreadable(self, hook):
        with pytest.raises(ResultUnreadable):
            hook.copy_result(f"s3://{BUCKET}/nothing", f"s3://{BUCKET}/copy")


class TestCopyingElsewhere:
    @pytest.mark.parametrize("content", [b"content", b""])
    @pytest.mark.parametrize("form", ["{}/new/folder/", "file://{}/new/folder/"])
    def test_to_a_local_folder_that_is_made(self, world, hook, tmp_path, form, content):
        location = world.put(content)
        spec = ResultSpec(copy_to=form.format(tmp_path))
        spec.check()
        place = spec.collect(hook, answered(location), LOG).value["copied_to"]
        assert place == f"{tmp_path}/new/folder/{location.rpartition('/')[2]}"
        assert [file.read_bytes() for file in (tmp_path / "new/folder").iterdir()] == [content]

    def test_to_a_path_that_is_a_folder(self, world, hook, tmp_path):
        location = world.put(b"content")
        place = ResultSpec(copy_to=tmp_path).collect(hook, answered(location), LOG).value["copied_to"]
        assert place == f"{tmp_path}/{location.rpartition('/')[2]}"

    @pytest.mark.parametrize("target", ["memory://place/folder/", "memory://place/folder/{name}"])
    def test_to_another_store(self, world, hook, memory, target):
        location = world.put(b"content")
        name = location.rpartition("/")[2]
        spec = ResultSpec(copy_to=target.format(name=name))
        spec.check()
        assert (
            spec.collect(hook, answered(location), LOG).value["copied_to"] == f"memory://place/folder/{name}"
        )
        assert memory.cat_file(f"/place/folder/{name}") == b"content"

    def test_to_a_path_of_airflow(self, world, hook, memory):
        try:
            kind = import_module("airflow.sdk").ObjectStoragePath
        except ModuleNotFoundError:  # Airflow 2.11
            kind = import_module("airflow.io.path").ObjectStoragePath
        spec = ResultSpec(copy_to=kind("memory://place/folder/answer.json"))
        spec.collect(hook, answered(world.put(b"{}")), LOG)
        assert memory.cat_file("/place/folder/answer.json") == b"{}"

    def test_a_local_copy_is_replaced_at_once(self, world, hook, tmp_path):
        target = tmp_path / "answer"
        target.write_bytes(b"earlier")
        hook.copy_result(world.put(b"later"), str(target))
        assert target.read_bytes() == b"later"
        assert list(tmp_path.iterdir()) == [target]

    def test_a_place_that_cannot_be_written_says_where_the_answer_stays(self, world, hook, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        location = world.put(b"content")
        with pytest.raises(SageMakerAsyncError) as failed:
            hook.copy_result(location, f"{tmp_path}/file/below")
        assert type(failed.value) is SageMakerAsyncError
        assert f"Could not copy {location} to {tmp_path}/file/below: " in str(failed.value)
        assert str(failed.value).endswith(f"The answer stays at {location}.")

    def test_a_store_that_breaks_off_keeps_no_half_of_a_copy(self, hook, monkeypatch, memory):
        written = MemoryFileSystem._open
        failing = []

        def breaking(self, path, *args, **kwargs):
            file = written(self, path, *args, **kwargs)
            write, file.write = (
                file.write,
                lambda data: failing.append(1) or refuse(len(failing), write, data),
            )
            return file

        def refuse(count, write, data):
            if count > 1:
                raise OSError("disk full")
            return write(data)

        monkeypatch.setattr(MemoryFileSystem, "_open", breaking)
        with serving(blocks(3)) as url:
            with pytest.raises(
                SageMakerAsyncError, match="OSError: disk full. The answer stays at s3://b/big"
            ):
                connect(url, monkeypatch).copy_result("s3://b/big", "memory://place/big")
        assert not memory.exists("/place/big")


def blocks(count, *, sent=None):
    """Return a handler whose only object has ``count`` MiB, of which it sends the first ``sent``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(count * MIB))
            self.end_headers()
            block = b"x" * MIB
            for _ in range(count if sent is None else sent):
                self.wfile.write(block)
            self.close_connection = True

        def log_message(self, *args):
            pass

    return Handler


@contextmanager
def serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestStreaming:
    def test_a_hundred_megabytes_need_the_memory_of_a_few(self, monkeypatch, tmp_path):
        with serving(blocks(100)) as url:
            hook = connect(url, monkeypatch)
            hook._s3  # noqa: B018 - making a client takes memory of its own
            tracemalloc.start()
            try:
                hook.copy_result("s3://b/large", f"{tmp_path}/large")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert (tmp_path / "large").stat().st_size == 100 * MIB
        assert peak < 16 * MIB

    @pytest.mark.parametrize("target", ["{}/answer", "memory://place/answer"])
    def test_an_answer_that_breaks_off_leaves_no_half_of_a_copy(self, monkeypatch, tmp_path, memory, target):
        (tmp_path / "answer").write_bytes(b"earlier")
        with serving(blocks(3, sent=2)) as url:
            with pytest.raises(
                ServiceUnavailable, match="Could not read s3://b/answer: .*A retry may succeed"
            ):
                connect(url, monkeypatch).copy_result("s3://b/answer", target.format(tmp_path))
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"earlier"]
        assert not memory.exists("/place/answer")

    def test_an_open_answer_is_read_in_parts(self, monkeypatch):
        with serving(blocks(2)) as url:
            with connect(url, monkeypatch).open_result("s3://b/answer") as body:
                assert len(body.read(10)) == 10
