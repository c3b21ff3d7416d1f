"""What an endpoint is to be: its configuration and model, read once when it is created."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from botocore import xform_name
from botocore.exceptions import ClientError
from moto.sagemaker.models import sagemaker_backends

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.errors import control_refusal, not_imitated

UNSUPPORTED_FEATURES = "One or more endpoint features are not supported using this configuration"

# What a description repeats of its creation, beside the name.
_MODEL_MEMBERS: Final = (
    "PrimaryContainer",
    "Containers",
    "InferenceExecutionConfig",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
)
_CONFIG_MEMBERS: Final = (
    "ProductionVariants",
    "DataCaptureConfig",
    "KmsKeyId",
    "AsyncInferenceConfig",
    "ExplainerConfig",
    "ShadowProductionVariants",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
    "MetricsConfig",
    "CrossRegionTrafficConfig",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncPlan:
    """The asynchronous part of an endpoint: where objects go and how many invocations an instance takes."""

    output: S3Uri
    failure: S3Uri | None
    concurrency: int | None
    as_configured: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """One production variant, its container and, unless the endpoint is real-time, its asynchronous part."""

    config_name: str
    variant_name: str
    instance_count: int
    weight: float
    start_timeout: float | None
    image: str
    model_data_url: str | None
    environment: Mapping[str, str]
    asynchronous: AsyncPlan | None


class Plans:
    """
    Reads plans from the configurations and models that moto stores.

    :param clients: Clients of the emulator itself.
    :param account_id: The emulated account.
    :param changing: Returns a context for a change of what moto stores. Default: nobody needs to know.
    """

    def __init__(
        self,
        clients: LocalClients,
        account_id: str,
        changing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._clients = clients
        self._account_id = account_id
        self._changing = changing

    def models(self, region: str) -> dict[str, float]:
        """Return the names of a region's models, each with the moment of its creation."""
        return _creations(self._backend(region)._models)

    def configs(self, region: str) -> dict[str, float]:
        """Return the names of a region's endpoint configurations, each with the moment of its creation."""
        return _creations(self._backend(region).endpoint_configs)

    def complete_model(self, region: str, request: Mapping[str, Any], *, now: float) -> None:
        """
        Let a model be described as it was created; moto leaves out a part of it.

        :param region: Its region.
        :param request: The members of ``CreateModel``, which moto has accepted.
        :param now: The moment of its creation; moto notes real time.
        """
        stored = self._backend(region)._models.get(request["ModelName"])
        self._complete(stored, request, _MODEL_MEMBERS, now)

    def complete_config(self, region: str, request: Mapping[str, Any], *, now: float) -> None:
        """Do for an endpoint configuration what :meth:`complete_model` does for a model."""
        stored = self._backend(region).endpoint_configs.get(request["EndpointConfigName"])
        self._complete(stored, request, _CONFIG_MEMBERS, now)

    def config_exists(self, name: str, region: str) -> bool:
        """Return whether there is an endpoint configuration of this name."""
        return self._config(name, region) is not None

    def model_exists(self, name: str, region: str) -> bool:
        """Return whether there is a model of this name."""
        return self._model(name, region) is not None

    def read(self, config_name: str, region: str) -> EndpointPlan | None:
        """
        Return the plan of an endpoint configuration, or ``None`` if there is no such configuration.

        :raises AwsError: the configuration or its model uses what the service, or the emulator, does not
            support.
        :raises LookupError: the model is gone; the error's argument is its name.
        """
        config = self._config(config_name, region)
        if config is None:
            return None
        variants = config["ProductionVariants"]
        if len(variants) != 1:
            raise not_imitated("CreateEndpoint with several production variants")
        variant = variants[0]
        if "ServerlessConfig" in variant:
            raise not_imitated("CreateEndpoint with a serverless variant")
        container = self._container(variant["ModelName"], region)
        return EndpointPlan(
            config_name=config_name,
            variant_name=variant["VariantName"],
            instance_count=variant.get("InitialInstanceCount", 1),
            weight=variant.get("InitialVariantWeight", 1.0),
            start_timeout=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
            image=container["Image"],
            model_data_url=container.get("ModelDataUrl"),
            environment=container.get("Environment") or {},
            asynchronous=_async_plan(config.get("AsyncInferenceConfig")),
        )

    def _complete(self, stored: Any, request: Mapping[str, Any], members: Iterable[str], now: float) -> None:
        if stored is None:  # Somebody has deleted it meanwhile.
            return
        # moto describes every attribute that is not None by its name, so nothing else has to know of these.
        with self._changing():
            for member in members:
                setattr(stored, xform_name(member), request.get(member))
            stored.enable_network_isolation = bool(request.get("EnableNetworkIsolation"))
            stored.creation_time = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)

    def _backend(self, region: str) -> Any:
        return sagemaker_backends[self._account_id][region]

    def _container(self, model_name: str, region: str) -> Mapping[str, Any]:
        model = self._model(model_name, region)
        if model is None:
            raise LookupError(model_name)
        containers = (
            [model["PrimaryContainer"]] if model.get("PrimaryContainer") else model.get("Containers") or []
        )
        if len(containers) != 1 or containers[0].get("Mode") == "MultiModel":
            raise control_refusal(UNSUPPORTED_FEATURES)
        if containers[0].get("ModelDataSource"):
            raise not_imitated("CreateEndpoint for a model with ModelDataSource")
        if "Image" not in containers[0]:
            raise not_imitated("CreateEndpoint for a model without Image (a model package)")
        found: Mapping[str, Any] = containers[0]
        return found

    def _config(self, name: str, region: str) -> Mapping[str, Any] | None:
        return self._describe(region, "describe_endpoint_config", EndpointConfigName=name)

    def _model(self, name: str, region: str) -> Mapping[str, Any] | None:
        return self._describe(region, "describe_model", ModelName=name)

    def _describe(self, region: str, operation: str, **arguments: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = getattr(self._clients.get("sagemaker", region), operation)(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationException":
                return None
            raise
        return found


def _creations(stored: Mapping[str, Any]) -> dict[str, float]:
    return {name: _milliseconds(one.creation_time) for name, one in dict(stored).items()}


def _milliseconds(moment: datetime) -> float:
    """Return a time of moto's as moto shows it: without what is less than a millisecond."""
    return moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000).timestamp()


def _async_plan(config: Mapping[str, Any] | None) -> AsyncPlan | None:
    if not config:
        return None
    output = config["OutputConfig"]
    failure = output.get("S3FailurePath")
    return AsyncPlan(
        output=S3Uri.parse(output["S3OutputPath"]),
        failure=S3Uri.parse(failure) if failure else None,
        concurrency=config.get("ClientConfig", {}).get("MaxConcurrentInvocationsPerInstance"),
        as_configured=config,
    )
