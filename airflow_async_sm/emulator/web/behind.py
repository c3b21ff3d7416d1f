"""What stands behind the front door: who answers which calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from airflow_async_sm.emulator.errors import AwsError

Members = Mapping[str, Any]


class TagCalls(Protocol):
    """Tags of endpoints. Every method raises ``AwsError`` for a refusal."""

    def add(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``AddTags``."""

    def list(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``ListTags``."""

    def delete(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``DeleteTags``."""


class ControlPlane(Protocol):
    """The part of SageMaker that is the emulator's own. Every method raises ``AwsError`` for a refusal."""

    @property
    def tags(self) -> TagCalls:
        """The tags of endpoints."""

    def refuse_bad_model(self, region: str, request: Members) -> None:
        """Check ``CreateModel`` before moto stores the model."""

    def refuse_bad_endpoint_config(self, region: str, request: Members) -> None:
        """Check ``CreateEndpointConfig`` before moto stores the configuration."""

    def refuse_missing_model(self, region: str, request: Members) -> None:
        """Check that the model of ``DescribeModel`` or ``DeleteModel`` is there."""

    def refuse_missing_endpoint_config(self, region: str, request: Members) -> None:
        """Check that the configuration of ``DescribeEndpointConfig`` or ``DeleteEndpointConfig`` is there."""

    def model_created(self, region: str, request: Members) -> None:
        """Complete what moto has stored of ``CreateModel``."""

    def endpoint_config_created(self, region: str, request: Members) -> None:
        """Complete what moto has stored of ``CreateEndpointConfig``."""

    def list_models(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``ListModels``."""

    def list_endpoint_configs(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``ListEndpointConfigs``."""

    def create_endpoint(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``CreateEndpoint``."""

    def describe_endpoint(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``DescribeEndpoint``."""

    def list_endpoints(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``ListEndpoints``."""

    def delete_endpoint(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``DeleteEndpoint``."""

    def update_endpoint(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``UpdateEndpoint``."""

    def update_weights_and_capacities(self, region: str, request: Members) -> dict[str, Any] | None:
        """Answer ``UpdateEndpointWeightsAndCapacities``."""

    def overview(self) -> list[dict[str, Any]]:
        """Return every endpoint of every region as JSON values."""


class RuntimeCalls(Protocol):
    """The runtime of SageMaker. Every method raises ``AwsError`` for a refusal."""

    def invoke_async(
        self, region: str, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, str, str | None]:
        """Answer ``InvokeEndpointAsync`` with the inference id and the two locations."""

    def invoke(self, region: str, name: str, operation: str) -> AwsError:
        """Return the refusal of ``InvokeEndpoint`` or ``InvokeEndpointWithResponseStream``."""


class Scaling(Protocol):
    """The part of Application Auto Scaling that is the emulator's own."""

    def answer(self, region: str, call: str, request: Members) -> dict[str, Any] | None:
        """Answer a call, or return ``None`` for one that is moto's; raise ``AwsError`` for a refusal."""

    def check(self, region: str, call: str, request: Members) -> None:
        """Raise ``AwsError`` for a call that moto must not see."""

    def accepted(self, region: str, call: str, request: Members) -> dict[str, Any] | None:
        """
        Take note of a call that moto has answered with success.

        :return: What is answered instead; ``None`` for moto's answer.
        """
