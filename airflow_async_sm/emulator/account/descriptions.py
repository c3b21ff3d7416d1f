"""What ``DescribeEndpoint`` and ``ListEndpoints`` say about an endpoint."""

from __future__ import annotations

from typing import Any, Final

from airflow_async_sm.emulator.account.endpoints import Endpoint
from airflow_async_sm.emulator.account.statuses import EndpointStatus

# The service's words for what happens to a variant while its endpoint changes.
_VARIANT_STATUS: Final = {
    EndpointStatus.CREATING: "Creating",
    EndpointStatus.UPDATING: "Updating",
    EndpointStatus.SYSTEM_UPDATING: "Updating",
    EndpointStatus.ROLLING_BACK: "Updating",
    EndpointStatus.DELETING: "Deleting",
}


def summary(endpoint: Endpoint, status: EndpointStatus | None = None) -> dict[str, Any]:
    """
    Return the members that ``ListEndpoints`` has for an endpoint.

    :param endpoint: Which one.
    :param status: Its status. Default: as a caller is shown it, which may use up a fault.
    """
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointStatus": (status or endpoint.status).value,
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
    }


def description(endpoint: Endpoint, status: EndpointStatus | None = None) -> dict[str, Any]:
    """
    Return the members of ``DescribeEndpoint``.

    :param endpoint: Which one.
    :param status: See :func:`summary`.
    """
    plan, change = endpoint.plan, endpoint.change
    described = summary(endpoint, status)
    variant: dict[str, Any] = {
        "VariantName": plan.variant_name,
        "DeployedImages": [{"SpecifiedImage": plan.image, "ResolutionTime": endpoint.created_at}],
        "CurrentWeight": endpoint.weight,
        "DesiredWeight": endpoint.weight,
        "CurrentInstanceCount": endpoint.instances,
        "DesiredInstanceCount": endpoint.desired_instances,
    }
    doing = _VARIANT_STATUS.get(EndpointStatus(described["EndpointStatus"]))
    if doing is not None:
        variant["VariantStatus"] = [{"Status": doing, "StartTime": endpoint.modified_at}]
    described |= {"EndpointConfigName": plan.config_name, "ProductionVariants": [variant]}
    if plan.asynchronous is not None:
        described["AsyncInferenceConfig"] = plan.asynchronous.as_configured
    if endpoint.failure_reason is not None:
        described["FailureReason"] = endpoint.failure_reason
    if endpoint.last_deployment is not None:
        described["LastDeploymentConfig"] = endpoint.last_deployment
    if change is not None:
        described["PendingDeploymentSummary"] = {
            "EndpointConfigName": change.plan.config_name,
            "ProductionVariants": [
                {
                    "VariantName": change.plan.variant_name,
                    "CurrentInstanceCount": 0,
                    "DesiredInstanceCount": change.count,
                    "VariantStatus": [{"Status": "Creating", "StartTime": change.began}],
                }
            ],
            "StartTime": change.began,
        }
    return described
