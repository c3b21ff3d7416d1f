"""The fleets of one endpoint: the one that serves, one that may take its place, and earlier ones that go."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.account.fleets import Fleet, Site
from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.work.engine import Instance as EngineInstance


class Generations:
    """
    All fleets of an endpoint.

    Its lock is held for a moment only; no fleet is called meanwhile.

    :param endpoint: Name of the endpoint.
    :param region: Region of the endpoint.
    :param plan: The first configuration.
    :param site: Where it is built.
    :param background: Runs what takes time.
    :param changed: Called when the number of instances in service has changed.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        plan: EndpointPlan,
        site: Site,
        background: Background,
        changed: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._region = region
        self._site = site
        self._background = background
        self._changed = changed
        self._lock = threading.Lock()
        self._count = 0
        # It is made with what is first put into it.
        self._folder = site.folder / f"{endpoint}-{uuid.uuid4().hex}"
        self._others: list[Fleet] = []
        self.current = self._make(plan)

    def all(self) -> list[Fleet]:
        """Return every fleet of which something may be left."""
        with self._lock:
            return [self.current, *self._others]

    def add(self, plan: EndpointPlan) -> Fleet:
        """Return a new fleet that may take the current one's place."""
        with self._lock:
            fleet = self._make(plan)
            self._others.append(fleet)
        return fleet

    def discard(self, fleet: Fleet) -> None:
        """Forget a fleet that did not come up."""
        with self._lock:
            self._others.remove(fleet)

    def succeed(self, fleet: Fleet) -> Fleet:
        """Make one that was added the current one, and return that before it."""
        with self._lock:
            old, self.current = self.current, fleet
            self._others = [other for other in self._others if other is not fleet and not other.is_over]
            self._others.append(old)
        return old

    def broken(self, instance: EngineInstance, vanished: bool) -> None:
        """Tell the fleet of an instance that it cannot be used. See :meth:`Fleet.broken`."""
        for fleet in self.all():
            fleet.broken(instance, vanished)

    def ask_to_stop(self) -> None:
        """Tell every container to end, without waiting for it. From now on nothing is started."""
        for fleet in self.all():
            fleet.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once."""
        for fleet in self.all():
            fleet.kill()

    def stop(self) -> None:
        """Take everything down, and wait for it."""
        self.ask_to_stop()
        # What was starting or stopping something has ended after this, and nothing begins any more.
        self._background.join()
        for fleet in self.all():
            fleet.stop()
        self.remove_folder()

    def remove_folder(self) -> None:
        """Remove what is left of models and outputs."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, plan: EndpointPlan) -> Fleet:
        self._count += 1
        return Fleet(
            endpoint=self._endpoint,
            region=self._region,
            plan=plan,
            folder=self._folder / str(self._count),
            site=self._site,
            background=self._background,
            changed=self._changed,
        )
