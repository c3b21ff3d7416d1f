"""What the service refuses in ``CreateModel`` and ``CreateEndpointConfig``, and moto would store silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import CONTROL, InvalidInput, NumberLimit
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.account.plans import UNSUPPORTED_FEATURES
from airflow_async_sm.emulator.account.wording import broken, check_choice, check_number, check_text
from airflow_async_sm.emulator.errors import AwsError, constraint, control_refusal

# The numbers of a production variant that have limits, by the name of the member.
VARIANT_NUMBERS: Final[Mapping[str, NumberLimit]] = {
    "ContainerStartupHealthCheckTimeoutInSeconds": NumberLimit(
        CONTROL, "ProductionVariantContainerStartupHealthCheckTimeoutInSeconds", 60, 3_600, "seconds"
    ),
    "ModelDataDownloadTimeoutInSeconds": NumberLimit(
        CONTROL, "ProductionVariantModelDataDownloadTimeoutInSeconds", 60, 3_600, "seconds"
    ),
    "VolumeSizeInGB": NumberLimit(CONTROL, "ProductionVariantVolumeSizeInGB", 1, 512, "GB"),
}
# The same for a blue/green update policy.
POLICY_NUMBERS: Final[Mapping[str, NumberLimit]] = {
    "TerminationWaitInSeconds": NumberLimit(CONTROL, "TerminationWaitInSeconds", 0, 3_600, "seconds"),
    "MaximumExecutionTimeoutInSeconds": NumberLimit(
        CONTROL, "MaximumExecutionTimeoutInSeconds", 600, 28_800, "seconds"
    ),
}
NOTIFIED_TOPICS: Final = ("SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC")
TRAFFIC_ROUTINGS: Final = ("ALL_AT_ONCE", "CANARY", "LINEAR")


def check_model(request: Mapping[str, Any], account_id: str) -> None:
    """
    Check the parts of a ``CreateModel`` request that have published limits.

    :param request: Members of the request.
    :param account_id: The account, to which the role has to belong.
    :raises AwsError: a name, role, image, model address or environment that the service refuses.
    """
    with _refusing():
        check_text(limits.MODEL_NAME, "modelName", request.get("ModelName"))
        check_text(limits.EXECUTION_ROLE_ARN, "executionRoleArn", request.get("ExecutionRoleArn"))
        if (primary := request.get("PrimaryContainer")) is not None:
            _check_container(primary, "primaryContainer")
        for number, container in enumerate(request.get("Containers") or [], start=1):
            _check_container(container, f"containers.{number}.member")
    if request["ExecutionRoleArn"].split(":")[4] != account_id:
        # Other services of AWS say so; what this one says is not known.
        raise AwsError("AccessDeniedException", "Cross-account pass role is not allowed.", status=403)


def _check_container(container: Mapping[str, Any], where: str) -> None:
    if "Image" in container:
        check_text(limits.IMAGE, f"{where}.image", container["Image"])
    if "ModelDataUrl" in container:
        check_text(limits.MODEL_DATA_URL, f"{where}.modelDataUrl", container["ModelDataUrl"])
    environment, where = container.get("Environment") or {}, f"{where}.environment"
    if len(environment) > limits.ENVIRONMENT_ENTRIES:
        rule = f"Member must have length less than or equal to {limits.ENVIRONMENT_ENTRIES}"
        raise broken(where, environment, rule)
    for key, value in environment.items():
        check_text(limits.ENVIRONMENT_KEY, f"{where}.key", key)
        check_text(limits.ENVIRONMENT_VALUE, f"{where}.{key}.member", value)


def check_endpoint_config(request: Mapping[str, Any], *, may_be_empty: bool = False) -> None:
    """
    Check the parts of a ``CreateEndpointConfig`` request that have published limits.

    :param request: Members of the request.
    :param may_be_empty: Whether a variant may begin with no instance.
    :raises AwsError: a name, count, time, size, address, topic or kind of notification that the service
        refuses, or a feature that asynchronous endpoints do not support.
    """
    variants = request.get("ProductionVariants") or []
    asynchronous = request.get("AsyncInferenceConfig")
    with _refusing():
        check_text(limits.ENDPOINT_CONFIG_NAME, "endpointConfigName", request.get("EndpointConfigName"))
        if not variants:
            rule = "Member must have length greater than or equal to 1"
            raise broken("productionVariants", variants, rule)
        for number, variant in enumerate(variants, start=1):
            _check_variant(variant, f"productionVariants.{number}.member", may_be_empty=may_be_empty)
        if asynchronous:
            _check_async(asynchronous)
    if asynchronous and _uses_more_than_async_can(request):
        raise control_refusal(UNSUPPORTED_FEATURES)


def _check_variant(variant: Mapping[str, Any], where: str, *, may_be_empty: bool) -> None:
    check_text(limits.ENDPOINT_CONFIG_NAME, f"{where}.variantName", variant.get("VariantName"))
    if "InstanceType" in variant:
        check_text(limits.INSTANCE_TYPE, f"{where}.instanceType", variant["InstanceType"])
        count = variant.get("InitialInstanceCount", 1)
        if count != 0 or not may_be_empty:
            check_number(limits.INITIAL_INSTANCE_COUNT, f"{where}.initialInstanceCount", count)
    _check_numbers(VARIANT_NUMBERS, variant, where)


def _check_numbers(known: Mapping[str, NumberLimit], given: Mapping[str, Any], where: str) -> None:
    for member, limit in known.items():
        if (value := given.get(member)) is not None:
            check_number(limit, f"{where}.{_as_written(member)}", value)


def _check_async(config: Mapping[str, Any]) -> None:
    output, where = config.get("OutputConfig") or {}, "asyncInferenceConfig.outputConfig"
    # The API model does not require the output path, the guide treats it as required; without one there is no
    # place for a result.
    for member in ("S3OutputPath", "S3FailurePath"):
        if member == "S3OutputPath" or member in output:
            path = f"{where}.{_as_written(member)}"
            check_text(limits.S3_PATH, path, output.get(member))
            S3Uri.parse(output[member], argument=path)
    _check_notifications(output.get("NotificationConfig") or {}, f"{where}.notificationConfig")
    if "KmsKeyId" in output:
        check_text(limits.KMS_KEY_ID, f"{where}.kmsKeyId", output["KmsKeyId"])
    concurrency = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
    if concurrency is not None:
        path = "asyncInferenceConfig.clientConfig.maxConcurrentInvocationsPerInstance"
        check_number(limits.MAX_CONCURRENT_INVOCATIONS, path, concurrency)


def _check_notifications(config: Mapping[str, Any], where: str) -> None:
    for topic in ("SuccessTopic", "ErrorTopic"):
        if topic in config:
            check_text(limits.TOPIC_ARN, f"{where}.{_as_written(topic)}", config[topic])
    included, where = config.get("IncludeInferenceResponseIn") or [], f"{where}.includeInferenceResponseIn"
    if len(included) > len(NOTIFIED_TOPICS):
        raise broken(
            where, _listed(included), f"Member must have length less than or equal to {len(NOTIFIED_TOPICS)}"
        )
    if any(one not in NOTIFIED_TOPICS for one in included):
        # Of a list the service says what each of its members must be.
        each = f"Member must satisfy enum value set: {_listed(NOTIFIED_TOPICS)}"
        raise broken(where, _listed(included), f"Member must satisfy constraint: [{each}]")


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
    Check a ``DeploymentConfig``.

    :param config: It, or ``None``.
    :raises AwsError: it has two policies, or a time or kind of traffic routing that the service refuses.
    """
    config = config or {}
    policy, where = config.get("BlueGreenUpdatePolicy") or {}, "deploymentConfig.blueGreenUpdatePolicy"
    routing = policy.get("TrafficRoutingConfiguration") or {}
    with _refusing():
        _check_numbers(POLICY_NUMBERS, policy, where)
        if (kind := routing.get("Type")) is not None:
            check_choice(TRAFFIC_ROUTINGS, f"{where}.trafficRoutingConfiguration.type", kind)
    if config.get("BlueGreenUpdatePolicy") and config.get("RollingUpdatePolicy"):
        raise control_refusal(
            "Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be given in DeploymentConfig."
        )


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal


def _as_written(member: str) -> str:
    """Return the name of a member as it is in the texts of refusals."""
    return member[0].lower() + member[1:]


def _listed(values: Any) -> str:
    return f"[{', '.join(map(str, values))}]"
