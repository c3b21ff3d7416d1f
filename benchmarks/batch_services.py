"""The AWS that batches are measured against: pretended and quick, or the emulator with a model."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from benchmarks import fake_endpoint
from benchmarks.environment import ROOT, connection
from benchmarks.processes import Aws, Child, ChildDied, end

BUCKET = "bench-batch"
ENDPOINT = fake_endpoint.ENDPOINT
_ROLE = "arn:aws:iam::123456789012:role/bench"
_SKLEARN = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1"
_NOOP = "noop"
_STARTING_SECONDS = 60.0
_SCRIPT = b"""
import joblib, os

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""


def answer(body: bytes, _headers: Mapping[str, str]) -> bytes:  # noqa: ARG001 - as a model is called
    """Be a model that does nothing."""
    return b"{}"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """
    What the service was asked.

    :param submitted: Requests that it took.
    :param twice: Inputs and attempts that it took more than once.
    :param calls: Calls, by their names.
    :param sending_seconds: In how many seconds requests came; not known of the emulator.
    """

    submitted: int
    twice: int
    calls: dict[str, int]
    sending_seconds: float | None


class Service:
    """Where AWS is, and what it was asked."""

    name = ""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = connection(url)

    def counts(self) -> Counts:
        """Return what it was asked so far."""
        raise NotImplementedError


class Pretended(Service):
    """The pretended one."""

    name = "pretended"

    def __init__(self, aws: Aws) -> None:
        super().__init__(aws.url)
        self._aws = aws

    def counts(self) -> Counts:
        """Return what it was asked so far."""
        told = self._aws.figures()
        return Counts(
            submitted=told["taken"],
            twice=told["more_than_once"],
            calls=told["counts"],
            sending_seconds=told["sending_s"],
        )


class Emulated(Service):
    """The emulator."""

    name = "emulator"

    def counts(self) -> Counts:
        """Return what it was asked so far."""
        told = self.ask("counters?identities=no")
        calls = {name: number for of_one in told["calls"].values() for name, number in of_one.items()}
        return Counts(
            submitted=told["submissions"]["total"],
            twice=told["submissions"]["more_than_once"]["inference_id"],
            calls=calls,
            sending_seconds=None,
        )

    def ask(self, what: str) -> Any:
        """Ask the control address something."""
        with urllib.request.urlopen(f"{self.url}/_emulator/{what}", timeout=120) as answered:  # noqa: S310
            return json.load(answered)

    def client(self, service: str) -> Any:
        """Return a client of it."""
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - the emulator takes any
        )


@contextlib.contextmanager
def pretended(folder: Path, *, latency: float) -> Iterator[Pretended]:
    """Run the pretended AWS in a process of its own."""
    environment = {**os.environ, "AIRFLOW_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with Child("benchmarks.fake_endpoint", [], environment) as child:
        aws = Aws(child.said("ready", within=_STARTING_SECONDS)["port"])
        aws.tell("faults", latency=latency)
        yield Pretended(aws)


@contextlib.contextmanager
def emulated(folder: Path, *, model: str = _NOOP, concurrency: int = 16) -> Iterator[Emulated]:
    """Run the emulator in a process of its own, with an endpoint."""
    settings = folder / "emulator.json"
    settings.write_text(json.dumps({"behaviour": {"creation_seconds": 0, "queue_seconds": 0}}))
    noop = f"{_NOOP}=benchmarks.batch_services:answer"
    command = ["-m", "airflow_async_sm.emulator", "--settings", str(settings), "--image", noop]
    with (folder / "emulator.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - the project's own program
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        service = Emulated(_address(process))
        _deploy(service, model, concurrency)
        yield service
    finally:
        process.terminate()
        end(process)


def _address(process: subprocess.Popen[str]) -> str:
    for line in process.stdout or ():
        if found := re.match(r"AWS_ENDPOINT_URL=(\S+)", line):
            return found[1]
    raise ChildDied("the emulator did not start")


def _deploy(service: Emulated, model: str, concurrency: int) -> None:
    s3, sagemaker = service.client("s3"), service.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    container = {"Image": _NOOP}
    if model == "sklearn":
        s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=_trained())
        container = {"Image": _SKLEARN, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    sagemaker.create_model(ModelName=ENDPOINT, PrimaryContainer=container, ExecutionRoleArn=_ROLE)
    variant = {"VariantName": "all", "ModelName": ENDPOINT, "InstanceType": "ml.m5.large"}
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failures"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=ENDPOINT,
        ProductionVariants=[{**variant, "InitialInstanceCount": 1}],
        AsyncInferenceConfig={
            "OutputConfig": output,
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrency},
        },
    )
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def _trained() -> bytes:
    """Return a small real model, as SageMaker takes it."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, species = load_iris(return_X_y=True)
    dumped, packed = io.BytesIO(), io.BytesIO()
    joblib.dump(LogisticRegression(max_iter=500).fit(features, species), dumped)
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("model.joblib", dumped.getvalue()), ("code/inference.py", _SCRIPT)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
