from __future__ import annotations

import pytest

from airflow_async_sm.emulator.aws import LocalClients


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The settings of somebody who uses AWS, some of them broken."""
    config = tmp_path / "config"
    config.write_text("[default]\nretry_mode = nonsense\nuse_fips_endpoint = true\nregion = eu-west-1\n")
    credentials = tmp_path / "credentials"
    credentials.write_text("[default\nnot a file of credentials")
    for name, value in {
        "AWS_PROFILE": "absent",
        "AWS_DEFAULT_PROFILE": "absent",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_SESSION_TOKEN": "the user's own",
        "AWS_RETRY_MODE": "nonsense",
        "AWS_MAX_ATTEMPTS": "many",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9/elsewhere",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("service", ["s3", "sagemaker", "sagemaker-runtime"])
def test_clients_do_not_hear_of_the_users_settings(settings, service):
    clients = LocalClients("http://127.0.0.1:1")
    client = clients.get(service)
    try:
        assert client.meta.endpoint_url == "http://127.0.0.1:1"
        assert client.meta.region_name == "us-east-1"
        assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 3}
        credentials = client._request_signer._credentials.get_frozen_credentials()
        assert (credentials.access_key, credentials.token) == ("testing", None)
    finally:
        clients.close()


def test_client_is_made_once_for_each_service_and_region():
    clients = LocalClients("http://127.0.0.1:1")
    assert clients.get("sts") is clients.get("sts")
    assert clients.get("sts") is not clients.get("sts", "eu-west-1")
    clients.close()
