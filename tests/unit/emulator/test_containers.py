"""Containers that are programs, or somebody else's servers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.models import containers
from airflow_async_sm.emulator.models.callables import CallableContainer
from airflow_async_sm.emulator.models.containers import ProcessContainer, ProvisioningFailed
from airflow_async_sm.emulator.models.docker import Docker, DockerContainer
from airflow_async_sm.emulator.models.kinds import container_environment, docker_environment, new_container
from airflow_async_sm.emulator.models.ports import free_port, is_served
from airflow_async_sm.emulator.models.servers import ServerContainer
from tests.world import PROGRAM, eventually

BEHAVIOUR = Behaviour(container_stop_grace=0.5, ping_interval=0.01, ping_timeout=0.5)
# Starts a child in its own session that ignores SIGTERM, and says who it is.
PARENT = [
    sys.executable,
    "-c",
    "import os, subprocess, sys\n"
    "subprocess.Popen([sys.executable, *sys.argv[1:]], env=dict(os.environ, MODE='stubborn')).wait()",
    *PROGRAM[1:],
]


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a program's container; every one is killed in the end."""
    made = []

    def container(command=PROGRAM, **environment):
        made.append(
            ProcessContainer(
                name="e/1",
                command=command,
                environment={"PATH": os.environ["PATH"], **environment},
                log_path=tmp_path / f"log-{len(made)}",
                behaviour=BEHAVIOUR,
            )
        )
        return made[-1]

    yield container
    for one in made:
        one.kill()


@pytest.fixture
def server():
    """Return a server that answers pings with the statuses that it is given, the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        statuses = [200]

        def do_GET(self):
            assert self.path == "/base/ping"
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def healthy(container):
    container.start()
    container.wait_until_healthy(20, threading.Event())
    return container


def pinged(address):
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    finally:
        connection.close()


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestProcess:
    def test_nothing_runs_before_the_start(self, make, tmp_path):
        container = make(PID_FILE=str(tmp_path / "pid"))
        assert (container.address, container.ended, container.log_tail()) == (None, None, "")
        healthy(container)
        assert pinged(container.address) == 200
        assert (container.ended, container.crashed, container.name) == (None, False, "e/1")

    def test_stop_ends_it(self, make, tmp_path):
        container = healthy(make(PID_FILE=str(tmp_path / "pid")))
        container.stop()
        assert container.ended == "signal SIGTERM"
        assert not exists(int((tmp_path / "pid").read_text()))
        container.stop()

    def test_what_it_started_ends_with_it_after_its_time(self, make, tmp_path):
        container = healthy(make(PARENT, PID_FILE=str(tmp_path / "pid")))
        pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        container.ask_to_stop()
        # Nobody has waited for it.
        assert is_running(pid)
        container.stop()
        assert container.ended == "signal SIGTERM"
        eventually(lambda: not is_running(pid))

    def test_stubborn_program_gets_its_time_once(self, make):
        container = healthy(make(MODE="stubborn"))
        before = time.monotonic()
        container.ask_to_stop()
        container.ask_to_stop()
        container.stop()
        assert 0.5 <= time.monotonic() - before < 3
        assert container.ended == "signal SIGKILL"

    def test_kill_does_not_wait(self, make):
        container = healthy(make(MODE="stubborn"))
        container.kill()
        assert eventually(lambda: container.ended) == "signal SIGKILL"

    def test_crash_is_the_end_at_once(self, make, tmp_path):
        container = healthy(make(PARENT, PID_FILE=str(tmp_path / "pid")))
        container.crash()
        assert (container.ended, container.crashed) == ("signal SIGKILL", True)
        eventually(lambda: not is_running(int((tmp_path / "pid").read_text())))

    def test_crash_before_the_start_is_no_error(self, make):
        container = make()
        container.crash()
        assert container.crashed

    def test_end_of_its_own_has_its_code(self, make):
        container = make([sys.executable, "-c", "print('last words'); raise SystemExit(17)"])
        container.start()
        assert eventually(lambda: container.ended) == "exit code 17"
        assert container.log_tail() == "last words\n"

    def test_only_the_end_of_much_output_is_shown(self, make):
        container = make([sys.executable, "-c", "print('begin' + 'x' * 100_000 + 'end')"])
        container.start()
        eventually(lambda: container.ended)
        assert len(container.log_tail()) == 4_000
        assert container.log_tail().endswith("xend\n")

    def test_container_that_is_stopped_before_its_start_never_starts(self, make):
        container = make()
        container.stop()
        container.start()
        assert (container.ended, container.address) == ("a stop before its start", None)

    def test_container_that_is_killed_before_its_start_never_starts(self, make):
        container = make()
        container.kill()
        container.start()
        assert container.address is None

    def test_container_that_is_killed_in_the_middle_of_its_start_does_not_live(self, make, monkeypatch):
        container, begin = make(), containers.ProcessGroup

        def begin_and_be_interrupted(command, **described):
            container.kill()
            return begin(command, **described)

        monkeypatch.setattr(containers, "ProcessGroup", begin_and_be_interrupted)
        container.start()
        assert eventually(lambda: container.ended) == "signal SIGKILL"

    def test_command_that_is_not_there(self, make):
        with pytest.raises(ProvisioningFailed, match="cannot be started: .*absent"):
            make(["/absent/program"]).start()

    def test_program_that_ends_before_it_is_healthy(self, make, caplog):
        container = make(MODE="exit")
        expected = "ended with exit code 3 before it was healthy and did not pass the ping health check"
        with pytest.raises(ProvisioningFailed, match=expected):
            healthy(container)
        assert "this model is broken" in caplog.text

    def test_program_that_is_never_healthy(self, make):
        container = make(MODE="sick")
        container.start()
        with pytest.raises(ProvisioningFailed, match=r"GET /ping with 200 within 0\.3 seconds"):
            container.wait_until_healthy(0.3, threading.Event())

    def test_wait_ends_when_nobody_is_interested(self, make):
        container, stopping = make(MODE="sick"), threading.Event()
        container.start()
        stopping.set()
        container.wait_until_healthy(20, stopping)

    def test_port_that_was_taken_meanwhile_is_replaced(self, make, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports = [taken.getsockname()[1]]
            monkeypatch.setattr(containers, "free_port", lambda: ports.pop() if ports else free_port())
            container = healthy(make())
            assert container.address.port != taken.getsockname()[1]
        assert pinged(container.address) == 200

    def test_second_taken_port_is_a_failure(self, make, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            monkeypatch.setattr(containers, "free_port", lambda: taken.getsockname()[1])
            with pytest.raises(ProvisioningFailed, match="exit code 1"):
                healthy(make())

    def test_many_start_at_the_same_time(self, make):
        made = [make() for _ in range(8)]
        for container in made:
            container.start()
        for container in made:
            container.wait_until_healthy(30, threading.Event())
        assert len({container.address.port for container in made}) == 8


def is_running(pid):
    """Return whether a process runs; one that only has to be waited for does not, where that can be seen."""
    if not Path("/proc/self").exists():
        return exists(pid)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestServer:
    def made(self, server):
        return ServerContainer(
            name="e/1", url=f"http://127.0.0.1:{server.server_port}/base/", behaviour=BEHAVIOUR
        )

    def test_address_has_the_path_below_which_the_contract_is_kept(self, server):
        container = self.made(server)
        assert (container.address.port, container.address.base_path) == (server.server_port, "/base")

    def test_health_is_waited_for(self, server):
        server.RequestHandlerClass.statuses = [500, 503, 200]
        healthy(self.made(server))
        assert server.RequestHandlerClass.statuses == [200]

    def test_server_that_is_not_there_is_not_healthy(self, server):
        server.RequestHandlerClass.statuses = [503]
        with pytest.raises(ProvisioningFailed, match=r"within 0\.1 seconds"):
            self.made(server).wait_until_healthy(0.1, threading.Event())

    def test_it_is_never_stopped(self, server):
        container = healthy(self.made(server))
        container.ask_to_stop()
        container.stop()
        container.kill()
        container.wait_until_healthy(5, threading.Event())
        assert container.ended is None
        assert container.log_tail() == "(a server that the emulator did not start)"

    def test_crash_is_that_of_one_instance(self, server):
        first, second = self.made(server), self.made(server)
        first.crash()
        assert (first.ended, first.crashed) == ("signal SIGKILL, imitated", True)
        with pytest.raises(ProvisioningFailed, match="ended with signal SIGKILL"):
            first.wait_until_healthy(5, threading.Event())
        assert healthy(second).ended is None


class TestKinds:
    def new(self, stand, tmp_path):
        return new_container(
            stand,
            name="e/1",
            url="http://127.0.0.1:1",
            region="eu-west-1",
            model_folder=tmp_path,
            environment={"MODEL": "m"},
            log_path=tmp_path / "log",
            behaviour=BEHAVIOUR,
        )

    @pytest.mark.parametrize(
        ("stand", "kind"),
        [
            (["program"], ProcessContainer),
            (("program",), ProcessContainer),
            ("http://127.0.0.1:1", ServerContainer),
            (lambda body, headers: body, CallableContainer),
            (Docker("image"), DockerContainer),
        ],
    )
    def test_what_stands_for_the_image_decides(self, tmp_path, stand, kind):
        container = self.new(stand, tmp_path)
        assert type(container) is kind
        assert (container.name, container.ended, container.crashed) == ("e/1", None, False)

    def test_variables_of_a_process(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_PROFILE", "mine")
        monkeypatch.setenv("AIRFLOW_HOME", "/home")
        monkeypatch.setenv("OTHER", "inherited")
        found = container_environment(
            url="http://127.0.0.1:1", region="r", model_folder=tmp_path, model={"AWS_REGION": "theirs"}
        )
        assert (found["OTHER"], found["AWS_REGION"], found["AWS_DEFAULT_REGION"]) == (
            "inherited",
            "theirs",
            "r",
        )
        assert (found["AWS_ENDPOINT_URL"], found["SM_MODEL_DIR"]) == ("http://127.0.0.1:1", str(tmp_path))
        assert found["AWS_ACCESS_KEY_ID"] == "testing"
        assert not {"AWS_PROFILE", "AIRFLOW_HOME"} & set(found)
        assert "127.0.0.1" in found["NO_PROXY"].split(",")

    @pytest.mark.parametrize(
        ("url", "passed"),
        [
            ("http://127.0.0.1:1", False),
            ("http://[::1]:1", False),
            ("http://localhost:1", False),
            ("http://192.0.2.1:1", True),
            ("http://build-host:1", True),
        ],
    )
    def test_variables_in_docker(self, monkeypatch, url, passed):
        monkeypatch.setenv("OTHER", "of this machine")
        found = docker_environment(url=url, region="r", model={"MODEL": "m"})
        assert (found["MODEL"], found["AWS_REGION"]) == ("m", "r")
        assert "OTHER" not in found
        assert (found.get("AWS_ENDPOINT_URL") == url) is ("NO_PROXY" in found) is passed


class TestPorts:
    def test_ports_are_free_and_each_is_given_once(self):
        ports = [free_port() for _ in range(50)]
        assert len(set(ports)) == 50
        assert all(20_000 <= port <= 32_000 for port in ports)
        assert not any(is_served(port) for port in ports)

    def test_port_in_use_is_not_given(self, monkeypatch):
        monkeypatch.setattr("airflow_async_sm.emulator.models.ports._can_be_bound", lambda port: False)
        port = free_port()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))

    def test_listener_is_noticed(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            assert is_served(listener.getsockname()[1])
        assert not is_served(free_port())


def test_signal_names_are_those_of_the_system(make, tmp_path):
    container = healthy(make(PID_FILE=str(tmp_path / "pid")))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR1)
    assert eventually(lambda: container.ended) == "signal SIGUSR1"
