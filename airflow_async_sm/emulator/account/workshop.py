"""What the instances of one configuration are made of: the unpacked model, and containers for it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from airflow_async_sm.emulator.account.plans import EndpointPlan
from airflow_async_sm.emulator.models.containers import Container, ProvisioningFailed
from airflow_async_sm.emulator.models.images import Images, Stand
from airflow_async_sm.emulator.models.kinds import new_container
from airflow_async_sm.emulator.models.model_data import unpack_model_data
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.work.storage import Storage


class Workshop:
    """
    Makes containers.

    :param endpoint: Name of the endpoint.
    :param region: Region of the endpoint.
    :param plan: The configuration.
    :param folder: For the model and the containers' output; it is made here.
    :param url: The emulator's address.
    :param images: What stands for images.
    :param storage: Where the model's data is.
    :param knobs: Time limits.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        plan: EndpointPlan,
        folder: Path,
        url: str,
        images: Images,
        storage: Storage,
        knobs: Knobs,
    ) -> None:
        self._endpoint = endpoint
        self._region = region
        self._plan = plan
        self._folder = folder
        self._url = url
        self._images = images
        self._storage = storage
        self._knobs = knobs
        self._lock = threading.Lock()
        self._stand: Stand | None = None

    @property
    def start_timeout(self) -> float:
        """Seconds of real time that a container has for its first healthy ping."""
        return self._plan.start_timeout or self._knobs.behaviour.container_start_timeout

    def prepare(self) -> Stand:
        """
        Find what stands for the image, and unpack the model, unless that has succeeded before.

        :return: What stands for the image.
        :raises ProvisioningFailed: nothing does, or there is no model data.
        """
        with self._lock:
            if self._stand is None:
                stand = self._images.find(self._plan.image)
                if stand is None:
                    raise ProvisioningFailed(
                        f'Requested image "{self._plan.image}" not found. Tell the emulator which command or '
                        "running server stands for it."
                    )
                self._unpack_model()
                self._stand = stand
            return self._stand

    def new_container(self, number: int) -> Container:
        """
        Return a container that has not started yet.

        :param number: The number of the instance that it is for.
        :raises ProvisioningFailed: nothing stands for the image, or there is no model data.
        """
        return new_container(
            self.prepare(),
            name=f"{self._endpoint}/{number}",
            url=self._url,
            region=self._region,
            model_folder=self._folder / "model",
            environment=self._plan.environment,
            log_path=self._folder / f"container-{number}.log",
            behaviour=self._knobs.behaviour,
        )

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _unpack_model(self) -> None:
        folder = self._folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        unpack_model_data(self._plan.model_data_url, folder, self._storage)
