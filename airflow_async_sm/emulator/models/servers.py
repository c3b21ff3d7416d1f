"""A container that is somebody else's running server."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow_async_sm.emulator.models.containers import IMITATED_CRASH, Address, ListeningContainer
from airflow_async_sm.emulator.settings.behaviours import Behaviour


class ServerContainer(ListeningContainer):
    """
    A running server that keeps the container contract. It is never stopped from here.

    A crash is imitated: this instance takes no further calls, and those under way are lost when the server
    has answered them. Other instances of the same server go on.

    :param name: What to call it in the log.
    :param url: The server's address, ``http://host:port``.
    :param behaviour: Time limits.
    """

    def __init__(self, *, name: str, url: str, behaviour: Behaviour) -> None:
        super().__init__(name=name, behaviour=behaviour)
        parts = urlsplit(url)
        self._address = Address(parts.hostname or "", parts.port or 80, parts.path.rstrip("/"))

    @property
    def address(self) -> Address:
        return self._address

    @property
    def ended(self) -> str | None:
        return IMITATED_CRASH if self._crashed else None

    def start(self) -> None:
        """Do nothing: it runs already."""

    def ask_to_stop(self) -> None:
        """Do nothing: it goes on."""

    def stop(self) -> None:
        """Do nothing: it goes on."""

    def kill(self) -> None:
        """Do nothing: it goes on."""

    def crash(self) -> None:
        """See the class."""
        self._crashed = True

    def log_tail(self) -> str:
        return "(a server that the emulator did not start)"
