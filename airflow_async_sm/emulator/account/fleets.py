"""The instances of one configuration of an endpoint: they come up, serve its queue, are replaced, and go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.account.instances import Instance, Roster
from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.account.workshop import Workshop
from airflow_async_sm.emulator.models.containers import ProvisioningFailed
from airflow_async_sm.emulator.models.images import Images
from airflow_async_sm.emulator.scaling.scalable import CapacityUnavailable
from airflow_async_sm.emulator.settings.faults import InsufficientCapacity
from airflow_async_sm.emulator.work.engine import Engine
from airflow_async_sm.emulator.work.engine import Instance as EngineInstance
from airflow_async_sm.emulator.work.storage import Storage
from airflow_async_sm.emulator.work.tools import Tools

log = logging.getLogger(__name__)

NO_CAPACITY: Final = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please "
    "retry using a different ML instance type or after some time."
)
# The pause before an instance is tried again that did not come up; it doubles with the failures in a row, up
# to so often. What does not come up now will hardly do so at once, also where starts take no time otherwise.
_FIRST_PAUSE: Final = 5.0
_DOUBLINGS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where endpoints are built: the emulator's address and folder, and what they share."""

    url: str
    folder: Path
    images: Images
    storage: Storage
    tools: Tools


class Fleet:
    """
    The instances of one configuration.

    It holds no lock while it calls its engine, or whoever hears of changes.

    :param endpoint: Name of the endpoint.
    :param region: Region of the endpoint.
    :param plan: The configuration.
    :param folder: For the model and the containers' output; it is made here and removed with the fleet.
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
        folder: Path,
        site: Site,
        background: Background,
        changed: Callable[[], None],
    ) -> None:
        self.plan = plan
        self._endpoint = endpoint
        self._tools = site.tools
        self._background = background
        self._changed = changed
        self._roster = Roster()
        self._workshop = Workshop(
            endpoint=endpoint,
            region=region,
            plan=plan,
            folder=folder,
            url=site.url,
            images=site.images,
            storage=site.storage,
            knobs=site.tools.knobs,
        )
        self._numbers = 0
        self._failures = 0
        self._engine: Engine | None = None
        self._finishing: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._over

    @property
    def desired(self) -> int:
        """How many instances there shall be."""
        return self._roster.desired

    @property
    def in_service(self) -> int:
        """How many instances serve."""
        return self._roster.in_service

    @property
    def start_timeout(self) -> float:
        """Seconds of real time that a container has for its first healthy ping."""
        return self._workshop.start_timeout

    # What is done to it.

    def bring_up(self, count: int, *, up: Callable[[], None], failed: Callable[[str], None]) -> None:
        """
        Begin to start the first instances, all of them or none.

        :param count: How many.
        :param up: Called when every one is healthy. They serve from :meth:`serve` on.
        :param failed: Called with the reason if that does not happen. Everything has been stopped by then.
        """
        self._roster.want(count)

        def perform() -> None:
            reason = self._try_to_bring_up()
            if reason is not None:
                self.stop()
                failed(reason)
            elif not self._stopping.is_set():
                up()

        self._background.run("creation", perform)

    def serve(self, engine: Engine) -> None:
        """Let the instances work on a queue, and keep their number from now on."""
        self._engine = engine
        for instance in self._roster.ready():
            self._join(instance)

    def wake(self, engine: Engine, count: int) -> None:
        """Serve a queue without an instance at first, and begin to start ``count`` of them."""
        self._engine = engine
        self._roster.want(count)
        self._fill(self._tools.knobs.behaviour.instance_start_seconds)

    def set_desired(self, count: int) -> None:
        """
        Begin to have another number of instances.

        :param count: How many there shall be. The newest go first.
        :raises CapacityUnavailable: more are wanted, and they cannot be had.
        """
        if count > self.desired and self._has_no_capacity():
            raise CapacityUnavailable(NO_CAPACITY)
        for instance in self._roster.want(count):
            self._see_off(instance)
        self._fill(self._tools.knobs.behaviour.instance_start_seconds)
        self._changed()

    def broken(self, instance: EngineInstance, vanished: bool) -> None:
        """
        Hear that an instance cannot be used; the engine has let go of it.

        :param instance: Which one; that of another fleet is none of our business.
        :param vanished: Whether the whole instance is gone, and not just its container.
        """
        if not isinstance(instance, Instance) or not self._roster.is_wanted(instance):
            return
        if not vanished and self._roster.start_again(instance):
            pause = self._tools.knobs.behaviour.container_restart_seconds
            self._tools.clock.after(pause, lambda: self._begin_to_start(instance, "restart"))
            return
        self._replace(instance, self._tools.knobs.behaviour.instance_start_seconds)
        self._finished(instance.name)

    def retire(self, *, requeue: bool, until: float | None) -> None:
        """
        Take no more requests, start nothing more, and stop when the running ones have ended.

        :param requeue: Give the running ones back to the queue instead.
        :param until: When what is still running is given up, or ``None`` for never.
        """
        engine = self._engine
        serving, others = self._roster.retire()
        for instance in others:
            self._see_off(instance)
        if engine is None or not serving:
            self._background.run("retirement", self.stop)
            return

        def give_up() -> None:
            for instance in serving:
                engine.lose(instance, requeue=requeue)

        with self._lock:
            self._finishing = {instance.name for instance in serving}
        for instance in serving:
            engine.detach(instance, partial(self._finished, instance.name))
        if requeue:
            give_up()
        elif until is not None:
            self._tools.clock.at(until, give_up)

    def _finished(self, name: str) -> None:
        """Note that an instance of a retired fleet has nothing more to do. The last one ends the fleet."""
        with self._lock:
            if name not in self._finishing:
                return
            self._finishing.remove(name)
            last = not self._finishing
        if last:
            self._background.run("retirement", self.stop)

    # How it ends.

    def ask_to_stop(self) -> None:
        """Tell every container to end, without waiting for it. From now on nothing is started."""
        self._roster.close()
        self._stopping.set()
        for container in self._roster.containers():
            container.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once, also of instances that leave."""
        self._roster.close()
        self._stopping.set()
        for container in self._roster.containers():
            container.kill()

    def stop(self) -> None:
        """Take everything down, and wait for it."""
        self.ask_to_stop()
        for container in self._roster.containers():
            container.stop()
        self._roster.clear()
        self._workshop.close()
        self._over = True

    # How instances come.

    def _try_to_bring_up(self) -> str | None:
        try:
            if self._has_no_capacity():
                return NO_CAPACITY
            self._workshop.prepare()
            instances = self._roster.fill(self._new_instance)
            for instance in instances:
                self._launch(instance)
            for instance in instances:
                self._wait_until_healthy(instance)
        except ProvisioningFailed as failure:
            return str(failure)
        except Exception:  # Nobody else would hear of it, and the endpoint would be Creating for ever.
            log.exception("The emulator failed to bring up endpoint %s", self._endpoint)
            return "The emulator itself failed; see its log."
        return None

    def _fill(self, delay: float) -> None:
        """Plan the start of as many instances as are missing."""
        for instance in self._roster.fill(self._new_instance):
            self._tools.clock.after(delay, partial(self._begin_to_start, instance, "start"))

    def _begin_to_start(self, instance: Instance, what: str) -> None:
        if self._roster.is_wanted(instance) and not self._stopping.is_set():
            self._background.run(f"{what}-{instance.number}", lambda: self._start(instance))

    def _start(self, instance: Instance) -> None:
        try:
            if instance.current is not None:
                log.info("The container of instance %s is started again", instance.name)
                instance.current.stop()
            if self._launch(instance):
                self._wait_until_healthy(instance)
        except Exception as failure:  # noqa: BLE001 - this instance has not come up; another one may
            self._take_failure(instance, failure)
            return
        self._failures = 0
        self._join(instance)

    def _launch(self, instance: Instance) -> bool:
        """Start a new container for an instance; return whether that was still wanted."""
        container = self._workshop.new_container(instance.number)
        if not self._roster.equip(instance, container):
            return False
        container.start()
        return True

    def _wait_until_healthy(self, instance: Instance) -> None:
        instance.container.wait_until_healthy(self.start_timeout, self._stopping)
        self._roster.make_ready(instance)

    def _take_failure(self, instance: Instance, failure: Exception) -> None:
        if not self._roster.is_wanted(instance) or self._stopping.is_set():
            return  # It is no wonder: somebody has stopped it meanwhile.
        # A model's failure speaks for itself; of one of the emulator the place is shown.
        trace = None if isinstance(failure, ProvisioningFailed) else failure
        log.warning(
            "Instance %s of endpoint %s did not come up: %s",
            instance.name,
            self._endpoint,
            failure,
            exc_info=trace,
        )
        pause = _FIRST_PAUSE * 2 ** min(self._failures, _DOUBLINGS)
        self._failures += 1
        self._replace(instance, max(pause, self._tools.knobs.behaviour.instance_start_seconds))

    def _join(self, instance: Instance) -> None:
        """Hand an instance to the queue, if there is one and nobody else does so."""
        engine = self._engine
        if engine is None or not self._roster.join(instance):
            return
        if not engine.attach(instance):
            self._roster.not_joined(instance)
            self._see_off(instance)
        elif not self._roster.joined(instance):
            # It had to go while it was being handed over. Nobody has counted on it, so nothing is lost.
            self._see_off(instance, requeue=True)
        self._changed()

    # How instances go.

    def _replace(self, instance: Instance, delay: float) -> None:
        if self._roster.leave(instance):
            self._see_off(instance)
        self._fill(delay)
        self._changed()

    def _see_off(self, instance: Instance, *, requeue: bool = False) -> None:
        """Take an instance away from the queue, if that has it, and begin to stop its container."""
        if self._engine is not None:
            self._engine.lose(instance, requeue=requeue)
        container = instance.current
        if container is None:
            self._roster.forget(instance)
            return

        def remove() -> None:
            container.stop()
            self._roster.forget(instance)

        container.ask_to_stop()
        self._background.run(f"removal-{instance.number}", remove)

    def _has_no_capacity(self) -> bool:
        key = self._tools.board.new_id("capacity")
        return self._tools.board.draw(InsufficientCapacity, key, endpoint=self._endpoint) is not None

    def _new_instance(self) -> Instance:
        self._numbers += 1
        asynchronous, behaviour = self.plan.asynchronous, self._tools.knobs.behaviour
        return Instance(
            name=f"i-{self._tools.board.new_id('instance').replace('-', '')[:17]}",
            number=self._numbers,
            concurrency=(asynchronous and asynchronous.concurrency) or behaviour.default_concurrency,
        )
