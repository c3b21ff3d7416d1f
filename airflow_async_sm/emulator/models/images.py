"""Which program, or which running server, stands for a container image."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

# What stands for an image: the arguments of a program to start, or the address of a server that runs already.
Stand = Sequence[str] | str

# AWS's own image has this repository name in every account and region that it is published in.
BUNDLED: Final[Mapping[str, Stand]] = {
    "sagemaker-scikit-learn": [sys.executable, "-m", "airflow_async_sm.emulator.models.sklearn_server"]
}


class Images:
    """
    The images that an emulator knows.

    :param images: What stands for each image, added to the bundled scikit-learn server. A name is an image's
        full address, or its address without tag, or only its repository name; the most precise match is used.
    :raises ValueError: something that is neither a command nor the address of a plain HTTP server.
    """

    def __init__(self, images: Mapping[str, Stand] | None = None) -> None:
        self._stands = {**BUNDLED, **(images or {})}
        for name, stand in self._stands.items():
            _check(name, stand)

    def find(self, image: str) -> Stand | None:
        """Return what stands for an image address, or ``None``."""
        untagged = _without_tag(image)
        for name in (image, untagged, untagged.rsplit("/", 1)[-1]):
            if name in self._stands:
                return self._stands[name]
        return None


def _without_tag(image: str) -> str:
    address = image.split("@", 1)[0]
    folder, slash, repository = address.rpartition("/")
    return f"{folder}{slash}{repository.split(':', 1)[0]}"


def _check(name: str, stand: Stand) -> None:
    if isinstance(stand, str):
        parts = urlsplit(stand)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(
                f"Image {name!r} is mapped to {stand!r}; give the address of a running server, "
                "http://host:port, or a command as a list of strings."
            )
    elif not stand or not all(isinstance(part, str) for part in stand):
        raise ValueError(
            f"Image {name!r} is mapped to {stand!r}; a command is a list of strings, and not empty."
        )
