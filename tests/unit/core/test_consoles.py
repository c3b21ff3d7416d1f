from __future__ import annotations

import pytest

from airflow_async_sm.core.consoles import console_pages

API = {
    "aws": "https://api.sagemaker.eu-west-1.amazonaws.com",
    "aws-us-gov": "https://api.sagemaker.us-gov-west-1.amazonaws.com",
    "aws-cn": "https://api.sagemaker.cn-north-1.amazonaws.com.cn",
}


def pages(name="churn", *, region="eu-west-1", partition="aws", api_url=API["aws"]):
    return console_pages(name, region=region, partition=partition, api_url=api_url)


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws", "eu-west-1", "console.aws.amazon.com"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
    ],
)
def test_a_partition_has_a_console_of_its_own(partition, region, console):
    assert pages(region=region, partition=partition, api_url=API[partition]) == {
        "endpoint": f"https://{console}/sagemaker/home?region={region}#/endpoints/churn",
        "logs": f"https://{console}/cloudwatch/home?region={region}"
        "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FEndpoints$252Fchurn",
    }


@pytest.mark.parametrize("name", ["Churn-2", "a", "9" * 63])
def test_a_name_stands_in_its_addresses_as_it_is(name):
    found = pages(name)
    assert found["endpoint"].endswith(f"#/endpoints/{name}")
    assert found["logs"].endswith(f"$252FEndpoints$252F{name}")


def test_what_no_name_can_hold_could_not_change_an_address():
    found = pages("a/b&c#d", region="x&y")
    assert found["endpoint"] == (
        "https://console.aws.amazon.com/sagemaker/home?region=x%26y#/endpoints/a%2Fb%26c%23d"
    )
    assert found["logs"].endswith("$252Fa$252Fb$2526c$2523d")


@pytest.mark.parametrize("partition", ["aws-iso", "aws-iso-b", "aws-eusc", "", "None"])
def test_a_partition_whose_console_is_not_known_has_no_pages(partition):
    assert pages(partition=partition) == {}


@pytest.mark.parametrize(
    "api_url",
    [
        "https://sagemaker.eu-west-1.api.aws",
        "https://api-fips.sagemaker.us-east-1.amazonaws.com",
        "https://vpce-0a1b-2c3d.api.sagemaker.eu-west-1.vpce.amazonaws.com",
        "https://api.sagemaker.cn-north-1.api.amazonwebservices.com.cn",
        "HTTPS://API.SAGEMAKER.EU-WEST-1.AMAZONAWS.COM:443/",
    ],
)
def test_every_way_to_aws_leads_to_what_its_console_shows(api_url):
    assert set(pages(api_url=api_url)) == {"endpoint", "logs"}


@pytest.mark.parametrize(
    "api_url",
    [
        "http://127.0.0.1:5000",
        "http://localhost:4566",
        "http://[::1]:5000",
        "http://emulator:5000",
        "https://amazonaws.com.example.org",
        "https://notamazonaws.com",
        "",
    ],
)
def test_another_service_has_no_pages_in_the_console_of_aws(api_url):
    assert pages(api_url=api_url) == {}
