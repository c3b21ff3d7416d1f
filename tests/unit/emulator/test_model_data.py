from __future__ import annotations

import io
import tarfile

import pytest

from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.models.containers import ProvisioningFailed
from airflow_async_sm.emulator.models.model_data import unpack_model_data


class OneObject:
    """Storage with one object in it."""

    def __init__(self, content):
        self.content = content
        self.opened = None

    def open(self, location):
        if location != "s3://bucket/model.tar.gz":
            raise StorageError("The specified key does not exist.")
        self.opened = io.BytesIO(self.content)
        return self.opened, len(self.content)


def archive(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member)
    return packed.getvalue()


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def test_archive_is_unpacked_and_closed(tmp_path):
    member = tarfile.TarInfo("code/inference.py")
    storage = OneObject(archive(member))
    unpack_model_data("s3://bucket/model.tar.gz", tmp_path, storage)
    assert (tmp_path / "code" / "inference.py").read_bytes() == b""
    assert storage.opened.closed


def test_without_an_address_the_folder_stays_empty(tmp_path):
    unpack_model_data(None, tmp_path, OneObject(b""))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "member", [tarfile.TarInfo("../escaped"), link("l", "/etc/passwd"), link("l", "../../x")]
)
def test_member_that_leads_outside_is_refused(tmp_path, member):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ProvisioningFailed, match=r"valid tar\.gz archive"):
        unpack_model_data("s3://bucket/model.tar.gz", folder, OneObject(archive(member)))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert list(folder.iterdir()) == []


def test_truncated_archive_is_refused(tmp_path):
    content = archive(*(tarfile.TarInfo(f"file-{number}") for number in range(100)))
    with pytest.raises(ProvisioningFailed, match=r"valid tar\.gz archive"):
        unpack_model_data("s3://bucket/model.tar.gz", tmp_path, OneObject(content[: len(content) // 2]))


def test_archive_with_a_wrong_sum_is_refused(tmp_path):
    content = bytearray(archive(tarfile.TarInfo("weights")))
    content[-8] ^= 1
    with pytest.raises(ProvisioningFailed, match=r"valid tar\.gz archive"):
        unpack_model_data("s3://bucket/model.tar.gz", tmp_path, OneObject(bytes(content)))
    assert list(tmp_path.iterdir()) == []


def test_archive_whose_compression_is_broken_is_refused(tmp_path):
    content = archive(tarfile.TarInfo("weights"))[:10] + b"\xff" * 100
    with pytest.raises(ProvisioningFailed, match=r"valid tar\.gz archive"):
        unpack_model_data("s3://bucket/model.tar.gz", tmp_path, OneObject(content))


def test_python_that_cannot_unpack_safely_is_named(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    content = archive(tarfile.TarInfo("weights"))
    with pytest.raises(ProvisioningFailed, match=r"use 3\.11\.4 or later"):
        unpack_model_data("s3://bucket/model.tar.gz", tmp_path, OneObject(content))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/folder/", "file:///etc/passwd"])
def test_address_that_is_no_object_is_refused(tmp_path, url):
    with pytest.raises(ProvisioningFailed, match="Failed to download model data"):
        unpack_model_data(url, tmp_path, OneObject(b""))
