"""``ListEndpoints``, ``ListEndpointConfigs`` and ``ListModels``: filters, order and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_async_sm.core.limits import CONTROL, InvalidInput, NumberLimit
from airflow_async_sm.emulator.account.wording import broken, check_choice, check_number
from airflow_async_sm.emulator.errors import constraint, control_refusal

_DEFAULT_PAGE: Final = 10
_ORDERS: Final = ("Ascending", "Descending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    What is listed.

    :param member: The member of the answer that has the list.
    :param name: The member of each entry that has its name.
    :param times: The members of each entry that can be filtered by time.
    :param status: The member of each entry that has its status. Default: they have none.
    """

    member: str
    name: str
    times: tuple[str, ...] = ("CreationTime",)
    status: str | None = None

    @property
    def sort_members(self) -> dict[str, str]:
        """The members by which it can be sorted, by the value of ``SortBy``."""
        known = {"Name": self.name, "CreationTime": "CreationTime"}
        return known if self.status is None else {**known, "Status": self.status}


ENDPOINTS: Final = Listing(
    member="Endpoints",
    name="EndpointName",
    times=("CreationTime", "LastModifiedTime"),
    status="EndpointStatus",
)
CONFIGS: Final = Listing(member="EndpointConfigs", name="EndpointConfigName")
MODELS: Final = Listing(member="Models", name="ModelName")


def list_page(
    listing: Listing, summaries: Iterable[dict[str, Any]], request: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return one page of a list, newest first unless the request says otherwise.

    :param listing: What is listed.
    :param summaries: Every entry of the region.
    :param request: Members of the request.
    :raises AwsError: a page size, order, filter or token that there is not.
    """
    size = request.get("MaxResults", _DEFAULT_PAGE)
    sort_by = request.get("SortBy", "CreationTime")
    order = request.get("SortOrder", "Descending")
    try:
        check_number(NumberLimit(CONTROL, "MaxResults", 1, 100, "entries"), "maxResults", size)
        check_choice(listing.sort_members, "sortBy", sort_by)
        check_choice(_ORDERS, "sortOrder", order)
        _check_filters(listing, request)
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal
    sorted_by = listing.sort_members[sort_by]
    chosen = sorted(
        (summary for summary in summaries if _matches(listing, summary, request)),
        key=lambda summary: (summary[sorted_by], summary[listing.name]),
        reverse=order == "Descending",
    )
    first = _first(request.get("NextToken"))
    page: dict[str, Any] = {listing.member: chosen[first : first + size]}
    if first + size < len(chosen):
        page["NextToken"] = str(first + size)
    return page


def _first(token: Any) -> int:
    if token is None:
        return 0
    if not isinstance(token, str) or not token.isdecimal():
        raise control_refusal("Invalid pagination token.")
    return int(token)


def _check_filters(listing: Listing, request: Mapping[str, Any]) -> None:
    if not isinstance(text := request.get("NameContains", ""), str):
        raise broken("nameContains", text, "Member must be text")
    for member in _time_filters(listing):
        moment = request.get(member, 0)
        if isinstance(moment, bool) or not isinstance(moment, int | float):
            raise broken(member[0].lower() + member[1:], moment, "Member must be a time")


def _time_filters(listing: Listing) -> list[str]:
    return [f"{time}{side}" for time in listing.times for side in ("Before", "After")]


def _matches(listing: Listing, summary: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    # The name's filter does not look at case, as endpoint names do not.
    if request.get("NameContains", "").lower() not in summary[listing.name].lower():
        return False
    if listing.status and request.get("StatusEquals", summary[listing.status]) != summary[listing.status]:
        return False
    return all(
        request.get(f"{time}After", summary[time])
        <= summary[time]
        <= request.get(f"{time}Before", summary[time])
        for time in listing.times
    )
