"""``ListEndpoints``: filters, order and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_async_sm.core.limits import CONTROL, InvalidInput, NumberLimit
from airflow_async_sm.emulator.account.wording import check_choice, check_number
from airflow_async_sm.emulator.errors import constraint, control_refusal

_DEFAULT_PAGE: Final = 10
_PAGE_SIZE: Final = NumberLimit(CONTROL, "MaxResults", 1, 100, "endpoints")
_SORT_MEMBER: Final = {"Name": "EndpointName", "CreationTime": "CreationTime", "Status": "EndpointStatus"}


def list_page(summaries: Iterable[dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return one page of endpoints, newest first unless the request says otherwise.

    :param summaries: Every endpoint of the region.
    :param request: Members of the request.
    :raises AwsError: a page size, order or token that there is not.
    """
    size = request.get("MaxResults", _DEFAULT_PAGE)
    sort_by = request.get("SortBy", "CreationTime")
    try:
        check_number(_PAGE_SIZE, "maxResults", size)
        check_choice(_SORT_MEMBER, "sortBy", sort_by)
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal
    member = _SORT_MEMBER[sort_by]
    chosen = sorted(
        (summary for summary in summaries if _matches(summary, request)),
        key=lambda summary: (summary[member], summary["EndpointName"]),
        reverse=request.get("SortOrder", "Descending") == "Descending",
    )
    first = _first(request.get("NextToken"))
    page: dict[str, Any] = {"Endpoints": chosen[first : first + size]}
    if first + size < len(chosen):
        page["NextToken"] = str(first + size)
    return page


def _first(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise control_refusal("Invalid pagination token.")
    return int(token)


def _matches(summary: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    # The name's filter does not look at case, as endpoint names do not.
    return (
        request.get("NameContains", "").lower() in summary["EndpointName"].lower()
        and request.get("StatusEquals", summary["EndpointStatus"]) == summary["EndpointStatus"]
        and all(
            request.get(f"{member}After", moment) <= moment <= request.get(f"{member}Before", moment)
            for member, moment in ((name, summary[name]) for name in ("CreationTime", "LastModifiedTime"))
        )
    )
