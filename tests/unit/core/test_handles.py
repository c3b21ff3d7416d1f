"""What is kept of a request while somebody waits for it."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.handles import InvocationHandle
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
