"""Environment and configuration files, for both major versions. Nothing is started."""

from __future__ import annotations

import configparser
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from airflow_async_sm.demo.configuration import (
    Login,
    Settings,
    airflow_major,
    environment_of_api_server,
    environment_of_programs,
    free_port,
    write_home,
)

LOGIN = Login(username="admin", password="pw")


class TestEnvironment:
    def test_callers_airflow_and_aws_settings_stay_out(self) -> None:
        caller = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW_HOME": "/somewhere",
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AWS_PROFILE": "production",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "HTTPS_PROXY": "http://proxy",
            "HOME": "/home/me",
        }
        environment = environment_of_programs(Path("/tmp/home"), {}, caller=caller)
        assert environment["AIRFLOW_HOME"] == "/tmp/home"
        assert environment["HOME"] == "/home/me"
        assert not {name for name in environment if name.startswith(("AIRFLOW_", "HTTPS_"))} - {
            "AIRFLOW_HOME"
        }
        assert "AWS_PROFILE" not in environment
        assert "AWS_ACCESS_KEY_ID" not in environment

    def test_accounts_configured_on_the_machine_cannot_be_found(self) -> None:
        environment = environment_of_programs(Path("/h"), {}, caller={})
        assert environment["AWS_CONFIG_FILE"] == os.devnull
        assert environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
        assert environment["AWS_EC2_METADATA_DISABLED"] == "true"

    def test_this_interpreters_programs_come_first(self) -> None:
        folder = str(Path(sys.executable).parent)
        with_path = environment_of_programs(Path("/h"), {}, caller={"PATH": "/usr/bin"})
        assert with_path["PATH"] == os.pathsep.join([folder, "/usr/bin"])
        assert environment_of_programs(Path("/h"), {}, caller={})["PATH"].startswith(folder + os.pathsep)

    def test_additions_win(self) -> None:
        additions = {"PYTHONPATH": "/mine", "AWS_CONFIG_FILE": "/cfg", "AIRFLOW__CORE__PARALLELISM": "1"}
        environment = environment_of_programs(Path("/h"), additions, caller={"PYTHONPATH": "/theirs"})
        assert {name: environment[name] for name in additions} == additions

    def test_the_real_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANG", "xx_XX.UTF-8")
        assert environment_of_programs(Path("/h"), {})["LANG"] == "xx_XX.UTF-8"


class TestEnvironmentOfTheApiServer:
    NAME = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

    def test_it_gives_up_writing_before_a_task_gives_up_waiting_for_it(self, tmp_path: Path) -> None:
        """A worker waits 5 s for an answer."""
        write_home(settings(tmp_path), major=3)
        others = read(tmp_path)["database"]["sql_alchemy_conn"]
        its = environment_of_api_server(tmp_path, {"PATH": "/bin"})
        assert its["PATH"] == "/bin"
        file, _, seconds = its[self.NAME].partition("?timeout=")
        assert 0 < int(seconds) < 5
        assert others.startswith(f"{file}?timeout=")

    def test_a_database_of_the_callers_stays(self) -> None:
        assert environment_of_api_server(Path("/h"), {self.NAME: "postgresql://x"}) == {
            self.NAME: "postgresql://x"
        }


def settings(home: Path, **changes: object) -> Settings:
    values = {"home": home, "dags_folder": home / "100% dags", "port": 20_123, **changes}
    return Settings(**values)  # type: ignore[arg-type]


def read(home: Path) -> configparser.ConfigParser:
    # As Airflow reads it: with interpolation.
    parser = configparser.ConfigParser()
    parser.read(home / "airflow.cfg")
    return parser


class TestHomeAirflow3:
    def test_listens_on_the_loopback_interface_only(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path), major=3)
        config = read(tmp_path)
        assert config["api"]["host"] == "127.0.0.1"
        assert config["api"]["port"] == "20123"
        assert config["core"]["execution_api_server_url"] == "http://127.0.0.1:20123/execution/"

    def test_defaults(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path), major=3)
        config = read(tmp_path)
        assert config["core"]["executor"] == "LocalExecutor"
        assert config["core"]["load_examples"] == "False"
        assert config["core"]["dags_are_paused_at_creation"] == "False"
        assert config["core"]["simple_auth_manager_all_admins"] == "True"
        assert config["core"]["dags_folder"] == f"{tmp_path}/100% dags"
        assert "workers" not in config
        assert len(config["api_auth"]["jwt_secret"]) == 64

    def test_options_are_written(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path, parallelism=2, min_heartbeat_interval=1, paused_at_creation=True)
        write_home(chosen, major=3)
        config = read(tmp_path)
        assert config["core"]["parallelism"] == "2"
        assert config["workers"]["min_heartbeat_interval"] == "1"
        assert config["core"]["dags_are_paused_at_creation"] == "True"

    def test_login_replaces_open_access(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path, login=LOGIN), major=3)
        core = read(tmp_path)["core"]
        assert core["simple_auth_manager_all_admins"] == "False"
        assert core["simple_auth_manager_users"] == "admin:admin"
        assert json.loads(Path(core["simple_auth_manager_passwords_file"]).read_text()) == {"admin": "pw"}

    def test_nobody_else_can_read_the_secrets(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path, login=LOGIN), major=3)
        assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {
            "airflow.cfg": 0,
            "passwords.json": 0,
        }


class TestHomeAirflow2:
    def test_defaults(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path), major=2)
        config = read(tmp_path)
        assert config["core"]["executor"] == "SequentialExecutor"
        assert config["webserver"]["web_server_host"] == "127.0.0.1"
        assert config["api"]["auth_backends"] == "airflow.api.auth.backend.default"
        assert "AUTH_ROLE_PUBLIC = 'Admin'" in (tmp_path / "webserver_config.py").read_text()

    def test_login_replaces_open_access(self, tmp_path: Path) -> None:
        write_home(settings(tmp_path, login=LOGIN), major=2)
        assert "basic_auth" in read(tmp_path)["api"]["auth_backends"]
        assert "AUTH_ROLE_PUBLIC" not in (tmp_path / "webserver_config.py").read_text()


def test_every_home_has_secrets_of_its_own(tmp_path: Path) -> None:
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_home(settings(tmp_path / name), major=3)
        config = read(tmp_path / name)
        keys |= {config["core"]["fernet_key"], config["api"]["secret_key"], config["api_auth"]["jwt_secret"]}
    assert len(keys) == 6


def test_generated_logins_differ() -> None:
    assert Login.generate().password != Login.generate().password


def test_free_port_can_be_bound() -> None:
    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_free_port_falls_back_to_the_systems_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        busy = taken.getsockname()[1]
        monkeypatch.setattr("airflow_async_sm.demo.configuration.secrets.choice", lambda _range: busy)
        assert free_port() not in {0, busy}


def test_free_port_says_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(OSError, match="no free port"):
        free_port()


def test_major_version_is_that_of_the_installed_airflow() -> None:
    import airflow

    assert airflow_major() == int(airflow.__version__.split(".")[0])
