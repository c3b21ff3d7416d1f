"""What a program has to be told to reach the emulator."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

# The emulator's own clients have this in their user agent. Their calls are nobody's: they are not counted,
# and no fault hits them.
INTERNAL_AGENT: Final = "sagemaker-async-emulator-internal"


def airflow_connection(url: str, region_name: str = "us-east-1") -> str:
    """
    Return an Airflow connection to the emulator, as the value of ``AIRFLOW_CONN_<NAME>``.

    :param url: The emulator's address.
    :param region_name: Region. Endpoints of different regions do not see each other.
    """
    extra = {"region_name": region_name, "endpoint_url": url}
    return json.dumps({"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra})


def past_proxies(url: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """
    Return the variables with which programs reach the emulator directly, in both spellings.

    :param url: The emulator's address.
    :param environment: Variables of today. The hosts that they except from proxies stay excepted.
    """
    before = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    hosts = [host.strip() for host in before.split(",") if host.strip()]
    own = urlsplit(url).hostname or ""
    value = ",".join(hosts if own in hosts else [*hosts, own])
    return {"NO_PROXY": value, "no_proxy": value}
