"""One run of a request: what it reads and writes, what can go wrong, and what the switches change."""

from __future__ import annotations

import threading

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.models.callables import Reply
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import ModelError, ModelLatency, RoleDenied
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from tests.parts import Bench


@pytest.fixture
def make_bench():
    made = []

    def make(**settings):
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


def put(bench, content, place="s3://b/in"):
    uri = S3Uri.parse(place)
    bench.memory.objects[str(uri)] = type("Stored", (), {"content": content})()
    return place


class TestSuccess:
    def test_the_answer_is_the_output_byte_for_byte(self, bench):
        bench.instance(lambda body, headers: (b"\x00" + body, "image/png"))
        request = bench.submit()
        bench.settle()
        assert bench.output(request) == b"\x00payload"
        assert bench.memory.objects[str(request.output)].content_type == "image/png"
        assert bench.failure(request) is None

    def test_an_input_from_s3_is_what_the_model_gets(self, bench):
        bench.instance()
        request = bench.submit(input_location=put(bench, b"from s3"))
        bench.settle()
        assert bench.output(request) == b"from s3"

    def test_the_model_gets_the_members_as_headers_and_no_inference_id(self, bench):
        seen = []
        bench.instance(lambda body, headers: seen.append(dict(headers)) or b"")
        bench.submit(content_type="text/csv", accept="image/png", custom_attributes="c")
        bench.settle()
        assert {name.lower(): value for name, value in seen[0].items()} == {
            "content-type": "text/csv",
            "accept": "image/png",
            "x-amzn-sagemaker-custom-attributes": "c",
        }

    def test_or_with_it_where_that_is_switched_on(self, make_bench):
        bench, seen = make_bench(unknowns=Unknowns(container_inference_id=True)), []
        bench.instance(lambda body, headers: seen.append(dict(headers)) or b"")
        request = bench.submit()
        bench.settle()
        assert seen[0]["X-Amzn-SageMaker-Inference-Id"] == request.submission.inference_id

    def test_the_end_says_how_long_each_part_took(self, bench):
        bench.board.add(ModelLatency(seconds=3))
        bench.instance()
        bench.submit(input_location=put(bench, b""))
        bench.advance(3)
        _, ending = bench.ears.ends[0]
        assert (ending.download_seconds, ending.model_seconds, ending.upload_seconds) == (0, 3, 0)
        assert (ending.status, ending.failed_step, ending.reason) == (200, None, None)
        assert ending.response.content == b""

    def test_a_large_answer_is_not_kept_for_a_notification(self, bench):
        bench.instance(lambda body, headers: b"x" * (128 * 1024 + 1))
        bench.submit()
        bench.settle()
        assert bench.ears.ends[0][1].response is None

    def test_the_object_of_an_endpoint_with_a_key_says_so(self, bench):
        bench.instance()
        request = bench.request()
        request.config["OutputConfig"]["KmsKeyId"] = "alias/mine"
        assert bench.engine.submit(request)
        bench.settle()
        assert bench.memory.objects[str(request.output)].kms_key_id == "alias/mine"


class TestFailure:
    @pytest.mark.parametrize(("status", "side"), [(400, "client"), (503, "server")])
    def test_an_error_of_the_model_is_the_failure_object_byte_for_byte(self, bench, status, side):
        bench.instance(lambda body, headers: Reply(status=status, body=b"\xff{}", content_type="x/y"))
        request = bench.submit()
        bench.settle()
        assert bench.failure(request) == b"\xff{}"
        assert bench.memory.objects[str(request.failure)].content_type == "x/y"
        assert bench.output(request) is None
        record = bench.record(request)
        assert (record.state, record.status) == ("failed", status)
        assert f"Received {side} error ({status}) from model" in record.reason

    def test_an_input_that_is_not_there_is_a_sentence_and_no_call_of_the_model(self, bench):
        bench.instance()
        request = bench.submit(input_location="s3://b/none")
        bench.settle()
        assert bench.failure(request) == b"Failed to download object (bucket: b, key: none)"
        assert bench.record(request).invocations == 0
        assert bench.ears.ends[0][1].failed_step == "download"

    def test_an_input_that_is_too_large_is_not_read(self, make_bench):
        bench = make_bench(behaviour=Behaviour(queue_seconds=0, input_limit_bytes=3))
        bench.instance()
        request = bench.submit(input_location=put(bench, b"1234"))
        bench.settle()
        assert b"Failed to download" in bench.failure(request)

    def test_an_output_that_cannot_be_written_is_a_failure(self, bench):
        bench.instance()
        request = bench.submit(bucket="closed")
        bench.settle()
        assert b"Failed to upload" in bench.failure(request)
        assert bench.ears.ends[0][1].failed_step == "upload"

    def test_without_a_failure_path_nothing_is_left(self, bench):
        bench.instance(lambda body, headers: 1 / 0)
        request = bench.submit(failure=False)
        bench.settle()
        assert bench.state(request) == "failed"
        assert bench.memory.objects == {}

    def test_a_failure_object_that_cannot_be_written_is_no_second_failure(self, bench, caplog):
        bench.board.add(RoleDenied(operation="PutObject"))
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert bench.state(request) == "failed"
        assert bench.memory.objects == {}
        assert "failure object of request" in caplog.text

    def test_a_role_that_may_not_read_is_a_failed_download(self, bench):
        bench.board.add(RoleDenied(operation="GetObject"))
        bench.instance()
        request = bench.submit(input_location=put(bench, b"x"))
        bench.settle()
        assert b"Failed to download" in bench.failure(request)

    def test_a_bug_of_the_emulator_costs_one_request_and_no_thread(self, bench, caplog, monkeypatch):
        bench.instance(concurrency=1)
        with monkeypatch.context() as broken:
            broken.setattr(bench.memory, "write", lambda *_, **__: 1 / 0)
            first = bench.submit()
            bench.settle()
        second = bench.submit()
        bench.settle()
        assert [bench.state(one) for one in (first, second)] == ["failed", "succeeded"]
        assert "ZeroDivisionError" in caplog.text

    def test_a_bug_of_the_emulator_leaves_a_failure_object(self, bench, monkeypatch):
        bench.instance()
        monkeypatch.setattr(bench.tools.objects, "write_output", lambda *_: 1 / 0)
        request = bench.submit()
        bench.settle()
        assert b"emulator itself failed" in bench.failure(request)


class TestTimeLimit:
    def test_covers_the_model(self, bench):
        bench.board.add(ModelLatency(seconds=1_000))
        bench.instance()
        request = bench.submit(timeout=900)
        bench.advance(899)
        assert bench.state(request) == "running"
        bench.advance(1)
        assert bench.state(request) == "failed"
        text = f"Timed out uploading object (bucket: b, key: {request.output.key})"
        assert bench.failure(request) == text.encode()
        assert bench.output(request) is None

    def test_does_not_begin_before_the_request_is_taken(self, bench):
        request = bench.submit(timeout=1)
        bench.advance(600)
        bench.instance()
        bench.settle()
        assert bench.state(request) == "succeeded"

    def test_lets_no_upload_begin_after_it(self, bench):
        opened = threading.Event()

        def slow(body, headers):
            assert opened.wait(10)
            return body

        bench.instance(slow)
        request = bench.submit(timeout=5)
        bench.advance(6, patience=0.2)
        opened.set()
        bench.settle()
        assert bench.output(request) is None
        assert b"Timed out" in bench.failure(request)


class TestFaults:
    def test_latency_holds_the_answer_back(self, bench):
        bench.board.add(ModelLatency(seconds=30))
        bench.instance()
        request = bench.submit()
        bench.advance(29.9)
        assert bench.state(request) == "running"
        bench.advance(0.1)
        assert bench.state(request) == "succeeded"

    def test_latency_ends_with_the_instance(self, bench):
        bench.board.add(ModelLatency(seconds=30, times=1))
        instance = bench.instance()
        request = bench.submit()
        bench.settle()
        bench.engine.lose(instance)
        bench.settle()
        assert bench.state(request) == "queued"

    def test_the_same_seed_gives_the_same_latencies(self, make_bench):
        ends = []
        for _ in range(2):
            bench = make_bench(seed=11)
            bench.board.add(ModelLatency(seconds=1, up_to=100, distribution="uniform"))
            bench.instance(concurrency=10)
            requests = [bench.submit() for _ in range(10)]
            bench.advance(100)
            ends.append([round(bench.record(one).finished_at - bench.began, 3) for one in requests])
        assert ends[0] == ends[1]
        assert len(set(ends[0])) > 5

    def test_an_error_stands_for_the_models_answer_and_counts_as_a_call(self, bench):
        bench.board.add(ModelError(status=500, body="no memory"))
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert bench.failure(request) == b"no memory"
        assert bench.record(request).invocations == 1
        assert bench.ears.invoked_with == [request.submission]

    def test_faults_of_another_endpoint_do_not_count(self, bench):
        bench.board.add(ModelError(endpoint="another"))
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert bench.state(request) == "succeeded"


class TestBothObjects:
    def test_a_failure_object_may_follow_the_output(self, make_bench):
        bench = make_bench(unknowns=Unknowns(both_objects="failure_after_output"))
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert (bench.output(request), bench.failure(request)) == (b"payload", None)
        bench.advance(1)
        assert bench.failure(request) is not None
        assert bench.state(request) == "succeeded"
        assert bench.record(request).finished_at == bench.began

    def test_or_be_there_before_it(self, make_bench):
        bench = make_bench(unknowns=Unknowns(both_objects="output_after_failure"))
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert bench.output(request) is None
        assert bench.failure(request) is not None
        bench.advance(1)
        assert bench.output(request) == b"payload"
        assert bench.state(request) == "succeeded"


class TestOrderOfNotificationAndObject:
    def test_the_object_comes_as_much_later_as_the_notification_leads(self, bench):
        bench.ears.lead = 0.5
        bench.instance()
        request = bench.submit()
        bench.settle()
        assert [one for one, _ in bench.ears.early] == [request]
        assert bench.output(request) is None
        bench.advance(0.5)
        assert bench.output(request) == b"payload"

    def test_failures_too(self, bench):
        bench.ears.lead = 0.5
        bench.instance(lambda body, headers: 1 / 0)
        request = bench.submit()
        bench.settle()
        assert bench.failure(request) is None
        bench.advance(0.5)
        assert b"ZeroDivisionError" in bench.failure(request)

    def test_a_failure_by_time_limit_is_written_although_its_time_is_over(self, bench):
        bench.ears.lead = 0.5
        bench.board.add(ModelLatency(seconds=1_000))
        bench.instance()
        request = bench.submit(timeout=10)
        bench.advance(11)
        assert b"Timed out" in bench.failure(request)


class TestExpiry:
    def test_may_leave_a_text(self, make_bench):
        bench = make_bench(unknowns=Unknowns(expiry_object="text"))
        request = bench.submit(ttl=60)
        bench.advance(60)
        assert b"expired" in bench.failure(request)
        assert bench.state(request) == "expired"


class TestObjectContentType:
    def test_may_be_binary_whatever_the_container_said(self, make_bench):
        bench = make_bench(unknowns=Unknowns(object_content_type="binary"))
        bench.instance(lambda body, headers: ("1", "text/csv"))
        request = bench.submit()
        bench.settle()
        assert bench.memory.objects[str(request.output)].content_type == "binary/octet-stream"
        # The message about it says what the container said.
        assert bench.ears.ends[0][1].content_type == "text/csv"
