from __future__ import annotations

import pytest

from airflow_async_sm.core.consoles import console_pages
from airflow_async_sm.core.handles import EndpointHandle, InvocationHandle

API = {
    "aws": "https://api.sagemaker.eu-west-1.amazonaws.com",
    "aws-us-gov": "https://api.sagemaker.us-gov-west-1.amazonaws.com",
    "aws-cn": "https://api.sagemaker.cn-north-1.amazonaws.com.cn",
}


LOG_GROUP = "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FEndpoints$252Fchurn"


def endpoint(name="churn"):
    return EndpointHandle(endpoint_name=name, goal="InService", submitted_at=1_000.0)


def request(**known):
    values = {
        "endpoint_name": "churn",
        "inference_id": "0b5c4a2e-7d1f",
        "output_location": "s3://bucket/out/0f3c.out",
        "failure_location": "s3://bucket/failures/0f3c-error.out",
        "submitted_at": 1_000.0,
        "expires_at": 2_000.0,
    }
    return InvocationHandle(**values | known)


def pages(handle=None, *, region="eu-west-1", partition="aws", api_url=API["aws"]):
    return console_pages(handle or endpoint(), region=region, partition=partition, api_url=api_url)


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
        "logs": f"https://{console}/cloudwatch/home?region={region}{LOG_GROUP}",
    }


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws", "eu-west-1", "console.aws.amazon.com"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
    ],
)
def test_a_request_has_pages_of_its_own_beside_those_of_its_endpoint(partition, region, console):
    place = {"region": region, "partition": partition, "api_url": API[partition]}
    assert pages(request(), **place) == pages(**place) | {
        "data_log": f"https://{console}/cloudwatch/home?region={region}{LOG_GROUP}"
        "/log-events$3FfilterPattern$3D$25220b5c4a2e-7d1f$2522",
        "output": f"https://{console}/s3/object/bucket?region={region}&prefix=out/0f3c.out",
        "failure": f"https://{console}/s3/object/bucket?region={region}&prefix=failures/0f3c-error.out",
    }


@pytest.mark.parametrize(
    ("unknown", "missing"),
    [
        ({"endpoint_name": None}, {"endpoint", "logs", "data_log"}),
        ({"inference_id": None}, {"data_log"}),
        ({"endpoint_name": None, "inference_id": None}, {"endpoint", "logs", "data_log"}),
        ({"failure_location": None}, {"failure"}),
        ({"output_location": "s3://bucket/out/task/"}, {"output"}),
        ({"failure_location": "s3://bucket/failures/task/"}, {"failure"}),
        ({"output_location": "s3://bucket/"}, {"output"}),
        ({"output_location": "s3://bucket"}, {"output"}),
        ({"output_location": "/tmp/out"}, {"output"}),
    ],
)
def test_what_is_not_known_of_a_request_has_no_page(unknown, missing):
    every = pages(request())
    assert pages(request(**unknown)) == {page: every[page] for page in every.keys() - missing}


def test_an_object_that_is_found_in_its_folder_has_a_page():
    folder = request(output_location="s3://bucket/out/task/")
    found = folder.found("s3://bucket/out/task/0f3c.out", answer=True)
    assert "output" not in pages(folder)
    assert pages(found)["output"].endswith("&prefix=out/task/0f3c.out")


def test_an_object_is_found_however_its_address_is_written():
    written = request(output_location="https://bucket.s3.eu-west-1.amazonaws.com/out/0f3c.out")
    assert pages(written)["output"] == pages(request())["output"]


def test_a_key_cannot_change_the_address_of_its_page():
    odd = pages(request(output_location="s3://bucket/a b/ä&region=x#y?z+%41.out"))
    assert odd["output"] == (
        "https://console.aws.amazon.com/s3/object/bucket?region=eu-west-1"
        "&prefix=a%20b/%C3%A4%26region%3Dx%23y%3Fz%2B%2541.out"
    )


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("order/7", "$2522order$252F7$2522"),
        ('say "hi"', "$2522say$2520$255C$2522hi$255C$2522$2522"),
        ("a\\b", "$2522a$255C$255Cb$2522"),
        ("50%$", "$252250$2525$2524$2522"),
    ],
)
def test_the_name_of_a_request_is_searched_for_as_it_is(name, searched):
    assert pages(request(inference_id=name))["data_log"].endswith(f"/log-events$3FfilterPattern$3D{searched}")


@pytest.mark.parametrize("name", ["Churn-2", "a", "9" * 63])
def test_a_name_stands_in_its_addresses_as_it_is(name):
    found = pages(endpoint(name))
    assert found["endpoint"].endswith(f"#/endpoints/{name}")
    assert found["logs"].endswith(f"$252FEndpoints$252F{name}")


def test_what_no_name_can_hold_could_not_change_an_address():
    found = pages(request(endpoint_name="a/b&c#d"), region="x&y")
    assert found["endpoint"] == (
        "https://console.aws.amazon.com/sagemaker/home?region=x%26y#/endpoints/a%2Fb%26c%23d"
    )
    assert found["logs"].endswith("$252Fa$252Fb$2526c$2523d")
    assert found["output"].startswith("https://console.aws.amazon.com/s3/object/bucket?region=x%26y&prefix=")


@pytest.mark.parametrize("partition", ["aws-iso", "aws-iso-b", "aws-eusc", "", "None"])
def test_a_partition_whose_console_is_not_known_has_no_pages(partition):
    assert pages(partition=partition) == {}
    assert pages(request(), partition=partition) == {}


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
    assert pages(request(), api_url=api_url) == {}
