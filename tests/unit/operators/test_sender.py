"""A request is sent once; what surrounds it never costs it."""

from __future__ import annotations

import logging
from unittest.mock import create_autospec

import pytest

from airflow_async_sm.core.attempts import Attempt, Phase, Tries
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.identities import TaskIdentity
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.exceptions import RequestRejected, SubmissionUnconfirmed, Throttled
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators._drafts import Draft
from airflow_async_sm.operators._journal import journal_of
from airflow_async_sm.operators._sender import Sender

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


@pytest.fixture
def sender(hook, store):
    slept = []
    journal = journal_of(
        {"task_state_store": store},
        identity=TaskIdentity(dag_id="d", run_id="r", task_id="t"),
        hook=hook,
        work_prefix=None,
        log=LOG,
    )
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


def test_a_reply_that_cannot_be_recorded_is_no_reason_to_lose_the_request(sender, hook, store, caplog):
    def asked(request):
        store.set = lambda key, value: 1 / 0
        return REPLY

    hook.invoke_endpoint_async.side_effect = asked
    with caplog.at_level("WARNING", LOG.name):
        assert sender.send(draft()).output_location == REPLY.output_location
    assert "Request id-1 to endpoint model is not recorded in Airflow's task state store" in caplog.text
