"""Where people look at an endpoint and at a request: pages in the AWS console."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from airflow_async_sm.core.endpoint_states import log_group
from airflow_async_sm.core.handles import Handle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

__all__ = ["DATA_LOG_PAGE", "ENDPOINT_PAGE", "FAILURE_PAGE", "LOGS_PAGE", "OUTPUT_PAGE", "console_pages"]

ENDPOINT_PAGE: Final = "endpoint"
LOGS_PAGE: Final = "logs"
DATA_LOG_PAGE: Final = "data_log"
OUTPUT_PAGE: Final = "output"
FAILURE_PAGE: Final = "failure"

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


def console_pages(handle: Handle, *, region: str, partition: str, api_url: str) -> dict[str, str]:
    """
    Return the addresses of the pages of an endpoint or a request by their kind; none without a console.

    What is not known of a request has no page: an endpoint or a name of a request that was made elsewhere, or
    the objects of a request of which only the folders are known.

    :param handle: The endpoint or the request.
    :param region: Its AWS region.
    :param partition: The AWS partition of the region.
    :param api_url: Where the service is reached. The console knows nothing of an emulator's endpoints.
    """
    console = _CONSOLES.get(partition)
    if console is None or not f".{urlsplit(api_url).hostname}".endswith(_AWS_DOMAINS):
        return {}
    place = f"?region={quote(region, safe='')}"
    pages: dict[str, str] = {}
    if handle.endpoint_name is not None:
        pages |= _endpoint_pages(handle.endpoint_name, console, place)
    if isinstance(handle, InvocationHandle):
        pages |= _request_pages(handle, console, place)
    return pages


def _endpoint_pages(endpoint_name: str, console: str, place: str) -> dict[str, str]:
    return {
        ENDPOINT_PAGE: f"https://{console}/sagemaker/home{place}#/endpoints/{quote(endpoint_name, safe='')}",
        LOGS_PAGE: _log_page(endpoint_name, console, place),
    }


def _request_pages(handle: InvocationHandle, console: str, place: str) -> dict[str, str]:
    pages = {}
    if handle.endpoint_name is not None and handle.inference_id is not None:
        # The service writes the name of the request into each line that it logs about it.
        search = f"/log-events$3FfilterPattern$3D{_for_logs(_phrase(handle.inference_id))}"
        pages[DATA_LOG_PAGE] = _log_page(handle.endpoint_name, console, place) + search
    for page, location in ((OUTPUT_PAGE, handle.output_location), (FAILURE_PAGE, handle.failure_location)):
        if location is not None and (found := _object(location)):
            pages[page] = (
                f"https://{console}/s3/object/{quote(found.bucket, safe='')}{place}&prefix={quote(found.key)}"
            )
    return pages


def _log_page(endpoint_name: str, console: str, place: str) -> str:
    """Return the page of the log group that has all of an endpoint's streams, the data logs among them."""
    group = _for_logs(log_group(endpoint_name))
    return f"https://{console}/cloudwatch/home{place}#logsV2:log-groups/log-group/{group}"


def _object(location: str) -> S3Uri | None:
    """Return the object at a location, or ``None`` if that is a folder or nothing that can be read."""
    try:
        return S3Uri.parse(location, needs_key=True)
    except InvalidInput:
        return None


def _phrase(text: str) -> str:
    """Return a text as a filter of CloudWatch Logs finds it: as it is, whatever stands in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _for_logs(name: str) -> str:
    """Return a name as the console of CloudWatch Logs writes it: escaped twice, with ``$`` for ``%``."""
    return quote(quote(name, safe=""), safe="").replace("%", "$")
