"""What an endpoint is to be: its configuration and model, read once when it is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from moto.sagemaker.models import sagemaker_backends

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.errors import control_refusal, not_imitated

UNSUPPORTED_FEATURES = "One or more endpoint features are not supported using this configuration"


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
    """

    def __init__(self, clients: LocalClients, account_id: str) -> None:
        self._clients = clients
        self._account_id = account_id

    def count_models(self, region: str) -> int:
        """Return how many models there are in a region."""
        return len(sagemaker_backends[self._account_id][region]._models)

    def count_configs(self, region: str) -> int:
        """Return how many endpoint configurations there are in a region."""
        return len(sagemaker_backends[self._account_id][region].endpoint_configs)

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
