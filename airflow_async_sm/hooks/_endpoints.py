"""The calls that make, look at and delete an endpoint and its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from airflow_async_sm.core.endpoint_states import DELETING, observe_endpoint
from airflow_async_sm.core.endpoints import given, is_described_by
from airflow_async_sm.core.handles import EndpointHandle
from airflow_async_sm.core.outcomes import Observation
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_async_sm.core.endpoints import AsyncEndpointSpec


class EndpointCalls(AwsClients):
    """
    The control plane's part of the hook.

    A task may be tried again after any of its calls. So what an earlier attempt made is taken as it is, and
    what an earlier attempt deleted is not missed.
    """

    def describe_endpoint(self, endpoint_name: str) -> dict[str, Any] | None:
        """Return what DescribeEndpoint says, or ``None`` if there is no such endpoint."""
        return self._describe(self._sagemaker_looking.describe_endpoint, EndpointName=endpoint_name)

    def describe_endpoint_config(self, endpoint_config_name: str) -> dict[str, Any] | None:
        """Return what DescribeEndpointConfig says, or ``None`` if there is no such configuration."""
        return self._describe(
            self._sagemaker_looking.describe_endpoint_config, EndpointConfigName=endpoint_config_name
        )

    def describe_model(self, model_name: str) -> dict[str, Any] | None:
        """Return what DescribeModel says, or ``None`` if there is no such model."""
        return self._describe(self._sagemaker_looking.describe_model, ModelName=model_name)

    def create_model(self, spec: AsyncEndpointSpec) -> None:
        """Create the model of an endpoint, unless an earlier attempt did."""
        self._create(
            f"model {spec.model_name}",
            spec.model_to_api(),
            self._sagemaker.create_model,
            lambda: self.describe_model(spec.model_name),
        )

    def create_endpoint_config(self, spec: AsyncEndpointSpec) -> None:
        """Create the configuration of an endpoint, unless an earlier attempt did."""
        self._create(
            f"endpoint configuration {spec.endpoint_config_name}",
            spec.endpoint_config_to_api(),
            self._sagemaker.create_endpoint_config,
            lambda: self.describe_endpoint_config(spec.endpoint_config_name),
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

    def look_at_endpoint(self, handle: EndpointHandle) -> Observation:
        """Look once whether an endpoint has reached its goal."""
        return observe_endpoint(handle, self.describe_endpoint(handle.endpoint_name))

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
                raise RequestRejected(
                    f"There is another {what} already, and it is not what this task would create. Choose "
                    "another name, or delete it first. A retry would be refused as well."
                ) from error.__cause__
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


def _is_validation(error: RequestRejected) -> bool:
    """Return whether the service found the call at odds with what there is."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and error_code(cause) == "ValidationException"
