"""From what stands for an image to the container that an instance gets."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from airflow_async_sm.emulator.aws import DUMMY_CREDENTIALS
from airflow_async_sm.emulator.models.callables import CallableContainer
from airflow_async_sm.emulator.models.containers import Container, ProcessContainer
from airflow_async_sm.emulator.models.docker import Docker, DockerContainer
from airflow_async_sm.emulator.models.images import Stand
from airflow_async_sm.emulator.models.servers import ServerContainer
from airflow_async_sm.emulator.reaching import past_proxies
from airflow_async_sm.emulator.settings.behaviours import Behaviour


def new_container(
    stand: Stand,
    *,
    name: str,
    url: str,
    region: str,
    model_folder: Path,
    environment: Mapping[str, str],
    log_path: Path,
    behaviour: Behaviour,
) -> Container:
    """
    Return a container that has not started yet.

    :param stand: What stands for the image, as :meth:`Images.find` gives it.
    :param name: What to call it in the log.
    :param url: The emulator's address.
    :param region: The endpoint's region.
    :param model_folder: Where the model's files are.
    :param environment: The model's ``Environment``.
    :param log_path: File for the output of a process. Docker keeps the output of its containers itself.
    :param behaviour: Time limits.
    """
    if isinstance(stand, str):
        return ServerContainer(name=name, url=stand, behaviour=behaviour)
    if isinstance(stand, Docker):
        return DockerContainer(
            name=name,
            image=stand.image or "",
            options=stand.options,
            environment=docker_environment(url=url, region=region, model=environment),
            model_folder=model_folder,
            behaviour=behaviour,
        )
    if callable(stand):
        return CallableContainer(name=name, model=stand)
    return ProcessContainer(
        name=name,
        command=stand,
        environment=container_environment(
            url=url, region=region, model_folder=model_folder, model=environment
        ),
        log_path=log_path,
        behaviour=behaviour,
    )


def container_environment(
    *, url: str, region: str, model_folder: Path, model: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the variables of a container process.

    The user's own AWS settings stay outside: a container that calls AWS reaches the emulator, with
    credentials that open nothing elsewhere, and past any proxy.

    :param url: The emulator's address.
    :param region: The endpoint's region.
    :param model_folder: Where the model's files are.
    :param model: The model's ``Environment``, which wins over everything else.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW"))
    }
    return {
        **inherited,
        **_credentials(region),
        "AWS_ENDPOINT_URL": url,
        **past_proxies(url),
        "SM_MODEL_DIR": str(model_folder),
        **model,
    }


def docker_environment(*, url: str, region: str, model: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables of a container in Docker. It inherits nothing from this process.

    :param url: The emulator's address. A loopback address would be the container's own; then it gets none.
    :param region: The endpoint's region.
    :param model: The model's ``Environment``, which wins over everything else.
    """
    reached = {} if _is_loopback(url) else {"AWS_ENDPOINT_URL": url, **past_proxies(url, {})}
    return {**_credentials(region), **reached, **model}


def _credentials(region: str) -> dict[str, str]:
    names = {name.upper(): value for name, value in DUMMY_CREDENTIALS.items()}
    return {**names, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
