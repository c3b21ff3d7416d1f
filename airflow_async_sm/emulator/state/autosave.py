"""Saves the state now and then, so that an emulator that is killed loses little."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_async_sm.emulator.state.folder import StateFolder

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 10.0


class Autosave:
    """
    A thread that saves when something has changed.

    It keeps to real time whatever the emulator's clock does: what it guards against happens in real time.

    :param folder: Where to.
    :param collect: Returns the emulator's own part of the state, as it is at that moment.
    :param every: Seconds between two looks. Default 10.
    """

    def __init__(
        self, folder: StateFolder, collect: Callable[[], Mapping[str, Any]], *, every: float = EVERY_SECONDS
    ) -> None:
        self._folder = folder
        self._collect = collect
        self._every = every
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emulator-autosave", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Save no more, and wait for a save that is going on. It makes no last one."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self._folder.save_if_changed(self._collect())
            except Exception:  # A full disk may have room again later; requests go on meanwhile.
                log.exception("The state cannot be saved to %s", self._folder.path)
