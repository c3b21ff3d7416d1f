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

# What stands for an image: the arguments of a program to start, a Python function, an image in Docker,
# or a text: ``http://host:port`` of a running server, ``docker`` or ``docker:`` and an image's address,
# ``module:function``, or a command as one line for a shell.
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
        given = {name: _read(name, stand) for name, stand in (images or {}).items()}
        self._stands: dict[str, Stand] = {**BUNDLED, **given}

    def find(self, image: str) -> Stand | None:
        """Return what stands for an image address, or ``None``. A :class:`Docker` has an address then."""
        untagged = _without_tag(image)
        for name in (image, untagged, untagged.rsplit("/", 1)[-1]):
            if name in self._stands:
                stand = self._stands[name]
                return replace(stand, image=stand.image or image) if isinstance(stand, Docker) else stand
        return None


def _without_tag(image: str) -> str:
    address = image.split("@", 1)[0]
    folder, slash, repository = address.rpartition("/")
    return f"{folder}{slash}{repository.split(':', 1)[0]}"


def _read(name: str, stand: Stand) -> Stand:
    """Return a stand in its final form: a text has become what it says."""
    if isinstance(stand, str):
        try:
            return _read_text(stand)
        except ValueError as error:
            raise ValueError(f"Image {name!r} is mapped to {stand!r}. {error}") from error
    if isinstance(stand, Docker) or callable(stand):
        return stand
    if not isinstance(stand, Sequence) or not stand or not all(isinstance(part, str) for part in stand):
        raise ValueError(
            f"Image {name!r} is mapped to {stand!r}; a command is a list of strings, and not empty. An "
            "image can also be mapped to a function, to the address of a running server, or to Docker()."
        )
    return stand


def _read_text(text: str) -> Stand:
    kind, _, address = text.partition(":")
    if kind == "docker":
        return Docker(address or None)
    if kind in ("http", "https"):
        parts = urlsplit(text)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("The address of a running server is http://host:port.")
        return text
    if _FUNCTION.fullmatch(text):
        return load_model(text)
    command = shlex.split(text)
    if not command:
        raise ValueError("That is no command.")
    return command
