"""What Airflow is told about this package: data only."""

from __future__ import annotations

from typing import Any

from airflow_async_sm import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-async-sm",
        "name": "Amazon SageMaker Asynchronous Inference",
        "description": "Deploy asynchronous SageMaker endpoints, submit requests, wait without a worker.",
        "versions": [__version__],
    }
