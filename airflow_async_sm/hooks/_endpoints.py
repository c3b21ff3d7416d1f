"""The calls that make, look at and delete an endpoint and its parts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from airflow_async_sm.core.arguments import given, is_described_by
from airflow_async_sm.core.deployments import config_objection
from airflow_async_sm.core.endpoint_states import DELETING, observe_endpoint
from airflow_async_sm.core.handles import DRAINED, EndpointHandle
from airflow_async_sm.core.naming import is_part_of, stem
from airflow_async_sm.core.outcomes import Observation
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_async_sm.core.endpoints import AsyncEndpointSpec


# How long the service may take to tell everybody of a change.
STALE_SECONDS = 10.0


class EndpointCalls(AwsClients):
    """
    The control plane's part of the hook.

    A task may be tried again after any of its calls. So what an earlier attempt made is taken as it is, and
    what an earlier attempt deleted is not missed.
    """

    def describe_endpoint(self, endpoint_name: str, *, patiently: bool = False) -> dict[str, Any] | None:
        """
        Return what DescribeEndpoint says, or ``None`` if there is no such endpoint.

        :param endpoint_name: Name of the endpoint.
        :param patiently: Try again where AWS is busy, as the connection's settings say. Who looks again
            anyway does without.
        """
        client = self._sagemaker if patiently else self._sagemaker_looking
        return self._describe(client.describe_endpoint, EndpointName=endpoint_name)

    def describe_endpoint_config(self, endpoint_config_name: str) -> dict[str, Any] | None:
        """Return what DescribeEndpointConfig says, or ``None`` if there is no such configuration."""
        return self._describe(
            self._sagemaker_looking.describe_endpoint_config, EndpointConfigName=endpoint_config_name
        )

    def describe_model(self, model_name: str) -> dict[str, Any] | None:
        """Return what DescribeModel says, or ``None`` if there is no such model."""
        return self._describe(self._sagemaker_looking.describe_model, ModelName=model_name)

    def check_existing_parts(self, spec: AsyncEndpointSpec) -> None:
        """
        Raise unless the parts exist that an endpoint is to be made of, and fit.

        :param spec: What the endpoint is made of. Parts that are made with it are not looked for.
        :raises RequestRejected: a model or a configuration is missing, or is not for asynchronous endpoints.
        """
        objection = ""
        if spec.endpoint_config_to_api() is None:
            what = f"Endpoint configuration {spec.config_name}"
            config = self.describe_endpoint_config(spec.config_name)
            objection = "it does not exist" if config is None else config_objection(config)
        elif spec.model_to_api() is None:
            what = f"Model {spec.model_name}"
            objection = "it does not exist" if self.describe_model(str(spec.model_name)) is None else ""
        if objection:
            raise RequestRejected(
                f"{what} cannot be used: {objection}. Nothing was changed; a retry would be refused as well.",
                endpoint_name=spec.endpoint_name,
            )

    def check_made_parts(self, spec: AsyncEndpointSpec) -> None:
        """
        Raise unless the model and the configuration that exist are those of ``spec``.

        :param spec: What the endpoint is made of. Parts that exist without it are not looked at.
        :raises RequestRejected: one of that name is something else.
        """
        parts = [
            ("model", str(spec.model_name), spec.model_to_api(), self.describe_model),
            (
                "endpoint configuration",
                spec.config_name,
                spec.endpoint_config_to_api(),
                self.describe_endpoint_config,
            ),
        ]
        for kind, name, arguments, describe in parts:
            existing = None if arguments is None else describe(name)
            if existing is not None and not is_described_by(arguments, existing):
                raise _taken(f"{kind} {name}")

    def create_parts(self, spec: AsyncEndpointSpec) -> None:
        """Create the model and the configuration of an endpoint, as far as they do not exist already."""

        # A name that is made of the content says that it is the same; the service may have added defaults.
        def comparable(name: str, arguments: dict[str, Any]) -> Any:
            return given(arguments) if is_part_of(spec.endpoint_name, name) else arguments

        if (model := spec.model_to_api()) is not None:
            self._create(
                f"model {spec.model_name}",
                comparable(str(spec.model_name), model),
                self._sagemaker.create_model,
                lambda: self.describe_model(str(spec.model_name)),
            )
        if (config := spec.endpoint_config_to_api()) is not None:
            self._create(
                f"endpoint configuration {spec.config_name}",
                comparable(spec.config_name, config),
                self._sagemaker.create_endpoint_config,
                lambda: self.describe_endpoint_config(spec.config_name),
            )

    def create_endpoint(self, spec: AsyncEndpointSpec) -> None:
        """
        Start the creation of an endpoint, unless an earlier attempt did. It takes minutes.

        :param spec: What the endpoint is made of.
        :raises EndpointNotReady: the service does not know the configuration yet.
        """
        try:
            self._create(
                f"endpoint {spec.endpoint_name}",
                spec.endpoint_to_api(),
                self._sagemaker.create_endpoint,
                lambda: self.describe_endpoint(spec.endpoint_name),
            )
        except RequestRejected as error:
            # A configuration that was made a moment ago may not be known everywhere.
            if not _is_validation(error) or self.describe_endpoint(spec.endpoint_name) is not None:
                raise
            raise EndpointNotReady(
                f"Could not create endpoint {spec.endpoint_name}: {sentence(str(error.__cause__))} "
                "A retry may succeed, if the service did not know the new configuration yet.",
                endpoint_name=spec.endpoint_name,
            ) from error.__cause__

    def update_endpoint(
        self, spec: AsyncEndpointSpec, description: Mapping[str, Any], *, retain_capacity: bool
    ) -> None:
        """
        Start the update of an endpoint to the configuration of ``spec``. It takes minutes.

        :param spec: What the endpoint is to be.
        :param description: What it is: the answer of DescribeEndpoint.
        :param retain_capacity: Keep the number of machines that there are.
        :raises EndpointNotReady: it cannot be updated now, or the service does not know the configuration
            yet.
        """
        if spec.tags:
            tags = [{"Key": key, "Value": value} for key, value in spec.tags.items()]
            with translated(f"tag endpoint {spec.endpoint_name}"):
                self._sagemaker.add_tags(ResourceArn=description["EndpointArn"], Tags=tags)  # type: ignore[arg-type]
        arguments = given(spec.update_to_api(retain_capacity=retain_capacity))
        try:
            with translated(f"update endpoint {spec.endpoint_name}"):
                self._sagemaker.update_endpoint(**arguments)
        except RequestRejected as error:
            if not _is_validation(error):
                raise
            raise EndpointNotReady(
                f"Could not update endpoint {spec.endpoint_name}: {sentence(str(error.__cause__))} "
                "A retry may succeed, if the endpoint was changing, or the service did not know the new "
                "configuration yet.",
                endpoint_name=spec.endpoint_name,
            ) from error.__cause__

    def look_at_endpoint(self, handle: EndpointHandle) -> Observation:
        """Look once whether an endpoint has reached its goal."""
        description = self.describe_endpoint(handle.endpoint_name)
        backlog = None
        if handle.goal == DRAINED and description is not None:
            backlog = self.backlog(handle.endpoint_name, since=handle.submitted_at)
        may_be_stale = time.time() - handle.changed_at < STALE_SECONDS
        return observe_endpoint(handle, description, backlog, may_be_stale=may_be_stale)

    def backlog(self, endpoint_name: str, *, since: float) -> int | None:
        """
        Return how many requests of an endpoint wait or are worked on; ``None`` if that is not known yet.

        The service publishes the figure once a minute, as ``ApproximateBacklogSize`` in CloudWatch.

        :param endpoint_name: Name of the endpoint.
        :param since: Only a figure of a minute that began after this counts, in seconds since 1970 (UTC).
        """
        begin = datetime.fromtimestamp(since, tz=UTC)
        metric = {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ApproximateBacklogSize",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint_name}],
        }
        query = {"Id": "backlog", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
        with translated(f"read the backlog of endpoint {endpoint_name}"):
            reply = self._cloudwatch_looking.get_metric_data(
                MetricDataQueries=[query],  # type: ignore[list-item]
                StartTime=begin,
                EndTime=datetime.now(tz=UTC) + timedelta(days=1),
                ScanBy="TimestampDescending",
            )
        found = next(iter(reply["MetricDataResults"]), None)
        if found is None or not found["Values"] or found["Timestamps"][0] < begin:
            return None
        return int(found["Values"][0])

    def made_parts(self, endpoint_name: str) -> tuple[list[str], list[str]]:
        """
        Return the names of the configurations and of the models that were made for an endpoint.

        They are recognised by the names that :class:`SageMakerAsyncDeployOperator` gives them.

        :param endpoint_name: The endpoint.
        """
        with translated(f"list what was made for endpoint {endpoint_name}"):
            configs = self._sagemaker.get_paginator("list_endpoint_configs").paginate(
                NameContains=stem(endpoint_name)
            )
            config_names = [one["EndpointConfigName"] for page in configs for one in page["EndpointConfigs"]]
            models = self._sagemaker.get_paginator("list_models").paginate(NameContains=stem(endpoint_name))
            model_names = [one["ModelName"] for page in models for one in page["Models"]]
        return (
            [name for name in config_names if is_part_of(endpoint_name, name)],
            [name for name in model_names if is_part_of(endpoint_name, name)],
        )

    def delete_endpoint(self, endpoint_name: str) -> None:
        """
        Start the deletion of an endpoint; none of that name is fine as well.

        :param endpoint_name: Name of the endpoint.
        :raises EndpointNotReady: it cannot be deleted now, because it is being created or updated.
        """
        self._delete(
            f"endpoint {endpoint_name}",
            lambda: self._sagemaker.delete_endpoint(EndpointName=endpoint_name),
            lambda: self.describe_endpoint(endpoint_name),
        )

    def delete_endpoint_config(self, endpoint_config_name: str) -> None:
        """Delete a configuration; none of that name is fine as well."""
        self._delete(
            f"endpoint configuration {endpoint_config_name}",
            lambda: self._sagemaker.delete_endpoint_config(EndpointConfigName=endpoint_config_name),
            lambda: self.describe_endpoint_config(endpoint_config_name),
        )

    def delete_model(self, model_name: str) -> None:
        """Delete a model; none of that name is fine as well. Its files in S3 stay."""
        self._delete(
            f"model {model_name}",
            lambda: self._sagemaker.delete_model(ModelName=model_name),
            lambda: self.describe_model(model_name),
        )

    def _describe(self, describe: Callable[..., Any], **name: str) -> dict[str, Any] | None:
        with translated(f"describe {' '.join(name.values())}"):
            try:
                return dict(describe(**name))
            except ClientError as error:
                # With a well-formed name this code has one meaning, which AWS's own waiters rely on too.
                if error_code(error) != "ValidationException":
                    raise
                return None

    def _create(
        self,
        what: str,
        arguments: Mapping[str, Any],
        create: Callable[..., object],
        describe: Callable[[], dict[str, Any] | None],
    ) -> None:
        """Create; where the service refuses, what is there says whether an earlier attempt made it."""
        try:
            with translated(f"create {what}"):
                create(**given(arguments))
        except RequestRejected as error:
            existing = describe() if _is_validation(error) else None
            if existing is None:
                raise
            if not is_described_by(arguments, existing):
                raise _taken(what) from error.__cause__
            self.log.info("There is such a %s already; it is taken as it is.", what)

    def _delete(
        self, what: str, delete: Callable[[], object], describe: Callable[[], dict[str, Any] | None]
    ) -> None:
        """Delete; where the service refuses, what is left says whether it was gone already."""
        try:
            with translated(f"delete {what}"):
                delete()
        except RequestRejected as error:
            if not _is_validation(error):
                raise
            left = describe()
            status = "gone" if left is None else left.get("EndpointStatus", "in use")
            if status not in ("gone", DELETING):
                raise EndpointNotReady(
                    f"Could not delete {what}, which is {status}: {sentence(str(error.__cause__))} "
                    "A retry can succeed once it is not."
                ) from error.__cause__
            self.log.info("The %s is %s already.", what, status)


def _taken(what: str) -> RequestRejected:
    return RequestRejected(
        f"There is another {what} already, and it is not what this task would create. Choose another name, "
        "leave the name out, or delete it first. A retry would be refused as well."
    )


def _is_validation(error: RequestRejected) -> bool:
    """Return whether the service found the call at odds with what there is."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and error_code(cause) == "ValidationException"
