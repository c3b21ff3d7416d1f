"""
Everything that moto stores, as one pickle.

moto keeps its state in backends: one object for each service, account and region. They are found, and not
listed, so whatever service somebody uses is kept. All of them go into one pickle, because they hold on to
each other: a topic's subscription to a queue, a queue to its dead-letter queue.
"""

from __future__ import annotations

import importlib
import io
import logging
import pickle
import sys
import threading
from collections.abc import Iterable
from typing import Any, Final

from moto.core.base_backend import AccountSpecificBackend, BackendDict
from moto.s3.models import FakeKey
from moto.s3.utils import _VersionedKeyStore

from airflow_async_sm.emulator.state.contents import Contents

log = logging.getLogger(__name__)

_PROTOCOL: Final = 5

# A lock that is kept is open again. A queue's condition is one: nobody waits for it any more. They are known
# by the names of what makes them, because their types are called differently from one Python to the next.
_LOCKS: Final[dict[type, str]] = {
    type(threading.Lock()): "Lock",
    type(threading.RLock()): "RLock",
    threading.Condition: "Condition",
}

# What pickle raises for what it cannot keep: a thread, an open file, a function without a name.
_NOT_KEPT: Final = (TypeError, AttributeError, pickle.PicklingError)

# Somebody who gets past Quiet may change a dictionary while it is read. It hardly ever happens twice.
_ATTEMPTS: Final = 10


def dump(contents: Contents) -> bytes:
    """
    Return everything that moto stores.

    A service that cannot be kept is left out and logged: it must not cost the others their state.

    :param contents: Takes the large contents of S3 objects.
    :raises RuntimeError: it is being changed all the time.
    :raises OSError: a content cannot be written.
    """
    registries = _registries()
    try:
        return _dump(registries, contents)
    except _NOT_KEPT:
        kept = [registry for registry in registries if _can_be_kept(registry, contents)]
        return _dump(kept, contents)


def restore(data: bytes, contents: Contents) -> None:
    """
    Put everything back into a moto that has just been reset. Nothing is put back if something fails.

    :param data: What :func:`dump` returned.
    :param contents: Has the large contents of S3 objects.
    :raises Exception: whatever a pickle raises that does not fit the code, or is not whole.
    """
    for registry, attributes, accounts in _Unpickler(io.BytesIO(data), contents).load():
        vars(registry).update(attributes)
        for account, regions in accounts.items():
            for region, backend in regions.items():
                registry[account][region] = backend


def _dump(registries: Iterable[BackendDict[Any]], contents: Contents) -> bytes:
    attempt = 1
    while True:
        contents.begin()
        file = io.BytesIO()
        try:
            _Pickler(file, contents).dump([_describe(registry) for registry in registries])
        except RuntimeError:
            if attempt == _ATTEMPTS:
                raise
            attempt += 1
        else:
            return file.getvalue()


def _describe(registry: BackendDict[Any]) -> tuple[Any, dict[str, Any], dict[str, dict[str, Any]]]:
    # A few services keep something beside their backends, such as which bucket belongs to which account.
    common = vars(BackendDict(registry.backend, registry.service_name))
    attributes = {name: value for name, value in vars(registry).items() if name not in common}
    return registry, attributes, {account: dict(regions) for account, regions in list(registry.items())}


def _can_be_kept(registry: BackendDict[Any], contents: Contents) -> bool:
    try:
        _dump([registry], contents)
    except _NOT_KEPT as error:
        log.warning("The state of %s is not kept: %s", registry.service_name, error)
        return False
    return True


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, contents: Contents) -> None:
        super().__init__(file, _PROTOCOL)
        self._contents = contents

    def reducer_override(self, value: Any) -> Any:
        """Say how to make ``value`` again, where pickle cannot know it or would get it wrong."""
        kind = type(value)
        if kind in _LOCKS:
            return _new_lock, (_LOCKS[kind],)
        if kind is FakeKey:
            return _bare_key, (), self._contents.describe(value), None, None, _fill_key
        if kind is _VersionedKeyStore:
            # Asked for its items, it gives the latest version of each key only.
            return _VersionedKeyStore, (), dict(dict.items(value)), None, None, dict.update
        if isinstance(value, BackendDict):
            return _registry, (value.backend.__module__, _name_of(value))
        if isinstance(value, AccountSpecificBackend):
            registry = _registry_of(value.backend)
            return registry.__getitem__, (value.account_id,)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, contents: Contents) -> None:
        super().__init__(file)
        self._contents = contents

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle stands for."""
        if (module, name) == (__name__, _fill_key.__name__):
            return self._contents.fill
        return super().find_class(module, name)


def _new_lock(name: str) -> Any:
    return getattr(threading, name)()


def _bare_key() -> FakeKey:
    # By moto's own way of making one, which enters it into the list of what a reset closes.
    make: Any = FakeKey.__new__
    key: FakeKey = make(FakeKey)
    # moto complains about a key that goes away undisposed; until it is filled there is nothing to dispose of.
    key.disposed = True
    key.multipart = None
    return key


def _fill_key(key: FakeKey, state: dict[str, Any]) -> None:
    raise NotImplementedError  # Only its name is in the pickle: the reader has the folder with the contents.


def _registries() -> list[BackendDict[Any]]:
    every: Any = BackendDict
    return list(every._instances)


def _registry(module: str, name: str) -> BackendDict[Any]:
    registry: BackendDict[Any] = getattr(importlib.import_module(module), name)
    return registry


def _name_of(registry: BackendDict[Any]) -> str:
    module = sys.modules[registry.backend.__module__]
    return next(name for name, value in vars(module).items() if value is registry)


def _registry_of(backend: type) -> BackendDict[Any]:
    return next(registry for registry in _registries() if registry.backend is backend)
