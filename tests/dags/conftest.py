"""All examples run in one real Airflow, side by side, against one emulator."""

from __future__ import annotations

import pytest

from airflow_async_sm.demo.local_airflow import LocalAirflow
from airflow_async_sm.emulator import Behaviour, SageMakerAsyncEmulator, airflow_connection
from tests.dags.playbill import DAGS, Stage


@pytest.fixture(scope="package")
def stage():
    """Return the :class:`Stage`; the first run of each example has begun."""
    # Work that takes longer than a worker on a busy machine needs until its first look, which has taken 4 s:
    # what is done by then is not waited for in the triggerer.
    behaviour = Behaviour(creation_seconds=6, queue_seconds=8, deletion_seconds=6)
    with SageMakerAsyncEmulator(behaviour=behaviour) as emulator:
        # They share a bucket, and would all make it in the same moment.
        emulator.client("s3").create_bucket(Bucket="async-sm-example")
        connection = {"AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(emulator.url)}
        with LocalAirflow(
            DAGS, environment=connection, min_heartbeat_interval=1, paused_at_creation=True
        ) as airflow:
            stage = Stage(airflow, emulator)
            try:
                stage.begin()
                yield stage
            finally:
                stage.close()
