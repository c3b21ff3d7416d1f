from __future__ import annotations

import pytest

from airflow_async_sm.core import limits
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.work.submissions import Submission

PREFIX = "x-amzn-sagemaker-"
DEFAULTS = Unknowns()
OUTPUT = S3Uri.parse("s3://output/results")
FAILURE = S3Uri.parse("s3://failure/errors/")


def parse(body=b"x", unknowns=DEFAULTS, **headers):
    return Submission.parse(
        {PREFIX + name.replace("_", "-"): value for name, value in headers.items()},
        body,
        unknowns=unknowns,
        new_id=lambda: "made",
    )


def places(submission, unknowns=DEFAULTS, failure=FAILURE):
    found = submission.places(OUTPUT, failure, request_id="id", unknowns=unknowns)
    return [str(place) if place else None for place in found]


def test_what_is_left_out_has_the_services_defaults():
    made = parse()
    assert (made.request_ttl, made.invocation_timeout) == (21_600, 900)
    assert made.container_headers() == {}
    assert made.inference_id == "made"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ["s3://output/results/id.out", "s3://failure/errors/id-error.out"]),
        ({"filename": "a.json"}, ["s3://output/results/a.json", "s3://failure/errors/a.json-error.out"]),
        (
            {"s3outputpathextension": "/x/y/"},
            ["s3://output/results/x/y/id.out", "s3://failure/errors/x/y/id-error.out"],
        ),
        (
            {"s3outputpathextension": "x", "filename": "n"},
            ["s3://output/results/x/n", "s3://failure/errors/x/n-error.out"],
        ),
    ],
)
def test_places_follow_extension_and_filename(headers, expected):
    assert places(parse(**headers)) == expected


def test_no_failure_path_means_no_failure_place():
    assert places(parse(), failure=None) == ["s3://output/results/id.out", None]


@pytest.mark.parametrize(
    ("header", "good", "bad"),
    [
        ("requestttlseconds", ["60", "21600"], ["59", "21601", "-60", "6e1", "", " 60", "9" * 30]),
        ("invocationtimeoutseconds", ["1", "3600"], ["0", "3601", "1.5"]),
        ("filename", ["a" * 32, "a.b", "0-_"], ["a" * 33, "a.b.c", ".a", "a/b", ""]),
        ("s3outputpathextension", ["a/b(1)!", "x" * 512], ["x" * 513, "s3:x", "https:x", "a b", ""]),
        ("inference_id", ["x", "a b", "x" * 64], ["", " x", "x" * 65, "\u00e9"]),
        ("custom_attributes", ["", "a=b, c=d"], ["\u00e9", "x" * 1025]),
        ("content_type", ["text/csv; a=b"], ["x" * 1025, "\u00e9"]),
        ("accept", ["*/*"], ["x" * 1025, "\u00e9"]),
    ],
)
def test_every_member_has_its_limits(header, good, bad):
    for value in good:
        parse(**{header: value})
    for value in bad:
        with pytest.raises(AwsError) as refusal:
            parse(**{header: value})
        assert (refusal.value.code, refusal.value.status) == ("ValidationError", 400)


@pytest.mark.parametrize("location", ["s3://b/k", "s3://b", "https://b.s3.us-east-1.amazonaws.com/k"])
def test_input_location_is_only_held_against_its_pattern(location):
    assert parse(b"", inputlocation=location).input_location == location


@pytest.mark.parametrize("location", ["", "/tmp/x", "s3:///k", "S3://b/k", "s3://b/" + "k" * 1024])
def test_input_location_of_another_form_is_refused(location):
    with pytest.raises(AwsError, match="1 validation error detected"):
        parse(b"", inputlocation=location)


def test_body_may_have_exactly_the_published_size():
    assert len(parse(b"x" * limits.BODY_BYTES.maximum).body) == 128_000
    with pytest.raises(AwsError, match="Body is 128,001 bytes"):
        parse(b"x" * 128_001)


@pytest.mark.parametrize(
    ("header", "member"),
    [
        ("content_type", "ContentType"),
        ("accept", "Accept"),
        ("custom_attributes", "CustomAttributes"),
        ("inference_id", "InferenceId"),
        ("inputlocation", "InputLocation"),
        ("s3outputpathextension", "S3OutputPathExtension"),
        ("filename", "Filename"),
        ("requestttlseconds", "RequestTTLSeconds"),
        ("invocationtimeoutseconds", "InvocationTimeoutSeconds"),
    ],
)
def test_refusal_names_the_member_as_the_api_does(header, member):
    with pytest.raises(AwsError) as refusal:
        parse(b"" if member == "InputLocation" else b"x", **{header: "\u00e9" * 1025})
    assert refusal.value.message.startswith(f"1 validation error detected: {member} ")
