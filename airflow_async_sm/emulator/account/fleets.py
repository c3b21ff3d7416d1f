"""The instances of one configuration of an endpoint: they come up, serve its queue, are replaced, and go."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from airflow_async_sm.emulator.account.background import Background
from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.models.containers import Container
from airflow_async_sm.emulator.models.images import Images, Stand
from airflow_async_sm.emulator.models.kinds import new_container
from airflow_async_sm.emulator.models.model_data import ProvisioningFailed, unpack_model_data
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where endpoints are built: the emulator's address and folder, and what they share."""

    url: str
    folder: Path
    images: Images
    storage: Storage
    tools: Tools


@dataclass(slots=True, eq=False)
class Instance:
    """One instance. Its container is another one after a restart."""

    name: str
    number: int
    concurrency: int
    container: Container
    in_service: bool = False


class Fleet:
    """
    The instances of one configuration.

    It calls its engine without holding its own lock, because the engine calls back while it holds its own.

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
        self._region = region
        self._folder = folder
        self._site = site
        self._tools = site.tools
        self._background = background
        self._changed = changed
        self._lock = threading.RLock()
        self._stand: Stand | None = None
        self._instances: list[Instance] = []
        self._numbers = 0
        self._desired = 0
        self._engine: Engine | None = None
        self._stopping = threading.Event()
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._over

    @property
    def desired(self) -> int:
        """How many instances there shall be."""
        return self._desired

    @property
    def in_service(self) -> int:
        """How many instances serve."""
        with self._lock:
            return sum(instance.in_service for instance in self._instances)

    def bring_up(self, count: int, *, up: Callable[[], None], failed: Callable[[str], None]) -> None:
        """
        Begin to start the first instances, all of them or none.

        :param count: How many.
        :param up: Called when every one is healthy. They serve from :meth:`serve` on.
        :param failed: Called with the reason if that does not happen. Everything has been stopped by then.
        """
        self._desired = count

        def perform() -> None:
            reason = self._try_to_bring_up(count)
            if reason is not None:
                self.stop()
                failed(reason)
            elif not self._stopping.is_set():
                up()

        self._background.run("creation", perform)

    def serve(self, engine: Engine) -> None:
        """Let the instances work on a queue, and keep their number from now on."""
        with self._lock:
            self._engine = engine
            instances = list(self._instances)
        for instance in instances:
            self._join(instance)

    def wake(self, engine: Engine, count: int) -> None:
        """Serve a queue without an instance at first, and begin to start ``count`` of them."""
        self._background.run("wake", lambda: self._wake(engine, count))

    def set_desired(self, count: int) -> None:
        """
        Begin to have another number of instances.

        :param count: How many there shall be. The newest go first.
        :raises CapacityUnavailable: more are wanted, and they cannot be had.
        """
        if count > self._desired and self._has_no_capacity():
            raise CapacityUnavailable(NO_CAPACITY)
        with self._lock:
            self._desired = count
            surplus, self._instances = self._instances[count:], self._instances[:count]
        for instance in surplus:
            self._leave(instance)
        self._fill()
        self._changed()

    def broken(self, instance: EngineInstance, vanished: bool) -> None:
        """
        Hear that an instance cannot be used; the engine has let go of it.

        :param instance: Which one.
        :param vanished: Whether the whole instance is gone, and not just its container.
        """
        for ours in self._instances:
            if ours is instance:
                break
        else:
            return
        if vanished:
            self._replace(ours)
        else:
            pause = self._tools.knobs.behaviour.container_restart_seconds
            self._tools.clock.after(pause, lambda: self._run(f"restart-{ours.number}", ours, self._restart))

    def retire(self, *, requeue: bool, until: float | None) -> None:
        """
        Take no more requests, and stop when the running ones have ended.

        :param requeue: Give the running ones back to the queue instead.
        :param until: When what is still running is given up, or ``None`` for never.
        """
        with self._lock:
            engine, self._engine = self._engine, None
            instances = list(self._instances)
            left = {instance.name for instance in instances}

        def give_up() -> None:
            for instance in instances:
                if engine is not None:
                    engine.lose(instance, requeue=requeue)

        def gone(name: str) -> None:
            left.discard(name)
            if not left:
                self._background.run("retirement", self.stop)

        if engine is None or not instances:
            self._background.run("retirement", self.stop)
            return
        for instance in instances:
            engine.detach(instance, partial(gone, instance.name))
        if requeue:
            give_up()
        elif until is not None:
            self._tools.clock.at(until, give_up)

    def ask_to_stop(self) -> None:
        """Tell every container to end, without waiting for it."""
        self._stopping.set()
        for instance in self._all():
            instance.container.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once."""
        for instance in self._all():
            instance.container.kill()

    def stop(self) -> None:
        """Take everything down, and wait for it."""
        self.ask_to_stop()
        for instance in self._all():
            instance.container.stop()
        with self._lock:
            self._instances = []
        shutil.rmtree(self._folder, ignore_errors=True)
        self._over = True

    def _all(self) -> list[Instance]:
        with self._lock:
            return list(self._instances)

    def _try_to_bring_up(self, count: int) -> str | None:
        try:
            if self._has_no_capacity():
                return NO_CAPACITY
            self._prepare()
            instances = [self._new_instance() for _ in range(count)]
            with self._lock:
                self._instances = instances
            for instance in instances:
                if not self._stopping.is_set():
                    instance.container.start()
            for instance in instances:
                self._wait_until_healthy(instance)
        except ProvisioningFailed as failure:
            return str(failure)
        except Exception:  # Nobody else would hear of it, and the endpoint would be Creating for ever.
            log.exception("The emulator failed to bring up endpoint %s", self._endpoint)
            return "The emulator itself failed; see its log."
        return None

    def _prepare(self) -> None:
        self._stand = self._site.images.find(self.plan.image)
        if self._stand is None:
            raise ProvisioningFailed(
                f'Requested image "{self.plan.image}" not found. Tell the emulator which command or running '
                "server stands for it."
            )
        model_folder = self._folder / "model"
        model_folder.mkdir(parents=True)
        unpack_model_data(self.plan.model_data_url, model_folder, self._site.storage)

    def _wake(self, engine: Engine, count: int) -> None:
        try:
            self._prepare()
        except ProvisioningFailed as failure:
            log.warning("Endpoint %s comes back without an instance: %s", self._endpoint, failure)
            return
        with self._lock:
            self._engine = engine
            self._desired = count
        self._fill()

    def _fill(self) -> None:
        """Begin to start as many instances as are missing."""
        with self._lock:
            missing = self._desired - len(self._instances)
            new = [self._new_instance() for _ in range(missing)]
            self._instances += new
        delay = self._tools.knobs.behaviour.instance_start_seconds
        for instance in new:
            self._start_after(delay, instance)

    def _start_after(self, delay: float, instance: Instance) -> None:
        self._tools.clock.after(delay, lambda: self._run(f"start-{instance.number}", instance, self._start))

    def _run(self, what: str, instance: Instance, task: Callable[[Instance], None]) -> None:
        if not self._stopping.is_set() and instance in self._all():
            self._background.run(what, lambda: task(instance))

    def _start(self, instance: Instance) -> None:
        try:
            instance.container.start()
            self._wait_until_healthy(instance)
        except ProvisioningFailed as failure:
            log.warning("Instance %s of endpoint %s: %s", instance.name, self._endpoint, failure)
            instance.container.stop()
            self._replace(instance)
            return
        if instance in self._all() and not self._stopping.is_set():
            self._join(instance)
        else:
            instance.container.stop()

    def _restart(self, instance: Instance) -> None:
        log.info("The container of instance %s is started again", instance.name)
        instance.container.stop()
        instance.container = self._new_container(instance.number)
        self._start(instance)

    def _replace(self, instance: Instance) -> None:
        with self._lock:
            if instance not in self._instances:
                return
            self._instances.remove(instance)
        instance.in_service = False
        self._background.run(f"removal-{instance.number}", instance.container.stop)
        self._fill()
        self._changed()

    def _join(self, instance: Instance) -> None:
        engine = self._engine
        if engine is not None:
            instance.in_service = True
            engine.attach(instance)
            self._changed()

    def _leave(self, instance: Instance) -> None:
        instance.in_service = False
        if self._engine is not None:
            self._engine.lose(instance)
        instance.container.ask_to_stop()
        self._background.run(f"removal-{instance.number}", instance.container.stop)

    def _wait_until_healthy(self, instance: Instance) -> None:
        limit = self.plan.start_timeout or self._tools.knobs.behaviour.container_start_timeout
        instance.container.wait_until_healthy(limit, self._stopping)

    def _has_no_capacity(self) -> bool:
        key = self._tools.board.new_id("capacity")
        return self._tools.board.draw(InsufficientCapacity, key, endpoint=self._endpoint) is not None

    def _new_instance(self) -> Instance:
        self._numbers += 1
        asynchronous, behaviour = self.plan.asynchronous, self._tools.knobs.behaviour
        concurrency = (asynchronous and asynchronous.concurrency) or behaviour.default_concurrency
        return Instance(
            name=f"i-{self._tools.board.new_id('instance').replace('-', '')[:17]}",
            number=self._numbers,
            concurrency=concurrency,
            container=self._new_container(self._numbers),
        )

    def _new_container(self, number: int) -> Container:
        return new_container(
            self._stand or [],
            name=f"{self._endpoint}/{number}",
            url=self._site.url,
            region=self._region,
            model_folder=self._folder / "model",
            environment=self.plan.environment,
            log_path=self._folder / f"container-{number}.log",
            behaviour=self._tools.knobs.behaviour,
        )
