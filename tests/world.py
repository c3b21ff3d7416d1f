"""An emulator with a bucket and a model container, and short words for what tests do with it."""

from __future__ import annotations

import io
import sys
import tarfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from airflow_async_sm.emulator import Behaviour, RequestState

# It needs the standard library only, and starts sooner without a look at what is installed beside it.
PROGRAM = [sys.executable, "-S", str(Path(__file__).with_name("container_program.py"))]
BUCKET = "contract-bucket"


def echo(body, headers):
    """A model that is a function of this process: there at once, where it does not matter what a model is."""
    return body


ROLE = "arn:aws:iam::123456789012:role/sagemaker"
# The pauses between looks, in seconds: longer ones are for the sake of AWS.
SHORT = 0.05
QUICK = Behaviour(creation_seconds=0.1, deletion_seconds=0.1, queue_seconds=0, container_start_timeout=20)


def eventually(holds, *, within=60.0):
    """Return the first true value of ``holds()``; fail after ``within`` seconds."""
    give_up_at = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < give_up_at, "did not happen in time"
        time.sleep(0.01)
    return value


class World:
    """An emulator with a bucket, and short words for what the tests do with it."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.s3 = emulator.client("s3")
        self.control = emulator.client("sagemaker")
        self.runtime = emulator.client("sagemaker-runtime")
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, content, key=None, **described):
        key = key or f"in/{uuid.uuid4()}"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content, **described)
        return f"s3://{BUCKET}/{key}"

    def put_archive(self, members):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return self.put(packed.getvalue(), f"models/{uuid.uuid4()}/model.tar.gz")

    def get(self, location):
        place = urlsplit(location)
        return self.s3.get_object(Bucket=place.netloc, Key=place.path[1:])

    def body(self, location):
        return self.get(location)["Body"].read()

    def exists(self, location):
        place = urlsplit(location)
        try:
            self.s3.head_object(Bucket=place.netloc, Key=place.path[1:])
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            return False
        return True

    def configure(
        self,
        *,
        image="program",
        environment=None,
        model_data=None,
        output=f"s3://{BUCKET}/out",
        failure=f"s3://{BUCKET}/failures",
        concurrency=None,
        instances=1,
        asynchronous=True,
    ):
        """Create a model and a configuration, and return the name that both have."""
        name = f"it-{uuid.uuid4().hex[:12]}"
        container = {"Image": image, "Environment": environment or {}}
        if model_data:
            container["ModelDataUrl"] = model_data
        self.control.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        config = {"OutputConfig": {"S3OutputPath": output}}
        if failure:
            config["OutputConfig"]["S3FailurePath"] = failure
        if concurrency:
            config["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": concurrency}
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large"}
        self.control.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{**variant, "InitialInstanceCount": instances}],
            **({"AsyncInferenceConfig": config} if asynchronous else {}),
        )
        return name

    def deploy(self, **configuration):
        """Create an endpoint, wait until it is in service, and return its name."""
        name = self.configure(**configuration)
        self.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.wait("endpoint_in_service", name)
        return name

    def wait(self, waiter, name):
        config = {"Delay": 0.05, "MaxAttempts": 400}
        self.control.get_waiter(waiter).wait(EndpointName=name, WaiterConfig=config)

    def fail(self, **configuration):
        """Create an endpoint that cannot come up, and return its last description."""
        name = self.configure(**configuration)
        self.control.create_endpoint(EndpointName=name, EndpointConfigName=name)

        def described():
            found = self.control.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] != "Creating" else None

        description = eventually(described)
        assert description["EndpointStatus"] == "Failed"
        assert description["ProductionVariants"][0]["CurrentInstanceCount"] == 0
        return description

    def arn(self, kind, name):
        return f"arn:aws:sagemaker:us-east-1:123456789012:{kind}/{name}"

    def submit(self, name, *, mode="echo", **arguments):
        if "InputLocation" not in arguments:
            arguments.setdefault("Body", b"payload")
        return self.runtime.invoke_endpoint_async(EndpointName=name, CustomAttributes=mode, **arguments)

    def record(self, response):
        """Return the record of a submission."""
        found = [r for r in self.emulator.requests() if r.output_location == response["OutputLocation"]]
        assert len(found) == 1
        return found[0]

    def ended(self, response, *, within=60.0):
        """Return the record of a submission once it has ended."""

        def end():
            record = self.record(response)
            return record if record.state not in (RequestState.QUEUED, RequestState.RUNNING) else None

        return eventually(end, within=within)
