"""The end of a batch in the emulator's S3: manifest, dead letters, Parquet, and merged answers."""

from __future__ import annotations

import base64
import io
import json
import logging
import random
import tempfile
import threading
import tracemalloc
import uuid
from collections import Counter
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from airflow_async_sm.batch_inputs import BatchInputs
from airflow_async_sm.core.batches.failures import ItemFailure
from airflow_async_sm.core.batches.items import BatchInput, BatchItem
from airflow_async_sm.core.batches.manifest import COLUMNS, ManifestIncomplete
from airflow_async_sm.core.batches.state import BatchState
from airflow_async_sm.core.batches.summary import SummaryFacts
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import RequestRejected, ResultUnreadable, ServiceUnavailable
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators._batch_end import write_manifest
from tests.world import BUCKET

# Airflow has no part in it.
pytestmark = pytest.mark.default_airflow

MIB = 1024 * 1024
LOG = logging.getLogger("tests.batch_end")


@pytest.fixture
def connect(monkeypatch):
    def hook_for(url, **arguments):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(url))
        return SageMakerAsyncHook(**arguments)

    return hook_for


@pytest.fixture
def hook(world, connect):
    return connect(world.emulator.url)


@pytest.fixture
def folder(world):
    return S3Uri(BUCKET, f"batches/{uuid.uuid4()}")


def put(uri, content):
    """Write an object without HTTP: thousands of them take seconds."""
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(uri.bucket, uri.key, content)


def planned(count):
    """Return inputs of all kinds, one after the other."""
    kinds = (
        lambda n: {"input_location": f"s3://{BUCKET}/in/{n}", "version": "etag"},
        lambda n: {"body": f'{{"customer": "é{n}"}}'.encode(), "content_type": "application/json"},
        lambda n: {"body": b"\xff" + n.to_bytes(4, "big")},
    )
    return [
        BatchItem.of(n, BatchInput(origin=f"s3://{BUCKET}/inputs.jsonl:{n + 1}", **kinds[n % 3](n)))
        for n in range(count)
    ]


def lines(world, location):
    return [json.loads(line) for line in world.body(location).split(b"\n")[:-1]]


def ended(hook, folder, items, state, **arguments):
    given = {
        "output_folders": str(folder.join("out")),
        "extra": SummaryFacts(calls=Counter(PutObject=10)),
        "log": LOG,
        **arguments,
    }
    return write_manifest(hook, folder, lambda: iter(items), state, **given)


class Batch:
    """Five thousand inputs: most are answered, some at the second attempt, some in other ways."""

    COUNT = 5_000
    FAILED = range(100, 150)
    EXPIRED = range(200, 230)
    REFUSED = range(300, 310)
    AGAIN = range(1_000, 1_100)
    LATE = range(2_000, 2_010)  # answered, and the ledger does not know it yet
    UNSENT = range(4_900, 5_000)

    def __init__(self, folder):
        self.items = planned(self.COUNT)
        self.state = state = BatchState(self.COUNT)
        sent = [n for n in range(self.COUNT) if n not in self.UNSENT]
        state.sending(1, sent, 1_000.0)
        state.sent(
            [n for n in sent if n not in self.REFUSED],
            refused=dict.fromkeys(self.REFUSED, ItemFailure("Rejected", "The payload is too large.")),
        )
        failure = {
            n: ItemFailure("ModelBroke", f"MemoryError in {n}", f"s3://{BUCKET}/failures/{n}")
            for n in [*self.FAILED, *self.AGAIN]
        }
        state.ended(failed=failure, expired=self.EXPIRED, again=dict.fromkeys(self.AGAIN, 1_010.0))
        state.sending(2, self.AGAIN, 1_020.0)
        state.sent(self.AGAIN)
        without = {*self.FAILED, *self.EXPIRED, *self.REFUSED, *self.UNSENT}
        self.answered = [n for n in range(self.COUNT) if n not in without]
        for n in self.answered:
            attempt = 2 if n in self.AGAIN else 1
            put(folder.join("out", self.items[n].filename(attempt)), b"x" * (n % 7 + 1))
        for n in self.FAILED:  # as on an endpoint whose failures lie beside its answers
            put(folder.join("out", f"{self.items[n].filename(1)}-error.out"), b"MemoryError")
        put(folder.join("out", "readme.txt"), b"hello")
        state.ended(succeeded=[n for n in self.answered if n not in self.LATE])


@pytest.fixture(scope="module")
def batch(world):
    folder = S3Uri(BUCKET, f"batches/{uuid.uuid4()}")
    return folder, Batch(folder)


@pytest.fixture(scope="module")
def five_thousand(batch, world):
    folder, made = batch
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
        end = ended(SageMakerAsyncHook(), folder, made.items, made.state)
    return made, end, lines(world, end.manifest)


class TestFiveThousandInputs:
    def test_each_has_its_row(self, five_thousand, world):
        made, end, rows = five_thousand
        assert [row["index"] for row in rows] == list(range(made.COUNT))
        assert end.counts == {
            "Succeeded": 4_810,
            "Failed": 50,
            "Expired": 30,
            "Refused": 10,
            "Unsubmitted": 100,
            "Open": 0,
        }
        assert Counter(row["end"] for row in rows) == +Counter(end.counts)
        assert {n: rows[n]["end"] for n in made.LATE} == dict.fromkeys(made.LATE, "Succeeded")
        for n in (0, 1_000, 2_000, 4_899):
            assert len(world.body(rows[n]["output_location"])) == rows[n]["size"] == n % 7 + 1
        assert rows[1_000]["output_location"].endswith("-2.out")
        assert (rows[1_000]["attempts"], rows[0]["attempts"]) == (2, 1)
        assert rows[100]["failure_location"] == f"s3://{BUCKET}/failures/100"

    def test_the_dead_letters_hold_what_is_needed_to_send_them_again(self, five_thousand, world):
        made, end, rows = five_thousand
        letters = lines(world, end.dead_letter)
        assert [one["item_id"] for one in letters] == [
            row["item_id"] for row in rows if row["end"] != "Succeeded"
        ]
        for one in letters:
            item = made.items[int(one["item_id"][:8])]
            assert fed_back(one) == item
            assert one["class"]
            assert one["reason"]
        assert Counter(one["class"] for one in letters) == {
            "ModelBroke": 50,
            "Expired": 30,
            "Rejected": 10,
            "Unsubmitted": 100,
        }

    def test_another_batch_takes_the_dead_letters_as_its_inputs(self, five_thousand, hook):
        made, end, rows = five_thousand
        found = list(BatchInputs(input_manifest=end.dead_letter).read(hook))
        wanted = [item for item in made.items if rows[item.index]["end"] != "Succeeded"]
        assert [(one.input_location, one.body, one.content_type) for one in found] == [
            (item.input_location, item.body, item.content_type) for item in wanted
        ]

    def test_the_summary_agrees_with_the_rows(self, five_thousand, world):
        _, end, rows = five_thousand
        told = json.loads(world.body(end.summary))
        assert told["counts"] == end.counts
        assert told["failures"]["ModelBroke"] == {
            "count": 50,
            "texts": ["MemoryError in 100", "MemoryError in 101", "MemoryError in 102"],
        }
        assert told["first_submitted_at"] == 1_000.0
        assert told["latency_seconds"]["max"] == max(row["seconds"] or 0 for row in rows)
        assert told["estimated_cost_usd"]["total"] == 0.00005
        assert told["objects"] == {
            "manifest": end.manifest,
            "parquet": end.parquet,
            "dead_letter": end.dead_letter,
            "results": None,
        }

    def test_parquet_says_the_same_as_the_lines(self, five_thousand, world):
        parquet = pytest.importorskip("pyarrow.parquet")
        _, end, rows = five_thousand
        table = parquet.read_table(io.BytesIO(world.body(end.parquet)))
        assert table.schema.names == list(COLUMNS)
        assert table.to_pylist() == rows

    def test_a_later_end_takes_the_place_of_the_earlier_one(self, hook, folder, world):
        items, state = planned(3), BatchState(3)
        first = ended(hook, folder, items, state)
        assert len(lines(world, first.dead_letter)) == 3
        for item in items:
            put(folder.join("out", item.filename(1)), b"1")
        second = ended(hook, folder, items, state)
        assert second.manifest == first.manifest
        assert [row["end"] for row in lines(world, second.manifest)] == ["Succeeded"] * 3
        assert second.dead_letter is None
        assert world.body(first.dead_letter) == b""

    def test_a_plan_that_is_not_whole_leaves_what_was_there(self, hook, folder, world):
        items = planned(3)
        with pytest.raises(ManifestIncomplete):
            ended(hook, folder, items[:2], BatchState(3), merge_to=str(folder))
        assert list(hook.listed_objects(str(folder))) == []


def fed_back(letter):
    """Return the input that a dead letter holds, as another batch would read it."""
    item_id = letter["item_id"]
    body = letter.get("text", "").encode() or base64.b64decode(letter.get("base64", "")) or None
    return BatchItem(
        index=int(item_id[:8]),
        mark=item_id[9:],
        origin=letter["origin"],
        input_location=letter.get("input_location"),
        body=body,
        content_type=letter.get("content_type"),
    )


class TestMerging:
    def test_answers_of_all_sizes_keep_the_order_of_the_inputs(self, hook, folder, world):
        draw = random.Random(7)
        items, state = planned(120), BatchState(120)
        state.sending(1, range(110), 1.0)
        state.sent(range(110))
        state.ended(failed={5: ItemFailure("ModelRejected", "no")})
        expected = []
        for item in items:
            n = item.index
            if n == 5 or n >= 100:
                expected.append((None, "ModelRejected" if n == 5 else "Open" if n < 110 else "Unsubmitted"))
                continue
            # Some are held in memory, some lie on disk, and one is not read ahead.
            size = {20: 17 * MIB, 40: 2 * MIB, 41: 3 * MIB}.get(n, draw.randrange(1, 2_000))
            answer, content = an_answer(n, size)
            put(folder.join("out", item.filename(1)), content)
            expected.append((answer, None))
        end = ended(hook, folder, items, state, merge_to=f"{folder}/merged/")
        assert end.results == f"{folder}/merged/results.jsonl"
        merged = lines(world, end.results)
        assert [(one["index"], one["item_id"], one["origin"]) for one in merged] == [
            (item.index, item.item_id, item.origin) for item in items
        ]
        assert [(one["output"], one.get("error")) for one in merged] == expected

    def test_one_that_is_gone_is_told_and_the_others_are_merged(self, hook, folder, world, caplog):
        items, state = planned(2), BatchState(2)
        state.sending(1, range(2), 1.0)
        state.sent(range(2))
        state.ended(succeeded=range(2))
        put(folder.join("out", items[1].filename(1)), b"2")
        with caplog.at_level(logging.WARNING, LOG.name):
            end = ended(hook, folder, items, state, merge_to=str(folder.join("all.jsonl")))
        gone, there = lines(world, end.results)
        assert (gone["output"], gone["error"], there["output"]) == (None, "ResultUnreadable", 2)
        assert "1 of the answers could not be read" in caplog.text
        assert items[0].filename(1) in caplog.text

    def test_where_none_can_be_read_the_merge_fails_and_nothing_is_written(self, hook, folder):
        items, state = planned(2), BatchState(2)
        state.sending(1, range(2), 1.0)
        state.sent(range(2))
        state.ended(succeeded=range(2))
        with pytest.raises(ResultUnreadable, match="NoSuchKey.*s3:GetObject"):
            ended(hook, folder, items, state, merge_to=str(folder.join("all.jsonl")))
        assert list(hook.listed_objects(str(folder))) == []

    def test_an_answer_that_nobody_can_place_is_told_too(self, hook, folder, world):
        items, state = planned(1), BatchState(1)
        state.sending(1, [0], 1.0)
        state.ended(succeeded=[0])
        end = ended(hook, folder, items, state, output_folders=None, merge_to=str(folder.join("all.jsonl")))
        assert lines(world, end.results)[0]["error"] == "ResultUnreadable"

    @pytest.mark.parametrize("place", ["/tmp/all.jsonl", "gs://bucket/all"])
    def test_a_place_that_is_not_in_s3_is_refused_first(self, hook, folder, place):
        with pytest.raises(InvalidInput, match="merge_to is "):
            ended(hook, folder, planned(1), BatchState(1), merge_to=place)


def an_answer(n, size):
    """Return a value, and the answer of a model that says it."""
    match n % 3:
        case 0:
            value = [n, "é" * size]
            return value, json.dumps(value, indent=1, ensure_ascii=False).encode()
        case 1:
            return f"line {n}\n" * size, b"line %d\n" % n * size
        case _:
            content = b"\xff" + n.to_bytes(4, "big") + bytes(size)
            return {"base64": base64.b64encode(content).decode()}, content


class TestListing:
    def test_it_goes_on_after_a_name(self, hook, folder):
        for name in ("a", "b", "c/d"):
            put(folder.join(name), name.encode())
        put(S3Uri(folder.bucket, f"{folder.key}-beside/x"), b"x")
        found = list(hook.listed_objects(str(folder)))
        assert [(one.name, one.size) for one in found] == [("a", 1), ("b", 1), ("c/d", 3)]
        assert found[0].last_modified > 1_600_000_000
        assert found == list(hook.listed_objects(f"{folder}/"))
        assert found[1:] == list(hook.listed_objects(str(folder), "a"))

    def test_there_may_be_more_than_a_page_and_the_next_is_asked_for_when_it_is_needed(self, hook, batch):
        folder, made = batch
        pages = []
        hook._s3.meta.events.register("before-call.s3.ListObjectsV2", lambda **_: pages.append(1))
        found = hook.listed_objects(str(folder.join("out")))
        next(found)
        assert len(pages) == 1
        rest = sum(1 for _ in found)
        assert (rest + 1, len(pages)) == (len(made.answered) + len(made.FAILED) + 1, 5)

    def test_a_bucket_can_be_a_folder(self, world, hook):
        bucket = f"whole-{uuid.uuid4().hex[:8]}"
        world.s3.create_bucket(Bucket=bucket)
        put(S3Uri(bucket, "x/y"), b"1")
        assert [one.name for one in hook.listed_objects(f"s3://{bucket}")] == ["x/y"]

    def test_a_bucket_that_is_not_there_is_named(self, hook):
        with pytest.raises(RequestRejected, match="list s3://nowhere/a: .*NoSuchBucket"):
            list(hook.listed_objects("s3://nowhere/a"))

    def test_a_right_that_is_missing_is_told(self, connect):
        with storage(lambda path, asked: (403, b"<Error><Code>AccessDenied</Code></Error>")) as url:
            with pytest.raises(RequestRejected, match=r"AccessDenied.*s3:ListBucket") as told:
                list(connect(url).listed_objects(f"s3://{BUCKET}/a"))
        assert told.value.location == f"s3://{BUCKET}/a"


class Storage(BaseHTTPRequestHandler):
    """An S3 that answers as a test says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.asked[path] += 1
            asked = self.server.asked[path]
        status, body = self.server.answer(path, asked)
        length = len(body)
        if status == "cut":
            status, length = 200, length + 10
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def storage(answer):
    """Serve an S3 on a free port; yield its address."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    serving.daemon_threads = True
    serving.answer, serving.asked, serving.lock = answer, Counter(), threading.Lock()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def places(count):
    return [f"s3://{BUCKET}/o/{n}" for n in range(count)]


def reading_threads():
    return [one for one in threading.enumerate() if one.name.startswith("outputs")]


class TestReading:
    @pytest.mark.parametrize("content", [b"whole", b"x" * (2 * MIB)], ids=["held", "in a file"])
    def test_a_connection_that_breaks_is_no_end(self, connect, content):
        with storage(lambda path, asked: ("cut" if asked < 3 else 200, content)) as url:
            found = [
                (place, read if isinstance(read, bytes) else read.read())
                for place, read in connect(url).read_many(places(2))
            ]
        assert found == [(place, content) for place in places(2)]

    def test_one_that_always_breaks_is(self, connect):
        with storage(lambda path, asked: ("cut", b"half")) as url:
            with pytest.raises(ServiceUnavailable, match=f"read {places(1)[0]}"):
                list(connect(url).read_many(places(1)))
        assert reading_threads() == []

    def test_what_is_refused_is_told_in_its_turn(self, connect):
        def answer(path, asked):
            return (403, b"<Error><Code>AccessDenied</Code></Error>") if path.endswith("1") else (200, b"x")

        with storage(answer) as url:
            found = [content for _, content in connect(url).read_many(places(3))]
        assert (found[0], found[2]) == (b"x", b"x")
        assert isinstance(found[1], ResultUnreadable)
        assert found[1].location == places(2)[1]
        assert "AccessDenied" in str(found[1])

    def test_no_more_is_read_ahead_than_two_for_each_thread(self, connect):
        asked_for = []

        def locations():
            for place in places(100):
                asked_for.append(place)
                yield place

        with storage(lambda path, asked: (200, b"x")) as url:
            reading = connect(url).read_many(locations(), threads=3)
            with closing(reading):
                assert next(reading) == (places(1)[0], b"x")
                assert len(asked_for) == 6
                next(reading)
                assert len(asked_for) == 7
        assert reading_threads() == []

    def test_what_breaks_behind_the_last_one_that_is_wanted_does_not_matter(self, connect):
        with storage(lambda path, asked: (200 if path.endswith("/0") else "cut", b"x")) as url:
            with closing(connect(url).read_many(places(9))) as reading:
                assert next(reading) == (places(1)[0], b"x")
        assert reading_threads() == []

    def test_files_are_closed_also_those_that_nobody_has_asked_for(self, connect, monkeypatch):
        opened = []
        make = tempfile.TemporaryFile

        def noted(*args, **kwargs):
            opened.append(make(*args, **kwargs))
            return opened[-1]

        monkeypatch.setattr("tempfile.TemporaryFile", noted)
        with storage(lambda path, asked: (200, b"x" * (MIB + 1))) as url:
            reading = connect(url).read_many(places(50), threads=2)
            with closing(reading):
                _, first = next(reading)
                assert first.read() == b"x" * (MIB + 1)
                _, second = next(reading)
                assert first.closed
                assert not second.closed
        assert len(opened) >= 2
        assert all(file.closed for file in opened)

    def test_large_ones_take_little_memory_and_are_not_read_ahead(self, connect):
        sizes = {f"/{BUCKET}/o/{n}": (20 * MIB if n % 2 else 4 * MIB) for n in range(6)}
        content = bytes(20 * MIB)

        with storage(lambda path, asked: (200, memoryview(content)[: sizes[path]])) as url:
            hook = connect(url)
            hook._s3  # noqa: B018 - made before memory is counted
            tracemalloc.start()
            try:
                found = [len(file.read()) for _, file in hook.read_many(places(6), threads=2)]
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                for _, file in hook.read_many(places(6), threads=2):
                    while file.read(MIB):
                        pass
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert found == [sizes[f"/{BUCKET}/o/{n}"] for n in range(6)]
        assert peak - before < 10 * MIB

    def test_a_large_file_is_written_in_parts(self, hook, folder, world, tmp_path):
        path = tmp_path / "lines"
        path.write_bytes(b"0123456789abcde\n" * (MIB + 1))
        location = str(folder.join("large.jsonl"))
        hook.write_file(path, location, content_type="application/jsonlines")
        found = world.get(location)
        assert found["ETag"].strip('"').endswith("-2")
        assert found["ContentType"] == "application/jsonlines"
        assert found["Body"].read() == path.read_bytes()
