"""What the arguments of an endpoint must be like together, beyond the limits of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

if TYPE_CHECKING:
    from airflow_async_sm.core.endpoints import AsyncEndpointSpec

__all__ = ["check_spec"]

# What describes a model, and a configuration, that is made here.
_OF_A_MODEL: Final = (
    "execution_role_arn",
    "model_data_url",
    "environment",
    "subnets",
    "security_group_ids",
)
_OF_A_CONFIG: Final = (
    "image",
    "model_name",
    "instance_type",
    "failure_path",
    "kms_key_id",
    "success_topic",
    "error_topic",
    "include_inference_response_in",
    "max_concurrent_invocations_per_instance",
)
_INCLUDED: Final = ("SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC")
_CALLS: Final = ("create_model", "create_endpoint_config", "create_endpoint", "update_endpoint")
_POLICIES: Final = ("BlueGreenUpdatePolicy", "RollingUpdatePolicy")


def check_spec(spec: AsyncEndpointSpec) -> None:
    """
    Raise unless the arguments go together.

    :raises InvalidInput: which do not, and what to do.
    """
    _check_parts(spec)
    _check_environment(spec.environment)
    _check_network(spec)
    _check_topics(spec)
    _check_tags(spec.tags)
    _check_deployment(spec)
    _check_extra(spec.extra_api_args)


def _check_parts(spec: AsyncEndpointSpec) -> None:
    if spec.output_path is None:
        _refuse_along(spec, (*_OF_A_MODEL, *_OF_A_CONFIG), "without output_path an existing configuration")
        if spec.endpoint_config_name is None:
            raise InvalidInput(
                "Neither output_path nor endpoint_config_name is given. Give output_path, so that a "
                "configuration is made, or the name of one that exists."
            )
        return
    if spec.instance_type is None:
        raise InvalidInput("instance_type is not given; the configuration needs one, such as 'ml.m5.large'.")
    if spec.instance_type.startswith("ml.inf1."):
        raise InvalidInput(f"instance_type is {spec.instance_type!r}; asynchronous inference excludes inf1.")
    if spec.image is None:
        _refuse_along(spec, _OF_A_MODEL, "without image an existing model")
        if spec.model_name is None:
            raise InvalidInput(
                "Neither image nor model_name is given. Give image, so that a model is made, or the name of "
                "one that exists."
            )
    elif spec.execution_role_arn is None:
        raise InvalidInput("execution_role_arn is not given; the model needs the role that it runs under.")
    if spec.model_data_url is not None:
        S3Uri.parse(spec.model_data_url, argument="model_data_url", needs_key=True)


def _refuse_along(spec: AsyncEndpointSpec, arguments: Sequence[str], used: str) -> None:
    if superfluous := [name for name in arguments if getattr(spec, name)]:
        raise InvalidInput(
            f"{', '.join(superfluous)} cannot take effect: {used} is used as it is. Leave "
            f"{'it' if len(superfluous) == 1 else 'them'} out, or describe the whole."
        )


def _check_environment(environment: object) -> None:
    if not isinstance(environment, Mapping):
        raise InvalidInput(f"environment is {type(environment).__name__}; give a dictionary of texts.")
    if len(environment) > limits.ENVIRONMENT_ENTRIES:
        raise InvalidInput(
            f"environment has {len(environment)} entries; "
            f"SageMaker accepts at most {limits.ENVIRONMENT_ENTRIES}."
        )
    for key, value in environment.items():
        limits.ENVIRONMENT_KEY.check("a key of environment", key)
        limits.ENVIRONMENT_VALUE.check(f"environment[{key!r}]", value)


def _check_network(spec: AsyncEndpointSpec) -> None:
    for argument, most, limit in (
        ("subnets", limits.SUBNETS, limits.SUBNET_ID),
        ("security_group_ids", limits.SECURITY_GROUPS, limits.SECURITY_GROUP_ID),
    ):
        values = getattr(spec, argument)
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InvalidInput(f"{argument} is {values!r}; give a list of ids.")
        if len(values) > most:
            raise InvalidInput(f"{argument} has {len(values)} entries; SageMaker accepts at most {most}.")
        for value in values:
            limit.check(f"an entry of {argument}", value)
    if bool(spec.subnets) != bool(spec.security_group_ids):
        raise InvalidInput("subnets and security_group_ids go together; give both or neither.")


def _check_topics(spec: AsyncEndpointSpec) -> None:
    for argument in ("success_topic", "error_topic"):
        topic = getattr(spec, argument)
        if topic is not None and topic.endswith(".fifo"):
            raise InvalidInput(f"{argument} is {topic!r}; SageMaker cannot publish to a FIFO topic.")
    included = spec.include_inference_response_in
    if isinstance(included, str) or not isinstance(included, Sequence) or set(included) - set(_INCLUDED):
        raise InvalidInput(
            f"include_inference_response_in is {included!r}; give a list of {' and '.join(_INCLUDED)}."
        )
    for name, argument in zip(_INCLUDED, ("success_topic", "error_topic"), strict=True):
        if name in included and getattr(spec, argument) is None:
            raise InvalidInput(f"include_inference_response_in has {name}, but {argument} is not given.")


def _check_tags(tags: object) -> None:
    if not isinstance(tags, Mapping):
        raise InvalidInput(f"tags is {type(tags).__name__}; give a dictionary of texts.")
    if len(tags) > limits.TAGS:
        raise InvalidInput(f"tags has {len(tags)} entries; SageMaker accepts at most {limits.TAGS}.")
    for key, value in tags.items():
        limits.TAG_KEY.check("a key of tags", key)
        limits.TAG_VALUE.check(f"tags[{key!r}]", value)


def _check_deployment(spec: AsyncEndpointSpec) -> None:
    config = spec.deployment_config
    if config is None:
        return
    if not isinstance(config, Mapping):
        raise InvalidInput(f"deployment_config is {type(config).__name__}; give a dictionary.")
    if unknown := set(config) - {*_POLICIES, "AutoRollbackConfiguration"}:
        raise InvalidInput(
            f"deployment_config has {', '.join(sorted(unknown))}; it can have "
            f"{', '.join(_POLICIES)} and AutoRollbackConfiguration."
        )
    if all(policy in config for policy in _POLICIES):
        raise InvalidInput(f"deployment_config has {' and '.join(_POLICIES)}; an update follows one of them.")


def _check_extra(extra: Any) -> None:
    if not isinstance(extra, Mapping) or not all(isinstance(value, Mapping) for value in extra.values()):
        raise InvalidInput("extra_api_args is no dictionary of dictionaries, one for each call.")
    if unknown := set(extra) - set(_CALLS):
        raise InvalidInput(
            f"extra_api_args has {', '.join(sorted(map(str, unknown)))}; the calls are {', '.join(_CALLS)}."
        )
    for call, arguments in extra.items():
        if names := {"ModelName", "EndpointConfigName", "EndpointName"} & set(arguments):
            raise InvalidInput(
                f"extra_api_args[{call!r}] has {', '.join(sorted(names))}; names have arguments of their own."
            )
