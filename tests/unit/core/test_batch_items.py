"""Inputs of a batch: what makes two of them the same, and the names that they go by."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.items import (
    BatchInput,
    BatchItem,
    PlanDigest,
    Unreadable,
    attempt_of,
    index_of,
)
from airflow_async_sm.core.limits import FILENAME, InvalidInput

INDEXES = st.integers(0, 10**8 - 1)
# What UTF-8 can write.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TYPES = st.none() | TEXTS.filter(bool)


@st.composite
def found(draw):
    where = (
        {"body": draw(st.binary() | TEXTS.map(str.encode))}
        if draw(st.booleans())
        else {"input_location": f"s3://bucket/{draw(TEXTS)}", "version": draw(TEXTS)}
    )
    return BatchInput(origin=draw(TEXTS), content_type=draw(TYPES), **where)


def one(**changes):
    return BatchInput(**{"origin": "line 1", "body": b"1", **changes})


def located(**changes):
    return BatchInput(**{"origin": "line 1", "input_location": "s3://b/k", "version": "v", **changes})


class TestInput:
    @pytest.mark.parametrize("both", [{}, {"body": b"", "input_location": "s3://b/k"}])
    def test_it_is_a_payload_or_a_place(self, both):
        with pytest.raises(InvalidInput, match="line 1 needs a payload or an input_location, and not both"):
            BatchInput(origin="line 1", **both)

    def test_an_empty_payload_is_one(self):
        assert one(body=b"").digest != one().digest

    def test_a_payload_is_not_shown(self):
        assert "secret" not in repr(one(body=b"secret"))
        assert "secret" not in repr(BatchItem.of(0, one(body=b"secret")))

    def test_its_digest_does_not_change_from_one_version_of_this_package_to_the_next(self):
        # A batch that is gone on with under a later version has to be the same.
        assert one(content_type="text/csv").digest.hex() == "d28d656c9e7e90b0235df258476c11dd"
        assert located().digest.hex() == "64668f4f8cd3b1a1a4ca8cfce9d52293"

    @pytest.mark.parametrize(
        ("this", "that"),
        [
            (one(), one(body=b"2")),
            (one(), one(content_type="text/csv")),
            (one(content_type="text/plain"), one(content_type="text/csv")),
            (located(), located(input_location="s3://b/l")),
            (located(), located(version="w")),
            (located(), located(content_type="text/csv")),
            (located(), one(body=b"s3://b/k\nv")),
        ],
    )
    def test_what_differs_in_content_type_or_version_is_another(self, this, that):
        assert this.digest != that.digest

    @given(found(), TEXTS)
    def test_where_it_was_found_is_no_part_of_what_it_is(self, this, origin):
        that = dataclasses.replace(this, origin=origin)
        assert that.digest == this.digest
        assert len(this.digest) == 16


class TestNames:
    @given(INDEXES, found(), st.integers(1, 9_999))
    def test_an_answers_name_is_one_that_the_service_takes_and_tells_whose_it_is(self, index, this, attempt):
        item = BatchItem.of(index, this)
        name = item.filename(attempt)
        FILENAME.check("filename", name)
        assert len(name) <= 32
        assert name.count(".") == 1
        # The failure object of a request is named after its answer.
        for written in (name, f"{name}-error.out"):
            assert (index_of(written), attempt_of(written)) == (index, attempt)
        assert name.startswith(item.item_id)

    @given(INDEXES, INDEXES, found(), found())
    def test_names_sort_as_the_inputs_do(self, one_index, other_index, this, that):
        names = [BatchItem.of(one_index, this).item_id, BatchItem.of(other_index, that).item_id]
        if one_index != other_index:
            assert (names[0] < names[1]) is (one_index < other_index)

    @given(INDEXES, found())
    def test_the_same_input_at_the_same_place_has_the_same_name(self, index, this):
        assert BatchItem.of(index, this).item_id == BatchItem.of(index, this).item_id

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "0d1f3b6a-0000-4000-8000-123456789012.out",
            "0d1f3b6a-0000-4000-8000-123456789012-error.out",
            "00000001-0123456789-.out",
            "00000001-0123456789-1",
            "00000001-012345678-1.out",
            "0000001-0123456789-1.out",
            "x00000001-0123456789-1.out",
            "00000001-0123456789-x.out",
            "\N{ARABIC-INDIC DIGIT ONE}0000001-0123456789-1.out",
        ],
    )
    def test_other_objects_are_nobodys(self, name):
        assert index_of(name) is None
        assert attempt_of(name) == 0

    def test_a_batch_has_only_so_many_places(self):
        assert BatchItem.of(10**8 - 1, one()).item_id.startswith("99999999-")
        with pytest.raises(InvalidInput, match="more than 100,000,000 inputs. Make several batches"):
            BatchItem.of(10**8, one())


class TestRow:
    @given(INDEXES, found())
    def test_every_item_comes_back_from_its_line(self, index, this):
        item = BatchItem.of(index, this)
        line = item.to_row()
        assert BatchItem.from_row(line) == item
        # So parts of a plan are split into lines.
        assert line.encode().splitlines() == [line.encode()]
        assert BatchItem.from_row(line.encode()) == item

    def test_a_text_can_be_read_by_people(self):
        row = json.loads(BatchItem.of(3, one(body='{"a": "ä"}'.encode())).to_row())
        assert row == {"index": 3, "mark": row["mark"], "origin": "line 1", "text": '{"a": "ä"}'}

    def test_what_is_no_text_is_base64(self):
        row = json.loads(BatchItem.of(3, one(body=b"\xff\x00", content_type="x/y")).to_row())
        assert (row["base64"], row["content_type"]) == ("/wA=", "x/y")
        assert "text" not in row


class TestPlanDigest:
    def of(self, *inputs):
        digest = PlanDigest()
        for each in inputs:
            digest.add(each)
        return str(digest)

    @given(st.lists(found(), max_size=5))
    def test_the_same_inputs_have_the_same(self, inputs):
        assert self.of(*inputs) == self.of(*inputs)

    def test_order_and_number_count(self):
        assert len({self.of(), self.of(one()), self.of(one(), one()), self.of(one(), located())}) == 4
        assert self.of(one(), located()) != self.of(located(), one())

    def test_a_row_that_is_no_input_counts_but_not_why(self):
        assert self.of(one(), Unreadable("line 2", "no JSON")) == self.of(one(), Unreadable("line 2", "bad"))
        assert self.of(one(), Unreadable("line 2", "no JSON")) != self.of(one())
