"""Lines become records, and records become requests: what is in them, and what is wrong with some."""

from __future__ import annotations

import csv
import gzip
import inspect
import io
import json
import tracemalloc
from itertools import chain, count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.items import BatchInput, Unreadable
from airflow_async_sm.core.inputs.lines import numbered, split_lines, unpacked
from airflow_async_sm.core.inputs.records import csv_cells, csv_records, json_records
from airflow_async_sm.core.inputs.rows import csv_requests, json_requests
from airflow_async_sm.core.limits import INPUT_OBJECT_BYTES, InvalidInput

SOURCE = "s3://b/k"
BOM = b"\xef\xbb\xbf"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
# UTF-8 has no lone surrogates, and Python's csv no NUL before 3.12.
cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
line_ends = st.sampled_from(["\n", "\r\n"])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def bodies(found):
    return [each.body for each in found]


def told(found):
    """Return what is found, in short: where it is, and its bytes or what is wrong."""
    return [(each.origin, each.reason if isinstance(each, Unreadable) else each.body) for each in found]


class TestLines:
    @given(
        lines=st.lists(st.binary().map(lambda raw: raw.replace(b"\n", b"")), min_size=1),
        size=st.integers(1, 9),
    )
    def test_a_content_in_blocks_of_any_size_has_the_same_lines(self, lines, size):
        # An empty last line is the same as the line break before it.
        expected = lines if lines[-1] else lines[:-1]
        assert list(split_lines(cut(b"\n".join(lines), size))) == expected

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_of_a_line_that_is_too_long_no_more_is_kept_than_shows_it(self, size):
        found = list(split_lines(cut(b"123456789\n12345\n1234\n123456789", size), limit=5))
        assert found == [b"123456", b"12345", b"1234", b"123456"]

    def test_a_line_without_end_takes_no_more_memory_than_the_limit(self):
        tracemalloc.start()
        (line,) = split_lines((b"x" * 100_000 for _ in range(1_000)), limit=300_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(line) == 300_001
        assert peak < 2_000_000

    def test_lines_have_numbers_and_no_byte_order_mark(self):
        assert list(numbered([BOM + b"a\n", BOM + b"b", "c\n", "\ufeff"])) == [
            (1, b"a"),
            (2, BOM + b"b"),
            (3, b"c"),
            (4, BOM),
        ]
        assert list(numbered(["\ufeffa"])) == [(1, b"a")]


class TestPacked:
    @given(parts=st.lists(st.binary(), min_size=1), size=st.integers(1, 30))
    def test_what_was_packed_is_unpacked_however_many_parts_and_blocks_there_are(self, parts, size):
        packed = b"".join(gzip.compress(part) for part in parts)
        assert b"".join(unpacked(cut(packed, size), SOURCE)) == b"".join(parts)

    @given(content=st.binary().filter(lambda raw: not raw.startswith(b"\x1f\x8b")), size=st.integers(1, 30))
    def test_anything_else_is_left_as_it_is(self, content, size):
        assert b"".join(unpacked(cut(content, size), SOURCE)) == content

    def test_what_becomes_very_long_comes_in_parts(self):
        found = list(unpacked([gzip.compress(bytes(10_000_000))], SOURCE))
        assert sum(map(len, found)) == 10_000_000
        assert max(map(len, found)) <= 1024 * 1024

    def test_a_missing_end_is_noticed(self):
        with pytest.raises(InvalidInput, match="s3://b/k is packed with gzip, and its end is missing"):
            list(unpacked([gzip.compress(b"x" * 100)[:-3]], SOURCE))

    def test_what_only_begins_as_gzip_is_refused(self):
        with pytest.raises(InvalidInput, match="s3://b/k begins as gzip and cannot be unpacked"):
            list(unpacked([b"\x1f\x8bno gzip at all"], SOURCE))


class TestJsonLines:
    @given(values=st.lists(json_values), end=line_ends, as_bytes=st.booleans(), is_ascii=st.booleans())
    def test_any_records_are_found_as_they_were_written(self, values, end, as_bytes, is_ascii):
        lines = [
            json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") for value in values
        ]
        texts = [line for line in lines if _is_utf8(line)]
        content = BOM + b"".join(line + end.encode() for line in texts)
        given_lines = split_lines([content]) if as_bytes else content.decode().split("\n")
        found = list(json_requests(given_lines, SOURCE))
        assert [json.loads(each.body) for each in found] == [json.loads(line) for line in texts]
        assert bodies(found) == texts
        assert {each.content_type for each in found} <= {"application/json"}

    @given(values=st.lists(json_values, max_size=12), size=st.integers(2, 5))
    def test_so_many_of_them_are_one_request(self, values, size):
        lines = [json.dumps(value) for value in values]
        found = list(json_requests(lines, SOURCE, size=size))
        groups = [[json.loads(line) for line in each.body.decode().splitlines()] for each in found]
        assert groups == [values[at : at + size] for at in range(0, len(values), size)]
        assert {each.content_type for each in found} <= {"application/jsonlines"}

    def test_a_request_says_where_it_comes_from(self):
        lines = ["1", "", "2", "3"]
        assert told(json_requests(lines, SOURCE)) == [
            ("s3://b/k line 1", b"1"),
            ("s3://b/k line 3", b"2"),
            ("s3://b/k line 4", b"3"),
        ]
        assert told(json_requests(lines, SOURCE, size=2)) == [
            ("s3://b/k lines 1-3", b"1\n2\n"),
            ("s3://b/k line 4", b"3\n"),
        ]

    def test_a_content_type_that_is_given_counts(self):
        for size in (1, 2):
            (found,) = json_requests(["1"], SOURCE, size=size, content_type="application/x-ndjson")
            assert found.content_type == "application/x-ndjson"

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"a": 1', "is no JSON: Expecting ',' delimiter at character 8."),
            (b"[1] [2]", "is no JSON: Extra data at character 5."),
            (b"NaN", "is no JSON: NaN is no value of it."),
            (b"-Infinity", "is no JSON: -Infinity is no value of it."),
            (b'"caf\xe9"', "is no text in UTF-8: invalid continuation byte at byte 5."),
            (b"\xff\xfe1\x00", "is no text in UTF-8: invalid start byte at byte 1."),
            ('"\ud800"', "is no text in UTF-8: invalid continuation byte at byte 2."),
            (b"1" + b" " * 30 + b"2", "has more than 30 bytes, which is all that a request may have."),
            (b"[" * 30, "is no JSON: Expecting value at character 31."),
        ],
        ids=lambda value: (
            None if isinstance(value, str) and value.startswith(("is", "has")) else repr(value)[:12]
        ),
    )
    @pytest.mark.parametrize("size", [1, 2])
    def test_a_bad_line_is_kept_apart_and_ends_nothing(self, line, reason, size):
        found = list(json_requests([b"1", line, b"2"], SOURCE, size=size, limit=30))
        assert [each for each in found if isinstance(each, Unreadable)] == [
            Unreadable("s3://b/k line 2", reason)
        ]
        sent = b"".join(each.body for each in found if isinstance(each, BatchInput))
        assert sent.replace(b"\n", b"") == b"12"

    def test_a_line_that_is_nested_too_deeply_is_kept_apart(self):
        (found,) = json_requests([b"[" * 100_000], SOURCE)
        assert found == Unreadable("s3://b/k line 1", "is JSON that is nested too deeply.")

    def test_a_number_of_any_length_is_a_number(self):
        number = b"1" * 10_000
        assert bodies(json_requests([number], SOURCE)) == [number]

    def test_line_breaks_that_json_leaves_in_texts_end_no_record(self):
        line = json.dumps("a\u2028b\x85c\rd", ensure_ascii=False)
        assert bodies(json_requests([line], SOURCE)) == [line.encode()]

    def test_blank_lines_are_no_records(self):
        assert bodies(json_requests([BOM, b"", b" \t\r", b"1\r", b""], SOURCE)) == [b"1"]

    def test_another_charset_is_left_as_it_is(self):
        assert bodies(json_requests([b'"caf\xe9"'], SOURCE, charset="latin-1")) == [b'"caf\xe9"']
        (found,) = json_requests([b'"\xe9"'], SOURCE, charset="ascii")
        assert found.reason == "is no text in ascii: ordinal not in range(128) at byte 2."

    def test_a_request_that_would_be_too_large_has_fewer_records(self):
        found = list(json_requests([b"1234"] * 5, SOURCE, size=4, limit=10))
        assert told(found) == [
            ("s3://b/k lines 1-2", b"1234\n1234\n"),
            ("s3://b/k lines 3-4", b"1234\n1234\n"),
            ("s3://b/k line 5", b"1234\n"),
        ]

    def test_the_limit_is_the_services(self):
        for function in (json_requests, csv_requests, json_records, csv_records, split_lines):
            assert (
                inspect.signature(function).parameters["limit"].default == INPUT_OBJECT_BYTES == 1_000_000_000
            )

    def test_lines_are_taken_when_they_are_needed(self):
        taken = []
        endless = (taken.append(number) or str(number) for number in count())
        assert bodies(islice(json_requests(endless, SOURCE, size=3), 2)) == [b"0\n1\n2\n", b"3\n4\n5\n"]
        assert taken == [0, 1, 2, 3, 4, 5]


class TestCsv:
    @given(
        rows=st.integers(1, 4).flatmap(
            lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1)
        ),
        # The writer quotes those line breaks only that it ends lines with, unless it quotes everything.
        form=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
        size=st.integers(1, 50),
    )
    def test_any_rows_are_found_as_they_were_written(self, rows, form, size):
        end, quoting = form
        written = io.StringIO(newline="")
        csv.writer(written, lineterminator=end, quoting=quoting).writerows(rows)
        content = BOM + written.getvalue().encode()
        found = list(csv_records(split_lines(cut(content, size)), SOURCE))
        # A row of one cell that is nothing but space is a blank line, if nothing is around it.
        expected = [row for row in rows if _line(row, end, quoting).strip()]
        assert [csv_cells(each.content) for each in found] == expected
        assert [each.cells for each in found] == [len(row) for row in expected]

    def test_each_request_begins_with_the_header(self):
        lines = [BOM + b"a,b\r", b"1,2\r", b"3,4\r", b"5,6"]
        assert told(csv_requests(lines, SOURCE)) == [
            ("s3://b/k line 2", b"a,b\n1,2\n"),
            ("s3://b/k line 3", b"a,b\n3,4\n"),
            ("s3://b/k line 4", b"a,b\n5,6\n"),
        ]
        assert told(csv_requests(lines, SOURCE, size=2)) == [
            ("s3://b/k lines 2-3", b"a,b\n1,2\n3,4\n"),
            ("s3://b/k line 4", b"a,b\n5,6\n"),
        ]

    def test_without_a_header_each_row_is_one(self):
        found = list(csv_requests(["1,2", "3,4"], SOURCE, header=False))
        assert bodies(found) == [b"1,2\n", b"3,4\n"]
        assert {each.content_type for each in found} == {"text/csv"}

    def test_a_content_type_that_is_given_counts(self):
        (found,) = csv_requests(["a", "1"], SOURCE, content_type="text/csv; header=present")
        assert found.content_type == "text/csv; header=present"

    @pytest.mark.parametrize("lines", [[], [""], ["a,b"], ["", "a,b", " "]])
    def test_there_may_be_no_row(self, lines):
        assert list(csv_requests(lines, SOURCE)) == []

    def test_a_row_may_have_line_breaks_within_quotes(self):
        lines = [b"a,b", b'1,"one\r', b"", b'""two"""\r', b"3,4"]
        assert told(csv_requests(lines, SOURCE)) == [
            ("s3://b/k lines 2-4", b'a,b\n1,"one\r\n\n""two"""\n'),
            ("s3://b/k line 5", b"a,b\n3,4\n"),
        ]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"1", "has 1 cells where the first row has 2."),
            (b"1,2,3", "has 3 cells where the first row has 2."),
            (b"1,caf\xe9", "is no text in UTF-8: unexpected end of data at byte 6."),
            (b'1,"2"3', "has a quote that ends within a cell; double it, or quote the whole cell."),
            (b"1," + b"2" * 17, "has more than 18 bytes, which is all that a request may have."),
            # With the header it is too large, and not without it.
            (b"1," + b"2" * 13, "has more than 18 bytes, which is all that a request may have."),
        ],
    )
    def test_a_bad_row_is_kept_apart_and_ends_nothing(self, line, reason):
        assert told(csv_requests([b"a,b", b"1,2", line, b"3,4"], SOURCE, limit=18)) == [
            ("s3://b/k line 2", b"a,b\n1,2\n"),
            ("s3://b/k line 3", reason),
            ("s3://b/k line 4", b"a,b\n3,4\n"),
        ]

    def test_a_quote_that_is_never_closed_is_one_bad_row(self):
        assert told(csv_requests(["a,b", '1,"2', "3,4", "5,6"], SOURCE)) == [
            (
                "s3://b/k lines 2-4",
                "has a quote that is never closed, so what follows it cannot be told apart.",
            )
        ]

    def test_a_quote_that_is_never_closed_takes_no_more_memory_than_the_limit(self):
        endless = chain([b'"'], (b"x" * 1_000 for _ in range(50_000)))
        tracemalloc.start()
        (found,) = csv_records(endless, SOURCE, limit=100_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.origin == "s3://b/k lines 1-50001"
        assert peak < 1_000_000

    def test_a_quoted_row_that_is_too_large_is_followed_by_the_next(self):
        lines = ['"' + "x" * 10, "y" * 10, '",1', "3,4"]
        assert [type(each).__name__ for each in csv_records(lines, SOURCE, limit=15)] == [
            "Unreadable",
            "Record",
        ]

    def test_a_quote_within_a_cell_is_a_character(self):
        assert bodies(csv_requests(['5" pipe,x'], SOURCE, header=False)) == [b'5" pipe,x\n']

    def test_another_charset_is_left_as_it_is(self):
        assert bodies(csv_requests([b"caf\xe9,1"], SOURCE, header=False, charset="latin-1")) == [
            b"caf\xe9,1\n"
        ]

    def test_a_header_that_cannot_be_read_ends_it(self):
        with pytest.raises(
            InvalidInput, match="header of the CSV cannot be read: s3://b/k line 1 is no text"
        ):
            list(csv_requests([b"caf\xe9", b"1"], SOURCE))

    @pytest.mark.parametrize("row", [b"x" * 200_000, b"a\rb"])
    def test_what_the_standard_library_cannot_take_apart_is_refused(self, row):
        with pytest.raises(InvalidInput, match="cannot be taken apart"):
            csv_cells(row)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line(row, end, quoting) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator=end, quoting=quoting).writerow(row)
    return written.getvalue().encode()
