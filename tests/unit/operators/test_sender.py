"""A request is sent once; what surrounds it never costs it."""

from __future__ import annotations

import logging
from dataclasses import replace
from unittest.mock import create_autospec

import pytest

from airflow_async_sm.core.attempts import Attempt, Phase, Tries
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.identities import TaskIdentity
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.exceptions import RecordUnreadable, RequestRejected, SubmissionUnconfirmed, Throttled
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators._drafts import Draft
from airflow_async_sm.operators._journal import journal_of
from airflow_async_sm.operators._sender import Sender
from airflow_async_sm.sources import Source

LOG = logging.getLogger("tests.sender")
REPLY = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/1.out",
    submitted_at=1_000.0,
    expires_at=2_000.0,
)
OUTPUT = {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failures/"}


class Store(dict):
    def set(self, key, value):
        self[key] = value


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def hook():
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.check_endpoint.return_value = OUTPUT
    hook.region = "us-east-1"
    hook.invoke_endpoint_async.return_value = REPLY
    return hook


def draft(**changes):
    request = InvocationRequest(
        endpoint_name="model", body=b"1", inference_id="id-1", s3_output_path_extension="airflow/own/token"
    )
    return Draft(**{"request": request, "fingerprint": "print", "own_folder": True, **changes})


def journal(hook, **place):
    return journal_of(
        place,
        identity=TaskIdentity(dag_id="d", run_id="r", task_id="t"),
        hook=hook,
        work_prefix="s3://bucket/work",
        log=LOG,
    )


@pytest.fixture
def sender(hook, store):
    return sender_with(hook, journal(hook, task_state_store=store))


def sender_with(hook, journal):
    slept = []
    made = Sender(
        hook=hook,
        journal=journal,
        tries=Tries(number=1, most=1, retries=1),
        on_clear="reattach",
        on_403="fail",
        log=LOG,
        clock=lambda: 1_000.0,
        sleep=slept.append,
    )
    made.slept = slept
    return made


def remembered(store):
    return Attempt.from_dict(store["sagemaker_async"])


class TestIntent:
    def test_it_is_written_down_before_anything_is_asked_for(self, sender, hook, store):
        def asked(request):
            intent = remembered(store).handle
            assert intent.output_location == "s3://bucket/out/airflow/own/token/"
            assert intent.failure_location == "s3://bucket/failures//airflow/own/token/"
            assert intent.inference_id == request.inference_id
            return REPLY

        hook.invoke_endpoint_async.side_effect = asked
        sender.send(draft())
        assert remembered(store).handle.output_location == REPLY.output_location

    def test_output_at_the_root_of_a_bucket_has_no_empty_folder(self, sender, hook, store):
        hook.check_endpoint.return_value = {"S3OutputPath": "s3://bucket"}
        hook.invoke_endpoint_async.side_effect = SubmissionUnconfirmed("lost")
        handle = sender.send(draft())
        assert handle.output_location == "s3://bucket/airflow/own/token/"
        assert handle.failure_location is None

    def test_a_refusal_takes_it_back(self, sender, hook, store):
        hook.invoke_endpoint_async.side_effect = RequestRejected("no")
        with pytest.raises(RequestRejected):
            sender.send(draft())
        assert remembered(store).phase is Phase.ENDED

    @pytest.mark.parametrize("output", [{}, {"S3FailurePath": "s3://bucket/failures"}])
    def test_there_is_none_where_nobody_can_say_where_the_answer_would_be(
        self, sender, hook, store, output, caplog
    ):
        hook.check_endpoint.return_value = output
        hook.invoke_endpoint_async.side_effect = SubmissionUnconfirmed("lost")
        with caplog.at_level("INFO", LOG.name), pytest.raises(SubmissionUnconfirmed):
            sender.send(draft())
        assert store == {}
        assert "the request cannot be found again" in caplog.text


class TestTooBusy:
    def test_the_service_is_asked_again_with_longer_and_longer_pauses(self, sender, hook):
        hook.invoke_endpoint_async.side_effect = [Throttled("busy"), Throttled("busy"), REPLY]
        assert sender.send(draft()).output_location == REPLY.output_location
        assert sender.slept == [1.0, 2.0]

    def test_but_not_for_ever(self, sender, hook):
        hook.invoke_endpoint_async.side_effect = Throttled("busy")
        with pytest.raises(Throttled):
            sender.send(draft())
        assert sender.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
        assert hook.invoke_endpoint_async.call_count == 6


class TestOthersWrite:
    @pytest.fixture
    def sender(self, hook):
        hook.read_record.return_value = (None, None)
        return sender_with(hook, journal(hook))

    @pytest.fixture
    def failed(self):
        handle = replace(REPLY, inference_id="other", output_location="s3://bucket/out/2.out")
        tries = Tries(number=1, most=1, retries=1)
        return Attempt(fingerprint="print", tries=tries, handle=handle, phase=Phase.ENDED).to_dict()

    def test_the_record_that_was_read_last_is_the_one_that_is_replaced(self, sender, hook, failed):
        hook.read_record.side_effect = [(None, None), (failed, "v1"), (None, None), (failed, "v2")]
        hook.replace_record.side_effect = [False, False, False, True]
        assert sender.send(draft()).output_location == REPLY.output_location
        versions = [call.kwargs["version"] for call in hook.replace_record.call_args_list]
        assert versions == [None, "v1", None, "v2"]
        hook.invoke_endpoint_async.assert_called_once()

    def test_that_does_not_go_on_for_ever_and_nothing_is_submitted(self, sender, hook, failed):
        hook.read_record.return_value = (failed, "v")
        hook.replace_record.return_value = False
        with pytest.raises(RecordUnreadable, match=r"was not submitted.*again and again\. A retry") as no:
            sender.send(draft())
        assert "s3://bucket/work/records/" in str(no.value)
        assert no.value.inference_id == "id-1"
        assert sender.slept == [0.1, 0.5, 1.0, 2.0]
        hook.invoke_endpoint_async.assert_not_called()

    def test_what_they_wrote_has_to_be_readable(self, sender, hook):
        hook.read_record.side_effect = [(None, None), RequestRejected("no")]
        hook.replace_record.return_value = False
        with pytest.raises(RecordUnreadable, match=r"cannot be read .*: no\. Nothing was submitted"):
            sender.send(draft())
        hook.invoke_endpoint_async.assert_not_called()

    def test_an_upload_is_not_repeated(self, sender, hook, failed):
        hook.read_record.side_effect = [(None, None), (failed, "v")]
        hook.replace_record.side_effect = [False, True]
        request = replace(draft().request, body=None, input_location="s3://bucket/work/in")
        sender.send(draft(request=request, upload=create_autospec(Source, instance=True)))
        hook.upload.assert_called_once()

    def test_the_faster_ones_record_is_left_to_it(self, sender, hook, failed, caplog):
        hook.read_record.side_effect = [(None, None), (failed | {"phase": "open"}, "v")]
        hook.replace_record.return_value = False
        with caplog.at_level("INFO", LOG.name):
            assert sender.send(draft()).inference_id == "other"
        assert "Request other to endpoint model was submitted by another process of this task" in caplog.text
        hook.write_record.assert_not_called()


def test_a_reply_that_cannot_be_recorded_is_no_reason_to_lose_the_request(sender, hook, store, caplog):
    def asked(request):
        store.set = lambda key, value: 1 / 0
        return REPLY

    hook.invoke_endpoint_async.side_effect = asked
    with caplog.at_level("WARNING", LOG.name):
        assert sender.send(draft()).output_location == REPLY.output_location
    assert "Request id-1 to endpoint model is not recorded in Airflow's task state store" in caplog.text
