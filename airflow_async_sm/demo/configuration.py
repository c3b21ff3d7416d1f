"""Settings and environment of a local Airflow: the loopback interface only, nothing from the caller."""

from __future__ import annotations

import base64
import configparser
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

LOOPBACK = "127.0.0.1"
ADMIN = "admin"
PASSWORDS_FILE = "passwords.json"  # a file name
# How long a program waits for its turn to write. The default, 5 s, is short on a busy machine.
WRITE_SECONDS = 60
# How long the API server of Airflow 3 does. It answers all requests in one thread, and notes in that thread
# who has asked for what. While it waits there to write, the request of a task that has written already cannot
# be finished, and what that has locked stays locked: only giving up ends this. Tasks wait 5 s for an answer,
# and try again after a server error; so does our client.
SERVER_WRITE_SECONDS = 2
# Twice in the time after which Airflow takes a DAG that was not read for one that is gone.
REREAD_SECONDS = "300"

# What a program needs to run at all. Whatever else the caller has set stays out: above all AIRFLOW__* and
# AWS_*.
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR")

Sections = dict[str, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user of the web page and the REST API."""

    username: str
    password: str

    @classmethod
    def generate(cls) -> Login:
        """An administrator with a password nobody else knows."""
        return cls(username=ADMIN, password=secrets.token_urlsafe(12))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What can be chosen about a local Airflow.

    :param home: Folder for database, logs and configuration.
    :param dags_folder: Folder with the DAG files.
    :param port: Port of the web page and the REST API.
    :param login: Who may log in. ``None``: everybody who can reach the port is an administrator.
    :param parallelism: Tasks that may run at the same time. Airflow 2 on SQLite runs one.
    :param min_heartbeat_interval: Seconds, ``[workers] min_heartbeat_interval``; ``None`` leaves Airflow's
        own default.
    :param paused_at_creation: Whether DAGs are paused when they are first seen.
    """

    home: Path
    dags_folder: Path
    port: int
    login: Login | None = None
    parallelism: int = 4
    min_heartbeat_interval: float | None = None
    paused_at_creation: bool = False

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def airflow_major() -> int:
    """Major version of the installed Airflow."""
    return int(version("apache-airflow").split(".")[0])


def free_port() -> int:
    """
    A loopback port that nobody listens on.

    It is taken from below the range that systems use for outgoing connections: the program that gets the port
    binds it seconds later, and until then no passing connection may take it away.
    """
    candidates = [secrets.choice(range(20_000, 32_000)) for _ in range(50)]
    for port in [*candidates, 0]:
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on the loopback interface")


def write_home(settings: Settings, *, major: int) -> None:
    """
    Write the configuration files into the home folder.

    A file rather than environment variables for three reasons: Airflow's programs start at the same time, and
    without a file each would write one with secrets of its own; somebody who keeps the instance can use the
    command line with nothing but ``AIRFLOW_HOME``; and the caller's variables win over it.
    """
    sections = _common(settings)
    for name, options in (_airflow_3(settings) if major >= 3 else _airflow_2(settings)).items():
        sections.setdefault(name, {}).update(options)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(
        # Airflow reads the file with interpolation.
        {name: {key: value.replace("%", "%%") for key, value in o.items()} for name, o in sections.items()}
    )
    with _private(settings.home / "airflow.cfg") as file:
        parser.write(file)
    if major < 3:
        role = "AUTH_ROLE_PUBLIC = 'Admin'\n" if settings.login is None else ""
        with _private(settings.home / "webserver_config.py") as file:
            file.write(f"from flask_appbuilder.const import AUTH_DB\n\nAUTH_TYPE = AUTH_DB\n{role}")
    elif settings.login is not None:
        with _private(settings.home / PASSWORDS_FILE) as file:
            json.dump({settings.login.username: settings.login.password}, file)


def environment_of_programs(
    home: Path, additions: Mapping[str, str], *, caller: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """
    The environment of Airflow's programs.

    :param home: ``AIRFLOW_HOME``.
    :param additions: Variables to add; they win over everything but the home.
    :param caller: Environment to take the few variables from that are passed on.
    """
    passed_on = {name: caller[name] for name in PASSED_ON if name in caller}
    # Airflow 2 starts tasks by the name of the program, so this interpreter's folder has to come first.
    programs = os.pathsep.join([str(Path(sys.executable).parent), passed_on.get("PATH", os.defpath)])
    return {
        **passed_on,
        "PATH": programs,
        # A DAG without a usable connection must not find a real account on this machine.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SCARF_ANALYTICS": "false",
        **additions,
        # Not to be replaced: this is how our processes are found again.
        "AIRFLOW_HOME": str(home),
    }


def environment_of_api_server(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """
    The environment of the API server of Airflow 3.

    :param home: ``AIRFLOW_HOME``.
    :param environment: That of all programs; a database that it names stays.
    """
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _database(home, SERVER_WRITE_SECONDS), **environment}


def _database(home: Path, write_seconds: int) -> str:
    return f"sqlite:///{home}/airflow.db?timeout={write_seconds}"


def _common(settings: Settings) -> Sections:
    return {
        "core": {
            "dags_folder": str(settings.dags_folder),
            "dags_are_paused_at_creation": str(settings.paused_at_creation),
            "parallelism": str(settings.parallelism),
            "load_examples": "False",
            "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            # The default asks the name service, which can take many seconds on a machine without a network.
            "hostname_callable": "socket.gethostname",
        },
        "database": {
            # SQLite takes one write at a time. Who does not wait for his turn loses it, and may end, as the
            # scheduler does.
            "sql_alchemy_conn": _database(settings.home, WRITE_SECONDS),
            # The database is made once, before it is needed; no need for every program to compare its
            # revision.
            "check_migrations": "False",
        },
        "logging": {"colored_console_log": "False"},
        # The default is to rest a second between two rounds, which a task in three steps feels three times.
        "scheduler": {"scheduler_idle_sleep_time": "0.2"},
        "usage_data_collection": {"enabled": "False"},
    }


def _airflow_3(settings: Settings) -> Sections:
    sections: Sections = {
        "core": {
            "executor": "LocalExecutor",
            "execution_api_server_url": f"{settings.url}/execution/",
            "simple_auth_manager_all_admins": str(settings.login is None),
        },
        "api": {
            "host": LOOPBACK,
            "port": str(settings.port),
            "base_url": settings.url,
            "workers": "1",
            "secret_key": secrets.token_hex(16),
        },
        "api_auth": {"jwt_secret": secrets.token_hex(32), "jwt_issuer": "local-airflow"},
        # Files that appear or change later are seen within seconds instead of minutes. Others are not read
        # again twice a minute, which costs most while nothing runs.
        "dag_processor": {
            "refresh_interval": "5",
            "bundle_refresh_check_interval": "1",
            "min_file_process_interval": REREAD_SECONDS,
        },
    }
    if settings.login is not None:
        sections["core"]["simple_auth_manager_users"] = f"{settings.login.username}:admin"
        sections["core"]["simple_auth_manager_passwords_file"] = str(settings.home / PASSWORDS_FILE)
    if settings.min_heartbeat_interval is not None:
        sections["workers"] = {"min_heartbeat_interval": str(settings.min_heartbeat_interval)}
    return sections


def _airflow_2(settings: Settings) -> Sections:
    backends = [
        "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
        "airflow.api.auth.backend.session",
    ]
    return {
        # The only executor of Airflow 2 that works on SQLite.
        "core": {"executor": "SequentialExecutor"},
        "webserver": {
            "web_server_host": LOOPBACK,
            "web_server_port": str(settings.port),
            "base_url": settings.url,
            "workers": "1",
            "secret_key": secrets.token_hex(16),
            "warn_deployment_exposure": "False",
        },
        "api": {
            "auth_backends": ",".join(backends) if settings.login else "airflow.api.auth.backend.default",
        },
        "scheduler": {"dag_dir_list_interval": "5", "min_file_process_interval": "30"},
    }


def _private(path: Path) -> TextIO:
    """Open a new file that only we can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
