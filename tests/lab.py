"""An emulator whose time stands and whose models are functions, and short words for what tests do with it."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_async_sm.emulator import Behaviour, Reply, SageMakerAsyncEmulator, SteppedClock
from airflow_async_sm.emulator.settings.faults import ModelLatency
from airflow_async_sm.emulator.web.counters import payload_identity
from tests.inbox import Inbox
from tests.world import BUCKET, ROLE, World, eventually

VARIANT = "AllTraffic"
# Nothing takes time but what a test asks for.
AT_ONCE = Behaviour(
    creation_seconds=0,
    deletion_seconds=0,
    update_seconds=0,
    rollback_seconds=0,
    instance_start_seconds=0,
    queue_seconds=0,
    container_restart_seconds=0,
)
ANSWER_TYPE = "text/x-answer"
ERROR_TYPE = "application/x-error"
NAMESPACE = "AWS/SageMaker"


def model(body, headers):
    """Do what the custom attributes say."""
    mode = {name.lower(): value for name, value in headers.items()}.get(
        "x-amzn-sagemaker-custom-attributes", "echo"
    )
    if mode == "refuse":
        return Reply(status=400, body=b'{"no":1}', content_type=ERROR_TYPE)
    if mode == "headers_back":
        return json.dumps({name.lower(): value for name, value in headers.items()}), ANSWER_TYPE
    return body, ANSWER_TYPE


# It keeps the descriptions of services that it has read, which is what takes long about making a client.
_SESSION = boto3.Session(region_name="us-east-1")


def own_client(url, service, *, key="testing", attempts=1, **config):
    """Return a client with a configuration of its own, to be closed by the caller."""
    config = {"retries": {"total_max_attempts": attempts}, "proxies": {}, **config}
    return _SESSION.client(
        service,
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        config=Config(**config),
    )


class Lab(World):
    """A running emulator with a stepped clock. Nothing happens but by :meth:`settle` and :meth:`advance`."""

    patience = SimpleNamespace(message=5.0)

    def __init__(self, emulator):
        self.emulator = emulator
        self.clock = emulator.clock
        for service in ("sns", "sqs", "cloudwatch"):
            setattr(self, service, emulator.client(service))
        self.scaling = emulator.client("application-autoscaling")
        self._names = itertools.count(1)
        self._own_clients = []
        if any(bucket["Name"] == BUCKET for bucket in emulator.client("s3").list_buckets()["Buckets"]):
            self.s3, self.control = emulator.client("s3"), emulator.client("sagemaker")
            self.runtime = emulator.client("sagemaker-runtime")
        else:
            super().__init__(emulator)

    # Time.

    def settle(self):
        self.clock.settle(patience=20)

    def advance(self, seconds):
        self.clock.advance(seconds, patience=20)

    def during(self, call, *arguments, step=5.0, **members):
        """Make a call that waits for time to pass, and return how long that was and what came of it."""
        came = SimpleNamespace(answer=None, error=None)

        def perform():
            try:
                came.answer = call(*arguments, **members)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                came.error = error

        began = self.clock.now()
        caller = threading.Thread(target=perform)
        caller.start()

        def over():
            caller.join(0.02)
            if caller.is_alive():
                self.advance(step)
            return not caller.is_alive()

        eventually(over, within=20)
        return self.clock.now() - began, came

    # Names and clients.

    def name(self, kind="n"):
        return f"{kind}-{next(self._names)}-{uuid.uuid4().hex[:8]}"

    def own(self, service, **config):
        """Return a client with a configuration of its own that is closed with the lab."""
        self._own_clients.append(own_client(self.emulator.url, service, **config))
        return self._own_clients[-1]

    def close(self):
        for client in self._own_clients:
            client.close()

    # What an inbox needs of a service.

    def eventually(self, holds, *, within):
        return eventually(holds, within=within)

    def later(self, call, **members):
        """Everything goes with the emulator."""

    # Endpoints.

    def configure(
        self,
        *,
        failure=True,
        inbox=None,
        include=(),
        concurrency=None,
        instances=1,
        image="model",
        variant=VARIANT,
        output=f"s3://{BUCKET}/out",
    ):
        """Create a model and a configuration, and return the name that both have."""
        name = self.name("c")
        self.control.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image, "Environment": {}}
        )
        place = {"S3OutputPath": output}
        if failure:
            place["S3FailurePath"] = f"s3://{BUCKET}/failures"
        if inbox:
            place["NotificationConfig"] = {**inbox.config, "IncludeInferenceResponseIn": list(include)}
        config = {"OutputConfig": place}
        if concurrency:
            config["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": concurrency}
        # The client library refuses to send a count of 0; what the service says to it is a test's business.
        client = self.control if instances else self.own("sagemaker", parameter_validation=False)
        client.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": variant,
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": instances,
                }
            ],
            AsyncInferenceConfig=config,
        )
        return name

    def create(self, name=None, **configuration):
        """Create an endpoint and let it come up, or fail; return its name."""
        config = self.configure(**configuration)
        name = name or config
        self.control.create_endpoint(EndpointName=name, EndpointConfigName=config)
        self.settle()
        return name

    def deploy(self, name=None, **configuration):
        """Create an endpoint that comes up, and return its name."""
        name = self.create(name, **configuration)
        assert self.status(name) == "InService"
        return name

    def deploy_asleep(self, **configuration):
        """Create an endpoint without an instance."""
        name = self.deploy(**configuration)
        self.resize(name, 0)
        assert self.counts(name) == (0, 0)
        return name

    def resize(self, name, count):
        self.control.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": count}],
        )
        self.settle()

    def describe(self, name):
        return self.control.describe_endpoint(EndpointName=name)

    def status(self, name):
        return self.describe(name)["EndpointStatus"]

    def counts(self, name):
        """Return how many instances there are and how many there shall be."""
        variant = self.describe(name)["ProductionVariants"][0]
        return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]

    # Requests.

    def run(self, name, **members):
        """Submit, and let everything happen that needs no time."""
        response = self.submit(name, **members)
        self.settle()
        return response

    def submit_many(self, name, count, **members):
        return [self.submit(name, **members) for _ in range(count)]

    def state(self, response):
        return self.record(response).state.value

    def objects(self, response):
        """Return which of the two objects there are."""
        places = {"output": response["OutputLocation"], "failure": response.get("FailureLocation")}
        return {side for side, place in places.items() if place and self.exists(place)}

    def head(self, location):
        """Return content type and metadata of an object."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        found = self.s3.head_object(Bucket=bucket, Key=key)
        return found["ContentType"], found["Metadata"]

    def on(self, *faults):
        """Switch faults on, and return the id of the last one."""
        return [self.emulator.faults.add(fault) for fault in faults][-1]

    def hold(self, seconds, **more):
        """Let models take so long from now on."""
        return self.on(ModelLatency(seconds=seconds, **more))

    def model_calls(self, body):
        """Return how often a model was called for an inline payload."""
        return self.emulator.counters()["model_calls"]["by_payload"].get(payload_identity(body, None), 0)

    # Notifications and metrics.

    def inbox(self):
        return LabInbox(self)

    def metric(self, endpoint, name, *, statistic="Sum", variant=None, minutes=60):
        """Return the datapoints of a metric, oldest first."""
        dimensions = [{"Name": "EndpointName", "Value": endpoint}]
        if variant:
            dimensions.append({"Name": "VariantName", "Value": variant})
        until = datetime.fromtimestamp(self.clock.now() + 60, UTC)
        found = self.cloudwatch.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=name,
            Dimensions=dimensions,
            StartTime=until - timedelta(minutes=minutes),
            EndTime=until,
            Period=60,
            Statistics=[statistic],
        )["Datapoints"]
        return sorted(found, key=lambda point: point["Timestamp"])

    # The control address.

    def control_address(self, method, path, body=None):
        """Call the control address and return its answer."""
        request = urllib.request.Request(
            f"{self.emulator.url}/_emulator/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class LabInbox(Inbox):
    """An inbox that can also say what is not in it: time stands, so nothing is on its way."""

    def messages(self, response=None):
        """Return the side and the text of everything so far, or of what is about one request."""
        self._service.settle()
        while True:
            before = len(self._seen)
            self._receive()
            if len(self._seen) == before:
                break
        about = None if response is None else response["InferenceId"]
        return [
            (side, message)
            for side, message in self._seen
            if "inferenceId" in message and about in (None, message["inferenceId"])
        ]

    def one(self, response):
        """Return the only message about a request."""
        [(_, message)] = self.messages(response)
        return message


def response_body(message):
    """Return the answer of a model in a notification, or ``None``."""
    included = message.get("responseBody")
    return None if included is None else base64.b64decode(included["content"])


def refusal(call, *arguments, **members):
    """Return status, code and text of a call that is refused."""
    try:
        call(*arguments, **members)
    except ClientError as error:
        answer = error.response
        return (
            answer["ResponseMetadata"]["HTTPStatusCode"],
            answer["Error"]["Code"],
            answer["Error"].get("Message", ""),
        )
    raise AssertionError("the call was not refused")


def make_lab(*, behaviour=AT_ONCE, images=None, **settings):
    """Return an emulator that has not started yet, with a stepped clock and functions as models."""
    return SageMakerAsyncEmulator(
        images={"model": model, **(images or {})}, behaviour=behaviour, clock=SteppedClock(), **settings
    )
