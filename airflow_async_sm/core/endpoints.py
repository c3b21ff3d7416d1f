"""What an asynchronous endpoint is made of, and the API arguments it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.arguments import given, merged
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.naming import part_name
from airflow_async_sm.core.spec_checks import check_spec
from airflow_async_sm.core.uris import S3Uri

__all__ = ["VARIANT_NAME", "AsyncEndpointSpec", "EndpointParts"]

VARIANT_NAME: Final = "AllTraffic"

_LIMITS: Final[dict[str, limits.TextLimit | limits.NumberLimit]] = {
    "endpoint_name": limits.ENDPOINT_NAME,
    "image": limits.IMAGE,
    "execution_role_arn": limits.EXECUTION_ROLE_ARN,
    "model_data_url": limits.MODEL_DATA_URL,
    "model_name": limits.MODEL_NAME,
    "endpoint_config_name": limits.ENDPOINT_CONFIG_NAME,
    "instance_type": limits.INSTANCE_TYPE,
    "initial_instance_count": limits.INITIAL_INSTANCE_COUNT,
    "output_path": limits.S3_PATH,
    "failure_path": limits.S3_PATH,
    "kms_key_id": limits.KMS_KEY_ID,
    "success_topic": limits.TOPIC_ARN,
    "error_topic": limits.TOPIC_ARN,
    "max_concurrent_invocations_per_instance": limits.MAX_CONCURRENT_INVOCATIONS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncEndpointSpec:
    """
    Everything that makes one asynchronous endpoint: a model, a configuration and the endpoint itself.

    Model and configuration are made, or exist already. With ``image`` the model is made; without it
    ``model_name`` names one that exists. With ``output_path`` the configuration is made; without it
    ``endpoint_config_name`` names one that exists, and nothing else describes it.

    :param endpoint_name: Name of the endpoint, at most 63 characters.
    :param image: Address of the container image, at most 255 characters.
    :param execution_role_arn: ARN of the role that the endpoint runs under. Needed with ``image``.
    :param model_data_url: S3 URI of the packed model (``model.tar.gz``); ``None`` if the image holds it.
    :param environment: Environment variables of the container, at most 100.
    :param subnets: Subnets of the containers, 1 to 16, together with ``security_group_ids``.
    :param security_group_ids: Security groups of the containers, 1 to 5.
    :param model_name: Name of the model, at most 63 characters. Default: the endpoint's, with an ``x`` and
        ten digits that are made of the model's content.
    :param endpoint_config_name: Name of the configuration, at most 63 characters. Default: as for the model.
    :param instance_type: Kind of machine. Needed with ``output_path``.
    :param initial_instance_count: Machines to begin with, at least 1: the service refuses to start from none.
    :param output_path: S3 folder for answers, at most 512 characters.
    :param failure_path: S3 folder for failures, at most 512 characters. Default: ``output_path`` with
        ``-failures`` added to its last folder. Without one a failed request would leave no trace in S3.
    :param kms_key_id: KMS key for answers and failures, at most 2,048 characters.
    :param success_topic: ARN of the SNS topic that hears of answers.
    :param error_topic: ARN of the SNS topic that hears of failures.
    :param include_inference_response_in: Which of the two messages hold the answer itself:
        ``SUCCESS_NOTIFICATION_TOPIC``, ``ERROR_NOTIFICATION_TOPIC``.
    :param max_concurrent_invocations_per_instance: Requests one machine works on at a time, 1 to 1,000.
        ``None``: the service chooses.
    :param deployment_config: Guardrails of an update, as the API's ``DeploymentConfig``.
    :param tags: Tags of model, configuration and endpoint, at most 50.
    :param extra_api_args: Further API arguments by call: ``create_model``, ``create_endpoint_config``,
        ``create_endpoint``, ``update_endpoint``.
    :raises InvalidInput: an argument is outside its limits, or two do not go together.
    """

    endpoint_name: str
    image: str | None = None
    execution_role_arn: str | None = None
    model_data_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    subnets: Sequence[str] = ()
    security_group_ids: Sequence[str] = ()
    model_name: str | None = None
    endpoint_config_name: str | None = None
    instance_type: str | None = None
    initial_instance_count: int = 1
    output_path: str | None = None
    failure_path: str | None = None
    kms_key_id: str | None = None
    success_topic: str | None = None
    error_topic: str | None = None
    include_inference_response_in: Sequence[str] = ()
    max_concurrent_invocations_per_instance: int | None = None
    deployment_config: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    extra_api_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        for name, limit in _LIMITS.items():
            if (value := getattr(self, name)) is not None:
                limit.check(name, value)
        check_spec(self)
        if self.output_path is not None:
            self._derive()

    def _derive(self) -> None:
        output_path = S3Uri.parse(str(self.output_path), argument="output_path")
        self._default("failure_path", str(output_path.sibling("failures")))
        limits.S3_PATH.check("failure_path", self.failure_path)
        S3Uri.parse(str(self.failure_path), argument="failure_path")
        # The configuration names the model, so a new model has a new configuration.
        if self.model_name is None:
            self._default("model_name", self._name_for(self.model_to_api()))
        if self.endpoint_config_name is None:
            self._default("endpoint_config_name", self._name_for(self.endpoint_config_to_api()))

    def _default(self, name: str, value: str) -> None:
        if not getattr(self, name):
            object.__setattr__(self, name, value)

    def _name_for(self, arguments: Any) -> str:
        content = {name: value for name, value in given(arguments).items() if name != "Tags"}
        return part_name(self.endpoint_name, content)

    @property
    def config_name(self) -> str:
        """Name of the configuration, given or derived."""
        return str(self.endpoint_config_name)

    def model_to_api(self) -> dict[str, Any] | None:
        """Return the arguments of boto3's ``create_model``, or ``None`` if the model exists already."""
        if self.image is None:
            return None
        vpc = {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_group_ids)}
        arguments = {
            "ModelName": self.model_name,
            "PrimaryContainer": {
                "Image": self.image,
                "ModelDataUrl": self.model_data_url,
                "Environment": dict(self.environment) or None,
            },
            "ExecutionRoleArn": self.execution_role_arn,
            "VpcConfig": vpc if self.subnets else None,
            "Tags": self._tags(),
        }
        return self._with_extra("create_model", arguments)

    def endpoint_config_to_api(self) -> dict[str, Any] | None:
        """Return the arguments of ``create_endpoint_config``, or ``None`` if the configuration exists."""
        if self.output_path is None:
            return None
        variant = {
            "VariantName": VARIANT_NAME,
            "ModelName": self.model_name,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.initial_instance_count,
        }
        notification = {
            "SuccessTopic": self.success_topic,
            "ErrorTopic": self.error_topic,
            "IncludeInferenceResponseIn": list(self.include_inference_response_in) or None,
        }
        output = {
            "S3OutputPath": self.output_path,
            "S3FailurePath": self.failure_path,
            "KmsKeyId": self.kms_key_id,
            "NotificationConfig": notification if any(notification.values()) else None,
        }
        concurrency = self.max_concurrent_invocations_per_instance
        arguments = {
            "EndpointConfigName": self.endpoint_config_name,
            "ProductionVariants": [variant],
            "AsyncInferenceConfig": {
                "OutputConfig": output,
                "ClientConfig": concurrency and {"MaxConcurrentInvocationsPerInstance": concurrency},
            },
            "Tags": self._tags(),
        }
        return self._with_extra("create_endpoint_config", arguments)

    def endpoint_to_api(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``create_endpoint``."""
        arguments = {
            "EndpointName": self.endpoint_name,
            "EndpointConfigName": self.endpoint_config_name,
            "Tags": self._tags(),
        }
        return self._with_extra("create_endpoint", arguments)

    def update_to_api(self, *, retain_capacity: bool) -> dict[str, Any]:
        """
        Return the arguments of boto3's ``update_endpoint``.

        :param retain_capacity: Keep the number of machines that there are, instead of going back to
            ``initial_instance_count``.
        """
        arguments = {
            "EndpointName": self.endpoint_name,
            "EndpointConfigName": self.endpoint_config_name,
            "RetainAllVariantProperties": True if retain_capacity else None,
            "DeploymentConfig": self.deployment_config,
        }
        return self._with_extra("update_endpoint", arguments)

    def check_region(self, region_name: str) -> None:
        """
        Check what can only be checked where the region is known.

        :param region_name: Region of the endpoint.
        :raises InvalidInput: a topic is in another region.
        """
        for argument in ("success_topic", "error_topic"):
            topic = getattr(self, argument)
            if topic is not None and topic.split(":")[3] != region_name:
                raise InvalidInput(
                    f"{argument} is {topic!r}; the endpoint is in {region_name}, and tells topics of its own "
                    "region only."
                )

    def _tags(self) -> list[dict[str, str]] | None:
        return [{"Key": key, "Value": value} for key, value in self.tags.items()] or None

    def _with_extra(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        extra: dict[str, Any] = merged(arguments, self.extra_api_args.get(call) or {})
        return extra


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointParts:
    """
    The names of an endpoint and of what belongs to it, as far as it is meant.

    :param endpoint_name: Name of the endpoint, at most 63 characters.
    :param endpoint_config_name: Name of the configuration, at most 63 characters, or ``None``.
    :param model_name: Name of the model, at most 63 characters, or ``None``.
    :raises InvalidInput: a name is outside its limits.
    """

    endpoint_name: str
    endpoint_config_name: str | None = None
    model_name: str | None = None

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        if self.endpoint_config_name is not None:
            limits.ENDPOINT_CONFIG_NAME.check("endpoint_config_name", self.endpoint_config_name)
        if self.model_name is not None:
            limits.MODEL_NAME.check("model_name", self.model_name)
