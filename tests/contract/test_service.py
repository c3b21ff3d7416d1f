"""
What SageMaker Asynchronous Inference does, asked of an emulator and, with ``pytest -m aws``, of the real AWS.

The assertions are the same on both sides, and so are the calls. ``tests/service.py`` says which variables the
real side needs. It takes about two hours and costs a few dollars; ``-m "aws and not slow"`` takes one.
Texts of errors are not compared, except where the service's own have been seen: see
``tests/contract/emulator`` for those of the emulator.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import urllib.request
import uuid

import pytest
from botocore.exceptions import ClientError

from tests import given
from tests import service as services

pytestmark = pytest.mark.default_airflow

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
VARIANT = services.VARIANT
SPEED = 60.0
HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module", params=["emulator", pytest.param("aws", marks=pytest.mark.aws)])
def service(request):
    if request.param == "emulator":
        with services.emulated(speed=SPEED) as service:
            take_time_to_update(service)
            yield service
    else:
        with pytest.MonkeyPatch.context() as environment:
            # The tests cut themselves off from whoever runs them; here, and only here, that is undone.
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                environment.delenv(name)
            for name, value in given.aws().items():
                environment.setenv(name, value)
            service = services.on_aws(given.ENVIRONMENT)
        with contextlib.closing(service):
            yield service


@pytest.fixture(scope="module")
def model(service):
    return service.model()


@pytest.fixture(scope="module")
def inbox(service):
    return service.inbox()


@pytest.fixture(scope="module")
def endpoint(service, model, inbox):
    """An endpoint with everything: failure path, topics, tags."""
    config = service.config(model, topics=inbox.config, concurrency=2)
    return service.endpoint(config, Tags=[{"Key": "purpose", "Value": "contract"}])


@pytest.fixture(scope="module")
def bare(service, model, inbox):
    """An endpoint with one request at a time and without a failure path."""
    config = service.config(model, topics=inbox.config, concurrency=1, failures=False)
    return service.endpoint(config)


@pytest.fixture(scope="module")
def changing(service, model):
    """An endpoint that tests may update, as long as it serves in the end."""
    return service.endpoint(service.config(model))


@pytest.fixture(scope="module")
def scaling(service, model):
    """An endpoint that tests may scale. It changes by itself from then on, so it is used for nothing else."""
    return service.endpoint(service.config(model))


def take_time_to_update(service):
    """Let an update of the emulator last three real seconds at least: tests make some calls meanwhile."""
    request = urllib.request.Request(
        f"{service.control.meta.endpoint_url}/_emulator/settings",
        json.dumps({"behaviour": {"update_seconds": 3 * SPEED}}).encode(),
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=30).close()


def refusal(call, *arguments, **members):
    """Make a call, expect that it is refused, and return status and code."""
    with pytest.raises(ClientError) as refused:
        call(*arguments, **members)
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


REFUSED = (400, "ValidationError")
INVALID = (400, "ValidationException")


class TestSubmission:
    def test_request_is_accepted_with_locations_in_headers(self, service, endpoint):
        response = service.submit(endpoint)
        about = response["ResponseMetadata"]
        assert about["HTTPStatusCode"] == 202
        headers = about["HTTPHeaders"]
        assert headers["x-amzn-sagemaker-outputlocation"] == response["OutputLocation"]
        assert headers["x-amzn-sagemaker-failurelocation"] == response["FailureLocation"]
        assert headers["content-type"].startswith("application/json")

    def test_both_locations_have_one_generated_name_that_is_not_the_inference_id(self, service, endpoint):
        response = service.submit(endpoint)
        config = service.describe(endpoint)["EndpointConfigName"]
        bucket, output = services.place(response["OutputLocation"])
        assert bucket == service.bucket
        (name,) = re.fullmatch(rf"{service.folder}/{config}/out/({UUID})\.out", output).groups()
        bucket, failure = services.place(response["FailureLocation"])
        assert (bucket, failure) == (service.bucket, f"{service.folder}/{config}/failures/{name}-error.out")
        assert name != response["InferenceId"]

    def test_inference_id_is_generated_or_the_callers(self, service, endpoint):
        assert re.fullmatch(UUID, service.submit(endpoint)["InferenceId"])
        assert service.submit(endpoint, InferenceId="mine-1/2")["InferenceId"] == "mine-1/2"

    def test_without_failure_path_there_is_no_failure_location(self, service, bare):
        assert "FailureLocation" not in service.submit(bare)

    def test_same_input_twice_is_two_requests(self, service, endpoint):
        location = service.put(b"twice")
        responses = [service.submit(endpoint, InputLocation=location, InferenceId="same") for _ in range(2)]
        assert responses[0]["OutputLocation"] != responses[1]["OutputLocation"]
        assert [service.outcome(response) for response in responses] == [("output", b"twice")] * 2

    def test_extension_and_filename_are_part_of_the_output_location(self, service, endpoint):
        name = uuid.uuid4().hex
        response = service.submit(endpoint, S3OutputPathExtension="run/1", Filename=name)
        _, key = services.place(response["OutputLocation"])
        assert "/out/" in key
        assert f"/run/1/{name}" in key
        assert service.outcome(response) == ("output", b"payload")


class TestRefusedSubmission:
    @pytest.mark.parametrize(
        "members",
        [
            {"Body": b"x", "InputLocation": "s3://bucket/key"},
            {"Body": b""},
            {"Body": b"x" * 128_001},
            {"InputLocation": "ftp://bucket/key"},
            {"InputLocation": "s3://bucket/" + "k" * 1024},
            {"InferenceId": "x" * 65},
            {"S3OutputPathExtension": "s3://x"},
            {"S3OutputPathExtension": "a b"},
            {"S3OutputPathExtension": "x" * 513},
            {"Filename": "a.b.c"},
            {"Filename": str(uuid.UUID(int=1))},
            {"RequestTTLSeconds": 21_601},
            {"InvocationTimeoutSeconds": 3_601},
            {"ContentType": "x" * 1025},
            {"Accept": "x" * 1025},
            {"CustomAttributes": "x" * 1025},
        ],
        ids=lambda members: "+".join(members),
    )
    def test_value_beyond_its_limit(self, service, endpoint, members):
        assert refusal(service.submit, endpoint, **members) == REFUSED

    def test_largest_values_are_accepted(self, service, endpoint):
        response = service.submit(
            endpoint,
            Body=b"x" * 128_000,
            InferenceId="x" * 64,
            Filename="f" * 32,
            RequestTTLSeconds=21_600,
            InvocationTimeoutSeconds=3_600,
        )
        assert service.outcome(response) == ("output", b"x" * 128_000)

    def test_unknown_endpoint(self, service):
        name = services.new_name()
        with pytest.raises(service.runtime.exceptions.ValidationError) as refused:
            service.submit(name)
        assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0
        assert re.fullmatch(
            rf"Endpoint {name} of account \d{{12}} not found\.", refused.value.response["Error"]["Message"]
        )

    def test_missing_input_is_not_noticed_at_submission(self, service, endpoint):
        response = service.submit(endpoint, InputLocation=service.path("in/absent"))
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 202
        kind, _ = service.outcome(response)
        assert kind == "failure"

    def test_synchronous_invocation(self, service, endpoint):
        assert refusal(service.runtime.invoke_endpoint, EndpointName=endpoint, Body=b"x") == REFUSED


class TestInvocation:
    def test_inline_body_becomes_the_output_byte_for_byte(self, service, endpoint):
        body = bytes(range(256))
        response = service.submit(endpoint, body, ContentType="application/octet-stream")
        assert service.outcome(response) == ("output", body)
        assert service.read(response["FailureLocation"]) is None

    def test_object_becomes_the_output_byte_for_byte(self, service, endpoint):
        body = bytes(range(256)) * 4096
        response = service.submit(
            endpoint, InputLocation=service.put(body), ContentType="application/octet-stream"
        )
        assert service.outcome(response) == ("output", body)

    def test_types_and_custom_attributes_reach_the_container(self, service, endpoint):
        response = service.submit(
            endpoint,
            {"headers": True},
            ContentType="application/x-in",
            Accept="application/x-out",
            CustomAttributes="trace=1, part=2/3",
        )
        kind, body = service.outcome(response)
        assert kind == "output"
        headers = json.loads(body)
        assert headers["content-type"] == "application/x-in"
        assert headers["accept"] == "application/x-out"
        assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1, part=2/3"

    @pytest.mark.parametrize(
        ("status", "answer"), [(400, '{"message": "Unknown task",  "x":1}\n'), (500, "\x00\xff broken")]
    )
    def test_error_of_the_model_is_the_failure_object_byte_for_byte(self, service, endpoint, status, answer):
        response = service.submit(endpoint, {"status": status, "answer": answer})
        assert service.outcome(response) == ("failure", answer.encode("latin-1"))
        assert service.read(response["OutputLocation"]) is None

    def test_invocation_over_its_time_is_a_failure(self, service, endpoint):
        response = service.submit(endpoint, {"sleep": 20}, InvocationTimeoutSeconds=1)
        kind, text = service.outcome(response)
        assert kind == "failure"
        bucket, key = services.place(response["OutputLocation"])
        assert text.decode() == f"Timed out uploading object (bucket: {bucket}, key: {key})"

    def test_without_failure_path_a_failure_leaves_no_object(self, service, bare, inbox):
        response = service.submit(bare, {"status": 400, "answer": "no"})
        side, message = inbox.about(response)
        assert (side, message["invocationStatus"]) == ("error", "Failed")
        config = service.describe(bare)["EndpointConfigName"]
        _, output = services.place(response["OutputLocation"])
        name = output.rpartition("/")[2].removesuffix(".out")
        assert [key for key in service.keys(config) if name in key] == []

    @pytest.mark.slow
    def test_request_that_waits_too_long_expires(self, service, bare):
        expired = {"EndpointName": bare, "VariantName": VARIANT}
        before = service.metric("ExpiredRequests", "Sum", **expired)
        blocker = service.submit(bare, {"sleep": 180 / service.speed})
        doomed = service.submit(bare, b"too late", RequestTTLSeconds=60)
        patient = service.submit(bare, b"in time")
        for response in (blocker, patient):
            assert service.outcome(response)[0] == "output"
        assert service.read(doomed["OutputLocation"]) is None
        service.eventually(
            lambda: service.metric("ExpiredRequests", "Sum", **expired) == before + 1,
            within=service.patience.metric,
        )


class TestNotifications:
    def test_new_endpoint_tests_its_topics(self, inbox, endpoint):
        expected = {"eventVersion": "1.0", "eventSource": "aws:sagemaker", "eventName": "TestNotification"}
        assert set(inbox.sides(lambda message: message == expected, 2)) == {"error", "success"}

    def test_success_is_published(self, service, endpoint, inbox):
        location = service.put(b"to be told")
        response = service.submit(
            endpoint, InputLocation=location, ContentType="text/x-in", InferenceId=str(uuid.uuid4())
        )
        side, message = inbox.about(response)
        assert side == "success"
        assert message["invocationStatus"] == "Completed"
        assert message["awsRegion"] == service.region
        requested = message["requestParameters"]
        assert requested["endpointName"] == endpoint
        assert requested["inputLocation"] == location
        assert requested["contentType"] == "text/x-in"
        assert "accept" not in requested
        assert message["responseParameters"]["outputLocation"] == response["OutputLocation"]
        assert (message["eventSource"], message["eventName"]) == ("aws:sagemaker", "InferenceResult")
        assert message["eventVersion"] == "1.0"
        assert message["receivedTime"] <= message["eventTime"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["eventTime"])
        assert service.read(response["OutputLocation"]) == b"to be told"

    def test_failure_is_published(self, service, endpoint, inbox):
        order = json.dumps({"status": 400, "answer": "no"}).encode()
        location = service.put(order)
        response = service.submit(endpoint, InputLocation=location, InferenceId=str(uuid.uuid4()))
        side, message = inbox.about(response)
        assert (side, message["invocationStatus"]) == ("error", "Failed")
        assert "Received client error (400) from model" in message["failureReason"]
        assert message["requestParameters"]["endpointName"] == endpoint
        assert message["requestParameters"]["inputLocation"] == location
        assert message["eventName"] == "InferenceResult"


class TestModelsAndConfigurations:
    @pytest.mark.parametrize("name", ["-begins", "has_underscore", "x" * 64])
    def test_bad_names_are_refused(self, service, model, endpoint, name):
        control = service.control
        config = {"ProductionVariants": [service.variant(model)]}
        assert refusal(control.create_endpoint_config, EndpointConfigName=name, **config) == INVALID
        assert refusal(control.create_model, ModelName=name, ExecutionRoleArn=service.role) == INVALID
        current = service.describe(endpoint)["EndpointConfigName"]
        assert refusal(control.create_endpoint, EndpointName=name, EndpointConfigName=current) == INVALID

    def test_taken_names_are_refused(self, service, model, endpoint):
        control = service.control
        config = service.describe(endpoint)["EndpointConfigName"]
        container = {"Image": service.image}
        assert (
            refusal(
                control.create_model,
                ModelName=model,
                ExecutionRoleArn=service.role,
                PrimaryContainer=container,
            )
            == INVALID
        )
        assert refusal(service.config, model, name=config) == INVALID
        assert refusal(control.create_endpoint, EndpointName=endpoint, EndpointConfigName=config) == INVALID
        shouted = endpoint.upper()
        assert refusal(control.create_endpoint, EndpointName=shouted, EndpointConfigName=config) == INVALID

    def test_what_is_missing_is_refused(self, service, endpoint):
        control, absent = service.control, services.new_name()
        assert refusal(service.config, absent) == INVALID
        for call, members in [
            (control.create_endpoint, {"EndpointName": absent, "EndpointConfigName": absent}),
            (control.update_endpoint, {"EndpointName": endpoint, "EndpointConfigName": absent}),
            (control.update_endpoint, {"EndpointName": absent, "EndpointConfigName": absent}),
            (control.describe_endpoint, {"EndpointName": absent}),
            (control.describe_endpoint_config, {"EndpointConfigName": absent}),
            (control.describe_model, {"ModelName": absent}),
            (control.delete_endpoint, {"EndpointName": absent}),
        ]:
            assert refusal(call, **members) == INVALID

    @pytest.mark.parametrize(
        "changes",
        [
            {"OutputConfig": {"S3OutputPath": "http://elsewhere/x"}},
            {"OutputConfig": {"S3OutputPath": "s3://b/" + "x" * 512}},
            {"OutputConfig": {"S3OutputPath": "s3://b/x", "S3FailurePath": "ftp://b/x"}},
            {"OutputConfig": {"S3OutputPath": "s3://b/x", "NotificationConfig": {"ErrorTopic": "topic"}}},
            {
                "OutputConfig": {"S3OutputPath": "s3://b/x"},
                "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1001},
            },
        ],
    )
    def test_bad_asynchronous_configuration_is_refused(self, service, model, changes):
        assert (
            refusal(
                service.control.create_endpoint_config,
                EndpointConfigName=services.new_name(),
                ProductionVariants=[service.variant(model)],
                AsyncInferenceConfig=changes,
            )
            == INVALID
        )

    def test_asynchronous_endpoints_have_one_variant(self, service, model):
        variant = service.variant(model)
        assert (
            refusal(
                service.control.create_endpoint_config,
                EndpointConfigName=services.new_name(),
                ProductionVariants=[variant, {**variant, "VariantName": "second"}],
                AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": service.path("out")}},
            )
            == INVALID
        )


class TestEndpoints:
    def test_description_has_the_configuration_and_the_instances(self, service, endpoint, inbox):
        description = service.describe(endpoint)
        config = description["EndpointConfigName"]
        expected = {
            "OutputConfig": {
                "S3OutputPath": service.path(f"{config}/out"),
                "S3FailurePath": service.path(f"{config}/failures"),
                "NotificationConfig": inbox.config,
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
        }
        assert description["AsyncInferenceConfig"] == expected
        stored = service.control.describe_endpoint_config(EndpointConfigName=config)
        assert stored["AsyncInferenceConfig"] == expected
        (variant,) = description["ProductionVariants"]
        assert (variant["VariantName"], variant["CurrentInstanceCount"]) == (VARIANT, 1)
        assert variant["DesiredInstanceCount"] == 1
        assert description["CreationTime"] <= description["LastModifiedTime"]
        assert description["EndpointArn"].endswith(f":endpoint/{endpoint}")

    def test_list_is_filtered(self, service, endpoint, bare):
        def listed(**filters):
            pages = service.control.get_paginator("list_endpoints").paginate(**filters)
            return [found["EndpointName"] for page in pages for found in page["Endpoints"]]

        created = service.describe(endpoint)["CreationTime"]
        assert listed(NameContains=endpoint) == [endpoint]
        both = listed(
            NameContains="contract-", StatusEquals="InService", SortBy="Name", SortOrder="Ascending"
        )
        assert {endpoint, bare} <= set(both)
        assert both == sorted(both)
        assert listed(NameContains=endpoint, StatusEquals="Failed") == []
        assert listed(NameContains=endpoint, CreationTimeBefore=created - HOUR) == []
        assert listed(NameContains=endpoint, CreationTimeAfter=created - HOUR) == [endpoint]
        assert listed(NameContains=services.new_name()) == []

    def test_tags_are_kept_added_and_removed(self, service, endpoint):
        arn = service.describe(endpoint)["EndpointArn"]

        def tags():
            listed = service.control.list_tags(ResourceArn=arn)["Tags"]
            return {tag["Key"]: tag["Value"] for tag in listed}

        assert tags() == {"purpose": "contract"}
        service.control.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "1"}])
        assert tags() == {"purpose": "contract", "more": "1"}
        service.control.delete_tags(ResourceArn=arn, TagKeys=["more"])
        assert tags() == {"purpose": "contract"}

    def test_update_moves_the_endpoint_to_the_new_configuration(self, service, changing, model):
        config = service.config(model, concurrency=3)
        service.control.update_endpoint(EndpointName=changing, EndpointConfigName=config)
        assert service.describe(changing)["EndpointStatus"] == "Updating"
        update = {"EndpointName": changing, "EndpointConfigName": config}
        assert refusal(service.control.update_endpoint, **update) == INVALID
        assert refusal(service.control.delete_endpoint, EndpointName=changing) == INVALID
        # What is sent during an update is answered as well.
        during = service.submit(changing, b"during")
        description = service.settled(changing)
        assert description["EndpointStatus"] == "InService"
        assert description["EndpointConfigName"] == config
        concurrency = {"MaxConcurrentInvocationsPerInstance": 3}
        assert description["AsyncInferenceConfig"]["ClientConfig"] == concurrency
        assert service.outcome(during) == ("output", b"during")
        after = service.submit(changing, b"after")
        assert f"/{config}/out/" in after["OutputLocation"]
        assert service.outcome(after) == ("output", b"after")

    @pytest.mark.slow
    def test_update_that_does_not_come_up_is_rolled_back(self, service, changing):
        before = service.describe(changing)["EndpointConfigName"]
        broken = service.config(service.model(script=services.BROKEN))
        service.control.update_endpoint(EndpointName=changing, EndpointConfigName=broken)
        description = service.settled(changing, within=service.patience.rollback)
        assert (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", before)
        assert service.outcome(service.submit(changing, b"as before")) == ("output", b"as before")

    def test_update_to_a_real_time_configuration_is_refused(self, service, changing, model):
        name = services.new_name()
        service.control.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[service.variant(model)]
        )
        service.later(service.control.delete_endpoint_config, EndpointConfigName=name)
        update = {"EndpointName": changing, "EndpointConfigName": name}
        assert refusal(service.control.update_endpoint, **update) == INVALID

    def test_deleted_endpoint_is_gone_and_its_name_free(self, service, model):
        config = service.config(model)
        name = service.endpoint(config)
        service.control.delete_endpoint(EndpointName=name)
        assert service.settled(name) is None
        assert refusal(service.control.describe_endpoint, EndpointName=name) == INVALID
        assert refusal(service.submit, name) == REFUSED
        service.control.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert service.settled(name)["EndpointStatus"] == "InService"


@pytest.mark.slow
class TestScaling:
    def test_endpoint_goes_to_zero_and_wakes(self, service, scaling):
        scale_to_zero(service, scaling)

        def instances():
            (variant,) = service.describe(scaling)["ProductionVariants"]
            return variant["CurrentInstanceCount"]

        service.eventually(lambda: instances() == 0, within=service.patience.scaling)
        assert service.describe(scaling)["EndpointStatus"] == "InService"
        response = service.submit(scaling, b"wake up")
        assert service.outcome(response, within=service.patience.scaling) == ("output", b"wake up")
        service.eventually(
            lambda: service.metric("HasBacklogWithoutCapacity", "Maximum", EndpointName=scaling) == 1,
            within=service.patience.metric,
        )

        def first_activities():
            """Return what was done first, oldest first: an idle endpoint may go to zero again."""
            activities = service.scaling.describe_scaling_activities(
                ServiceNamespace="sagemaker", ResourceId=f"endpoint/{scaling}/variant/{VARIANT}"
            )["ScalingActivities"]
            return [(one["StatusCode"], one["Description"]) for one in reversed(activities)][:2]

        to_zero_and_back = [("Successful", f"Setting desired instance count to {count}.") for count in (0, 1)]
        service.eventually(lambda: first_activities() == to_zero_and_back, within=service.patience.scaling)


def scale_to_zero(service, endpoint):
    """Let an endpoint scale between no and one instance, as the developer guide says."""
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    service.scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=1)
    service.later(service.scaling.deregister_scalable_target, **target)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}]
    service.scaling.put_scaling_policy(
        **target,
        PolicyName=f"{endpoint}-backlog",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": dimensions,
                "Statistic": "Average",
            },
            "ScaleInCooldown": 60,
            "ScaleOutCooldown": 60,
        },
    )
    policy = service.scaling.put_scaling_policy(
        **target,
        PolicyName=f"{endpoint}-wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    service.cloudwatch.put_metric_alarm(
        AlarmName=f"{endpoint}-wake",
        MetricName="HasBacklogWithoutCapacity",
        Namespace="AWS/SageMaker",
        Dimensions=dimensions,
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[policy],
    )
    service.later(service.cloudwatch.delete_alarms, AlarmNames=[f"{endpoint}-wake"])
