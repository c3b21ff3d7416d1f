"""Records of requests: one is written in place of what was read, and of nothing else."""

from __future__ import annotations

import uuid

import pytest
from botocore.awsrequest import AWSResponse

from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.world import BUCKET

# Hook and emulator: Airflow gives the connection, which other tests look at on each of its versions.
pytestmark = pytest.mark.default_airflow


@pytest.fixture
def hook(world, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    return SageMakerAsyncHook(botocore_config={"retries": {"total_max_attempts": 1}})


@pytest.fixture
def location():
    return f"s3://{BUCKET}/work/records/{uuid.uuid4()}.json"


@pytest.fixture
def answers(hook):
    """Return a function that lets the store answer conditional writes with an error of its own."""

    def arrange(status, code):
        asked = []

        def answer(request, **_):
            asked.append([name for name in ("If-Match", "If-None-Match") if name in request.headers])
            content = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            return AWSResponse(request.url, status, {}, Raw(content)) if asked[-1] else None

        hook._s3.meta.events.register("before-send.s3.PutObject", answer)
        return asked

    return arrange


class Raw:
    """The body of an answer."""

    def __init__(self, content):
        self._content = content

    def stream(self):
        yield self._content


class TestReplace:
    def test_what_is_not_there_is_made(self, hook, location):
        assert hook.read_record(location) == (None, None)
        assert hook.replace_record(location, {"a": 1}, version=None)
        assert hook.read_record(location)[0] == {"a": 1}

    def test_what_was_read_is_replaced(self, hook, location):
        hook.write_record(location, {"a": 1})
        assert hook.replace_record(location, {"a": 2}, version=hook.read_record(location)[1])
        assert hook.read_record(location)[0] == {"a": 2}

    def test_what_came_meanwhile_stays(self, hook, location):
        _, version = hook.read_record(location)
        hook.write_record(location, {"a": 1})
        assert not hook.replace_record(location, {"a": 2}, version=version)
        assert hook.read_record(location)[0] == {"a": 1}

    def test_what_was_changed_meanwhile_stays(self, hook, location):
        hook.write_record(location, {"a": 1})
        _, version = hook.read_record(location)
        hook.write_record(location, {"a": 2})
        assert not hook.replace_record(location, {"a": 3}, version=version)
        assert hook.read_record(location)[0] == {"a": 2}

    def test_what_was_deleted_meanwhile_is_not_made_again(self, hook, location):
        hook.write_record(location, {"a": 1})
        _, version = hook.read_record(location)
        hook.delete_object(location)
        assert not hook.replace_record(location, {"a": 2}, version=version)
        assert hook.read_record(location) == (None, None)


class TestStore:
    def test_another_write_at_the_same_moment_goes_first(self, hook, location, answers):
        asked = answers(409, "ConditionalRequestConflict")
        assert not hook.replace_record(location, {"a": 1}, version=None)
        assert asked == [["If-None-Match"]]
        assert hook.read_record(location) == (None, None)

    @pytest.mark.parametrize("version", [None, '"etag"'])
    def test_one_without_conditional_writes_is_written_to_all_the_same(
        self, hook, location, answers, version
    ):
        asked = answers(501, "NotImplemented")
        assert hook.replace_record(location, {"a": 1}, version=version)
        assert asked == [["If-None-Match" if version is None else "If-Match"], []]
        assert hook.read_record(location)[0] == {"a": 1}

    def test_a_boto3_that_knows_none_writes_all_the_same(self, hook, location, answers, monkeypatch):
        asked = answers(500, "NobodyAsked")
        monkeypatch.setattr(SageMakerAsyncHook, "_put_members", frozenset({"Bucket", "Key", "IfNoneMatch"}))
        assert hook.replace_record(location, {"a": 1}, version='"etag"')
        assert asked == [[]]
        assert hook.read_record(location)[0] == {"a": 1}

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (403, "AccessDenied", RequestRejected),
            (404, "NoSuchBucket", RequestRejected),
            (500, "InternalError", ServiceUnavailable),
        ],
    )
    def test_any_other_refusal_is_an_error(self, hook, location, answers, status, code, kind):
        answers(status, code)
        with pytest.raises(kind, match=f"Could not write the record {location}: .*{code}"):
            hook.replace_record(location, {"a": 1}, version=None)
        assert hook.read_record(location) == (None, None)
