"""The folder with the state: what it refuses, what it keeps, and what is left when a save is cut short."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import moto
import pytest
from moto.core.base_backend import AccountSpecificBackend, BackendDict
from moto.s3.models import FakeKey, s3_backends
from moto.s3.utils import _VersionedKeyStore
from moto.sqs.models import sqs_backends

from airflow_async_sm.emulator.errors import StateError
from airflow_async_sm.emulator.state import moto_state
from airflow_async_sm.emulator.state.autosave import Autosave
from airflow_async_sm.emulator.state.contents import INLINE_BYTES, Contents
from airflow_async_sm.emulator.state.folder import StateFolder
from airflow_async_sm.emulator.state.quiet import Quiet
from airflow_async_sm.emulator.web.http_server import ACCOUNT_ID, reset_moto
from tests.world import eventually

LARGE = b"l" * (INLINE_BYTES + 1)
NOTED = {
    FakeKey: "38cbad7c55b95b65c2b5f581e6e84948f4e0b4659d89a1e16334de055b26d986",
    _VersionedKeyStore: "6592286b65e1d849c1fc986607822914cdf1794dba5bb2b6c5c20fd044219e54",
    AccountSpecificBackend: "7c228616b43f8873b1d456e6a9990b907e573881e56a684e666c5bba001136ba",
    BackendDict: "ebfe2a2bf4eeb45113177e64349014d73fc30e2b7b1ce70af1cd13864544e8a9",
}


@pytest.mark.parametrize("part", NOTED, ids=lambda part: part.__name__)
def test_what_the_state_knows_of_moto_is_what_was_read(part):
    digest = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()
    assert digest == NOTED[part], f"moto changed {part.__name__}: see whether its state is still kept whole"


@pytest.fixture(autouse=True)
def empty_moto():
    reset_moto()
    yield
    reset_moto()


@dataclass
class Something:
    number: int


class S3:
    """moto's S3, without HTTP."""

    def __init__(self):
        self.backend = s3_backends[ACCOUNT_ID]["aws"]

    @classmethod
    def with_bucket(cls):
        s3 = cls()
        s3.backend.create_bucket("bucket", "us-east-1")
        return s3

    def put(self, key, content):
        return self.backend.put_object("bucket", key, content)

    def get(self, key):
        return self.backend.get_object("bucket", key).value


def files(path):
    return sorted(str(file.relative_to(path)) for file in Path(path).rglob("*") if file.is_file())


def kept(path):
    return files(path / "contents")


class TestFolder:
    def test_is_made_for_its_owner_only(self, tmp_path):
        with StateFolder(tmp_path / "a" / "b") as state:
            assert state.load() is None
            assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700

    def test_gives_back_what_it_got(self, tmp_path):
        with StateFolder(tmp_path / "s") as state:
            state.save({"things": [Something(1)], "text": "t"})
        with StateFolder(tmp_path / "s") as state:
            assert state.load() == {"things": [Something(1)], "text": "t"}

    def test_relative_path_stays_what_it_is(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        state = StateFolder("s")
        monkeypatch.chdir("/")
        assert state.path == tmp_path / "s"

    def test_belongs_to_one_emulator(self, tmp_path):
        with StateFolder(tmp_path / "s"):
            with pytest.raises(StateError, match=rf"in use by another emulator \(process {os.getpid()}\)"):
                StateFolder(tmp_path / "s").open()
        with StateFolder(tmp_path / "s") as state:
            state.save({})

    def test_belongs_to_one_process(self, tmp_path):
        program = (
            "import sys; from airflow_async_sm.emulator.state.folder import StateFolder\n"
            "with StateFolder(sys.argv[1]): print('taken', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "s")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "taken\n"
            with pytest.raises(StateError, match=rf"process {other.pid}\)"):
                StateFolder(tmp_path / "s").open()
            other.kill()
            other.wait()
            # What a killed process held is free.
            with StateFolder(tmp_path / "s"):
                pass

    def test_that_others_may_write_to_is_refused(self, tmp_path):
        tmp_path.chmod(0o770)
        with pytest.raises(StateError, match="chmod go-w"):
            StateFolder(tmp_path).open()

    def test_of_another_user_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
        with pytest.raises(StateError, match="belongs to another user"):
            StateFolder(tmp_path).open()

    def test_with_other_things_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("!")
        with pytest.raises(StateError, match=r"holds other things, such as thesis\.txt"):
            StateFolder(tmp_path).open()
        assert files(tmp_path) == ["thesis.txt"]

    def test_that_cannot_be_made_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StateError, match="cannot hold the emulator's state"):
            StateFolder(tmp_path / "file" / "s").open()

    def test_is_free_again_if_it_could_not_be_opened(self, tmp_path):
        (tmp_path / "contents").write_text("")
        with pytest.raises(StateError, match="cannot hold"):
            StateFolder(tmp_path).open()
        (tmp_path / "contents").unlink()
        with StateFolder(tmp_path):
            pass


def stamp(path, **changes):
    file = path / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


class TestVersions:
    @pytest.fixture
    def saved(self, tmp_path):
        with StateFolder(tmp_path) as state:
            state.save({"a": 1})
        return tmp_path

    def load(self, path):
        with StateFolder(path) as state:
            return state.load()

    def test_another_format_is_refused(self, saved):
        stamp(saved, format=99, package="9.9")
        with pytest.raises(StateError, match=r"format 99, saved by version 9\.9; this version reads"):
            self.load(saved)

    def test_another_minor_version_of_moto_is_refused(self, saved):
        stamp(saved, moto="4.7.1")
        with pytest.raises(
            StateError, match=rf"with moto 4\.7\.1, and this is moto {moto.__version__}\. Install moto 4\.7,"
        ):
            self.load(saved)

    def test_another_patch_of_moto_and_another_version_of_ours_fit(self, saved):
        stamp(saved, moto=".".join([*moto.__version__.split(".")[:2], "999"]), package="0.0.1")
        assert self.load(saved) == {"a": 1}

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format": 1}'])
    def test_damaged_stamp_is_refused(self, saved, content):
        (saved / "state.json").write_text(content)
        with pytest.raises(StateError, match=r"state\.json cannot be read"):
            self.load(saved)

    @pytest.mark.parametrize("part", ["own", "moto"])
    def test_damaged_part_is_refused_and_nothing_is_put_back(self, tmp_path, part):
        with StateFolder(tmp_path) as state:
            S3.with_bucket()
            state.save({"a": 1})
        reset_moto()
        file = tmp_path / f"{part}-1.pickle"
        file.write_bytes(file.read_bytes()[:-5])
        with pytest.raises(StateError, match="cannot be read"):
            self.load(tmp_path)
        assert S3().backend.buckets == {}

    def test_missing_content_is_refused(self, tmp_path):
        with StateFolder(tmp_path) as state:
            S3.with_bucket().put("large", LARGE)
            state.save({})
        reset_moto()
        (tmp_path / "contents" / kept(tmp_path)[0]).unlink()
        with pytest.raises(StateError, match="FileNotFoundError"):
            self.load(tmp_path)
        assert S3().backend.buckets == {}


class TestContents:
    def test_large_ones_are_written_once_and_removed_with_their_object(self, tmp_path):
        with StateFolder(tmp_path) as state:
            s3 = S3.with_bucket()
            s3.put("small", b"s")
            s3.put("edge", LARGE[:-1])
            s3.put("large", LARGE)
            state.save({})
            (name,) = kept(tmp_path)
            written = (tmp_path / "contents" / name).stat()
            s3.put("other", LARGE)
            state.save({})
            assert len(kept(tmp_path)) == 2
            assert (tmp_path / "contents" / name).stat() == written
            s3.backend.delete_object("bucket", "large")
            state.save({})
            assert name not in kept(tmp_path)
            assert len(kept(tmp_path)) == 1

    def test_are_not_written_again_after_a_restart(self, tmp_path):
        with StateFolder(tmp_path) as state:
            S3.with_bucket().put("large", LARGE)
            state.save({})
        before = kept(tmp_path)
        reset_moto()
        with StateFolder(tmp_path) as state:
            state.load()
            state.save({})
            assert kept(tmp_path) == before
            assert S3().get("large") == LARGE

    def test_of_a_deleted_object_is_nothing(self, tmp_path):
        contents = Contents(tmp_path)
        key = S3.with_bucket().put("large", LARGE)
        key.dispose()
        assert contents.describe(key)["content"] == b""
        assert files(tmp_path) == []

    def test_that_cannot_be_written_leaves_no_file(self, tmp_path):
        contents = Contents(tmp_path)
        key = S3.with_bucket().put("large", LARGE)
        whole, key._value_buffer = key._value_buffer, Full(key._value_buffer)
        with pytest.raises(OSError, match="no room"):
            contents.describe(key)
        assert files(tmp_path) == []
        key._value_buffer = whole
        contents.describe(key)
        assert len(files(tmp_path)) == 1


class Full:
    """A buffer that can be read from to a disk with little room."""

    def __init__(self, buffer):
        self._buffer = buffer

    def seek(self, position):
        self._buffer.seek(position)

    def read(self, size):
        if self._buffer.tell():
            raise OSError("no room")
        return self._buffer.read(10)

    def close(self):
        self._buffer.close()


class TestSavingThatIsCutShort:
    """Whatever step fails, there is a whole state, and the next save works."""

    STEPS = 7
    # The last step makes sure of the names in the folder when the new state is in place.
    IN_PLACE = 6

    @pytest.mark.parametrize("step", range(1, STEPS + 1))
    def test_leaves_a_whole_state(self, tmp_path, monkeypatch, step):
        s3 = S3.with_bucket()
        with StateFolder(tmp_path) as state:
            s3.put("first", LARGE)
            state.save({"number": 1})
            s3.put("second", LARGE)
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", FailsAt(step))
                with pytest.raises(OSError, match="the disk is gone"):
                    state.save({"number": 2})
        reset_moto()
        with StateFolder(tmp_path) as state:
            number = state.load()["number"]
            assert number == (2 if step > self.IN_PLACE else 1)
            assert S3().get("first") == LARGE
            assert number == 1 or S3().get("second") == LARGE
            state.save({"number": 3})
        reset_moto()
        left = [name.partition("-")[0] for name in files(tmp_path)]
        assert [name for name in left if "/" not in name] == ["lock", "moto", "own", "state.json"]
        with StateFolder(tmp_path) as state:
            assert state.load() == {"number": 3}

    def test_does_not_write_to_what_is_in_place(self, tmp_path, monkeypatch):
        with StateFolder(tmp_path) as state:
            with monkeypatch.context() as patched:
                # One step less: there is no large content.
                patched.setattr(os, "fsync", FailsAt(self.STEPS - 1))
                with pytest.raises(OSError, match="the disk is gone"):
                    state.save({"number": 1})
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", FailsAt(2))
                with pytest.raises(OSError, match="the disk is gone"):
                    state.save({"number": 2})
        with StateFolder(tmp_path) as state:
            assert state.load() == {"number": 1}

    def test_steps_are_as_many_as_the_test_above_believes(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(os, "fsync", calls.append)
        with StateFolder(tmp_path) as state:
            S3.with_bucket().put("large", LARGE)
            state.save({})
        assert len(calls) == self.STEPS

    def test_first_save_leaves_a_folder_that_can_be_used(self, tmp_path, monkeypatch):
        with StateFolder(tmp_path) as state:
            monkeypatch.setattr(os, "fsync", raise_os_error)
            with pytest.raises(OSError, match="disk"):
                state.save({})
        monkeypatch.undo()
        with StateFolder(tmp_path) as state:
            assert state.load() is None
            state.save({})


class FailsAt:
    """``fsync`` that fails the n-th time."""

    def __init__(self, step):
        self._left = step
        self._fsync = os.fsync

    def __call__(self, descriptor):
        self._left -= 1
        if not self._left:
            raise OSError("the disk is gone")
        self._fsync(descriptor)


def raise_os_error(*_):
    raise OSError("the disk is gone")


class TestMoto:
    def test_what_cannot_be_kept_does_not_cost_the_rest(self, tmp_path, caplog):
        S3.with_bucket().put("a", b"x")
        sqs_backends[ACCOUNT_ID]["us-east-1"].thread = threading.Thread()
        with StateFolder(tmp_path) as state:
            state.save({})
        reset_moto()
        with StateFolder(tmp_path) as state:
            state.load()
        assert S3().get("a") == b"x"
        assert "The state of sqs is not kept" in caplog.text

    def test_accounts_and_regions_stay_apart(self, tmp_path):
        for account in (ACCOUNT_ID, "210987654321"):
            for region in ("us-east-1", "eu-west-1"):
                sqs_backends[account][region].create_queue(f"q-{account}-{region}", {})
        with StateFolder(tmp_path) as state:
            state.save({})
        reset_moto()
        with StateFolder(tmp_path) as state:
            state.load()
        for account in (ACCOUNT_ID, "210987654321"):
            for region in ("us-east-1", "eu-west-1"):
                assert list(sqs_backends[account][region].queues) == [f"q-{account}-{region}"]

    def test_registries_are_referred_to_and_not_copied(self, tmp_path):
        backend = S3.with_bucket().backend
        backend.registry, backend.home = s3_backends, s3_backends[ACCOUNT_ID]
        data = moto_state.dump(Contents(tmp_path))
        reset_moto()
        moto_state.restore(data, Contents(tmp_path))
        backend = S3().backend
        assert backend.registry is s3_backends
        assert backend.home is s3_backends[ACCOUNT_ID]

    def test_dictionary_that_changes_is_read_again(self, tmp_path):
        backend = S3.with_bucket().backend
        backend.shy = Shy(3)
        data = moto_state.dump(Contents(tmp_path))
        reset_moto()
        moto_state.restore(data, Contents(tmp_path))
        assert S3().backend.shy == "calm"

    def test_dictionary_that_changes_all_the_time_is_an_error(self, tmp_path):
        S3.with_bucket().backend.shy = Shy(1000)
        with pytest.raises(RuntimeError, match="changed size"):
            moto_state.dump(Contents(tmp_path))


class Shy:
    """Is changed by somebody else the first few times that it is looked at."""

    def __init__(self, times):
        self._times = times

    def __reduce__(self):
        self._times -= 1
        if self._times >= 0:
            raise RuntimeError("dictionary changed size during iteration")
        return str, ("calm",)


def application(environ, start_response):
    environ["called"]()
    return [b""]


class TestQuiet:
    def call(self, guarded, method="POST", called=lambda: None):
        return guarded({"REQUEST_METHOD": method, "called": called}, None)

    def test_counts_what_may_change_something(self):
        quiet = Quiet()
        guarded = quiet.guard(application)
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE"):
            assert self.call(guarded, method) == [b""]
        assert quiet.writes == 3

    def test_counts_a_call_that_fails(self):
        quiet = Quiet()
        with pytest.raises(OSError, match="disk"):
            self.call(quiet.guard(application), called=raise_os_error)
        assert quiet.writes == 1
        with quiet.hold(patience=30):
            pass

    def test_holds_new_calls_back(self):
        quiet = Quiet()
        called = threading.Event()
        caller = threading.Thread(target=self.call, args=(quiet.guard(application), "POST", called.set))
        with quiet.hold():
            caller.start()
            assert not called.wait(0.2)
        caller.join(10)
        assert called.is_set()

    def test_waits_for_the_calls_that_go_on_and_lets_others_through_meanwhile(self):
        quiet = Quiet()
        guarded = quiet.guard(application)
        inside, leave, held = threading.Event(), threading.Event(), threading.Event()

        def stay():
            inside.set()
            leave.wait(10)

        def hold():
            with quiet.hold(patience=30):
                held.set()

        caller = threading.Thread(target=self.call, args=(guarded, "POST", stay))
        holder = threading.Thread(target=hold)
        caller.start()
        inside.wait(10)
        holder.start()
        assert not held.wait(0.2)
        self.call(guarded)
        leave.set()
        assert held.wait(10)
        caller.join(10)
        holder.join(10)

    def test_does_not_wait_for_ever(self):
        quiet = Quiet()
        inside, leave = threading.Event(), threading.Event()

        def stay():
            inside.set()
            leave.wait(10)

        caller = threading.Thread(target=self.call, args=(quiet.guard(application), "POST", stay))
        caller.start()
        inside.wait(10)
        with quiet.hold(patience=0.05):
            assert caller.is_alive()
        leave.set()
        caller.join(10)


class TestSavingWhatHasChanged:
    def test_saves_once(self, tmp_path):
        with StateFolder(tmp_path) as state:
            assert state.save_if_changed({"a": Something(1)})
            assert not state.save_if_changed({"a": Something(1)})
            assert state.save_if_changed({"a": Something(2)})
            assert files(tmp_path)[1] == "moto-2.pickle"

    def test_does_not_save_because_time_has_passed(self, tmp_path):
        with StateFolder(tmp_path) as state:
            assert state.save_if_changed({"a": 1, "now": 1.0})
            assert not state.save_if_changed({"a": 1, "now": 2.0})
            state.save({"a": 1, "now": 3.0})
            assert state.load() == {"a": 1, "now": 3.0}

    def test_sees_what_moto_was_told(self, tmp_path):
        with StateFolder(tmp_path) as state:
            guarded = state.guard(application)
            assert state.save_if_changed({})
            guarded({"REQUEST_METHOD": "GET", "called": lambda: None}, None)
            assert not state.save_if_changed({})
            guarded({"REQUEST_METHOD": "PUT", "called": lambda: None}, None)
            assert state.save_if_changed({})

    def test_own_part_is_a_plain_pickle(self, tmp_path):
        with StateFolder(tmp_path) as state:
            state.save({"a": 1})
        assert pickle.loads((tmp_path / "own-1.pickle").read_bytes()) == {"a": 1}


class TestAutosave:
    def test_saves_when_something_has_changed(self, tmp_path):
        own = {"number": 1}
        with StateFolder(tmp_path) as state:
            autosave = Autosave(state, lambda: dict(own), every=0.01)
            autosave.start()
            eventually((tmp_path / "own-1.pickle").exists)
            own["number"] = 2
            eventually((tmp_path / "own-2.pickle").exists)
            autosave.stop()
        with StateFolder(tmp_path) as state:
            assert state.load() == {"number": 2}

    def test_goes_on_after_a_save_that_failed(self, tmp_path, caplog):
        outcomes = iter([raise_os_error, dict])
        with StateFolder(tmp_path) as state:
            autosave = Autosave(state, lambda: next(outcomes, dict)(), every=0.01)
            autosave.start()
            eventually((tmp_path / "own-1.pickle").exists)
            autosave.stop()
        assert "The state cannot be saved" in caplog.text

    def test_makes_no_last_save(self, tmp_path):
        with StateFolder(tmp_path) as state:
            autosave = Autosave(state, dict, every=600)
            autosave.start()
            autosave.stop()
            assert files(tmp_path) == ["lock"]
