"""One endpoint's life: it comes up, serves, changes its configuration or its size, and goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.account.fleets import Fleet, Site
from airflow_async_sm.emulator.account.generations import Generations
from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.account.resizing import Resizing
from airflow_async_sm.emulator.account.statuses import UPDATABLE, Change, EndpointStatus, SavedEndpoint
from airflow_async_sm.emulator.errors import AwsError, control_refusal
from airflow_async_sm.emulator.scaling.metrics import Load
from airflow_async_sm.emulator.settings.faults import EndpointImpaired, RollbackFailed
from airflow_async_sm.emulator.settings.unknowns import UpdateInFlight
from airflow_async_sm.emulator.work.engine import Engine

log = logging.getLogger(__name__)

# Workers end as soon as their connection is shut down; this bounds the wait for one that writes an object.
_JOIN_SECONDS = 5.0


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
        self._tools = site.tools
        # It is never held while the engine is asked for anything. The engine's lock is a leaf: whoever holds
        # that one takes no other. Instances may be counted under this lock; a fleet holds none of its own
        # while it calls the endpoint or the engine.
        self._lock = threading.RLock()
        self._status = EndpointStatus.CREATING
        self._failure_reason: str | None = None
        self._change: Change | None = None
        self._deployment: Mapping[str, Any] | None = None
        self._resizing: Resizing | None = None
        self._closed = False
        self._background = Background(name, site.tools.clock)
        self._fleets = Generations(
            endpoint=name,
            region=region,
            plan=plan,
            site=site,
            background=self._background,
            changed=self._resized,
        )
        self.engine = Engine(name, site.tools, broken=self._fleets.broken)

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
        """Its status as a caller is shown it. Each look may use up a fault."""
        if self._status is EndpointStatus.IN_SERVICE:
            key = self._tools.board.new_id("status")
            impaired = self._tools.board.draw(EndpointImpaired, key, endpoint=self.name)
            if impaired is not None:
                return EndpointStatus(impaired.status)
        return self._status

    @property
    def actual_status(self) -> EndpointStatus:
        """Its status whatever callers are shown, for everybody inside the emulator."""
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
            failed=self._fail,
        )

    def update(self, change: Change) -> None:
        """Begin to become something else."""
        self._become(EndpointStatus.UPDATING)
        ready_at = self.modified_at + self._tools.knobs.behaviour.update_seconds
        fleet = self._fleets.add(change.plan)
        self._change = change
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
        with self._lock:
            self._become(EndpointStatus.UPDATING)
            self._resizing = resizing = Resizing.begin(
                self._tools, now=self.modified_at, start_timeout=self._fleet.start_timeout
            )
        self._at(resizing.not_before, self._resized)
        self._at(resizing.give_up_at, self._resized)

    def set_desired(self, count: int) -> None:
        """
        Begin to have another number of instances, as a scaling policy's doing: it stays in service.

        :param count: How many.
        :raises ValueError: more than the quota allows.
        :raises CapacityUnavailable: instances cannot be had.
        :raises AwsError: the endpoint is changing already.
        """
        quota = self._tools.knobs.behaviour.instance_quota
        if count > quota:
            raise ValueError(f"The limit for instances of one endpoint is {quota}; {count} were asked for.")
        with self._lock:
            if self._status not in UPDATABLE:
                raise in_progress(self.arn)
            fleet = self._fleet
        # An update that begins now finds that this came first: it is about the instances of before.
        fleet.set_desired(count)

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

        :param keep: Leave open requests open; the log has them.
        """
        with self._lock:
            self._closed = True
        self.engine.shut(keep=keep)
        self._fleets.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once, whatever else there is."""
        self._fleets.kill()

    def stop(self) -> None:
        """Take everything down at once and wait for it."""
        self.ask_to_stop()
        self._take_down()

    def save(self) -> SavedEndpoint:
        """Return what is needed to go on after a restart, next to the open requests in the log."""
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
            )

    def restore(self, saved: SavedEndpoint, gone: Callable[[], None]) -> None:
        """
        Go on where an earlier emulator was. Instances start anew; the log's open requests are queued again.

        :param saved: What :meth:`save` returned there.
        :param gone: See :meth:`delete`.
        """
        self.created_at, self.modified_at = saved.created_at, saved.modified_at
        self._status, self._failure_reason = saved.status, saved.failure_reason
        self._deployment, self.weight = saved.deployment, saved.weight
        for request in self._tools.requests.open_requests():
            if (request.region, request.endpoint) == (self.region, self.name):
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
            old = self._fleets.succeed(fleet)
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
        self._fleets.discard(fleet)
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

    def _fail(self, reason: str) -> None:
        self._fleets.remove_folder()
        self._become(EndpointStatus.FAILED, reason)

    def _resized(self) -> None:
        """End a resizing if it is over by now."""
        with self._lock:
            resizing, there, wanted = self._resizing, self.instances, self.desired_instances
            if resizing is None or not resizing.is_over(self._tools.clock.now(), complete=there == wanted):
                return
            self._resizing = None
            self._become(EndpointStatus.IN_SERVICE)
        if there != wanted:
            log.warning("Endpoint %s has %d instances so far; it shall have %d", self.name, there, wanted)

    @property
    def _fleet(self) -> Fleet:
        return self._fleets.current

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

    def _take_down(self) -> None:
        self.engine.close(_JOIN_SECONDS)
        self._fleets.stop()


def in_progress(arn: str) -> AwsError:
    """Return the refusal to change an endpoint that is changing."""
    return control_refusal(f'Cannot update in-progress endpoint "{arn}".')
