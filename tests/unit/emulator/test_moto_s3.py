"""What the emulator relies on inside of moto's S3 is what it was when that was written."""

from __future__ import annotations

import hashlib
import inspect

import pytest
from moto.s3 import notifications
from moto.s3.models import FakeBucket, FakeKey, S3Backend
from moto.s3.responses import S3Response
from moto.s3.utils import _VersionedKeyStore

RELIED_ON = {
    "FakeKey.__init__": (
        FakeKey.__init__,
        "cd9d1347667a9ccf2179874051aebed2261ecb260ca12e048f20b9140a325383",
    ),
    "FakeKey.value, read": (
        FakeKey.value.fget,
        "5e9a53c3d82cc883da5172430ec762dd2e90a12a304107ce40ac0b53896a88cf",
    ),
    "FakeKey.value, written": (
        FakeKey.value.fset,
        "519ac4d9ad6adcd8296e44db5f195550d06c81897d5d7de2e0c76b7632527ba5",
    ),
    "FakeKey.etag": (
        FakeKey.etag.fget,
        "aa3062e82e089cb3656c13d6aa7bd843c41abeeff9c011700d34d5be03d11791",
    ),
    "FakeKey.set_metadata": (
        FakeKey.set_metadata,
        "2e0d9b90a6e618483924790fac4be0adabcaf5b933aae5fa6f108ddda6b5efa9",
    ),
    "FakeKey.dispose": (
        FakeKey.dispose,
        "3e18a93bddaad7ba1b3a89b50092dbbda5c98226bd002870e78a57eb4e6ace61",
    ),
    "FakeBucket.default_retention": (
        FakeBucket.default_retention,
        "742f82996f6275680a08fc5711998e8c827dfea5c0d4ecff4432b4f05760a83d",
    ),
    "FakeBucket.has_default_lock": (
        FakeBucket.has_default_lock.fget,
        "b5519cbdea268598eb84427a543591a242768dd76fc8c316873ab25a01f3e1e1",
    ),
    "S3Backend.get_bucket": (
        S3Backend.get_bucket,
        "f2a393d4b1bb024db5692f9367536592685ee2b420497df9e7e9037a0697fbe3",
    ),
    "S3Backend.get_object": (
        S3Backend.get_object,
        "a80723978ebb590e8c228fb715534fad2ab0050bb5fb43519835cbc449fdd7c0",
    ),
    "S3Backend.put_object": (
        S3Backend.put_object,
        "db803f2da9d786ad050987d2b5def89cfa38c1bd0281f70ce6c76b4abc31566a",
    ),
    "S3Backend.put_object_tagging": (
        S3Backend.put_object_tagging,
        "5d1ebe6352a499bf4247ad9b5b3c403e09067c70c8f1cf085080ecd498cc911e",
    ),
    "S3Response.put_object": (
        S3Response.put_object,
        "992229be920b636393b52bbcb7d5e65bb74380d1c44f9c1c64e158aa4ce8673f",
    ),
    "S3Response._get_lock_details": (
        S3Response._get_lock_details,
        "6660ea0c7c4a8c9948d8a3be04eeb376e696fc612e0f078ea21c1a68da744c33",
    ),
    "_VersionedKeyStore.getlist": (
        _VersionedKeyStore.getlist,
        "89b5ff309231f5c45755ed1b68e685b781d8aeeefbd2559f0adeaf1bada0078b",
    ),
    "_VersionedKeyStore.setlist": (
        _VersionedKeyStore.setlist,
        "f34cb76811ccce34a7b46b1f6a4ce926b84ad6c5d4d14861b69963aa23957874",
    ),
    "notifications.send_event": (
        notifications.send_event,
        "da8a7c7c6f2b0a8f6477828b60095e82d8e2ac31e1dcec542a36c42ced32033e",
    ),
}


@pytest.mark.parametrize("name", RELIED_ON)
def test_function_of_moto_is_the_one_that_was_read(name):
    function, expected = RELIED_ON[name]
    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    assert found == expected, (
        f"moto changed {name}: see whether work/moto_s3.py still fits, then note its hash"
    )
