"""What topics are told, in every position of what is not known about it."""

from __future__ import annotations

import base64
import json

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.notifications.messages import (
    Topics,
    notification,
    timestamp,
    trial_notification,
)
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.work.endings import Ending, Request, Response
from airflow_async_sm.emulator.work.records import RequestState
from airflow_async_sm.emulator.work.submissions import Submission

SUCCESS = "arn:aws:sns:us-east-1:123456789012:good"
ERROR = "arn:aws:sns:us-east-1:123456789012:bad"
TOPICS = Topics(success=SUCCESS, error=ERROR)
BOTH = Topics(success=SUCCESS, error=ERROR, response_in_success=True, response_in_error=True)
REASON = (
    "ClientError: Received server error (500) from model. See the SageMaker Endpoint logs in your account "
    "for more information."
)


def request(*, failure="s3://b/bad/k-error.out", **submission):
    members = {
        "body": None,
        "input_location": "s3://b/in/x.csv",
        "content_type": None,
        "accept": None,
        "custom_attributes": None,
        "inference_id": "11111111-2222-3333-4444-555555555555",
        "output_path_extension": None,
        "filename": None,
        "request_ttl": 21_600,
        "invocation_timeout": 900,
    }
    return Request(
        request_id="k",
        endpoint="ep",
        region="us-east-1",
        variant="v",
        submission=Submission(**members | submission),
        output=S3Uri("b", "out/k.out"),
        failure=S3Uri.parse(failure) if failure else None,
        config={"OutputConfig": {}},
        submitted_at=1643150760.455,
        expires_at=1643172360.455,
    )


def ending(state, **known):
    return Ending(state=RequestState(state), finished_at=1643150760.608, **known)


def failed(**known):
    return ending("failed", status=500, reason=REASON, content_type="text/plain", **known)


def told(asked, ended, topics=TOPICS, unknowns=None):
    said = notification(asked, ended, topics, unknowns or Unknowns())
    return said and (said.topic, json.loads(said.text))


def test_success_reads_as_in_the_documentation():
    said = notification(
        request(accept="application/json", content_type="text/csv"),
        ending("succeeded", status=200, content_type="text/csv; charset=utf-8"),
        TOPICS,
        Unknowns(),
    )
    assert said.topic == SUCCESS
    assert said.text == (
        '{"awsRegion":"us-east-1","eventTime":"2022-01-25T22:46:00.608Z",'
        '"receivedTime":"2022-01-25T22:46:00.455Z","invocationStatus":"Completed",'
        '"requestParameters":{"accept":"application/json","contentType":"text/csv","endpointName":"ep",'
        '"inputLocation":"s3://b/in/x.csv"},'
        '"responseParameters":{"contentType":"text/csv; charset=utf-8","outputLocation":"s3://b/out/k.out"},'
        '"inferenceId":"11111111-2222-3333-4444-555555555555",'
        '"eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"InferenceResult"}'
    )


def test_failure_reads_as_in_the_message_that_was_reported():
    said = notification(request(), failed(), TOPICS, Unknowns())
    assert said.topic == ERROR
    assert said.text == (
        '{"awsRegion":"us-east-1","eventTime":"2022-01-25T22:46:00.608Z",'
        '"receivedTime":"2022-01-25T22:46:00.455Z","invocationStatus":"Failed",'
        f'"failureReason":"{REASON}",'
        '"requestParameters":{"endpointName":"ep","inputLocation":"s3://b/in/x.csv"},'
        '"inferenceId":"11111111-2222-3333-4444-555555555555",'
        '"eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"InferenceResult"}'
    )


def test_trial_has_no_inference_id():
    said = trial_notification(SUCCESS)
    assert said.topic == SUCCESS
    assert said.text == '{"eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"TestNotification"}'


def test_answer_without_a_content_type_has_none_in_the_message():
    _, said = told(request(), ending("succeeded"))
    assert said["responseParameters"] == {"outputLocation": "s3://b/out/k.out"}


@pytest.mark.parametrize(("position", "expected"), [("absent", {}), ("empty", {"inputLocation": ""})])
def test_input_location_of_a_payload_that_came_with_the_request(position, expected):
    unknowns = Unknowns(inline_input_location=position)
    _, said = told(request(body=b"x", input_location=None), ending("succeeded"), unknowns=unknowns)
    assert said["requestParameters"] == {"endpointName": "ep", **expected}
    _, said = told(request(), ending("succeeded"), unknowns=unknowns)
    assert said["requestParameters"]["inputLocation"] == "s3://b/in/x.csv"


class TestResponseBody:
    def test_is_the_answer_where_the_endpoint_includes_it(self):
        ended = ending("succeeded", response=Response(b"\x00answer", "text/plain"))
        assert "responseBody" not in told(request(), ended)[1]
        body = told(request(), ended, BOTH)[1]["responseBody"]
        assert base64.b64decode(body.pop("content")) == b"\x00answer"
        assert body == {
            "message": "Check S3 path location(if configured) or Cloudwatch for additional details.",
            "encoding": "BASE64",
        }

    def test_is_absent_for_an_answer_that_is_too_large(self):
        assert "responseBody" not in told(request(), ending("succeeded", response=None), BOTH)[1]

    @pytest.mark.parametrize(
        ("switched_on", "included", "expected"),
        [(False, True, False), (True, False, False), (True, True, True)],
    )
    def test_of_an_error_is_there_when_both_the_switch_and_the_endpoint_say_so(
        self, switched_on, included, expected
    ):
        topics = Topics(error=ERROR, response_in_success=True, response_in_error=included)
        unknowns = Unknowns(failed_response_body=switched_on)
        _, said = told(request(), failed(response=Response(b"bad", None)), topics, unknowns)
        assert ("responseBody" in said) is expected

    def test_of_an_error_of_the_platform_is_absent(self):
        assert "responseBody" not in told(request(), failed(), BOTH, Unknowns(failed_response_body=True))[1]


OUTPUT = {"contentType": "text/plain", "outputLocation": "s3://b/out/k.out"}
FAILURE = {"failureLocation": "s3://b/bad/k-error.out"}


@pytest.mark.parametrize(
    ("parameters", "location", "expected"),
    [
        (False, "absent", {}),
        (False, "top_level", FAILURE),
        (False, "response_parameters", {"responseParameters": FAILURE}),
        (True, "absent", {"responseParameters": OUTPUT}),
        (True, "top_level", {"responseParameters": OUTPUT, **FAILURE}),
        (True, "response_parameters", {"responseParameters": OUTPUT | FAILURE}),
    ],
)
def test_failure_in_every_position(parameters, location, expected):
    plain = told(request(), failed())[1]
    unknowns = Unknowns(failed_response_parameters=parameters, failed_location=location)
    assert told(request(), failed(), unknowns=unknowns)[1] == plain | expected


@pytest.mark.parametrize("location", ["top_level", "response_parameters"])
def test_failure_without_a_place_names_none(location):
    unknowns = Unknowns(failed_location=location)
    asked = request(failure=None)
    assert told(asked, failed(), unknowns=unknowns) == told(asked, failed())


@pytest.mark.parametrize(
    ("position", "status"), [("silent", None), ("failed", "Failed"), ("expired", "Expired")]
)
def test_expiry_in_every_position(position, status):
    said = told(request(), ending("expired"), unknowns=Unknowns(expiry_notification=position))
    if status is None:
        assert said is None
    else:
        topic, message = said
        assert (topic, message["invocationStatus"]) == (ERROR, status)
        assert message["failureReason"] == "The request expired."


def test_nothing_is_said_about_a_dropped_request():
    assert told(request(), ending("dropped")) is None


@pytest.mark.parametrize("ended", [ending("succeeded"), failed()])
def test_nothing_is_said_where_there_is_no_topic(ended):
    assert told(request(), ended, Topics()) is None


def test_result_does_not_go_to_the_topic_for_failures():
    assert told(request(), ending("succeeded"), Topics(error=ERROR)) is None
    assert told(request(), failed(), Topics(success=SUCCESS)) is None


class TestTopics:
    def test_are_read_from_the_configuration(self):
        configured = {
            "SuccessTopic": SUCCESS,
            "ErrorTopic": ERROR,
            "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"],
        }
        topics = Topics.of({"OutputConfig": {"NotificationConfig": configured}})
        assert topics == BOTH
        assert topics.all() == [SUCCESS, ERROR]

    @pytest.mark.parametrize(
        "config", [None, {}, {"OutputConfig": {}}, {"OutputConfig": {"NotificationConfig": {}}}]
    )
    def test_may_be_none(self, config):
        assert Topics.of(config) == Topics()
        assert Topics.of(config).all() == []

    def test_that_are_one_count_once(self):
        assert Topics(success=SUCCESS, error=SUCCESS).all() == [SUCCESS]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1643150760.6079999, "2022-01-25T22:46:00.608Z"),
        (1643150759.9996, "2022-01-25T22:46:00.000Z"),
    ],
)
def test_times_have_milliseconds_and_are_in_utc(moment, expected):
    assert timestamp(moment) == expected
