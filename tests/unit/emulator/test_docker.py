"""Containers in Docker, before a stand-in for its command that starts real programs."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_async_sm.emulator import Behaviour
from airflow_async_sm.emulator.models.containers import ProvisioningFailed
from airflow_async_sm.emulator.models.docker import LABEL, Docker
from airflow_async_sm.emulator.models.images import Images
from airflow_async_sm.emulator.models.kinds import new_container
from airflow_async_sm.emulator.work.invocation import Exchange, InvocationFailed
from tests.world import eventually

STAND_IN = Path(__file__).parents[2] / "docker_program.py"
BEHAVIOUR = Behaviour(container_stop_grace=1, ping_interval=0.02)


class Engine:
    """What the stand-in knows and has been told."""

    def __init__(self, folder):
        self.folder = folder

    def calls(self, name):
        lines = (self.folder / "calls").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call[0] == name]

    def containers(self):
        return {
            path.parent.name: json.loads(path.read_text()) for path in self.folder.glob("airflow*/about.json")
        }

    def is_gone(self):
        return not self.containers() and all(
            (path / "exit").exists() for path in self.folder.glob("removed-*")
        )


@pytest.fixture
def engine(tmp_path, monkeypatch):
    state, commands = tmp_path / "state", tmp_path / "bin"
    state.mkdir()
    commands.mkdir()
    docker = commands / "docker"
    docker.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_STATE", str(state))
    (state / "calls").touch()
    return Engine(state)


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a container; every container is removed in the end."""
    made = []

    def container(image="echo", *, options=(), url="http://127.0.0.1:1", **environment):
        model_folder = tmp_path / "model"
        model_folder.mkdir(exist_ok=True)
        made.append(
            new_container(
                Docker(image, options),
                name="e/1",
                url=url,
                region="eu-west-1",
                model_folder=model_folder,
                environment=environment,
                log_path=tmp_path / "log",
                behaviour=BEHAVIOUR,
            )
        )
        return made[-1]

    yield container
    for one in made:
        one.kill()


def start(container):
    container.start()
    container.wait_until_healthy(20, threading.Event())
    return container


def post(container, mode="echo", body=b"payload", calling=lambda: None):
    headers = {"X-Amzn-SageMaker-Custom-Attributes": mode}
    answer = Exchange(5).post(container, io.BytesIO(body), len(body), headers, endpoint="e", calling=calling)
    with answer.body:
        return answer.body.read()


def test_container_is_run_as_the_service_does_and_removed(engine, make, tmp_path):
    container = start(make("echo", options=("--gpus", "all"), MODEL="m", ODD="a=b c"))
    try:
        assert post(container) == b"payload"
        assert container.ended is None
        variables = json.loads(post(container, "environment_back"))
        assert (variables["MODEL"], variables["ODD"]) == ("m", "a=b c")
        assert variables["AWS_REGION"] == "eu-west-1"
        # What is in this process's environment stays here, and its loopback address means nothing there.
        assert not {"HOME", "AWS_ENDPOINT_URL"} & set(variables)
        ((name, about),) = engine.containers().items()
        assert about["label"] == f"{LABEL}=e/1"
        assert about["mount"] == f"type=bind,source={tmp_path / 'model'},target=/opt/ml/model,readonly"
        (run,) = engine.calls("run")
        assert run[-4:] == ["--gpus", "all", "echo", "serve"]
        assert {"SM_MODEL_DIR=/opt/ml/model", "SAGEMAKER_BIND_TO_PORT=8080"} <= set(about["env"])
    finally:
        container.stop()
    assert engine.is_gone()
    assert engine.calls("stop") == [["stop", "--time", "1", name]]
    assert engine.calls("rm") == [["rm", "--force", "--volumes", name]]
    assert container.ended == "exit code 143"


def test_address_that_a_container_can_reach_is_passed_on(engine, make):
    container = start(make(url="http://192.0.2.1:80"))
    assert json.loads(post(container, "environment_back"))["AWS_ENDPOINT_URL"] == "http://192.0.2.1:80"


def test_stubborn_container_is_killed_after_its_time(engine, make):
    container = start(make(MODE="stubborn"))
    container.stop()
    assert container.ended == "exit code 137"
    assert engine.is_gone()


def test_container_that_ends_at_once_says_why(engine, make, caplog):
    container = make(MODE="exit")
    with pytest.raises(ProvisioningFailed, match="ended with exit code 3 before it was healthy"):
        start(container)
    assert "this model is broken" in caplog.text
    assert container.log_tail().strip() == "this model is broken"
    container.stop()
    assert engine.is_gone()


def test_container_without_its_port_is_never_healthy(engine, make):
    container = make("portless")
    container.start()
    with pytest.raises(ProvisioningFailed, match=r"within 0\.2 seconds"):
        container.wait_until_healthy(0.2, threading.Event())


def test_crash_ends_it_and_what_is_under_way(engine, make):
    container = start(make())
    lost, under_way = [], threading.Event()

    def call():
        try:
            post(container, "hang", calling=under_way.set)
        except InvocationFailed as failure:
            lost.append(failure.reason)

    caller = threading.Thread(target=call)
    caller.start()
    assert under_way.wait(20)
    container.crash()
    caller.join(20)
    assert lost == ["Connection reset by peer for the e endpoint. Please retry."]
    assert (container.ended, container.crashed) == ("exit code 137", True)
    container.stop()
    assert engine.is_gone()


def test_end_of_its_own_is_noticed(engine, make):
    container = start(make())
    with pytest.raises(InvocationFailed):
        post(container, "crash")
    assert eventually(lambda: container.ended) == "exit code 17"


def test_container_that_somebody_else_killed_is_gone(engine, make):
    container = start(make())
    (name,) = engine.containers()
    subprocess.run(["docker", "kill", "--signal", "KILL", name], check=True)
    assert eventually(lambda: container.ended) == "exit code 137"


def test_kill_leaves_nothing(engine, make):
    container = start(make(MODE="stubborn"))
    container.kill()
    assert engine.is_gone()


def test_stop_does_not_wait_for_an_image_that_is_being_fetched(engine, make):
    container = make("slow")
    failures = []

    def begin():
        try:
            container.start()
        except ProvisioningFailed as failure:
            failures.append(str(failure))

    starter = threading.Thread(target=begin)
    starter.start()
    eventually(lambda: engine.calls("run"))
    container.stop()
    starter.join(20)
    assert not starter.is_alive()
    assert failures == ["The container was stopped before its start."]
    assert engine.containers() == {}


def test_container_that_is_stopped_before_its_start_never_starts(engine, make):
    container = make()
    container.stop()
    container.start()
    assert engine.calls("run") == []
    assert container.ended == "a stop before its start"


def test_image_that_cannot_be_had(engine, make):
    expected = (
        'Docker cannot run the image "absent": Error response from daemon: pull access denied for absent'
    )
    with pytest.raises(ProvisioningFailed, match=expected):
        make("absent").start()


def test_engine_that_does_not_run(engine, make):
    (engine.folder / "unreachable").touch()
    with pytest.raises(
        ProvisioningFailed, match="whose engine cannot be reached: Cannot connect to the Docker"
    ):
        make().start()


def test_machine_without_docker(make, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ProvisioningFailed, match="the docker command cannot be started: .*Install it, or let"
    ):
        make().start()


def real_docker_without_engine():
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60)
    return done.returncode != 0 and "permission denied" not in done.stderr


@pytest.mark.skipif("not real_docker_without_engine()", reason="needs the docker command without its engine")
def test_real_command_without_engine(make):
    container = make()
    with pytest.raises(ProvisioningFailed, match="whose engine cannot be reached: "):
        container.start()
    container.stop()


def test_model_names_the_image_where_the_mapping_does_not():
    images = Images({"a": Docker(), "b": "docker", "c": "docker:public/c:1", "d": Docker("public/d:2")})
    found = [images.find(f"registry:5000/x/{name}:9").image for name in "abcd"]
    assert found == ["registry:5000/x/a:9", "registry:5000/x/b:9", "public/c:1", "public/d:2"]


def test_ping_of_the_stand_in_is_a_real_one(engine, make):
    address = start(make()).address
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200
    connection.close()
