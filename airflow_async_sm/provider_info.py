"""What Airflow is told about this package: data only."""

from __future__ import annotations

from typing import Any

from airflow_async_sm import __version__

__all__ = ["get_provider_info"]

_NAME = "Amazon SageMaker Asynchronous Inference"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-async-sm",
        "name": _NAME,
        "description": "Deploy asynchronous SageMaker endpoints, submit requests, wait without a worker.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html",
                "tags": ["aws"],
            }
        ],
        "operators": [_part("operators", "batch", "capacity", "delete", "deploy", "endpoint", "invoke")],
        "sensors": [_part("sensors", "endpoint", "result")],
        "hooks": [_part("hooks", "sagemaker_async")],
        "triggers": [_part("triggers", "batch", "endpoint", "inference")],
        "task-decorators": [
            {
                "name": "sagemaker_async",
                "class-name": "airflow_async_sm.decorators.sagemaker_async.sagemaker_async_task",
            }
        ],
        "extra-links": [
            "airflow_async_sm.links.SageMakerDataLogLink",
            "airflow_async_sm.links.SageMakerEndpointLink",
            "airflow_async_sm.links.SageMakerEndpointLogsLink",
            "airflow_async_sm.links.SageMakerFailureLink",
            "airflow_async_sm.links.SageMakerOutputLink",
        ],
    }


def _part(package: str, *modules: str) -> dict[str, Any]:
    names = [f"airflow_async_sm.{package}.{module}" for module in modules]
    return {"integration-name": _NAME, "python-modules": names}
