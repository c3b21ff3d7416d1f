"""What the service refuses in ``CreateModel`` and ``CreateEndpointConfig``, and moto would store silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import CONTROL, InvalidInput, NumberLimit
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.account.plans import UNSUPPORTED_FEATURES
from airflow_async_sm.emulator.errors import AwsError, constraint, control_refusal

_START_TIMEOUT = NumberLimit(
    CONTROL, "ProductionVariantContainerStartupHealthCheckTimeoutInSeconds", 60, 3_600, "seconds"
)
_TERMINATION_WAIT = NumberLimit(CONTROL, "TerminationWaitInSeconds", 0, 3_600, "seconds")
_EXECUTION_TIMEOUT = NumberLimit(CONTROL, "MaximumExecutionTimeoutInSeconds", 600, 28_800, "seconds")


def check_model(request: Mapping[str, Any], account_id: str) -> None:
    """
    Check the parts of a ``CreateModel`` request that have published limits.

    :param request: Members of the request.
    :param account_id: The account, to which the role has to belong.
    :raises AwsError: a name, role, image, model address or environment that the service refuses.
    """
    try:
        limits.MODEL_NAME.check("modelName", request.get("ModelName"))
        limits.EXECUTION_ROLE_ARN.check("executionRoleArn", request.get("ExecutionRoleArn"))
        for container in [request.get("PrimaryContainer"), *(request.get("Containers") or [])]:
            if container is not None:
                _check_container(container)
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal
    if request["ExecutionRoleArn"].split(":")[4] != account_id:
        # Other services of AWS say so; what this one says is not known.
        raise AwsError("AccessDeniedException", "Cross-account pass role is not allowed.", status=403)


def _check_container(container: Mapping[str, Any]) -> None:
    if "Image" in container:
        limits.IMAGE.check("image", container["Image"])
    if "ModelDataUrl" in container:
        limits.MODEL_DATA_URL.check("modelDataUrl", container["ModelDataUrl"])
    environment = container.get("Environment") or {}
    if len(environment) > limits.ENVIRONMENT_ENTRIES:
        raise InvalidInput(
            f"environment has {len(environment)} entries; "
            f"SageMaker accepts at most {limits.ENVIRONMENT_ENTRIES}."
        )
    for key, value in environment.items():
        limits.ENVIRONMENT_KEY.check("environment key", key)
        limits.ENVIRONMENT_VALUE.check("environment value", value)


def check_endpoint_config(request: Mapping[str, Any], *, may_be_empty: bool = False) -> None:
    """
    Check the parts of a ``CreateEndpointConfig`` request that have published limits.

    :param request: Members of the request.
    :param may_be_empty: Whether a variant may begin with no instance.
    :raises AwsError: a name, count, address or topic that the service refuses, or a feature that asynchronous
        endpoints do not support.
    """
    variants = request.get("ProductionVariants") or []
    try:
        limits.ENDPOINT_CONFIG_NAME.check("endpointConfigName", request.get("EndpointConfigName"))
        if not variants:
            raise InvalidInput("productionVariants is empty; give one.")
        for variant in variants:
            _check_variant(variant, may_be_empty=may_be_empty)
        asynchronous = request.get("AsyncInferenceConfig")
        if asynchronous:
            _check_async(asynchronous)
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal
    if asynchronous and _uses_more_than_async_can(request):
        raise control_refusal(UNSUPPORTED_FEATURES)


def _check_variant(variant: Mapping[str, Any], *, may_be_empty: bool) -> None:
    limits.ENDPOINT_CONFIG_NAME.check("variantName", variant.get("VariantName"))
    if "InstanceType" in variant:
        limits.INSTANCE_TYPE.check("instanceType", variant["InstanceType"])
        count = variant.get("InitialInstanceCount", 1)
        if count != 0 or not may_be_empty:
            limits.INITIAL_INSTANCE_COUNT.check("initialInstanceCount", count)
    if (timeout := variant.get("ContainerStartupHealthCheckTimeoutInSeconds")) is not None:
        _START_TIMEOUT.check("containerStartupHealthCheckTimeoutInSeconds", timeout)


def _check_async(config: Mapping[str, Any]) -> None:
    output = config.get("OutputConfig") or {}
    # The API model does not require the output path, the guide treats it as required; without one there is no
    # place for a result.
    for member in ("S3OutputPath", "S3FailurePath"):
        if member == "S3OutputPath" or member in output:
            limits.S3_PATH.check(member, output.get(member))
            S3Uri.parse(output[member], argument=member)
    for topic in ("SuccessTopic", "ErrorTopic"):
        if topic in (output.get("NotificationConfig") or {}):
            limits.TOPIC_ARN.check(topic, output["NotificationConfig"][topic])
    if "KmsKeyId" in output:
        limits.KMS_KEY_ID.check("kmsKeyId", output["KmsKeyId"])
    concurrency = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
    if concurrency is not None:
        limits.MAX_CONCURRENT_INVOCATIONS.check("maxConcurrentInvocationsPerInstance", concurrency)


def _uses_more_than_async_can(request: Mapping[str, Any]) -> bool:
    variants = request["ProductionVariants"]
    return (
        len(variants) > 1
        or "ServerlessConfig" in variants[0]
        or bool(request.get("ShadowProductionVariants"))
        or bool((request.get("DataCaptureConfig") or {}).get("EnableCapture"))
        or "CrossRegionTrafficConfig" in request
        or variants[0].get("InstanceType", "").startswith("ml.inf1.")
    )


def check_deployment(config: Mapping[str, Any] | None) -> None:
    """
    Check the times of a ``DeploymentConfig``.

    :raises AwsError: a time that the service refuses.
    """
    policy = (config or {}).get("BlueGreenUpdatePolicy") or {}
    try:
        if (wait := policy.get("TerminationWaitInSeconds")) is not None:
            _TERMINATION_WAIT.check("terminationWaitInSeconds", wait)
        if (longest := policy.get("MaximumExecutionTimeoutInSeconds")) is not None:
            _EXECUTION_TIMEOUT.check("maximumExecutionTimeoutInSeconds", longest)
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal
