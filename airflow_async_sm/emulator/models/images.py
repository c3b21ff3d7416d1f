"""What stands for a container image: a program, a running server, a Python function, or Docker."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from airflow_async_sm.emulator.models.callables import Model, load_model
from airflow_async_sm.emulator.models.docker import Docker

# What stands for an image: the arguments of a program to start, the address of a server that runs already, a
# Python function, or an image that runs in Docker. Where there are texts only, "docker", or "docker:" and an
# address, says the last of these.
Stand = Sequence[str] | str | Model | Docker

# AWS's own image has this repository name in every account and region that it is published in.
BUNDLED: Final[Mapping[str, Stand]] = {
    "sagemaker-scikit-learn": [sys.executable, "-m", "airflow_async_sm.emulator.models.sklearn_server"]
}

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Images:
    """
    The images that an emulator knows.

    :param images: What stands for each image, added to the bundled scikit-learn server. A name is an image's
        full address, or its address without tag, or only its repository name; the most precise match is used.
    :raises ValueError: something that cannot stand for an image.
    """

    def __init__(self, images: Mapping[str, Stand] | None = None) -> None:
        self._stands = {name: _checked(name, stand) for name, stand in {**BUNDLED, **(images or {})}.items()}

    def find(self, image: str) -> Stand | None:
        """Return what stands for an image address, or ``None``. A :class:`Docker` has an address then."""
        untagged = _without_tag(image)
        for name in (image, untagged, untagged.rsplit("/", 1)[-1]):
            if name in self._stands:
                stand = self._stands[name]
                return replace(stand, image=stand.image or image) if isinstance(stand, Docker) else stand
        return None


def read_stand(text: str | Sequence[str]) -> Stand:
    """
    Return what a settings file, or an option of the command, says that stands for an image.

    :param text: ``http://host:port`` of a running server; ``docker``, or ``docker:`` and an image's address;
        ``module:attribute`` of a Python function; else a command, as a list or as one line for a shell.
    :raises ValueError: a function that cannot be loaded, or a line whose quotes do not match.
    """
    if not isinstance(text, str):
        return list(text)
    if docker := _docker(text):
        return docker
    if text.startswith(("http://", "https://")):
        return text
    if _FUNCTION.fullmatch(text):
        return load_model(text)
    return shlex.split(text)


def _without_tag(image: str) -> str:
    address = image.split("@", 1)[0]
    folder, slash, repository = address.rpartition("/")
    return f"{folder}{slash}{repository.split(':', 1)[0]}"


def _docker(text: str) -> Docker | None:
    kind, _, address = text.partition(":")
    return Docker(address or None) if kind == "docker" else None


def _checked(name: str, stand: Stand) -> Stand:
    if isinstance(stand, str):
        if docker := _docker(stand):
            return docker
        parts = urlsplit(stand)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(
                f"Image {name!r} is mapped to {stand!r}; give the address of a running server, "
                "http://host:port, or a command as a list of strings."
            )
        return stand
    if isinstance(stand, Docker) or callable(stand):
        return stand
    if not isinstance(stand, Sequence) or not stand or not all(isinstance(part, str) for part in stand):
        raise ValueError(
            f"Image {name!r} is mapped to {stand!r}; a command is a list of strings, and not empty. An "
            "image can also be mapped to a function, to the address of a running server, or to Docker()."
        )
    return stand
