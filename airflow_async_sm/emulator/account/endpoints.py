"""One endpoint's life: its containers come up, requests are served, and everything is taken down again."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.models.containers import Container, container_environment
from airflow_async_sm.emulator.models.images import Images, Stand
from airflow_async_sm.emulator.models.model_data import ProvisioningFailed, unpack_model_data
from airflow_async_sm.emulator.work.engine import Engine, Tools

log = logging.getLogger(__name__)

# Workers end as soon as their connection is shut down; this bounds the wait for one that writes an object.
_JOIN_SECONDS = 10.0


class EndpointStatus(StrEnum):
    """The service's names for the states that are imitated."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    DELETING = "Deleting"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where endpoints are built: the emulator's address and folder, and what they share."""

    url: str
    folder: Path
    images: Images
    tools: Tools


class Endpoint:
    """
    An endpoint that begins to come up as soon as :meth:`start` is called.

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
        self.plan = plan
        self.created_at = site.tools.clock.now()
        self.modified_at = self.created_at
        self.status = EndpointStatus.CREATING
        self.engine = Engine(name, site.tools)
        self._site = site
        self._failure_reason: str | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._containers: list[Container] = []
        self._threads: list[threading.Thread] = []
        self._folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=site.folder))

    def start(self) -> None:
        """Begin to come up."""
        self._run(self._provision, "creation")

    def delete(self, gone: Callable[[], None]) -> None:
        """
        Begin to go: drop the queue, stop the containers, and then call ``gone``.

        :param gone: Called when nothing is left, unless the emulator stops before that.
        """
        self._become(EndpointStatus.DELETING)
        self._run(lambda: self._remove(gone), "deletion")

    def ask_to_stop(self) -> None:
        """Tell every part to end, without waiting for it."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        self.engine.shut()
        for container in list(self._containers):
            container.ask_to_stop()

    def kill(self) -> None:
        """End the containers at once, whatever else there is."""
        for container in list(self._containers):
            container.kill()

    def stop(self) -> None:
        """Take everything down at once and wait for it."""
        self.ask_to_stop()
        for thread in list(self._threads):
            thread.join()
        self._take_down()

    def describe(self) -> dict[str, Any]:
        """Return the members of ``DescribeEndpoint``."""
        with self._changed:
            in_service = self.status is EndpointStatus.IN_SERVICE
            described: dict[str, Any] = {
                **self.summary(),
                "EndpointConfigName": self.plan.config_name,
                "ProductionVariants": [
                    {
                        "VariantName": self.plan.variant_name,
                        "CurrentWeight": self.plan.weight,
                        "DesiredWeight": self.plan.weight,
                        "CurrentInstanceCount": self.plan.instance_count if in_service else 0,
                        "DesiredInstanceCount": self.plan.instance_count,
                    }
                ],
            }
            if self.plan.asynchronous is not None:
                described["AsyncInferenceConfig"] = self.plan.asynchronous.as_configured
            if self._failure_reason is not None:
                described["FailureReason"] = self._failure_reason
            return described

    def summary(self) -> dict[str, Any]:
        """Return the members that ``ListEndpoints`` has for it."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointStatus": self.status.value,
            "CreationTime": self.created_at,
            "LastModifiedTime": self.modified_at,
        }

    def _run(self, target: Callable[[], None], what: str) -> None:
        thread = threading.Thread(target=target, name=f"emulator-{self.name}-{what}", daemon=True)
        thread.start()
        # Only what has started can be joined.
        self._threads.append(thread)

    def _become(self, status: EndpointStatus, reason: str | None = None) -> None:
        with self._changed:
            self.status = status
            self._failure_reason = reason
            self.modified_at = self._site.tools.clock.now()
        log.info("Endpoint %s is %s%s", self.name, status, f": {reason}" if reason else "")

    def _provision(self) -> None:
        reason = None
        try:
            self._start_containers()
            if not self._pause(self.created_at + self._site.tools.behaviour.creation_seconds):
                self._open()
        except ProvisioningFailed as failure:
            reason = str(failure)
        except Exception:  # Nobody else would hear of it, and the endpoint would be Creating for ever.
            log.exception("The emulator failed to bring up endpoint %s", self.name)
            reason = "The emulator itself failed; see its log."
        if reason is not None:
            self._take_down()
            self._become(EndpointStatus.FAILED, reason)

    def _pause(self, until: float) -> bool:
        """Wait, and return whether the emulator began to stop meanwhile."""
        return self._site.tools.clock.wait_for(self._changed, self._stopping.is_set, until)

    def _start_containers(self) -> None:
        plan, behaviour = self.plan, self._site.tools.behaviour
        stand = self._site.images.find(plan.image)
        if stand is None:
            raise ProvisioningFailed(
                f'Requested image "{plan.image}" not found. Tell the emulator which command or running '
                "server stands for it."
            )
        model_folder = self._folder / "model"
        model_folder.mkdir()
        unpack_model_data(plan.model_data_url, model_folder, self._site.tools.storage.s3)
        self._containers = []
        for number in range(1, plan.instance_count + 1):
            if self._stopping.is_set():
                return
            self._containers.append(self._container(stand, number, model_folder))
        for container in self._containers:
            limit = plan.start_timeout or behaviour.container_start_timeout
            container.wait_until_healthy(limit, self._stopping)

    def _container(self, stand: Stand, number: int, model_folder: Path) -> Container:
        return Container(
            name=f"{self.name}/{number}",
            stand=stand,
            environment=container_environment(
                url=self._site.url, region=self.region, model_folder=model_folder, model=self.plan.environment
            ),
            log_path=self._folder / f"container-{number}.log",
            behaviour=self._site.tools.behaviour,
        )

    def _open(self) -> None:
        if self.plan.asynchronous is not None:
            concurrency = self.plan.asynchronous.concurrency or self._site.tools.behaviour.default_concurrency
            for container in self._containers:
                self.engine.add_instance(container.address, concurrency)
        self._become(EndpointStatus.IN_SERVICE)

    def _remove(self, gone: Callable[[], None]) -> None:
        self._take_down()
        if not self._pause(self.modified_at + self._site.tools.behaviour.deletion_seconds):
            gone()

    def _take_down(self) -> None:
        self.engine.close(_JOIN_SECONDS)
        for container in self._containers:
            container.ask_to_stop()
        for container in self._containers:
            container.stop()
        self._containers = []
        shutil.rmtree(self._folder, ignore_errors=True)
