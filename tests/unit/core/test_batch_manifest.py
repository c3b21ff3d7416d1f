"""Each input has exactly one row, whatever the ledger and the folder say; and the rows add up."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.batches.failures import ItemFailure
from airflow_async_sm.core.batches.items import BatchInput, BatchItem
from airflow_async_sm.core.batches.manifest import (
    COLUMNS,
    FED_BACK,
    ItemEnd,
    ManifestIncomplete,
    ObjectSeen,
    dead_letter_row,
    manifest_rows,
)
from airflow_async_sm.core.batches.state import BatchState, Phase
from airflow_async_sm.core.batches.summary import BatchSummary, SummaryFacts, cost_of_calls, percentile

FOLDER = "s3://bucket/batch/out"
BROKE = ItemFailure("ModelBroke", "out of memory", "s3://bucket/failures/1")


def planned(count, **described):
    found = {"body": b"{}", **described}
    return [BatchItem.of(index, BatchInput(origin=f"list[{index}]", **found)) for index in range(count)]


def seen(item, attempt=1, *, size=10, at=1_000.0, suffix=""):
    return ObjectSeen(item.filename(attempt) + suffix, size, at)


def in_order(objects):
    return sorted(objects, key=lambda one: one.name)


def rows_of(items, state, listing=(), folder=FOLDER):
    return [row for _, row in manifest_rows(iter(items), state, iter(in_order(listing)), folder=folder)]


def row_of(state, *listing, item=None, folder=FOLDER):
    (row,) = rows_of([item or planned(1)[0]], state, listing, folder)
    return row


def sent(count=1, *, at=990.5, attempt=1):
    state = BatchState(count)
    state.sending(attempt, range(count), at)
    state.sent(range(count))
    return state


class TestSucceeded:
    def test_an_answer_in_the_folder_is_told_with_all_that_is_known_of_it(self):
        item = planned(1, body=None, input_location="s3://bucket/in/1")[0]
        row = row_of(sent(), seen(item), item=item)
        assert tuple(row) == tuple(COLUMNS)
        assert row == {
            "index": 0,
            "item_id": item.item_id,
            "origin": "list[0]",
            "input_location": "s3://bucket/in/1",
            "end": "Succeeded",
            "class": None,
            "reason": None,
            "attempts": 1,
            "output_location": f"{FOLDER}/{item.item_id}-1.out",
            "failure_location": None,
            "size": 10,
            "submitted_at": 990.5,
            "answered_at": 1_000.0,
            "seconds": 9.5,
        }

    @pytest.mark.parametrize("phase", Phase)
    def test_it_succeeded_whatever_the_ledger_says(self, phase):
        state = in_phase(phase)
        item = planned(1)[0]
        row = row_of(state, seen(item), item=item)
        assert (row["end"], row["class"], row["failure_location"]) == ("Succeeded", None, None)

    def test_the_newest_attempt_counts_and_the_tenth_is_newer_than_the_second(self):
        state, item = sent(attempt=10), planned(1)[0]
        row = row_of(state, *(seen(item, attempt, size=attempt) for attempt in (1, 2, 10)), item=item)
        assert (row["size"], row["attempts"]) == (10, 10)
        assert row["output_location"].endswith("-10.out")

    def test_of_an_answer_to_another_attempt_it_is_not_known_how_long_it_took(self):
        state, item = sent(attempt=2, at=995.0), planned(1)[0]
        row = row_of(state, seen(item, 1), item=item)
        assert (row["attempts"], row["answered_at"], row["seconds"]) == (2, 1_000.0, None)

    def test_an_attempt_that_the_ledger_does_not_know_counts(self):
        item = planned(1)[0]
        row = row_of(BatchState(1), seen(item, 3), item=item)
        assert (row["end"], row["attempts"], row["submitted_at"]) == ("Succeeded", 3, None)

    def test_clocks_that_disagree_make_no_negative_time(self):
        item = planned(1)[0]
        assert row_of(sent(at=1_000.9), seen(item), item=item)["seconds"] == 0.0

    def test_one_in_a_place_of_its_own_is_where_the_ledger_says(self):
        state = BatchState(1)
        state.sending(1, [0], 1.0)
        state.sent([0], places={0: ("s3://other/answer", None)})
        state.ended(succeeded=[0])
        row = row_of(state)
        assert (row["end"], row["output_location"], row["size"]) == ("Succeeded", "s3://other/answer", None)

    def test_one_that_has_gone_since_is_told_without_a_size(self):
        state, item = sent(), planned(1)[0]
        state.ended(succeeded=[0])
        row = row_of(state, item=item)
        assert (row["output_location"], row["size"]) == (f"{FOLDER}/{item.filename(1)}", None)
        assert row_of(state, item=item, folder=None)["output_location"] is None

    def test_without_a_folder_an_object_has_no_address(self):
        item = planned(1)[0]
        assert row_of(sent(), seen(item), item=item, folder=None)["output_location"] is None


class TestForeignObjects:
    @pytest.mark.parametrize(
        "name",
        [
            "readme.txt",
            "00000000-0123456789-1.out",
            "{id}-1.out-error.out",
            "{id}-01.out",
            "{id}-1.json",
            "folder/{id}-1.out",
            "00000007-0123456789-1.out",
        ],
    )
    def test_what_is_no_output_of_an_input_is_passed_over(self, name):
        item = planned(1)[0]
        foreign = ObjectSeen(name.format(id=item.item_id), 1, 1.0)
        assert row_of(sent(), foreign, item=item)["end"] == "Open"

    def test_what_lies_before_a_late_input_does_not_hide_its_answer(self):
        items = planned(3)
        early = ObjectSeen("00000001-0123456789-1.out", 1, 1.0)
        rows = rows_of(items, sent(3), [early, seen(items[2])])
        assert [row["end"] for row in rows] == ["Open", "Open", "Succeeded"]


def in_phase(phase, count=1):
    """Return a state with all inputs in a phase."""
    state, all_of_them = BatchState(count), range(count)
    if phase is Phase.PLANNED:
        return state
    state.sending(1, all_of_them, 990.0)
    match phase:
        case Phase.SENDING:
            pass
        case Phase.REFUSED:
            state.sent([], refused=dict.fromkeys(all_of_them, ItemFailure("Rejected", "too large")))
        case _:
            state.sent(all_of_them)
    match phase:
        case Phase.SUCCEEDED:
            state.ended(succeeded=all_of_them)
        case Phase.FAILED:
            state.ended(failed=dict.fromkeys(all_of_them, BROKE))
        case Phase.EXPIRED:
            state.ended(expired=all_of_them)
        case Phase.WAITING:
            state.ended(failed=dict.fromkeys(all_of_them, BROKE), again=dict.fromkeys(all_of_them, 9_999.0))
    assert state.phase(0) is phase
    return state


class TestUnsuccessful:
    @pytest.mark.parametrize(
        ("phase", "end", "kind", "reason", "attempts"),
        [
            (Phase.PLANNED, "Unsubmitted", "Unsubmitted", "It was not submitted.", 0),
            (Phase.SENDING, "Open", "Open", "Nothing came of it yet.", 1),
            (Phase.OPEN, "Open", "Open", "Nothing came of it yet.", 1),
            (Phase.FAILED, "Failed", "ModelBroke", "out of memory", 1),
            (
                Phase.EXPIRED,
                "Expired",
                "Expired",
                "Nothing came of it, and nothing can come any more.",
                1,
            ),
            (Phase.REFUSED, "Refused", "Rejected", "too large", 1),
            (Phase.WAITING, "Failed", "ModelBroke", "out of memory", 1),
        ],
    )
    def test_each_phase_has_its_end(self, phase, end, kind, reason, attempts):
        row = row_of(in_phase(phase))
        found = [row[name] for name in ("end", "class", "reason", "attempts")]
        assert found == [end, kind, reason, attempts]
        assert row["output_location"] is row["answered_at"] is row["seconds"] is None

    def test_a_failure_says_where_its_object_is_and_a_long_text_is_cut(self):
        state = sent()
        state.ended(failed={0: ItemFailure("ModelBroke", "x" * 5_000, BROKE.location)})
        row = row_of(state)
        assert row["failure_location"] == BROKE.location
        assert len(row["reason"]) == 200

    def test_one_that_failed_and_was_not_sent_again_has_failed(self):
        state = in_phase(Phase.WAITING)
        state.sending(2, [0], 999.0)
        state.sent([], unsent=[0])
        row = row_of(state)
        assert [row[name] for name in ("end", "class", "attempts", "submitted_at")] == [
            "Failed",
            "ModelBroke",
            1,
            None,
        ]

    def test_one_that_expired_and_waits_for_its_next_attempt_has_expired(self):
        state = sent()
        state.ended(expired=[0], again={0: 9_999.0})
        assert (state.phase(0), row_of(state)["end"]) == (Phase.WAITING, "Expired")

    def test_one_that_the_service_itself_told_expired_has_failed(self):
        state = sent()
        state.ended(failed={0: ItemFailure("Expired", "in the queue too long", BROKE.location)})
        row = row_of(state)
        assert (row["end"], row["class"]) == ("Failed", "Expired")

    def test_where_nobody_says_why_the_row_does(self):
        state = sent()
        state.ended(succeeded=[0])
        state.reopened([0], 9_999.0)
        row = row_of(state)
        assert (row["end"], row["class"]) == ("Failed", "Unknown")
        assert row["reason"] == "Nothing is known of why it failed."

    def test_why_an_attempt_before_failed_is_not_said_of_one_that_is_open(self):
        state = in_phase(Phase.WAITING)
        state.sending(2, [0], 999.0)
        state.sent([0])
        row = row_of(state)
        assert (row["end"], row["class"], row["failure_location"]) == ("Open", "Open", None)


class TestDeadLetter:
    @pytest.mark.parametrize(
        ("described", "payload"),
        [
            ({"body": None, "input_location": "s3://b/k"}, {"input_location": "s3://b/k"}),
            (
                {"body": "é\n".encode(), "content_type": "text/csv"},
                {"text": "é\n", "content_type": "text/csv"},
            ),
            ({"body": b"\xff\x00"}, {"base64": "/wA="}),
        ],
    )
    def test_it_holds_the_input_and_why_it_has_no_answer(self, described, payload):
        (item,) = planned(1, **described)
        row = row_of(in_phase(Phase.FAILED), item=item)
        assert dead_letter_row(item, row) == payload | {
            "item_id": item.item_id,
            "origin": "list[0]",
            "class": "ModelBroke",
            "reason": "out of memory",
        }

    def test_what_may_still_be_answered_is_not_fed_back(self):
        assert set(ItemEnd) - FED_BACK == {ItemEnd.SUCCEEDED, ItemEnd.OPEN}


class TestIncomplete:
    def test_a_missing_input_is_refused(self):
        items = planned(3)
        with pytest.raises(ManifestIncomplete, match="Input 2 of the batch follows where number 1"):
            rows_of([items[0], items[2]], BatchState(3))

    def test_an_input_that_is_there_twice_is_refused(self):
        items = planned(2)
        with pytest.raises(ManifestIncomplete, match="Input 0 .* number 1"):
            rows_of([items[0], items[0], items[1]], BatchState(2))

    def test_too_few_inputs_are_refused(self):
        with pytest.raises(ManifestIncomplete, match="has 3 inputs, and 2 are planned"):
            rows_of(planned(2), BatchState(3))

    def test_too_many_inputs_are_refused(self):
        with pytest.raises(ManifestIncomplete, match="has 2 inputs, and more are planned"):
            rows_of(planned(3), BatchState(2))

    def test_a_listing_that_is_not_in_order_is_refused(self):
        items = planned(2)
        listing = iter([seen(items[1]), seen(items[0])])
        with pytest.raises(ManifestIncomplete, match="listing of the outputs is not in order"):
            list(manifest_rows(iter(items), BatchState(2), listing, folder=FOLDER))

    def test_a_summary_of_fewer_rows_is_refused(self):
        summary = BatchSummary(2)
        summary.add(row_of(sent()))
        with pytest.raises(ManifestIncomplete, match="2 inputs, and the manifest 1 rows"):
            summary.to_dict(SummaryFacts())

    def test_a_batch_without_inputs_has_a_manifest_without_rows(self):
        assert rows_of([], BatchState(0)) == []


@st.composite
def batches(draw):
    """Return inputs, a state that any history may have led to, and any listing of the folder."""
    count = draw(st.integers(1, 12))
    state, some = BatchState(count), st.sets(st.integers(0, count - 1)).map(sorted)
    items = planned(count)
    for attempt in range(1, draw(st.integers(0, 4)) + 1):
        chosen = draw(some)
        state.sending(attempt, chosen, float(attempt))
        fate = {index: draw(st.integers(0, 6)) for index in chosen}
        having = {number: [index for index in chosen if fate[index] == number] for number in range(7)}
        state.sent(
            [index for index in chosen if fate[index] > 2],
            unsent=having[0],
            unknown=having[1],
            refused=dict.fromkeys(having[2], ItemFailure("Rejected", "no")),
            places={index: (f"s3://p/{index}", None) for index in having[3]},
        )
        again = dict.fromkeys(draw(some), 9.0)
        ended = [*having[4], *having[5], *having[6], *(having[3] if draw(st.booleans()) else [])]
        state.ended(
            succeeded=sorted(set(ended) & set(having[3] + having[4])),
            failed=dict.fromkeys(having[5], BROKE),
            expired=having[6],
            again={index: at for index, at in again.items() if fate.get(index) in (5, 6)},
        )
    outputs = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(1, 12))))
    objects = [seen(items[index], attempt, size=attempt) for index, attempt in outputs]
    objects += [
        seen(items[index], 1, suffix="-error.out") for index in draw(st.sets(st.integers(0, count - 1)))
    ]
    names = st.one_of(st.text(max_size=6), st.from_regex(r"\d{8}-[0-9a-f]{10}-\d\.out", fullmatch=True))
    objects += [ObjectSeen(name, 1, 1.0) for name in draw(st.sets(names, max_size=6))]
    return items, state, outputs, {one.name: one for one in objects}.values()


@given(batches())
def test_each_input_has_one_row_and_the_counts_add_up(batch):
    items, state, outputs, objects = batch
    rows = rows_of(items, state, objects)
    assert [row["index"] for row in rows] == list(range(state.count))
    assert [row["item_id"] for row in rows] == [item.item_id for item in items]
    summary = BatchSummary(state.count)
    for row in rows:
        summary.add(row)
    told = summary.to_dict(SummaryFacts())
    assert told["counts"] == dict.fromkeys(ItemEnd, 0) | Counter(row["end"] for row in rows)
    assert sum(told["counts"].values()) == state.count
    json.dumps(told, allow_nan=False)
    newest = {}
    for index, attempt in sorted(outputs):
        newest[index] = attempt
    for row in rows:
        index = row["index"]
        succeeded = index in newest or state.phase(index) is Phase.SUCCEEDED
        assert (row["end"] == "Succeeded") is succeeded
        assert (row["class"] is None) is (row["reason"] is None) is succeeded
        assert row["size"] == newest.get(index)


@given(batches(), st.data())
def test_a_plan_that_is_not_whole_never_makes_a_manifest(batch, data):
    items, state, _, objects = batch
    at = data.draw(st.integers(0, len(items) - 1))
    other = data.draw(
        st.sampled_from([items[:at] + items[at + 1 :], items[: at + 1] + items[at:], items[at:] + items[:at]])
    )
    if other != items:
        with pytest.raises(ManifestIncomplete):
            rows_of(other, state, objects)


class TestSummary:
    def summed(self, rows, **facts):
        summary = BatchSummary(len(rows))
        for row in rows:
            summary.add(row)
        return summary.to_dict(SummaryFacts(**facts))

    def test_it_tells_counts_times_and_what_it_was_told(self):
        items = planned(5)
        state = BatchState(5)
        state.sending(1, range(4), 990.0)
        state.sent([0, 1, 2], refused={3: ItemFailure("Rejected", "too large")})
        state.ended(failed={2: BROKE})
        rows = rows_of(items, state, [seen(items[0]), seen(items[1], at=1_010.0)])
        told = self.summed(
            rows,
            calls=Counter(PutObject=1_000, GetObject=1_000),
            duplicates=1,
            unreadable=2,
            instance_seconds=60.0,
            started_at=980.0,
        )
        assert told == {
            "version": 1,
            "inputs": 5,
            "counts": {
                "Succeeded": 2,
                "Failed": 1,
                "Expired": 0,
                "Refused": 1,
                "Unsubmitted": 1,
                "Open": 0,
            },
            "failures": {
                "ModelBroke": {"count": 1, "texts": ["out of memory"]},
                "Rejected": {"count": 1, "texts": ["too large"]},
            },
            "duplicates": 1,
            "unreadable": 2,
            "started_at": 980.0,
            "first_submitted_at": 990.0,
            "last_answered_at": 1_010.0,
            "seconds": 20.0,
            "answers_per_second": 0.1,
            "latency_seconds": {"p50": 10.0, "p90": 20.0, "p95": 20.0, "p99": 20.0, "max": 20.0},
            "instance_seconds": 60.0,
            "aws_calls": {"GetObject": 1_000, "PutObject": 1_000},
            "estimated_cost_usd": {"s3": 0.0054, "cloudwatch": 0.0, "total": 0.0054},
        }

    def test_what_did_not_happen_is_not_a_number(self):
        told = self.summed(rows_of(planned(2), BatchState(2)))
        absent = (
            "first_submitted_at",
            "last_answered_at",
            "seconds",
            "answers_per_second",
            "latency_seconds",
        )
        assert {told[name] for name in absent} == {None}
        assert told["failures"] == {}

    def test_answers_within_a_second_have_no_rate(self):
        item = planned(1)[0]
        told = self.summed(rows_of([item], sent(at=1_000.4), [seen(item)]))
        assert (told["seconds"], told["answers_per_second"]) == (0.0, None)

    def test_the_commonest_kind_comes_first_with_three_texts_that_differ(self):
        state = sent(8)
        texts = ["a", "a", "b", "c", "d", "e"]
        state.ended(
            failed={
                0: ItemFailure("BadAnswer", "x"),
                **{index: ItemFailure("ModelBroke", text) for index, text in enumerate(texts, start=1)},
            },
            expired=[7],
        )
        told = self.summed(rows_of(planned(8), state))["failures"]
        assert list(told) == ["ModelBroke", "BadAnswer", "Expired"]
        assert told["ModelBroke"] == {"count": 6, "texts": ["a", "b", "c"]}

    @pytest.mark.parametrize(
        ("numbers", "rank", "expected"),
        [
            ([5.0], 50, 5.0),
            ([1.0, 2.0], 50, 1.0),
            ([1.0, 2.0, 3.0], 50, 2.0),
            (list(range(1, 21)), 95, 19),
            (list(range(1, 101)), 99, 99),
            (list(range(1, 11)), 99, 10),
        ],
    )
    def test_a_percentile_is_one_of_the_numbers(self, numbers, rank, expected):
        assert percentile(numbers, rank) == expected

    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(1, 100))
    def test_a_percentile_is_the_smallest_that_suffices(self, numbers, rank):
        found = percentile(sorted(numbers), rank)
        assert sum(number <= found for number in numbers) * 100 >= rank * len(numbers)
        assert sum(number < found for number in numbers) * 100 < rank * len(numbers)

    def test_a_list_costs_as_much_as_a_write_and_a_look_less(self):
        calls = {"ListObjectsV2": 200, "PutObject": 200, "HeadObject": 2_500, "DeleteObject": 9_999}
        assert cost_of_calls(calls) == {"s3": 0.003, "cloudwatch": 0.0, "total": 0.003}
        watched = cost_of_calls({"GetMetricData": 100, "InvokeEndpointAsync": 100_000})
        assert watched == {"s3": 0.0, "cloudwatch": 0.001, "total": 0.001}
