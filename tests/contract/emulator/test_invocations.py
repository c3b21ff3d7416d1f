from __future__ import annotations

import json
import re
import time
import uuid

import pytest

from airflow_async_sm.emulator import RequestState

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class TestAnswer:
    def test_submission_is_accepted_with_locations(self, world, echo):
        response = world.submit(echo)
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 202
        assert re.fullmatch(UUID, response["InferenceId"])
        output = re.fullmatch(rf"s3://contract-bucket/out/({UUID})\.out", response["OutputLocation"])
        failure = re.fullmatch(
            rf"s3://contract-bucket/failures/({UUID})-error\.out", response["FailureLocation"]
        )
        assert output[1] == failure[1] != response["InferenceId"]

    def test_inference_id_of_the_caller_is_echoed(self, world, echo):
        responses = [world.submit(echo, InferenceId="mine 1/2") for _ in range(2)]
        assert [response["InferenceId"] for response in responses] == ["mine 1/2"] * 2
        assert responses[0]["OutputLocation"] != responses[1]["OutputLocation"]

    def test_extension_and_filename_make_the_keys(self, world, echo):
        response = world.submit(echo, S3OutputPathExtension="/run-1/(a)/", Filename="result.json")
        assert response["OutputLocation"] == "s3://contract-bucket/out/run-1/(a)/result.json"
        assert response["FailureLocation"] == "s3://contract-bucket/failures/run-1/(a)/result.json-error.out"
        assert world.ended(response).state == "succeeded"
        assert world.body(response["OutputLocation"]) == b"payload"

    def test_no_failure_path_means_no_failure_location(self, world):
        name = world.deploy(failure=None)
        response = world.submit(name, mode="refuse")
        assert "FailureLocation" not in response
        assert world.ended(response).state == "failed"
        assert not world.exists(response["OutputLocation"])
        listed = world.s3.list_objects_v2(Bucket="contract-bucket").get("Contents", [])
        key = response["OutputLocation"].rsplit("/", 1)[1].removesuffix(".out")
        assert not [found["Key"] for found in listed if key in found["Key"]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "member"),
        [
            ({"Body": b"x", "InputLocation": "s3://b/k"}, "exactly one of"),
            ({"Body": b""}, "exactly one of"),
            ({"Body": b"x" * 128_001}, "Body is 128,001 bytes"),
            ({"InputLocation": "ftp://b/k"}, "InputLocation"),
            ({"InputLocation": "s3://b/" + "k" * 1024}, "InputLocation"),
            ({"InferenceId": "x" * 65}, "InferenceId"),
            ({"S3OutputPathExtension": "s3://x"}, "S3OutputPathExtension"),
            ({"S3OutputPathExtension": "a b"}, "S3OutputPathExtension"),
            ({"Filename": "a.b.c"}, "Filename"),
            ({"Filename": str(uuid.uuid4())}, "Filename"),
            ({"RequestTTLSeconds": 21_601}, "RequestTTLSeconds"),
            ({"InvocationTimeoutSeconds": 3_601}, "InvocationTimeoutSeconds"),
            ({"ContentType": "x" * 1025}, "ContentType"),
            ({"mode": "x" * 1025}, "CustomAttributes"),
            ({"Accept": "x" * 1025}, "Accept"),
        ],
    )
    def test_value_beyond_a_limit_is_refused(self, world, echo, refused, arguments, member):
        before = len(world.emulator.requests())
        code, message = refused(world.submit, echo, **arguments)
        assert code == "ValidationError"
        assert message.startswith(f"1 validation error detected: {member}")
        assert len(world.emulator.requests()) == before

    def test_refusal_is_the_modelled_exception(self, world, echo):
        with pytest.raises(world.runtime.exceptions.ValidationError) as refusal:
            world.submit(echo, Filename="a.b.c")
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert refusal.value.response["ResponseMetadata"]["RetryAttempts"] == 0

    def test_largest_body_is_accepted(self, world, echo):
        body = b"x" * 128_000
        assert world.body(world.ended(world.submit(echo, Body=body)).output_location) == body

    def test_unknown_endpoint(self, world, refused):
        expected = ("ValidationError", "Endpoint absent of account 123456789012 not found.")
        assert refused(world.submit, "absent") == expected
        assert refused(world.runtime.invoke_endpoint, EndpointName="absent", Body=b"x") == expected

    @pytest.mark.parametrize(
        ("name", "rule"),
        [
            ("a" * 64, "Member must have length less than or equal to 63"),
            ("a_b", "Member must satisfy regular expression pattern"),
            ("a-", "Member must satisfy regular expression pattern"),
        ],
    )
    def test_name_that_no_endpoint_can_have(self, world, refused, name, rule):
        for call in (
            world.runtime.invoke_endpoint_async,
            world.runtime.invoke_endpoint,
            world.runtime.invoke_endpoint_with_response_stream,
        ):
            code, message = refused(call, EndpointName=name, Body=b"x")
            text = f"Value '{name}' at 'endpointName' failed to satisfy constraint: {rule}"
            start = f"1 validation error detected: {text}"
            assert (code, message.startswith(start)) == ("ValidationError", True), message

    @pytest.mark.parametrize("call", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
    def test_synchronous_call_of_an_asynchronous_endpoint(self, world, echo, refused, call):
        code, message = refused(getattr(world.runtime, call), EndpointName=echo, Body=b"x")
        assert (code, "use InvokeEndpointAsync" in message) == ("ValidationError", True)


class TestSuccess:
    def test_inline_body_is_the_models_input(self, world, echo):
        response = world.submit(echo, Body=b"\x00\xff bytes", ContentType="application/x-custom; v=1")
        record = world.ended(response)
        answer = world.get(response["OutputLocation"])
        assert answer["Body"].read() == b"\x00\xff bytes"
        assert answer["ContentType"] == "application/x-custom; v=1"
        assert not world.exists(response["FailureLocation"])
        assert (record.state, record.status, record.reason) == (RequestState.SUCCEEDED, 200, None)
        assert record.invocations == 1
        assert record.submitted_at <= record.started_at <= record.finished_at

    def test_object_is_the_models_input(self, world, echo):
        content = b"0123456789" * 100_000
        location = world.put(content, "folder with space/in+put%20.bin")
        record = world.ended(world.submit(echo, InputLocation=location))
        assert record.input_location == location
        assert world.body(record.output_location) == content

    def test_model_gets_the_headers_of_the_caller_and_no_others(self, world, echo):
        response = world.submit(
            echo, mode="headers_back", ContentType="text/csv", Accept="text/x", Body=b"1,2"
        )
        got = {k.lower(): v for k, v in json.loads(world.body(world.ended(response).output_location)).items()}
        for header in ("host", "accept-encoding"):
            got.pop(header)
        assert got == {
            "content-type": "text/csv",
            "accept": "text/x",
            "content-length": "3",
            "x-amzn-sagemaker-custom-attributes": "headers_back",
        }

    def test_requests_are_taken_in_order_of_arrival(self, world):
        name = world.deploy(concurrency=1)
        responses = [world.submit(name) for _ in range(20)]
        records = [world.ended(response) for response in responses]
        started = [record.started_at for record in records]
        assert started == sorted(started)

    @pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 2), (None, 4)])
    def test_instance_runs_as_many_at_a_time_as_configured(self, world, concurrency, most):
        # The model answers nobody before so many are there.
        name = world.deploy(concurrency=concurrency, environment={"TOGETHER": str(most)})
        responses = [world.submit(name, mode="parallel") for _ in range(12)]
        seen = [int(world.body(world.ended(response).output_location)) for response in responses]
        assert max(seen) == most

    def test_instances_run_at_the_same_time_and_the_rest_waits(self, world, eventually):
        name = world.deploy(concurrency=2, instances=2)
        responses = [world.submit(name, mode="hang") for _ in range(6)]

        def states():
            return [world.record(response).state.value for response in responses]

        eventually(lambda: states().count("running") >= 4)
        assert states() == ["running"] * 4 + ["queued"] * 2
        world.control.delete_endpoint(EndpointName=name)
        world.wait("endpoint_deleted", name)

    def test_invocations_are_those_that_the_model_counts(self, world):
        name = world.deploy()
        responses = [world.submit(name, mode=mode) for mode in ("echo", "refuse", "fail", "chunked")]
        responses.append(world.submit(name, InputLocation="s3://contract-bucket/absent"))
        for response in responses:
            world.ended(response)
        responses.append(world.submit(name, mode="count_back"))
        counted = int(world.body(world.ended(responses[-1]).output_location))
        assert sum(world.record(response).invocations for response in responses) == counted == 5

    def test_many_small_headers_below_the_limit_pass(self, world, echo):
        record = world.ended(world.submit(echo, mode="small_headers_below"))
        assert (record.state, world.body(record.output_location)) == ("succeeded", b"ok")

    def test_every_one_of_300_requests_ends_once(self, world):
        name = world.deploy(concurrency=8)
        modes = ["echo", "refuse", "echo"]
        responses = [world.submit(name, mode=modes[i % 3], Body=str(i).encode()) for i in range(300)]
        records = [world.ended(response, within=30) for response in responses]
        assert len({record.request_id for record in records}) == 300
        for number, record in enumerate(records):
            succeeded = number % 3 != 1
            assert record.state == ("succeeded" if succeeded else "failed")
            assert record.invocations == 1
            assert world.exists(record.output_location) is succeeded
        assert world.body(records[299].output_location) == b"299"
        failures = world.s3.list_objects_v2(Bucket="contract-bucket", Prefix="failures/")["Contents"]
        left = {f"s3://contract-bucket/{found['Key']}" for found in failures}
        assert sum(record.failure_location in left for record in records) == 100


def reason(side, status):
    return (
        f"ClientError: Received {side} error ({status}) from model. See the SageMaker Endpoint logs in your "
        "account for more information."
    )


class TestFailure:
    def failure(self, world, response):
        record = world.ended(response)
        assert record.state == "failed"
        assert not world.exists(record.output_location)
        return record, world.get(record.failure_location)

    def test_error_of_the_model_is_kept_byte_for_byte(self, world, echo):
        record, failure = self.failure(world, world.submit(echo, mode="refuse"))
        assert failure["Body"].read() == b'{"message": "Unknown task", "status":  "error"}\n'
        assert failure["ContentType"] == "application/json; v=1"
        assert (record.status, record.reason) == (400, reason("client", 400))

    def test_server_error_of_the_model_may_be_anything(self, world, echo):
        record, failure = self.failure(world, world.submit(echo, mode="fail"))
        assert failure["Body"].read() == b"\x00\xffbusy"
        assert (record.status, record.reason) == (503, reason("server", 503))

    def test_answer_that_is_neither_success_nor_error_fails(self, world, echo):
        record, failure = self.failure(world, world.submit(echo, mode="redirect"))
        assert (record.status, failure["Body"].read()) == (302, b"elsewhere")

    @pytest.mark.parametrize(
        ("mode", "text"),
        [
            (
                "chunked",
                "The response from container primary did not specify the required Content-Length header",
            ),
            (
                "large_headers",
                "Response received from the primary container has headers with length greater than",
            ),
            (
                "small_headers_above",
                "Response received from the primary container has headers with length greater than",
            ),
            (
                "larger_headers",
                "Response received from the primary container has headers with length greater than",
            ),
        ],
    )
    def test_answer_in_a_form_that_the_platform_refuses(self, world, echo, mode, text):
        record, failure = self.failure(world, world.submit(echo, mode=mode))
        body = failure["Body"].read().decode()
        assert text in body
        assert (record.reason, record.status) == (body, None)
        assert failure["ContentType"] == "text/plain"

    def test_container_that_dies_on_the_way(self, world):
        name = world.deploy()
        expected = f"Connection reset by peer for the {name} endpoint. Please retry.".encode()
        _, failure = self.failure(world, world.submit(name, mode="crash"))
        assert failure["Body"].read() == expected

    @pytest.mark.parametrize("mode", ["hang", "dribble"])
    def test_time_limit_ends_the_wait_for_the_model(self, world, echo, mode):
        before = time.monotonic()
        response = world.submit(echo, mode=mode, InvocationTimeoutSeconds=1)
        record, failure = self.failure(world, response)
        assert 1 <= record.finished_at - record.started_at < 20
        assert time.monotonic() - before < 30
        bucket, key = record.output_location.removeprefix("s3://").split("/", 1)
        assert failure["Body"].read().decode() == f"Timed out uploading object (bucket: {bucket}, key: {key})"

    def test_input_that_is_not_there(self, world, echo):
        response = world.submit(echo, InputLocation="s3://contract-bucket/absent/object")
        record, failure = self.failure(world, response)
        expected = b"Failed to download object (bucket: contract-bucket, key: absent/object)"
        assert failure["Body"].read() == expected
        assert record.invocations == 0

    def test_input_address_of_the_other_spelling_is_named_as_the_first(self, world, echo):
        place = "https://contract-bucket.s3.us-east-1.amazonaws.com/absent"
        record, _ = self.failure(world, world.submit(echo, InputLocation=place))
        assert record.reason == "Failed to download object (bucket: contract-bucket, key: absent)"

    def test_input_address_without_a_key(self, world, echo):
        _, failure = self.failure(world, world.submit(echo, InputLocation="s3://contract-bucket"))
        assert failure["Body"].read() == b"Failed to download object (bucket: contract-bucket, key: )"

    def test_output_that_cannot_be_written(self, world):
        name = world.deploy(output="s3://absent-bucket/out")
        record = world.ended(world.submit(name))
        assert record.state == "failed"
        text = world.body(record.failure_location).decode()
        assert text.startswith("Failed to upload object (bucket: absent-bucket, key: out/")

    def test_failure_that_cannot_be_written_is_still_an_end(self, world):
        name = world.deploy(failure="s3://absent-bucket/failures")
        record = world.ended(world.submit(name, mode="refuse"))
        assert (record.state, record.status) == ("failed", 400)
