"""The way to the emulator over HTTP: open to programs, closed to foreign web pages."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from airflow_async_sm.emulator.errors import AwsError


class Gate:
    """
    Refuses what a foreign web page makes a browser send.

    A page can send requests to a local server without its user's doing: under its own ``Origin``, or under a
    name of its own (``Host``) that it lets point to this machine.

    :param host: The address or name that the server was told to listen on.
    :param url: The server's own URL.
    """

    def __init__(self, *, host: str, url: str) -> None:
        self._url = url
        self._names = {host.lower(), urlsplit(url).hostname}
        # Who listens everywhere is reached by every address of the machine. No page has an address as a name.
        self._listens_everywhere = host == "" or (
            _is_address(host) and ipaddress.ip_address(host).is_unspecified
        )

    def check(self, *, host: str, origin: str | None, site: str | None) -> None:
        """
        Pass a request, or refuse it.

        :param host: Its ``Host`` header.
        :param origin: Its ``Origin`` header: the page that sent it, where a browser says so.
        :param site: Its ``Sec-Fetch-Site`` header, which a browser also sends with images and links.
        :raises AwsError: another site sent it, or it is addressed to a name that is not the emulator's.
        """
        if not self._is_ours(_name(host)):
            raise _forbidden(f"Host {host!r} is not the emulator's.")
        if origin is not None and origin not in (self._url, f"http://{host}"):
            raise _forbidden(f"Origin {origin!r} is another site's.")
        if site in ("cross-site", "same-site"):
            raise _forbidden("Another site made the browser send this.")

    def _is_ours(self, name: str) -> bool:
        # S3 clients put a bucket before the name of the host.
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        return _is_address(name) and (ipaddress.ip_address(name).is_loopback or self._listens_everywhere)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _forbidden(message: str) -> AwsError:
    return AwsError("AccessDeniedException", f"{message} Web pages cannot use the emulator.", status=403)
