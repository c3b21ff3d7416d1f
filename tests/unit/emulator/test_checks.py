from __future__ import annotations

import botocore.session
import pytest

from airflow_async_sm.emulator.account.checks import (
    _EXECUTION_TIMEOUT,
    _START_TIMEOUT,
    _TERMINATION_WAIT,
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
        ({"ModelName": None}, "modelName must be text"),
        ({"ExecutionRoleArn": "admin"}, "executionRoleArn"),
        ({"PrimaryContainer": {"Image": "a b"}}, "image"),
        ({"Containers": [{"Image": "x" * 256}]}, "image"),
        ({"PrimaryContainer": {"ModelDataUrl": "ftp://x"}}, "modelDataUrl"),
        ({"PrimaryContainer": {"Environment": {"1A": "x"}}}, "environment key"),
        ({"PrimaryContainer": {"Environment": {"A": "x" * 1025}}}, "environment value"),
        ({"PrimaryContainer": {"Environment": {f"A{i}": "" for i in range(101)}}}, "101 entries"),
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
        ({"ProductionVariants": []}, "productionVariants is empty"),
        ({"ProductionVariants": [{**VARIANT, "VariantName": "a b"}]}, "variantName"),
        ({"ProductionVariants": [{**VARIANT, "InstanceType": "m5.large"}]}, "instanceType"),
        ({"ProductionVariants": [{**VARIANT, "InitialInstanceCount": 0}]}, "initialInstanceCount"),
        ({"ProductionVariants": [{**VARIANT, START_TIMEOUT: 59}]}, "containerStartupHealthCheck"),
        ({"ProductionVariants": [{**VARIANT, START_TIMEOUT: 3601}]}, "containerStartupHealthCheck"),
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


def test_good_configuration_passes():
    topics = {"SuccessTopic": "arn:aws:sns:us-east-1:123456789012:t"}
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
    for seconds in (60, 3600):
        check_endpoint_config({**CONFIG, "ProductionVariants": [{**VARIANT, START_TIMEOUT: seconds}]})


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


def test_good_deployments_pass():
    policy = {"TerminationWaitInSeconds": 0, "MaximumExecutionTimeoutInSeconds": 28_800}
    for config in (None, {}, {"RollingUpdatePolicy": {}}, {"BlueGreenUpdatePolicy": policy}):
        check_deployment(config)


@pytest.mark.parametrize("limit", [_START_TIMEOUT, _TERMINATION_WAIT, _EXECUTION_TIMEOUT], ids=str)
def test_limits_are_those_of_the_api_model(limit):
    shape = botocore.session.Session().get_service_model("sagemaker").shape_for(limit.shape)
    assert shape.metadata == {"min": limit.minimum, "max": limit.maximum}
