"""An Airflow of its own for each run, and nothing of the settings of whoever runs it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What would change the figures: settings of Airflow and AWS, and a coverage that follows processes.
_NOT_HANDED_ON = ("AIRFLOW_", "AWS_", "COV")
_NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def throw_away_home(settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """
    Yield the environment of an Airflow with a home that is removed at the end.

    :param settings: Further variables.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_ON)}
    # A triggerer that was ended may still be writing its last lines.
    with tempfile.TemporaryDirectory(prefix="airflow-async-sm-bench-", ignore_cleanup_errors=True) as home:
        yield (
            kept
            | _NO_AWS
            | {
                "AIRFLOW_HOME": home,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "PYTHONPATH": str(ROOT),
                **settings,
            }
        )


def connection(url: str) -> str:
    """Return the Airflow connection to a pretended AWS, as the value of ``AIRFLOW_CONN_AWS_DEFAULT``."""
    extra = {"region_name": "us-east-1", "endpoint_url": url}
    return json.dumps({"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra})
