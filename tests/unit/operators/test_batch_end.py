"""What the end of a batch writes, in which order, and how much memory it takes."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tracemalloc
from collections import Counter

import pytest

from airflow_async_sm.core.batches.items import BatchInput, BatchItem
from airflow_async_sm.core.batches.manifest import COLUMNS, ManifestIncomplete, ObjectSeen
from airflow_async_sm.core.batches.state import BatchState
from airflow_async_sm.core.batches.summary import SummaryFacts
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import ServiceUnavailable
from airflow_async_sm.operators._batch_end import write_manifest

FOLDER = S3Uri("bucket", "work/batches/one")
LOG = logging.getLogger("tests.batch_end")
MANY = 100_000
MOST_GROWTH = 60 * 2**20


class Shelf:
    """What stands for S3: a folder on disk, in which answers are made up when they are asked for."""

    def __init__(self, path, items=(), answer=lambda location: b"1"):
        self.path, self.items, self.answer = path, items, answer
        self.written = []
        self.breaks_at = None

    def listed_objects(self, folder, after=""):
        return (ObjectSeen(item.filename(1), 1, 1_010.0) for item in self.items)

    def read_many(self, locations, threads=8):
        yield from ((location, self.answer(location)) for location in locations)

    def write_file(self, path, location, *, content_type):
        name = location.rpartition("/")[2]
        if name == self.breaks_at:
            raise ServiceUnavailable("S3 is busy.")
        self.written.append(name)
        shutil.copy(path, self.path / name)

    def text(self, name):
        return (self.path / name).read_text("utf-8")


class Items:
    """Planned inputs that are made when they are asked for."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (
            BatchItem.of(n, BatchInput(origin=f"list[{n}]", body=b'{"n": %d}' % n)) for n in range(self.count)
        )


def end_of(shelf, count, *, items=None, state=None, **arguments):
    given = {"output_folders": f"{FOLDER}/out", "extra": SummaryFacts(), "log": LOG, **arguments}
    items = Items(count) if items is None else items
    return write_manifest(shelf, FOLDER, lambda: iter(items), state or BatchState(count), **given)


def test_the_summary_is_written_last(tmp_path):
    shelf = Shelf(tmp_path, Items(2))
    end = end_of(shelf, 3, merge_to="s3://bucket/merged")
    assert [name for name in shelf.written if name != "manifest.parquet"] == [
        "merged",
        "dead-letter.jsonl",
        "manifest.jsonl",
        "summary.json",
    ]
    assert (end.manifest, end.summary) == (f"{FOLDER}/manifest.jsonl", f"{FOLDER}/summary.json")
    assert end.results == "s3://bucket/merged"


def test_a_bucket_gets_the_merged_answers_under_their_name(tmp_path):
    end = end_of(Shelf(tmp_path, Items(1)), 1, merge_to="s3://bucket")
    assert end.results == "s3://bucket/results.jsonl"
    assert json.loads((tmp_path / "results.jsonl").read_text())["output"] == 1


@pytest.mark.parametrize("planned", [2, 4])
def test_nothing_is_written_where_the_counts_do_not_add_up(tmp_path, planned):
    shelf = Shelf(tmp_path, Items(2))
    with pytest.raises(ManifestIncomplete):
        end_of(shelf, 3, items=Items(planned), merge_to="s3://bucket/merged")
    assert shelf.written == []


def test_a_try_that_broke_off_is_made_good_by_the_next(tmp_path):
    shelf = Shelf(tmp_path, Items(1))
    shelf.breaks_at = "manifest.jsonl"
    with pytest.raises(ServiceUnavailable):
        end_of(shelf, 2)
    assert "summary.json" not in shelf.written
    shelf.breaks_at = None
    end = end_of(shelf, 2)
    assert json.loads(shelf.text("summary.json"))["counts"] == end.counts


def test_calls_that_the_end_itself_takes_are_in_the_summary(tmp_path):
    calls, shelf = Counter(PutObject=1), Shelf(tmp_path)
    write = shelf.write_file

    def counted(*args, **kwargs):
        calls["PutObject"] += 1
        write(*args, **kwargs)

    shelf.write_file = counted
    end_of(shelf, 1, extra=SummaryFacts(calls=calls))
    told = json.loads(shelf.text("summary.json"))
    assert told["aws_calls"]["PutObject"] == len(shelf.written)


def test_without_pyarrow_one_line_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    shelf = Shelf(tmp_path)
    with caplog.at_level(logging.INFO, LOG.name):
        end = end_of(shelf, 1)
    assert end.parquet is None
    assert "manifest.parquet" not in shelf.written
    assert json.loads(shelf.text("summary.json"))["objects"]["parquet"] is None
    (record,) = caplog.records
    assert "not written as Parquet" in record.getMessage()


@pytest.mark.default_airflow
@pytest.mark.parametrize(
    ("count", "merging"), [(MANY, {}), (10_000, {"merge_to": "s3://bucket/results.jsonl"})]
)
def test_many_inputs_take_little_memory(tmp_path, count, merging):
    state = BatchState(count)
    state.sending(1, range(count), 1_000.0)
    state.sent(range(count))
    # Made before memory is counted, which is slow: the inputs, and what stands for their listing.
    items = [
        BatchItem(index=n, mark="0123456789", origin=f"list[{n}]", body=b'{"n": 1}') for n in range(count)
    ]
    listing = [ObjectSeen(item.filename(1), 1, 1_010.0) for item in items[: count - 1_000]]
    shelf = Shelf(tmp_path, answer=lambda location: b'"%s"' % (b"x" * 10_000))
    shelf.listed_objects = lambda folder: iter(listing)
    end_of(Shelf(tmp_path), 10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        end = end_of(shelf, count, items=items, state=state, **merging)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (end.counts["Succeeded"], end.counts["Open"]) == (count - 1_000, 1_000)
    for name in ["manifest.jsonl", *(["results.jsonl"] if merging else [])]:
        with (tmp_path / name).open("rb") as file:
            assert sum(1 for _ in file) == count
    assert peak - before < MOST_GROWTH
    assert arrow_peak() < MOST_GROWTH


def arrow_peak():
    arrow = sys.modules.get("pyarrow")
    return (arrow.default_memory_pool().max_memory() or 0) if arrow else 0


def test_parquet_has_its_types_also_where_a_column_is_empty_and_rows_in_groups(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    shelf = Shelf(tmp_path)
    end = end_of(shelf, 25_000)
    assert end.parquet == f"{FOLDER}/manifest.parquet"
    found = parquet.ParquetFile(tmp_path / "manifest.parquet")
    assert found.num_row_groups == 13
    assert {field.name: field.type for field in found.schema_arrow} == {
        name: arrow.type_for_alias(kind) for name, kind in COLUMNS.items()
    }
    rows = [json.loads(line) for line in shelf.text("manifest.jsonl").splitlines()]
    assert found.read().to_pylist() == rows
