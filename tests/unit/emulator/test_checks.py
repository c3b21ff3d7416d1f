from __future__ import annotations

import botocore.session
import pytest

from airflow_async_sm.emulator.account.checks import (
    NOTIFIED_TOPICS,
    POLICY_NUMBERS,
    TRAFFIC_ROUTINGS,
    VARIANT_NUMBERS,
    check_deployment,
    check_endpoint_config,
    check_model,
)
from airflow_async_sm.emulator.errors import AwsError

ACCOUNT = "123456789012"
MODEL = {"ModelName": "m", "ExecutionRoleArn": "arn:aws:iam::123456789012:role/r"}
VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
START_TIMEOUT = "ContainerStartupHealthCheckTimeoutInSeconds"
CONFIG = {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]}
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ModelName": "a_b"}, "modelName"),
        ({"ModelName": None}, "Value null at 'modelName' .* Member must not be null"),
        ({"ModelName": 7}, "Value '7' at 'modelName' .* Member must be text"),
        ({"ModelName": "a" * 64}, "Member must have length less than or equal to 63"),
        ({"ModelName": ""}, "Member must have length greater than or equal to 1"),
        ({"ExecutionRoleArn": "admin"}, "executionRoleArn"),
        ({"PrimaryContainer": {"Image": "a b"}}, "primaryContainer.image"),
        ({"Containers": [{"Image": "x"}, {"Image": "x" * 256}]}, "'containers.2.member.image'"),
        ({"PrimaryContainer": {"ModelDataUrl": "ftp://x"}}, "modelDataUrl"),
        ({"PrimaryContainer": {"Environment": {"1A": "x"}}}, "Value '1A' at 'primaryContainer.environment"),
        ({"PrimaryContainer": {"Environment": {"A": "x" * 1025}}}, "x{256}\\.\\.\\.' at .* equal to 1024"),
        ({"PrimaryContainer": {"Environment": {f"A{i}": "" for i in range(101)}}}, "environment.* to 100"),
    ],
)
def test_bad_model_is_refused(change, message):
    with pytest.raises(AwsError, match=message) as refusal:
        check_model({**MODEL, **change}, ACCOUNT)
    assert refusal.value.code == "ValidationException"


def test_good_model_passes():
    check_model(
        {**MODEL, "PrimaryContainer": {"Image": "r/i:1", "ModelDataUrl": "s3://b/m", "Environment": {}}},
        ACCOUNT,
    )


def test_role_of_another_account_is_refused():
    with pytest.raises(AwsError, match="Cross-account") as refusal:
        check_model(MODEL, "999999999999")
    assert (refusal.value.code, refusal.value.status) == ("AccessDeniedException", 403)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"EndpointConfigName": "-c"}, "endpointConfigName"),
        ({"ProductionVariants": []}, "productionVariants.* greater than or equal to 1"),
        ({"ProductionVariants": [{**VARIANT, "VariantName": "a b"}]}, "Variants.1.member.variantName"),
        ({"ProductionVariants": [{**VARIANT, "InstanceType": "m5.large"}]}, "instanceType"),
        ({"ProductionVariants": [{**VARIANT, "InitialInstanceCount": 0}]}, "initialInstanceCount"),
        ({"AsyncInferenceConfig": ASYNC, "DataCaptureConfig": {"EnableCapture": True}}, "not supported"),
        ({"AsyncInferenceConfig": ASYNC, "CrossRegionTrafficConfig": {}}, "not supported"),
        (
            {
                "AsyncInferenceConfig": ASYNC,
                "ProductionVariants": [{**VARIANT, "InstanceType": "ml.inf1.xlarge"}],
            },
            "not supported",
        ),
    ],
)
def test_bad_configuration_is_refused(change, message):
    with pytest.raises(AwsError, match=message) as refusal:
        check_endpoint_config({**CONFIG, **change})
    assert refusal.value.code == "ValidationException"


@pytest.mark.parametrize(
    ("member", "value", "rule"),
    [
        ("ContainerStartupHealthCheckTimeoutInSeconds", 59, "greater than or equal to 60"),
        ("ContainerStartupHealthCheckTimeoutInSeconds", 3601, "less than or equal to 3600"),
        ("ModelDataDownloadTimeoutInSeconds", 59, "greater than or equal to 60"),
        ("ModelDataDownloadTimeoutInSeconds", 3601, "less than or equal to 3600"),
        ("VolumeSizeInGB", 0, "greater than or equal to 1"),
        ("VolumeSizeInGB", 513, "less than or equal to 512"),
    ],
)
def test_number_outside_its_limits_is_refused_in_the_words_of_the_service(member, value, rule):
    with pytest.raises(AwsError) as refusal:
        check_endpoint_config({**CONFIG, "ProductionVariants": [VARIANT, {**VARIANT, member: value}]})
    where = f"productionVariants.2.member.{member[0].lower()}{member[1:]}"
    assert (refusal.value.code, refusal.value.message) == (
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{where}' failed to satisfy constraint: "
        f"Member must have value {rule}",
    )


@pytest.mark.parametrize("value", [True, "60", 60.5])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(AwsError, match="Member must be a whole number"):
        check_endpoint_config({**CONFIG, "ProductionVariants": [{**VARIANT, START_TIMEOUT: value}]})


@pytest.mark.parametrize(
    ("included", "rule"),
    [
        (
            ["SUCCESS_NOTIFICATION_TOPIC", "FOO"],
            "Member must satisfy constraint: [Member must satisfy enum value set: "
            "[SUCCESS_NOTIFICATION_TOPIC, ERROR_NOTIFICATION_TOPIC]]",
        ),
        (["SUCCESS_NOTIFICATION_TOPIC"] * 3, "Member must have length less than or equal to 2"),
    ],
)
def test_responses_are_included_for_the_two_topics_only(included, rule):
    output = {**ASYNC["OutputConfig"], "NotificationConfig": {"IncludeInferenceResponseIn": included}}
    with pytest.raises(AwsError) as refusal:
        check_endpoint_config({**CONFIG, "AsyncInferenceConfig": {"OutputConfig": output}})
    assert refusal.value.message == (
        f"1 validation error detected: Value '[{', '.join(included)}]' at "
        "'asyncInferenceConfig.outputConfig.notificationConfig.includeInferenceResponseIn' failed to satisfy "
        f"constraint: {rule}"
    )


def test_good_configuration_passes():
    topics = {
        "SuccessTopic": "arn:aws:sns:us-east-1:123456789012:t",
        "IncludeInferenceResponseIn": ["ERROR_NOTIFICATION_TOPIC", "SUCCESS_NOTIFICATION_TOPIC"],
    }
    output = {
        **ASYNC["OutputConfig"],
        "S3FailurePath": "https://bucket.s3.us-east-1.amazonaws.com/f",
        "KmsKeyId": "alias/k",
        "NotificationConfig": topics,
    }
    concurrency = {"MaxConcurrentInvocationsPerInstance": 1000}
    check_endpoint_config(
        {**CONFIG, "AsyncInferenceConfig": {"OutputConfig": output, "ClientConfig": concurrency}}
    )
    check_endpoint_config(CONFIG)
    for member, limit in VARIANT_NUMBERS.items():
        for value in (limit.minimum, limit.maximum):
            check_endpoint_config({**CONFIG, "ProductionVariants": [{**VARIANT, member: value}]})


def test_no_instance_at_first_passes_where_that_is_switched_on():
    variants = [{**VARIANT, "InitialInstanceCount": 0}]
    check_endpoint_config({**CONFIG, "ProductionVariants": variants}, may_be_empty=True)


@pytest.mark.parametrize(
    "policy", [{"TerminationWaitInSeconds": 3601}, {"MaximumExecutionTimeoutInSeconds": 599}]
)
def test_bad_times_of_a_deployment_are_refused(policy):
    with pytest.raises(AwsError, match="InSeconds") as refusal:
        check_deployment({"BlueGreenUpdatePolicy": policy})
    assert refusal.value.code == "ValidationException"


def test_deployment_has_one_policy():
    with pytest.raises(
        AwsError, match="Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy"
    ) as refusal:
        check_deployment({"BlueGreenUpdatePolicy": routed("LINEAR"), "RollingUpdatePolicy": {"x": 1}})
    assert refusal.value.code == "ValidationException"


def test_unknown_routing_of_traffic_is_refused():
    with pytest.raises(
        AwsError, match=r"'deploymentConfig.*type' .*\[ALL_AT_ONCE, CANARY, LINEAR\]"
    ) as refusal:
        check_deployment({"BlueGreenUpdatePolicy": routed("BOGUS")})
    assert refusal.value.code == "ValidationException"


def routed(kind):
    return {"TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": 0}}


def test_good_deployments_pass():
    policy = {"TerminationWaitInSeconds": 0, "MaximumExecutionTimeoutInSeconds": 28_800}
    for kind in TRAFFIC_ROUTINGS:
        check_deployment({"BlueGreenUpdatePolicy": routed(kind)})
    for config in (None, {}, {"RollingUpdatePolicy": {}}, {"BlueGreenUpdatePolicy": policy}):
        check_deployment(config)


@pytest.mark.parametrize("limit", [*VARIANT_NUMBERS.values(), *POLICY_NUMBERS.values()], ids=str)
def test_limits_are_those_of_the_api_model(limit):
    shape = botocore.session.Session().get_service_model("sagemaker").shape_for(limit.shape)
    assert shape.metadata == {"min": limit.minimum, "max": limit.maximum}


def test_members_and_choices_are_those_of_the_api_model():
    model = botocore.session.Session().get_service_model("sagemaker")
    for shape, numbers in (("ProductionVariant", VARIANT_NUMBERS), ("BlueGreenUpdatePolicy", POLICY_NUMBERS)):
        members = model.shape_for(shape).members
        assert {name: members[name].name for name in numbers} == {
            name: limit.shape for name, limit in numbers.items()
        }
    for shape, choices in (
        ("AsyncNotificationTopicTypes", NOTIFIED_TOPICS),
        ("TrafficRoutingConfigType", TRAFFIC_ROUTINGS),
    ):
        assert model.shape_for(shape).enum == list(choices)
    assert model.shape_for("AsyncNotificationTopicTypeList").metadata["max"] == len(NOTIFIED_TOPICS)
