"""What is kept of a request while somebody waits for it."""

from __future__ import annotations

import json

import pytest

from airflow_async_sm.core.handles import BatchHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput


def handle(**changes):
    known = {
        "endpoint_name": "model",
        "inference_id": "id-1",
        "output_location": "s3://bucket/out/1.out",
        "failure_location": "s3://bucket/fail/1-error.out",
        "submitted_at": 1.0,
        "expires_at": 2.0,
    }
    return InvocationHandle(**{**known, **changes})


class TestLocations:
    def test_those_of_the_service_confirm_the_request(self):
        assert handle().is_confirmed

    def test_a_folder_does_not(self):
        assert not handle(output_location="s3://bucket/out/own/").is_confirmed

    def test_an_answer_that_was_found_takes_the_place_of_its_folder(self):
        unconfirmed = handle(output_location="s3://bucket/out/own/", failure_location="s3://bucket/fail/own/")
        found = unconfirmed.found("s3://bucket/out/own/1.out", answer=True)
        assert (found.output_location, found.failure_location) == (
            "s3://bucket/out/own/1.out",
            "s3://bucket/fail/own/",
        )

    def test_a_failure_that_was_found_takes_the_place_of_its_folder(self):
        unconfirmed = handle(output_location="s3://bucket/out/own/", failure_location="s3://bucket/fail/own/")
        found = unconfirmed.found("s3://bucket/fail/own/1-error.out", answer=False)
        assert found.failure_location == "s3://bucket/fail/own/1-error.out"
        assert not found.is_confirmed

    def test_what_was_known_before_stays(self):
        assert handle().found("", answer=True) == handle()


class TestSubject:
    @pytest.mark.parametrize(
        ("changes", "subject"),
        [
            ({}, "Request id-1 to endpoint model"),
            ({"endpoint_name": None}, "Request id-1"),
            ({"inference_id": None}, "The request that is answered at s3://bucket/out/1.out"),
        ],
    )
    def test_it_is_named_by_what_is_known(self, changes, subject):
        assert handle(**changes).subject == subject


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"endpoint_name": ""}, "InvocationHandle.endpoint_name is ''"),
        ({"inference_id": 7}, "InvocationHandle.inference_id is 7"),
        ({"output_location": None}, "InvocationHandle.output_location is None"),
        ({"input_location": ""}, "InvocationHandle.input_location is ''"),
        ({"uploaded": "yes"}, "InvocationHandle.uploaded is 'yes'; True or False is needed"),
        ({"expires_at": float("nan")}, "InvocationHandle.expires_at is nan"),
    ],
)
def test_a_damaged_one_is_refused(change, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        handle(**change)


class TestBatch:
    def batch(self, **changes):
        known = {
            "endpoint_name": "model",
            "location": "s3://bucket/work/batches/own/token/",
            "submitted_at": 1.0,
            "began_at": 2.0,
            "items": 100_000,
        }
        return BatchHandle(**{**known, **changes})

    def test_it_is_told_by_its_number_and_its_folder(self):
        batch = self.batch()
        assert batch.subject == "The batch of 100,000 inputs to endpoint model"
        assert batch.name == "in s3://bucket/work/batches/own/token/"
        assert batch.aim == "ready to go on"

    def test_it_is_the_same_batch_wherever_it_stands(self):
        assert self.batch().is_same(self.batch(done=7, began_at=9.0, items=100_000))
        assert not self.batch().is_same(self.batch(location="s3://bucket/work/batches/own/other/"))

    def test_it_survives_json(self):
        batch = self.batch(output_folder="s3://b/o/", after="00000007", counted=3, wake_at=4.5)
        assert BatchHandle.from_dict(json.loads(json.dumps(batch.to_dict()))) == batch

    def test_what_was_stored_before_a_field_was_known_can_be_read(self):
        first = ("endpoint_name", "location", "submitted_at", "began_at", "items")
        stored = self.batch().to_dict()
        assert BatchHandle.from_dict({name: stored[name] for name in first}) == self.batch()
        assert BatchHandle.from_dict({**stored, "colour": "green"}) == self.batch()

    @pytest.mark.parametrize("field", ["items", "counted", "enough", "done", "failed", "in_flight"])
    @pytest.mark.parametrize("value", [-1, 1.0, True, "1", None])
    def test_how_many_is_a_whole_number(self, field, value):
        with pytest.raises(InvalidInput, match=rf"BatchHandle\.{field} is .*; a whole number of at least 0"):
            self.batch(**{field: value})

    @pytest.mark.parametrize("field", ["submitted_at", "began_at", "wake_at", "sent_at"])
    def test_a_time_is_one(self, field):
        with pytest.raises(InvalidInput, match=rf"BatchHandle\.{field} is nan"):
            self.batch(**{field: float("nan")})

    @pytest.mark.parametrize("field", ["location", "output_folder", "failure_folder"])
    def test_a_folder_is_a_text(self, field):
        with pytest.raises(InvalidInput, match=rf"BatchHandle\.{field} is ''"):
            self.batch(**{field: ""})

    def test_its_endpoint_has_a_name_that_there_can_be(self):
        with pytest.raises(InvalidInput, match="endpoint_name"):
            self.batch(endpoint_name="no_such_name")
