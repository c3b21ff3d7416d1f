"""What an asynchronous endpoint is made of, and the API arguments it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

__all__ = ["VARIANT_NAME", "AsyncEndpointSpec", "EndpointParts", "given", "is_described_by"]

VARIANT_NAME: Final = "AllTraffic"


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncEndpointSpec:
    """
    Everything that makes one asynchronous endpoint: a model, a configuration and the endpoint itself.

    :param endpoint_name: Name of the endpoint, at most 63 characters.
    :param image: Address of the container image, at most 255 characters.
    :param execution_role_arn: ARN of the role that the endpoint runs under.
    :param output_path: S3 folder for answers, at most 512 characters.
    :param failure_path: S3 folder for failures, at most 512 characters. Default: ``output_path`` with
        ``-failures`` added to its last folder. Without one a failed request would leave no trace in S3.
    :param instance_type: Kind of machine.
    :param initial_instance_count: Machines to begin with, at least 1: the service refuses to start from none.
    :param model_data_url: S3 URI of the packed model (``model.tar.gz``); ``None`` if the image holds it.
    :param environment: Environment variables of the container, at most 100.
    :param model_name: Name of the model. Default: ``endpoint_name``.
    :param endpoint_config_name: Name of the configuration. Default: ``endpoint_name``.
    :param max_concurrent_invocations_per_instance: Requests one machine works on at a time, 1 to 1,000.
        ``None``: the service chooses.
    :raises InvalidInput: an argument is outside its limits.
    """

    endpoint_name: str
    image: str
    execution_role_arn: str
    output_path: str
    failure_path: str = ""
    instance_type: str
    initial_instance_count: int = 1
    model_data_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    model_name: str = ""
    endpoint_config_name: str = ""
    max_concurrent_invocations_per_instance: int | None = None

    def __post_init__(self) -> None:
        limits.ENDPOINT_NAME.check("endpoint_name", self.endpoint_name)
        output_path = S3Uri.parse(self.output_path, argument="output_path")
        derived = {
            "failure_path": self.failure_path or str(output_path.sibling("failures")),
            "model_name": self.model_name or self.endpoint_name,
            "endpoint_config_name": self.endpoint_config_name or self.endpoint_name,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        limits.MODEL_NAME.check("model_name", self.model_name)
        limits.ENDPOINT_CONFIG_NAME.check("endpoint_config_name", self.endpoint_config_name)
        limits.IMAGE.check("image", self.image)
        limits.EXECUTION_ROLE_ARN.check("execution_role_arn", self.execution_role_arn)
        limits.INSTANCE_TYPE.check("instance_type", self.instance_type)
        limits.INITIAL_INSTANCE_COUNT.check("initial_instance_count", self.initial_instance_count)
        limits.S3_PATH.check("output_path", self.output_path)
        limits.S3_PATH.check("failure_path", self.failure_path)
        S3Uri.parse(self.failure_path, argument="failure_path")
        if self.model_data_url is not None:
            limits.MODEL_DATA_URL.check("model_data_url", self.model_data_url)
            S3Uri.parse(self.model_data_url, argument="model_data_url", needs_key=True)
        if self.max_concurrent_invocations_per_instance is not None:
            limits.MAX_CONCURRENT_INVOCATIONS.check(
                "max_concurrent_invocations_per_instance", self.max_concurrent_invocations_per_instance
            )
        self._check_environment()

    def _check_environment(self) -> None:
        if not isinstance(self.environment, Mapping):
            raise InvalidInput(
                f"environment is {type(self.environment).__name__}; give a dictionary of texts."
            )
        if len(self.environment) > limits.ENVIRONMENT_ENTRIES:
            raise InvalidInput(
                f"environment has {len(self.environment)} entries; "
                f"SageMaker accepts at most {limits.ENVIRONMENT_ENTRIES}."
            )
        for key, value in self.environment.items():
            limits.ENVIRONMENT_KEY.check("a key of environment", key)
            limits.ENVIRONMENT_VALUE.check(f"environment[{key!r}]", value)

    def model_to_api(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``create_model``; ``None`` is what the model has not."""
        container = {
            "Image": self.image,
            "ModelDataUrl": self.model_data_url,
            "Environment": dict(self.environment) or None,
        }
        return {
            "ModelName": self.model_name,
            "PrimaryContainer": container,
            "ExecutionRoleArn": self.execution_role_arn,
        }

    def endpoint_config_to_api(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``create_endpoint_config``; ``None`` is what it has not."""
        variant = {
            "VariantName": VARIANT_NAME,
            "ModelName": self.model_name,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.initial_instance_count,
        }
        concurrency = self.max_concurrent_invocations_per_instance
        asynchronous = {
            "OutputConfig": {"S3OutputPath": self.output_path, "S3FailurePath": self.failure_path},
            "ClientConfig": concurrency and {"MaxConcurrentInvocationsPerInstance": concurrency},
        }
        return {
            "EndpointConfigName": self.endpoint_config_name,
            "ProductionVariants": [variant],
            "AsyncInferenceConfig": asynchronous,
        }

    def endpoint_to_api(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``create_endpoint``."""
        return {"EndpointName": self.endpoint_name, "EndpointConfigName": self.endpoint_config_name}


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


def given(arguments: Any) -> Any:
    """Return API arguments without what is ``None``, which boto3 does not take."""
    if isinstance(arguments, Mapping):
        return {name: given(value) for name, value in arguments.items() if value is not None}
    return [given(value) for value in arguments] if isinstance(arguments, list) else arguments


def is_described_by(arguments: Any, description: Any) -> bool:
    """
    Return whether what exists is what a call would make.

    :param arguments: The arguments of the call that creates; ``None`` stands for what must not be there.
    :param description: The answer of the call that describes. It may say more: times, ARNs, defaults.
    """
    if arguments is None:
        return not description
    if isinstance(arguments, Mapping) and isinstance(description, Mapping):
        return all(
            # The names of variables are the user's, so each further one makes a difference.
            value == description.get(name)
            if name == "Environment" and value
            else is_described_by(value, description.get(name))
            for name, value in arguments.items()
        )
    if isinstance(arguments, list) and isinstance(description, list):
        return len(arguments) == len(description) and all(map(is_described_by, arguments, description))
    return bool(arguments == description)
