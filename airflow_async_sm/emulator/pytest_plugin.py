"""
Fixtures for test suites whose code talks to SageMaker Asynchronous Inference.

pytest loads this module in every run where the package is installed. So it brings in nothing heavy and does
nothing before a test asks for one of its fixtures: Airflow, for example, reads its settings when it is first
imported, and that moment belongs to the user's ``conftest.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_async_sm.emulator.reaching import airflow_connection, past_proxies

if TYPE_CHECKING:
    from airflow_async_sm.emulator.server import SageMakerAsyncEmulator

_REGION: Final = "us-east-1"
# What would send an AWS client elsewhere, or give it other credentials. So would the addresses of single
# services, AWS_ENDPOINT_URL_<SERVICE>, which win over the address of all.
_LEADS_ELSEWHERE: Final = (
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
)


class _Shared:
    """The one emulator of this process. It runs on from test to test while they want the same settings."""

    def __init__(self) -> None:
        self._emulator: SageMakerAsyncEmulator | None = None
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def lent(self, settings: Mapping[str, Any]) -> Iterator[SageMakerAsyncEmulator]:
        """Give an empty emulator with these settings to a test, and empty it after the test."""
        if self._emulator is None or self._settings != settings:
            self.stop()
            self._emulator = _started(settings)
            # A copy, so that a dictionary that is changed in its place is seen to be another one.
            self._settings = dict(settings)
        emulator = self._emulator
        yield emulator
        if not _runs(emulator):
            self._emulator = None  # The test has stopped it, which is its right: services fail.
            return
        try:
            emulator.reset()
        except BaseException:
            self.stop()  # The next test shall not find what is left of this one.
            raise

    def stop(self) -> None:
        """End the emulator, if one runs."""
        emulator, self._emulator = self._emulator, None
        if emulator is not None:
            emulator.stop()


@pytest.fixture(scope="session")
def _sagemaker_async_shared() -> Iterator[_Shared]:
    shared = _Shared()
    yield shared
    shared.stop()


@pytest.fixture(scope="session")
def sagemaker_async_settings() -> dict[str, Any]:
    """
    The emulator's settings, as keyword arguments of SageMakerAsyncEmulator. Override it to change them.

    The default is the emulator's, with waits of at most a tenth of a second. An override of the same name, in
    a conftest.py, module or class, can ask for this one and add to it. It may have any scope; whenever the
    settings differ from those of the test before, the emulator is started anew.
    """
    from airflow_async_sm.emulator.settings.behaviours import Behaviour

    # Long enough to be seen by code that looks at once, and short enough for thousands of tests.
    quick = Behaviour(
        creation_seconds=0.1,
        deletion_seconds=0.1,
        update_seconds=0.1,
        rollback_seconds=0.1,
        instance_start_seconds=0.1,
        queue_seconds=0.05,
        container_restart_seconds=0.1,
    )
    return {"behaviour": quick}


@pytest.fixture
def sagemaker_async_emulator(
    _sagemaker_async_shared: _Shared, sagemaker_async_settings: Mapping[str, Any]
) -> Iterator[SageMakerAsyncEmulator]:
    """
    A running, empty emulator of SageMaker Asynchronous Inference, S3, SNS, SQS and CloudWatch.

    All tests share one, because a process can run only one. It is emptied after each test that used it.
    """
    with _sagemaker_async_shared.lent(sagemaker_async_settings) as emulator:
        yield emulator


@pytest.fixture
def sagemaker_async_environment(
    sagemaker_async_emulator: SageMakerAsyncEmulator,
) -> Iterator[SageMakerAsyncEmulator]:
    """
    The emulator, and environment variables with which boto3, the AWS command line and Airflow reach it.

    They hold for the test: address, region us-east-1, dummy credentials, no configuration files, no proxy,
    and Airflow's connection aws_default. Clients made before the test keep their address; boto3's default
    session is a new one for the test.
    """
    # Not the monkeypatch fixture: a test may undo that one in its middle.
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in _LEADS_ELSEWHERE or name.startswith("AWS_ENDPOINT_URL_"):
                patch.delenv(name)
        for name, value in _variables(sagemaker_async_emulator.url).items():
            patch.setenv(name, value)
        # It would remember credentials and configuration files, into the test and out of it.
        patch.setattr("boto3.DEFAULT_SESSION", None)
        yield sagemaker_async_emulator


def _started(settings: Mapping[str, Any]) -> SageMakerAsyncEmulator:
    from airflow_async_sm.emulator.server import SageMakerAsyncEmulator

    emulator = SageMakerAsyncEmulator(**settings)
    try:
        emulator.start()
    except ImportError as error:
        pytest.fail(
            f"The emulator cannot be loaded: {error}. It needs the package's extra 'emulator': "
            "pip install 'airflow-async-sm[emulator]'",
            pytrace=False,
        )
    return emulator


def _runs(emulator: SageMakerAsyncEmulator) -> bool:
    try:
        return bool(emulator.url)
    except RuntimeError:
        return False


def _variables(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AIRFLOW_CONN_AWS_DEFAULT": airflow_connection(url, _REGION),
        **past_proxies(url),
    }
