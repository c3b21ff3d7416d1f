"""
The service that the contract tests ask: an emulator of their own, or the real AWS.

Both sides have the same clients, the same model and the same words. What differs is where they are, how long
one waits, and whose image it is.

For AWS: credentials as boto3 finds them (variables, a profile, a role of the machine), and

AIRFLOW_ASYNC_SM_CONTRACT_ROLE
    ARN of an execution role that SageMaker may assume. It needs AmazonSageMakerFullAccess, read and write
    access to the bucket, and ``sns:Publish``.
AIRFLOW_ASYNC_SM_CONTRACT_BUCKET
    Name of a bucket in that region. Everything is put below a folder of its own and removed again.
AIRFLOW_ASYNC_SM_CONTRACT_REGION
    The region, for example ``us-east-1``.
AIRFLOW_ASYNC_SM_CONTRACT_IMAGE
    Address of AWS's scikit-learn image in that region. Only ``us-east-1`` has a default.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tarfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from tests.inbox import Inbox

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
VARIANT = "AllTraffic"
STAND_IN = [sys.executable, str(Path(__file__).with_name("container_script.py"))]

# What every endpoint of the contract runs. It does what the payload says, and echoes any other payload.
SCRIPT = b"""
import json
import time

import flask


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return body.encode() if isinstance(body, str) else body


def predict_fn(body, model):
    try:
        order = json.loads(body)
    except ValueError:
        order = None
    if not isinstance(order, dict):
        return body
    time.sleep(order.get("sleep", 0))
    if "status" in order:
        answer = flask.Response(order["answer"].encode("latin-1"), order["status"])
        answer.headers["Content-Type"] = "application/x-refusal; v=1"
        flask.abort(answer)
    if order.get("headers"):
        return json.dumps({name.lower(): value for name, value in flask.request.headers.items()})
    return body


def output_fn(result, accept):
    return result, "application/octet-stream"
"""
BROKEN = b"raise RuntimeError('this model cannot be loaded')\n"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How many real seconds one waits at most for something, and between two looks."""

    endpoint: float
    rollback: float
    request: float
    message: float
    metric: float
    scaling: float
    pause: float


ON_AWS = Patience(endpoint=1800, rollback=3600, request=300, message=180, metric=900, scaling=3600, pause=5.0)
LOCALLY = Patience(endpoint=30, rollback=60, request=30, message=20, metric=30, scaling=120, pause=0.05)


def new_name():
    return f"contract-{uuid.uuid4().hex[:16]}"


class Service:
    """
    One region of one account, with a folder in a bucket, and everything that a test made there.

    :param client: Makes a client of a service, as boto3's sessions do.
    :param speed: How many seconds of the service pass in a real one.
    """

    def __init__(self, client, *, region, bucket, role, image, patience, speed=1.0):
        self.region, self.bucket, self.role, self.image = region, bucket, role, image
        self.patience, self.speed = patience, speed
        self.s3 = client("s3")
        self.control = client("sagemaker")
        self.runtime = client("sagemaker-runtime")
        self.sns = client("sns")
        self.sqs = client("sqs")
        self.cloudwatch = client("cloudwatch")
        self.scaling = client("application-autoscaling")
        self._cleaning = contextlib.ExitStack()
        self.folder = f"contract-{uuid.uuid4().hex}"
        self._cleaning.callback(self._empty_folder)

    def close(self):
        """Remove everything that was made, newest first; go on whatever fails, and raise that at the end."""
        self._cleaning.close()

    def later(self, call, **members):
        """Note a call that removes something; it is fine if that is gone already."""

        def remove():
            try:
                call(**members)
            except ClientError as error:
                gone = ("ValidationException", "ObjectNotFoundException", "NotFound", "ResourceNotFound")
                if not error.response["Error"]["Code"].endswith(gone):
                    raise

        self._cleaning.callback(remove)

    # What is made

    def put(self, content):
        """Store an input and return its address."""
        key = f"{self.folder}/in/{uuid.uuid4()}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def path(self, name):
        return f"s3://{self.bucket}/{self.folder}/{name}"

    def model(self, *, script=SCRIPT):
        """Create a model from a script and return its name."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            info = tarfile.TarInfo("code/inference.py")
            info.size = len(script)
            tar.addfile(info, io.BytesIO(script))
        name = new_name()
        environment = {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3600",
            "SAGEMAKER_REGION": self.region,
        }
        container = {
            "Image": self.image,
            "ModelDataUrl": self._upload(f"models/{name}/model.tar.gz", packed.getvalue()),
            "Environment": environment,
        }
        self.control.create_model(ModelName=name, ExecutionRoleArn=self.role, PrimaryContainer=container)
        self.later(self.control.delete_model, ModelName=name)
        return name

    def config(self, model, *, concurrency=None, failures=True, topics=None, name=None):
        """Create an endpoint configuration and return its name."""
        name = name or new_name()
        output = {"S3OutputPath": self.path(f"{name}/out")}
        if failures:
            output["S3FailurePath"] = self.path(f"{name}/failures")
        if topics:
            output["NotificationConfig"] = topics
        asynchronous = {"OutputConfig": output}
        if concurrency:
            asynchronous["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": concurrency}
        self.control.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[self.variant(model)],
            AsyncInferenceConfig=asynchronous,
        )
        self.later(self.control.delete_endpoint_config, EndpointConfigName=name)
        return name

    def variant(self, model):
        return {
            "VariantName": VARIANT,
            "ModelName": model,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "ContainerStartupHealthCheckTimeoutInSeconds": 600,
        }

    def endpoint(self, config, **members):
        """Create an endpoint, wait until it serves, and return its name."""
        name = new_name()
        self.control.create_endpoint(EndpointName=name, EndpointConfigName=config, **members)
        self._cleaning.callback(self._delete_endpoint, name)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def inbox(self):
        """Return a queue that gets what is published to two topics of its own."""
        return Inbox(self)

    # What is asked

    def submit(self, name, payload=b"payload", **members):
        """Send a request; a dict is an order to the script."""
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        if "InputLocation" not in members:
            members.setdefault("Body", payload)
        return self.runtime.invoke_endpoint_async(EndpointName=name, **members)

    def outcome(self, response, *, within=None):
        """Wait until a request has left an object, and return which of the two and its bytes."""

        def seen():
            for kind, member in (("output", "OutputLocation"), ("failure", "FailureLocation")):
                if member in response and (body := self.read(response[member])) is not None:
                    return kind, body
            return None

        return self.eventually(seen, within=within or self.patience.request)

    def read(self, location):
        """Return the bytes at an address, or ``None`` if there is no object."""
        bucket, key = place(location)
        try:
            return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None

    def keys(self, folder):
        """Return the keys of all objects below a folder of :attr:`folder`."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.folder}/{folder}")
        return [found["Key"] for found in listed.get("Contents", [])]

    def describe(self, name):
        """Return an endpoint's description, or ``None`` if there is none of that name."""
        try:
            return self.control.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            return None

    def settled(self, name, *, within=None):
        """Wait until nothing changes an endpoint any more, and return its description, or ``None``."""

        def seen():
            description = self.describe(name)
            status = description["EndpointStatus"] if description else "gone"
            on_the_way = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
            return (description,) if status not in on_the_way else None

        return self.eventually(seen, within=within or self.patience.endpoint)[0]

    def metric(self, metric, statistic, **dimensions):
        """Return the Sum or the Maximum of a metric over the last hours; 0 without any datapoint."""
        # Where time is sped up it has run ahead of the calendar by some hours.
        now = time.time()
        found = self.cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - 3 * 3600,
            EndTime=now + 48 * 3600,
            Period=3600,
            Statistics=[statistic],
        )["Datapoints"]
        return {"Sum": sum, "Maximum": max}[statistic]([0, *(point[statistic] for point in found)])

    def eventually(self, holds, *, within):
        """Return the first true value of ``holds()``; fail after ``within`` real seconds."""
        give_up_at = time.monotonic() + within
        while not (value := holds()):
            assert time.monotonic() < give_up_at, f"did not happen within {within} seconds"
            time.sleep(self.patience.pause)
        return value

    def _upload(self, name, content):
        key = f"{self.folder}/{name}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def _delete_endpoint(self, name):
        if self.settled(name) is not None:
            self.control.delete_endpoint(EndpointName=name)
            assert self.settled(name) is None

    def _empty_folder(self):
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.folder):
            for found in page.get("Contents", []):
                self.s3.delete_object(Bucket=self.bucket, Key=found["Key"])


def place(location):
    """Return bucket and key of an address in either of its forms."""
    parts = urlsplit(location)
    if parts.scheme == "s3":
        return parts.netloc, parts.path[1:]
    host, path = parts.netloc.split(".")[0], parts.path[1:]
    return (host, path) if host not in ("s3", "") else tuple(path.split("/", 1))


def on_aws(environment):
    """
    Return the real service, with credentials as they are found now.

    :param environment: Has the variables that this module names.
    """
    needed = [f"AIRFLOW_ASYNC_SM_CONTRACT_{name}" for name in ("ROLE", "BUCKET", "REGION")]
    missing = [name for name in needed if not environment.get(name)]
    assert not missing, f"Set {' and '.join(missing)}; tests/service.py says what they are"
    role, bucket, region = (environment[name] for name in needed)
    image = environment.get("AIRFLOW_ASYNC_SM_CONTRACT_IMAGE", IMAGE)
    assert f".{region}." in image, f"AIRFLOW_ASYNC_SM_CONTRACT_IMAGE must name an image in {region}"
    session = boto3.Session(region_name=region)
    assert session.get_credentials() is not None, "There are no AWS credentials"
    return Service(
        session.client,
        region=region,
        bucket=bucket,
        role=role,
        image=image,
        patience=ON_AWS,
    )


@contextlib.contextmanager
def emulated(*, speed):
    """Yield an emulator's service on which time passes ``speed`` times as fast."""
    from airflow_async_sm.emulator import SageMakerAsyncEmulator
    from airflow_async_sm.emulator.clock import Clock

    images = {"sagemaker-scikit-learn": STAND_IN}
    with SageMakerAsyncEmulator(images=images, clock=Clock(speed=speed)) as emulator:
        emulator.client("s3").create_bucket(Bucket="contract")
        service = Service(
            emulator.client,
            region="us-east-1",
            bucket="contract",
            role="arn:aws:iam::123456789012:role/sagemaker",
            image=IMAGE,
            patience=LOCALLY,
            speed=speed,
        )
        with contextlib.closing(service):
            yield service
