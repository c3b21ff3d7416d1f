"""
A folder that keeps an emulator's state.

A save writes new files beside the old ones and then, in one step, the file that names them. So whatever
happens in the middle, the folder holds one whole state: the new one or the one before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import re
import stat
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final

import moto

import airflow_async_sm
from airflow_async_sm.emulator.errors import StateError
from airflow_async_sm.emulator.state import moto_state
from airflow_async_sm.emulator.state.contents import Contents, sync_folder
from airflow_async_sm.emulator.state.quiet import Quiet

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Counted up when what is kept changes in a way that an older or newer emulator would misread.
FORMAT: Final = 1

_STAMP: Final = "state.json"
_LOCK: Final = "lock"
_CONTENTS: Final = "contents"
_PART = re.compile(r"(?:own|moto)-(?P<generation>\d+)\.pickle|state\.json\.new")


class StateFolder:
    """
    The folder of ``--state``. It is made if it is not there, for its owner only.

    Use it as a context manager, or call :meth:`open` and :meth:`close`.

    :param path: Where it is.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._quiet = Quiet()
        self._lock_file: IO[str] | None = None
        self._contents = Contents(self.path / _CONTENTS)
        self._generation = 0
        self._saving = threading.Lock()
        self._last: tuple[bytes, int] | None = None

    def __enter__(self) -> StateFolder:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """
        Take the folder, so that no other emulator can.

        :raises StateError: another emulator has it, others may write to it, or it holds something else.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            self._check_content()
            self._lock_file = self._take_lock()
            (self.path / _CONTENTS).mkdir(mode=0o700, exist_ok=True)
            self._generation = self._last_generation()
        except OSError as error:
            self.close()
            raise StateError(f"{self.path} cannot hold the emulator's state: {error}") from error

    def close(self) -> None:
        """Give the folder back."""
        lock_file, self._lock_file = self._lock_file, None
        if lock_file is not None:
            lock_file.close()

    def guard(self, application: WSGIApplication) -> WSGIApplication:
        """Return moto's application so that a save can hold back its calls for a moment."""
        return self._quiet.guard(application)

    def changing(self) -> AbstractContextManager[None]:
        """Return a context for a change of what moto stores that does not come through its application."""
        return self._quiet.call(writes=True)

    def load(self) -> Any:
        """
        Put moto's part of the state back, and return the emulator's own; ``None`` if nothing has been saved.

        moto has to be empty.

        :raises StateError: the state was made by a version that does not fit, or it is damaged.
        """
        stamp = self._read_stamp()
        if stamp is None:
            return None
        own, of_moto = self._parts(stamp["generation"])
        try:
            content = pickle.loads(own.read_bytes())  # noqa: S301 - the folder is the user's own
            moto_state.restore(of_moto.read_bytes(), self._contents)
        except Exception as error:  # A pickle that does not fit the code can raise anything.
            raise StateError(
                f"The state in {self.path} cannot be read ({type(error).__name__}: {error}). It was saved by "
                f"version {stamp['package']}. Use another folder, or remove this one."
            ) from error
        return content

    def save(self, own: Mapping[str, Any]) -> None:
        """
        Keep the state. A save that fails leaves the one before in place.

        :param own: The emulator's part of it. It is taken before the call: a result that it does not know of
            is made twice after a restart, while one that only it knew of would be lost.
        :raises OSError: the folder cannot be written to.
        """
        self._save(own, _digest(own))

    def save_if_changed(self, own: Mapping[str, Any]) -> bool:
        """
        Do what :meth:`save` does, unless nothing has happened since the last one.

        :param own: The emulator's part of the state. Its ``now`` does not count: it changes by itself.
        :returns: Whether it was saved.
        :raises OSError: the folder cannot be written to.
        """
        digest = _digest(own)
        if (digest, self._quiet.writes) == self._last:
            return False
        self._save(own, digest)
        return True

    def _save(self, own: Mapping[str, Any], digest: bytes) -> None:
        with self._saving:
            of_ours = pickle.dumps(own, pickle.HIGHEST_PROTOCOL)
            with self._quiet.hold():
                writes = self._quiet.writes
                of_moto = moto_state.dump(self._contents)
            self._contents.sync()
            # A number is never used twice: the files of a save that failed may be in place after all.
            self._generation += 1
            for path, data in zip(self._parts(self._generation), (of_ours, of_moto), strict=True):
                _write(path, data)
            self._write_stamp()
            self._last = digest, writes
            self._sweep()

    def _parts(self, generation: int) -> tuple[Path, Path]:
        return self.path / f"own-{generation}.pickle", self.path / f"moto-{generation}.pickle"

    def _last_generation(self) -> int:
        # Also those of a save that was interrupted: a new one must not mix with them.
        parts = [_PART.fullmatch(path.name) for path in self.path.iterdir()]
        return max((int(part["generation"] or 0) for part in parts if part), default=0)

    def _sweep(self) -> None:
        current = {_STAMP, *(path.name for path in self._parts(self._generation))}
        for path in self.path.iterdir():
            if _PART.fullmatch(path.name) and path.name not in current:
                path.unlink()
        self._contents.sweep()

    def _read_stamp(self) -> dict[str, Any] | None:
        try:
            stamp = json.loads((self.path / _STAMP).read_bytes())
            found, made_with = stamp["format"], stamp["moto"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateError(f"{self.path / _STAMP} cannot be read: {error!r}") from error
        if found != FORMAT:
            raise StateError(
                f"The state in {self.path} has format {found}, saved by version {stamp.get('package')}; this "
                f"version reads format {FORMAT}. Use that version, or another folder."
            )
        if _minor(made_with) != _minor(moto.__version__):
            raise StateError(
                f"The state in {self.path} was saved with moto {made_with}, and this is moto "
                f"{moto.__version__}. Install moto {_minor(made_with)}, or use another folder."
            )
        return dict(stamp)

    def _write_stamp(self) -> None:
        stamp = {
            "format": FORMAT,
            "generation": self._generation,
            "package": airflow_async_sm.__version__,
            "moto": moto.__version__,
        }
        new = self.path / f"{_STAMP}.new"
        _write(new, json.dumps(stamp).encode())
        # The files that it names have to be there before it is.
        sync_folder(self.path)
        new.replace(self.path / _STAMP)
        sync_folder(self.path)

    def _check_owner(self) -> None:
        # Reading a pickle runs what is in it, so nobody else may have put anything there.
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise StateError(f"{self.path} belongs to another user; the state's folder must be your own.")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateError(
                f"Others may write to {self.path}, which is not safe. Run: chmod go-w {self.path}"
            )

    def _check_content(self) -> None:
        if (self.path / _STAMP).exists():
            return
        for path in self.path.iterdir():
            if path.name not in (_LOCK, _CONTENTS) and not _PART.fullmatch(path.name):
                raise StateError(f"{self.path} holds other things, such as {path.name}. Use an empty folder.")

    def _take_lock(self) -> IO[str]:
        with contextlib.ExitStack() as undo:
            file = undo.enter_context((self.path / _LOCK).open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise StateError(
                    f"{self.path} is in use by another emulator (process {file.read().strip()})."
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            undo.pop_all()
        return file


def _digest(own: Mapping[str, Any]) -> bytes:
    lasting = {name: value for name, value in own.items() if name != "now"}
    return hashlib.blake2b(pickle.dumps(lasting, pickle.HIGHEST_PROTOCOL)).digest()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
