"""Where people look at an endpoint: its pages in the AWS console."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from airflow_async_sm.core.endpoint_states import log_group

__all__ = ["ENDPOINT_PAGE", "LOGS_PAGE", "console_pages"]

ENDPOINT_PAGE: Final = "endpoint"
LOGS_PAGE: Final = "logs"

_CONSOLES: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""Console by partition. The others are closed to the public, or too new for their console to be known."""

_AWS_DOMAINS: Final = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
)
"""Where these partitions are reached, over IPv4, over IPv6 and from a VPC."""


def console_pages(endpoint_name: str, *, region: str, partition: str, api_url: str) -> dict[str, str]:
    """
    Return the addresses of an endpoint's pages by their kind; none where the console does not show it.

    :param endpoint_name: Name of the endpoint.
    :param region: Its AWS region.
    :param partition: The AWS partition of the region.
    :param api_url: Where the service is reached. The console knows nothing of an emulator's endpoints.
    """
    console = _CONSOLES.get(partition)
    if console is None or not f".{urlsplit(api_url).hostname}".endswith(_AWS_DOMAINS):
        return {}
    place = f"?region={quote(region, safe='')}"
    return {
        ENDPOINT_PAGE: f"https://{console}/sagemaker/home{place}#/endpoints/{quote(endpoint_name, safe='')}",
        LOGS_PAGE: f"https://{console}/cloudwatch/home{place}"
        f"#logsV2:log-groups/log-group/{_for_logs(log_group(endpoint_name))}",
    }


def _for_logs(name: str) -> str:
    """Return a name as the console of CloudWatch Logs writes it: escaped twice, with ``$`` for ``%``."""
    return quote(quote(name, safe=""), safe="").replace("%", "$")
