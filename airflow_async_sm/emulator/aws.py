"""
boto3 clients for the emulator's own address.

The emulator itself looks configurations up and publishes notifications through the same HTTP interface as
its users: what it reads is what a user wrote. Only objects, which every request needs, are read and written
without that detour.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from typing import Any, Final

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config

from airflow_async_sm.emulator.reaching import INTERNAL_AGENT

# Any credentials are accepted; these can open nothing elsewhere.
DUMMY_CREDENTIALS: Final = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


class LocalClients:
    """
    One client for each service and region. They are thread-safe, unlike the session that makes them.

    :param url: The emulator's address.
    :param internal: Whether these are the emulator's calls of itself, which are not counted and which no
        fault hits. Default false.
    """

    def __init__(self, url: str, *, internal: bool = False) -> None:
        self._url = url
        self._agent = INTERNAL_AGENT if internal else None
        self._lock = threading.Lock()
        self._session = boto3.Session(botocore_session=_pristine_session(), **DUMMY_CREDENTIALS)
        self._clients: dict[tuple[str, str], Any] = {}

    def get(self, service: str, region_name: str = "us-east-1") -> Any:
        """Return the client of ``service`` in ``region_name``."""
        with self._lock:
            key = (service, region_name)
            if key not in self._clients:
                self._clients[key] = self._make(service, region_name)
            return self._clients[key]

    def close(self) -> None:
        """Close every client, and with it the connections that it keeps."""
        with self._lock:
            for client in self._clients.values():
                with contextlib.suppress(Exception):  # What cannot be closed shall not keep the rest open.
                    client.close()
            self._clients.clear()

    def _make(self, service: str, region_name: str) -> Any:
        # No proxy may come between the emulator and itself, whatever the environment says. The path style
        # matters where the address is a host name and not a number.
        config = Config(
            proxies={},
            user_agent_extra=self._agent,
            max_pool_connections=50,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"} if service == "s3" else None,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return self._session.client(
            service,  # type: ignore[call-overload]
            region_name=region_name,
            endpoint_url=self._url,
            config=config,
        )


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """Return what reads the descriptions of services. It keeps them: they are large, and do not change."""
    return botocore.loaders.create_loader()


def _pristine_session() -> botocore.session.Session:
    """Return a session that hears neither of the user's environment variables nor of their files."""
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    variables: Any = session.session_var_map
    for name, (_, _, default, conversion) in list(variables.items()):
        variables[name] = (None, None, default, conversion)
    for name in ("config_file", "credentials_file"):
        variables[name] = (None, None, os.devnull, None)
    return session
