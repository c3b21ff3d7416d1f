"""One endpoint's life: it comes up, serves, changes its configuration or its size, and goes."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.account.fleets import Fleet, Site
from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.account.statuses import Change, EndpointStatus, SavedEndpoint
from airflow_async_sm.emulator.scaling.metrics import Load
from airflow_async_sm.emulator.settings.faults import EndpointImpaired, RollbackFailed
from airflow_async_sm.emulator.settings.unknowns import UpdateInFlight
from airflow_async_sm.emulator.work.engine import Engine
from airflow_async_sm.emulator.work.engine import Instance as EngineInstance

log = logging.getLogger(__name__)

# Workers end as soon as their connection is shut down; this bounds the wait for one that writes an object.
_JOIN_SECONDS = 10.0


class Endpoint:
    """
    An endpoint. Nothing happens before :meth:`create` or :meth:`restore`.

    :param name: Its name, spelled as the caller did.
    :param region: Its region.
    :param arn: Its ARN.
    :param plan: What it is to be.
    :param site: Where it is built.
    """

    def __init__(self, *, name: str, region: str, arn: str, plan: EndpointPlan, site: Site) -> None:
        self.name = name
        self.region = region
        self.arn = arn
        self.created_at = self.modified_at = site.tools.clock.now()
        self.weight = plan.weight
        self._site = site
        self._tools = site.tools
        self._lock = threading.RLock()
        self._status = EndpointStatus.CREATING
        self._failure_reason: str | None = None
        self._change: Change | None = None
        self._deployment: Mapping[str, Any] | None = None
        self._resizing = False
        self._closed = False
        self._generations = 0
        self._background = Background(name, site.tools.clock)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=site.folder))
        self.engine = Engine(name, site.tools, broken=self._broken)
        self._fleet = self._new_fleet(plan)
        self._other_fleets: list[Fleet] = []

    # What it is.

    @property
    def plan(self) -> EndpointPlan:
        """The configuration that is in force."""
        return self._fleet.plan

    @property
    def variant_name(self) -> str:
        """The name of its production variant."""
        return self.plan.variant_name

    @property
    def status(self) -> EndpointStatus:
        """Its status as everybody sees it."""
        if self._status is EndpointStatus.IN_SERVICE:
            key = self._tools.board.new_id("status")
            impaired = self._tools.board.draw(EndpointImpaired, key, endpoint=self.name)
            if impaired is not None:
                return EndpointStatus(impaired.status)
        return self._status

    @property
    def failure_reason(self) -> str | None:
        """Why it is ``Failed`` or rolls back."""
        return self._failure_reason

    @property
    def change(self) -> Change | None:
        """The update that is going on."""
        return self._change

    @property
    def last_deployment(self) -> Mapping[str, Any] | None:
        """The ``DeploymentConfig`` of the last update that succeeded."""
        return self._deployment

    @property
    def instances(self) -> int:
        """How many instances are in service."""
        return self._fleet.in_service

    @property
    def desired_instances(self) -> int:
        """How many instances there shall be."""
        return self._fleet.desired

    def load(self) -> Load:
        """Return how much there is to do, and with what."""
        backlog = self.engine.backlog()
        return Load(
            queued=backlog.queued,
            running=backlog.running,
            oldest_age=None if backlog.oldest is None else self._tools.clock.now() - backlog.oldest,
            instances=self.instances,
            desired=self.desired_instances,
        )

    # What is done to it.

    def create(self, count: int) -> None:
        """Begin to come up with so many instances."""
        ready_at = self.created_at + self._tools.knobs.behaviour.creation_seconds
        self._fleet.bring_up(
            count,
            up=lambda: self._at(ready_at, self._open),
            failed=lambda reason: self._become(EndpointStatus.FAILED, reason),
        )

    def update(self, change: Change) -> None:
        """Begin to become something else."""
        self._become(EndpointStatus.UPDATING)
        ready_at = self.modified_at + self._tools.knobs.behaviour.update_seconds
        fleet = self._new_fleet(change.plan)
        with self._lock:
            self._change = change
            self._other_fleets.append(fleet)
        fleet.bring_up(
            change.count,
            up=lambda: self._at(ready_at, lambda: self._switch(fleet, change)),
            failed=lambda reason: self._roll_back(fleet, reason),
        )

    def resize(self, *, count: int, weight: float) -> None:
        """
        Begin to have another number of instances, as a caller's update: it is ``Updating`` meanwhile.

        :param count: How many.
        :param weight: The variant's new weight.
        :raises CapacityUnavailable: instances cannot be had.
        """
        self._fleet.set_desired(count)
        self.weight = weight
        self._become(EndpointStatus.UPDATING)
        self._at(self.modified_at + self._tools.knobs.behaviour.update_seconds, self._end_resizing)

    def set_desired(self, count: int) -> None:
        """
        Begin to have another number of instances, as a scaling policy's doing: it stays in service.

        :param count: How many.
        :raises ValueError: more than the quota allows.
        :raises CapacityUnavailable: instances cannot be had.
        """
        quota = self._tools.knobs.behaviour.instance_quota
        if count > quota:
            raise ValueError(f"The limit for instances of one endpoint is {quota}; {count} were asked for.")
        self._fleet.set_desired(count)

    def delete(self, gone: Callable[[], None]) -> None:
        """
        Begin to go: drop the queue, stop the containers, and then call ``gone``.

        :param gone: Called when nothing is left, unless the emulator stops before that.
        """
        self._become(EndpointStatus.DELETING)
        gone_at = self.modified_at + self._tools.knobs.behaviour.deletion_seconds

        def remove() -> None:
            self._take_down()
            self._at(gone_at, gone)

        self._background.run("deletion", remove)

    # How the emulator stops, and starts again.

    def ask_to_stop(self, *, keep: bool = False) -> None:
        """
        Tell every part to end, without waiting for it.

        :param keep: Leave open requests open; they are in :meth:`save`.
        """
        with self._lock:
            self._closed = True
        self.engine.shut(keep=keep)
        for fleet in self._fleets():
            fleet.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once, whatever else there is."""
        for fleet in self._fleets():
            fleet.kill()

    def stop(self) -> None:
        """Take everything down at once and wait for it."""
        self.ask_to_stop()
        self._background.join()
        self._take_down()

    def save(self) -> SavedEndpoint:
        """Return what is needed to go on after a restart."""
        with self._lock:
            return SavedEndpoint(
                name=self.name,
                region=self.region,
                arn=self.arn,
                plan=self.plan,
                status=self._status,
                failure_reason=self._failure_reason,
                created_at=self.created_at,
                modified_at=self.modified_at,
                desired=self.desired_instances,
                weight=self.weight,
                change=self._change,
                deployment=self._deployment,
                requests=tuple(self.engine.open_requests()),
            )

    def restore(self, saved: SavedEndpoint, gone: Callable[[], None]) -> None:
        """
        Go on where an earlier emulator was. Instances start anew, and requests that ran are queued again.

        :param saved: What :meth:`save` returned there.
        :param gone: See :meth:`delete`.
        """
        self.created_at, self.modified_at = saved.created_at, saved.modified_at
        self._status, self._failure_reason = saved.status, saved.failure_reason
        self._deployment, self.weight = saved.deployment, saved.weight
        for request in saved.requests:
            self.engine.restore(request)
        if saved.status is EndpointStatus.CREATING:
            self.create(saved.desired)
        elif saved.status is EndpointStatus.DELETING:
            self.delete(gone)
        elif saved.status is not EndpointStatus.FAILED:
            self._fleet.wake(self.engine, saved.desired)
            if saved.change is not None:
                self.update(saved.change)
            elif saved.status is not EndpointStatus.UPDATE_ROLLBACK_FAILED:
                self._become(EndpointStatus.IN_SERVICE)

    # What happens to it.

    def _open(self) -> None:
        self._fleet.serve(self.engine)
        self._become(EndpointStatus.IN_SERVICE)

    def _switch(self, fleet: Fleet, change: Change) -> None:
        with self._lock:
            old, self._fleet = self._fleet, fleet
            others = [other for other in self._other_fleets if other is not fleet and not other.is_over]
            self._other_fleets = [*others, old]
            self._change = None
            self._deployment = change.deployment
            self.weight = change.weight
        fleet.serve(self.engine)
        requeue = self._tools.knobs.unknowns.update_in_flight is UpdateInFlight.REQUEUED
        old.retire(requeue=requeue, until=self._termination(change))
        self._become(EndpointStatus.IN_SERVICE)

    def _termination(self, change: Change) -> float | None:
        blue_green = (change.deployment or {}).get("BlueGreenUpdatePolicy") or {}
        wait = blue_green.get("TerminationWaitInSeconds")
        return None if wait is None else self._tools.clock.now() + wait

    def _roll_back(self, fleet: Fleet, reason: str) -> None:
        with self._lock:
            self._other_fleets.remove(fleet)
            if self._closed:
                return
        self._become(EndpointStatus.ROLLING_BACK, reason)

        def end() -> None:
            with self._lock:
                self._change = None
            key = self._tools.board.new_id("rollback")
            if self._tools.board.draw(RollbackFailed, key, endpoint=self.name):
                self._become(EndpointStatus.UPDATE_ROLLBACK_FAILED, reason)
            else:
                self._become(EndpointStatus.IN_SERVICE)

        self._at(self.modified_at + self._tools.knobs.behaviour.rollback_seconds, end)

    def _end_resizing(self) -> None:
        """End a resizing when its time is over and its instances are there, whichever comes last."""
        with self._lock:
            self._resizing = True
        self._resized()

    def _resized(self) -> None:
        with self._lock:
            done = self._resizing and self.instances == self.desired_instances
            if done:
                self._resizing = False
        if done:
            self._become(EndpointStatus.IN_SERVICE)

    def _broken(self, instance: EngineInstance, vanished: bool) -> None:
        for fleet in self._fleets():
            fleet.broken(instance, vanished)

    def _at(self, moment: float, call: Callable[[], None]) -> None:
        """Do something at a moment, or now if it is over, unless the emulator stops."""

        def perform() -> None:
            if not self._closed:
                call()

        self._tools.clock.at(max(moment, self._tools.clock.now()), perform)

    def _become(self, status: EndpointStatus, reason: str | None = None) -> None:
        with self._lock:
            self._status = status
            self._failure_reason = reason
            self.modified_at = self._tools.clock.now()
        log.info("Endpoint %s is %s%s", self.name, status, f": {reason}" if reason else "")

    def _new_fleet(self, plan: EndpointPlan) -> Fleet:
        self._generations += 1
        return Fleet(
            endpoint=self.name,
            region=self.region,
            plan=plan,
            folder=self._folder / str(self._generations),
            site=self._site,
            background=self._background,
            changed=self._resized,
        )

    def _fleets(self) -> list[Fleet]:
        with self._lock:
            return [self._fleet, *self._other_fleets]

    def _take_down(self) -> None:
        self.engine.close(_JOIN_SECONDS)
        for fleet in self._fleets():
            fleet.ask_to_stop()
        for fleet in self._fleets():
            fleet.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
