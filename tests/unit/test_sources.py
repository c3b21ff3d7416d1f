from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.sources import as_input_location, open_source

try:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import store as stores
except ImportError:
    from airflow.io import store as stores
    from airflow.io.path import ObjectStoragePath

MIB = 1024 * 1024


class Storage(MemoryFileSystem):
    """A storage behind a URL, which can be told to misbehave."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.store, self.pseudo_dirs = {}, [""]
        self.without_sizes = self.refusing = False

    def info(self, path, **kwargs):
        found = super().info(path, **kwargs)
        return found | {"size": None} if self.without_sizes else found

    def _open(self, path, *args, **kwargs):
        if self.refusing:
            raise PermissionError(13, "Forbidden")
        return super()._open(path, *args, **kwargs)


@pytest.fixture
def storage(monkeypatch):
    """A storage under ``memory://``, with a file in a folder."""
    storage = Storage()
    attached = stores.ObjectStore("memory", None, fs=storage)
    monkeypatch.setitem(stores._STORE_CACHE, "memory", attached)
    storage.pipe("/box/rows.csv", b"1,2\n")
    return storage


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"1,2\n")
    return path


def content(source):
    with source.open() as opened:
        return opened.read()


class TestValues:
    @given(value=st.binary(min_size=1))
    def test_bytes_are_what_the_source_holds(self, value):
        source = open_source(value)
        assert source.read() == content(source) == value
        assert (source.size, source.digest()) == (len(value), hashlib.sha256(value).hexdigest())

    def test_a_value_is_written_by_its_content_type(self):
        source = open_source([[1, 2]], content_type="text/csv")
        assert (source.read(), source.content_type, source.size) == (b"1,2\n", "text/csv", 4)

    def test_a_value_is_written_by_its_serializer(self):
        source = open_source({"a": 1}, serializer=lambda value: f"<{value['a']}>")
        assert (source.read(), source.content_type) == (b"<1>", "text/plain; charset=utf-8")

    @pytest.mark.parametrize("value", [0, False, [], {}])
    def test_a_value_that_counts_as_false_is_a_value(self, value):
        assert open_source(value).content_type == "application/json"

    @pytest.mark.parametrize("text", ["/etc/passwd", "s3://bucket/key", "file:///etc/passwd"])
    def test_text_is_text_even_if_it_looks_like_a_place(self, text):
        assert open_source(text).read() == text.encode()
        assert as_input_location(text) is None

    def test_the_content_is_not_shown(self):
        assert "secret" not in repr(open_source(b"secret"))


class TestFiles:
    def test_a_path_stands_for_its_file(self, file):
        for source in (
            open_source(file),
            open_source(payload_path=file),
            open_source(payload_path=str(file)),
            open_source(payload_path=f"file://{file}"),
            open_source(ObjectStoragePath(f"file://{file}")),
        ):
            assert source.read() == content(source) == b"1,2\n"
            assert (source.size, source.content_type) == (4, "text/csv")
            assert source.digest() == hashlib.sha256(b"1,2\n").hexdigest()
            assert as_input_location(payload_path=file) is None

    def test_a_file_on_an_object_storage_is_read_there(self, storage):
        url = "memory://box/rows.csv"
        for source in (
            open_source(payload_path=url),
            open_source(payload_path=ObjectStoragePath(url)),
            open_source(ObjectStoragePath(url)),
        ):
            assert source.read() == content(source) == b"1,2\n"
            assert (source.size, source.content_type) == (4, "text/csv")
            assert source.digest() == hashlib.sha256(b"1,2\n").hexdigest()
        assert as_input_location(payload_path=url) is None

    def test_a_storage_that_tells_no_size_is_read_for_it(self, storage):
        storage.without_sizes = True
        storage.pipe("/box/large.bin", b"x" * (2 * MIB + 3))
        assert open_source(payload_path="memory://box/large.bin").size == 2 * MIB + 3

    def test_a_large_file_is_digested_in_small_pieces(self, tmp_path, monkeypatch):
        path = tmp_path / "large.bin"
        path.write_bytes(os.urandom(3 * MIB + 5))
        asked = []

        class Counting(io.FileIO):
            def read(self, size=-1):
                asked.append(size)
                return super().read(size)

        source = open_source(path)
        monkeypatch.setattr(Path, "open", lambda path, mode: Counting(path, "r"))
        assert source.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
        pieces = asked[: asked.index(-1)] if -1 in asked else asked
        assert len(pieces) >= 4
        assert all(0 < size <= MIB for size in pieces)

    @pytest.mark.parametrize(
        ("name", "content_type"),
        [
            ("a.json", "application/json"),
            ("a.jsonl", "application/jsonlines"),
            ("a.ndjson", "application/x-ndjson"),
            ("A.CSV", "text/csv"),
            ("a.npy", "application/x-npy"),
            ("a.png", "image/png"),
            ("a.csv.gz", "application/gzip"),
            ("a.csv.bz2", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
            ("noname", "application/octet-stream"),
        ],
    )
    def test_the_content_type_is_guessed_from_the_name(self, tmp_path, storage, name, content_type):
        (tmp_path / name).write_bytes(b"x")
        storage.pipe(f"/box/{name}", b"x")
        assert open_source(tmp_path / name).content_type == content_type
        assert open_source(payload_path=f"memory://box/{name}").content_type == content_type
        assert open_source(tmp_path / name, content_type="mine/own").content_type == "mine/own"

    @pytest.mark.parametrize(("change", "told"), [(b"1", "is 1 bytes long now"), (b"12345", "is longer now")])
    def test_a_file_that_changes_while_it_is_used_is_noticed(self, file, change, told):
        source = open_source(file)
        file.write_bytes(change)
        for use in (source.read, source.digest):
            with pytest.raises(InvalidInput, match=rf"rows.csv' had 4 bytes and {told}.*Let it be complete"):
                use()

    def test_a_file_that_is_gone_when_it_is_opened_is_named(self, file):
        source = open_source(file)
        file.unlink()
        with pytest.raises(InvalidInput, match="rows.csv' does not exist"):
            source.read()

    def test_a_right_that_is_missing_is_told(self, file, storage, monkeypatch):
        storage.refusing = True
        source = open_source(payload_path="memory://box/rows.csv")
        with pytest.raises(InvalidInput, match=r"payload_path 'memory://box/rows.csv' may not be read.*Forb"):
            source.read()

        def refuse(path, mode):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(InvalidInput, match=r"payload '.*rows.csv' may not be read by the worker.*denied"):
            open_source(file)

    def test_what_may_pass_is_left_to_a_retry(self, file, monkeypatch):
        def fail(path, mode):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="Input/output error"):
            open_source(file)

    def test_a_file_system_that_opens_no_directory_is_understood(self, file, monkeypatch):
        source = open_source(file)
        monkeypatch.setattr(Path, "open", lambda path, mode: os.open(path.parent, os.O_WRONLY))
        with pytest.raises(InvalidInput, match="rows.csv' is a directory"):
            source.read()

    def test_a_path_needs_no_library_of_paths(self, file, monkeypatch):
        monkeypatch.delitem(sys.modules, "upath")
        assert open_source(file).read() == b"1,2\n"
        assert as_input_location(file) is None


@pytest.mark.parametrize("home", ["airflow.sdk", "airflow.io.path"])
def test_a_url_is_opened_by_the_airflow_that_there_is(home, storage, monkeypatch):
    def only(name):
        if name != home:
            raise ModuleNotFoundError(name)
        return SimpleNamespace(ObjectStoragePath=ObjectStoragePath)

    monkeypatch.setattr("airflow_async_sm._compat.import_module", only)
    assert open_source(payload_path="memory://box/rows.csv").read() == b"1,2\n"


def upath(url):
    return import_module("upath").UPath(url)


class TestInS3:
    @pytest.mark.parametrize(
        ("given", "location"),
        [
            ("s3://bucket/a/b.csv", "s3://bucket/a/b.csv"),
            ("s3://conn@bucket/b.csv", "s3://bucket/b.csv"),
            ("s3://conn@bucket/b@c.csv", "s3://bucket/b@c.csv"),
            ("s3://bucket/b@c.csv", "s3://bucket/b@c.csv"),
            ("s3://bucket/a#b?c%20d", "s3://bucket/a#b?c%20d"),
            ("S3A://bucket/b.csv", "s3://bucket/b.csv"),
            ("s3n://bucket//b.csv", "s3://bucket//b.csv"),
        ],
    )
    def test_its_address_is_handed_on_without_the_connection(self, given, location):
        assert as_input_location(payload_path=given) == location

    @pytest.mark.parametrize(
        ("url", "location"),
        [
            ("s3://conn@bucket/a/b.csv", "s3://bucket/a/b.csv"),
            ("s3://bucket/a#b?c", "s3://bucket/a#b?c"),
            ("s3a://bucket/a@b", "s3://bucket/a@b"),
        ],
    )
    def test_so_is_that_of_a_path_object(self, url, location):
        assert as_input_location(ObjectStoragePath(url)) == location
        assert as_input_location(payload_path=ObjectStoragePath(url)) == location

    def test_a_path_of_the_library_below_is_understood(self):
        assert as_input_location(upath("s3://bucket/a/b")) == "s3://bucket/a/b"

    @pytest.mark.parametrize("arguments", [{}, {"payload": {"a": 1}}, {"payload_path": "gs://bucket/a"}])
    def test_anything_else_is_not_in_s3(self, arguments):
        assert as_input_location(**arguments) is None

    def test_what_merely_has_a_protocol_is_no_path(self):
        assert as_input_location(SimpleNamespace(protocol="s3", path="bucket/key")) is None

    @pytest.mark.parametrize(
        ("path", "sentence"),
        [
            ("s3://bucket", "payload_path is 's3://bucket'; it names no object"),
            ("s3://bucket/folder/", "payload_path is 's3://bucket/folder/'; it names no object"),
            ("s3://", "payload_path is 's3://'; expected s3://bucket/key"),
            ("s3://conn@/key", "payload_path is 's3:///key'; expected s3://bucket/key"),
            ("s3://b cket/key", "'b cket' is no bucket name"),
        ],
    )
    def test_what_is_no_address_of_an_object_is_refused(self, path, sentence):
        with pytest.raises(InvalidInput, match=sentence):
            as_input_location(payload_path=path)

    def test_a_payload_that_is_a_bucket_is_refused(self):
        with pytest.raises(InvalidInput, match="payload is 's3://bucket.?'; it names no object"):
            as_input_location(ObjectStoragePath("s3://bucket"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "nothing to send: give payload, payload_path or input_location"),
        (
            {"payload": 1, "payload_path": "a"},
            "payload and payload_path 'a' are both given: give one of them",
        ),
        (
            {"payload_path": 5},
            "payload_path is of type int; give the path of a file as text or as a path object",
        ),
        ({"payload_path": b"/tmp"}, "payload_path is of type bytes; .*A value itself is given as payload"),
        ({"payload_path": ["a"]}, "payload_path is of type list"),
        (
            {"payload_path": "/no/such/file"},
            "payload_path '/no/such/file' does not exist, as the worker that",
        ),
        ({"payload": Path("/no/such/file")}, "payload '/no/such/file' does not exist"),
        ({"payload_path": "file:///no/such/file"}, "payload_path 'file:///no/such/file' does not exist"),
        ({"payload_path": __file__ + "/below"}, "test_sources.py/below' does not exist"),
        ({"payload_path": "/"}, "^payload_path '/' is a directory; give the path of one file"),
        ({"payload": Path("/")}, "^payload '/' is a directory"),
        ({"payload_path": "/dev/null"}, "^payload_path '/dev/null' is no regular file"),
        ({"payload_path": "a\0b"}, "payload_path 'a.x00b' cannot be opened: .*null "),
        ({"payload_path": "memory://box/none"}, "payload_path 'memory://box/none' does not exist"),
        ({"payload_path": "memory://box"}, "^payload_path 'memory://box' is a directory"),
        (
            {"payload_path": "foo://box/a"},
            "payload_path 'foo://box/a' cannot be opened: .*filesystem.*provider",
        ),
        (
            {"payload_path": __file__, "serializer": repr},
            "is a file, which is sent as it is: leave serializer",
        ),
        ({"payload": {1}, "content_type": "text/csv"}, "payload of type set cannot be written as CSV"),
        ({"payload": 1, "serializer": 5}, "serializer is 5; give a function"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence(storage, arguments, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        open_source(**arguments)
    if {"payload", "payload_path"} <= arguments.keys():
        with pytest.raises(InvalidInput, match=sentence):
            as_input_location(**arguments)


def test_a_named_pipe_does_not_stop_the_task(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe' is no regular file"):
        open_source(tmp_path / "pipe")


def test_a_closed_source_can_be_opened_again(file):
    source = open_source(file)
    for _ in range(2):
        with contextlib.closing(source.open().__enter__()) as opened:
            assert opened.read() == b"1,2\n"
