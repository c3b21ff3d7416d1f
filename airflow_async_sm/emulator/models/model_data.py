"""The model's files: fetched from S3 and unpacked as the service does it."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.models.containers import ProvisioningFailed


class _Opener(Protocol):
    def open(self, location: str) -> tuple[BinaryIO, int]: ...


def unpack_model_data(url: str | None, folder: Path, storage: _Opener) -> None:
    """
    Unpack the ``model.tar.gz`` at ``url`` into ``folder``; without a ``url`` the folder stays empty.

    The archive is read in pieces from where it lies.

    :param url: Address of the archive, as in the model's ``ModelDataUrl``.
    :param folder: An existing, empty folder. Members that would land outside of it are refused.
    :param storage: Opens objects.
    :raises ProvisioningFailed: there is no such object, or it is no safe archive.
    """
    if url is None:
        return
    if not hasattr(tarfile, "data_filter"):
        raise ProvisioningFailed(
            "This Python cannot unpack an archive of model data safely; use 3.11.4 or later."
        )
    try:
        archive, _ = storage.open(url)
    except StorageError as error:
        raise ProvisioningFailed(
            f'Failed to download model data from URL "{url}". Please ensure that there is an object '
            "located at the URL and that the role passed to CreateModel has permissions to download the "
            "object."
        ) from error
    with archive:
        try:
            _read_to_the_end(archive)
            with tarfile.open(fileobj=archive, mode="r:gz") as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
            raise ProvisioningFailed(
                f'Failed to extract model data archive from URL "{url}". Please ensure that the object '
                "located at the URL is a valid tar.gz archive."
            ) from error


def _read_to_the_end(archive: BinaryIO) -> None:
    """Check the whole archive. The sum stands behind the last member, where unpacking does not look."""
    with gzip.open(archive) as stream:
        while stream.read(1 << 20):
            pass
    archive.seek(0)
