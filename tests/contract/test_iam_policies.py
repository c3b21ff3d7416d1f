"""The policies of docs/iam.md allow the calls that are really made, and nothing else."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from airflow_async_sm.decorators.sagemaker_async import sagemaker_async_task
from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock
from airflow_async_sm.emulator.settings.faults import ReplyLost, S3Denied
from airflow_async_sm.exceptions import (
    BatchFailed,
    EndpointLost,
    EndpointNotReady,
    InferenceFailed,
    RequestRejected,
)
from airflow_async_sm.hooks._preflight import PreflightCalls
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.capacity import SageMakerAsyncCapacityOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.sensors.endpoint import SageMakerAsyncEndpointSensor
from airflow_async_sm.sensors.result import SageMakerAsyncResultSensor
from tests.contract.conftest import TaskInstance
from tests.deployments import Deployments
from tests.world import BUCKET, PROGRAM, QUICK, ROLE, World, eventually

# Waiting on the worker makes the same calls.
pytestmark = [
    pytest.mark.parametrize("run", [True], indirect=True, ids=["deferrable"]),
    pytest.mark.default_airflow,
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "iam.md"
AWS = "arn:aws:{service}:us-east-1:123456789012:{rest}"
FOLDERS = {"OUTPUT_FOLDER": "out", "FAILURE_FOLDER": "failures"}
# Buckets of their own, so that each right is seen to be needed where the page says.
WORK = {"WORK_BUCKET": "work-bucket", "WORK_FOLDER": "airflow/work"}
COPIES = {"COPY_BUCKET": "copy-bucket", "COPY_FOLDER": "copies"}
INPUTS = {"INPUT_BUCKET": "input-bucket", "INPUT_FOLDER": "inputs"}
LARGE = 17 * 1024 * 1024
KEY = {"KEY": "0d1f3b6a-0000-4000-8000-123456789012"}
WARM = [{"start": "cron(0 7 ? * MON-FRI *)", "end": "cron(0 18 ? * MON-FRI *)"}]

# What a call of SageMaker names, and the kind of the ARN.
NAMED = {"EndpointName": "endpoint", "EndpointConfigName": "endpoint-config", "ModelName": "model"}
# Actions that have other names than the calls, and those of which IAM knows no resource.
BUCKET_CALLS = {"HeadBucket", "ListObjectsV2"}
OF_OBJECTS = {
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
}
WITHOUT_RESOURCE = re.compile(
    r"(sagemaker:List|application-autoscaling:Describe|cloudwatch:(Describe|Get)).*"
)
WITHOUT_RIGHT = {"sts:GetCallerIdentity"}
# What Application Auto Scaling demands of the caller beside the action itself.
DEMANDED = {
    "RegisterScalableTarget": (
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
    ),
    "PutScalingPolicy": ("cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms"),
}
LINKED = "sagemaker.application-autoscaling.amazonaws.com"
LINKED_ROLE = (
    f"arn:aws:iam::123456789012:role/aws-service-role/{LINKED}"
    "/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


class Right(NamedTuple):
    """One thing that has to be allowed: an action on a resource, with what conditions can be about."""

    action: str
    resource: str = "*"
    condition: tuple[str, str] | None = None


class Call(NamedTuple):
    service: str
    operation: str
    arguments: dict[str, Any]
    missing: bool = False
    """Whether there was nothing."""

    @property
    def action(self):
        return f"{self.service}:{self.operation}"

    def rights(self):
        if self.action in WITHOUT_RIGHT:
            return
        if self.service == "s3":
            yield from self._of_s3()
        elif self.service == "application-autoscaling" and not WITHOUT_RESOURCE.fullmatch(self.action):
            yield from self._of_scaling()
        elif WITHOUT_RESOURCE.fullmatch(self.action):
            yield Right(self.action)
        else:
            yield from (Right(self.action, resource) for resource in self._resources())
        if "Tags" in self.arguments and self.operation != "AddTags":
            yield Right("sagemaker:AddTags", next(self._resources()))
        if "ExecutionRoleArn" in self.arguments:
            passed = ("iam:PassedToService", "sagemaker.amazonaws.com")
            yield Right("iam:PassRole", self.arguments["ExecutionRoleArn"], passed)

    def _resources(self):
        if self.operation == "AddTags":
            yield self.arguments["ResourceArn"]
        elif self.service == "cloudwatch":
            names = self.arguments.get("AlarmNames") or [self.arguments["AlarmName"]]
            yield from (AWS.format(service="cloudwatch", rest=f"alarm:{name}") for name in names)
        else:
            for member, kind in NAMED.items():
                if member in self.arguments:
                    yield AWS.format(service="sagemaker", rest=f"{kind}/{self.arguments[member]}")

    def _of_s3(self):
        bucket = f"arn:aws:s3:::{self.arguments['Bucket']}"
        if self.operation not in BUCKET_CALLS:
            action = OF_OBJECTS.get(self.operation, self.operation)
            yield Right(f"s3:{action}", f"{bucket}/{self.arguments['Key']}")
        if self.operation in BUCKET_CALLS or self.missing:
            # It is what makes a 404 of a 403.
            yield Right("s3:ListBucket", bucket)
        if "CopySource" in self.arguments:
            yield Right("s3:GetObject", "arn:aws:s3:::{Bucket}/{Key}".format(**self.arguments["CopySource"]))
        if "SSEKMSKeyId" in self.arguments:
            yield Right("kms:GenerateDataKey", self.arguments["SSEKMSKeyId"])
            if self.operation == "CreateMultipartUpload":
                # The parts are read again to become one object.
                yield Right("kms:Decrypt", self.arguments["SSEKMSKeyId"])

    def _of_scaling(self):
        target = AWS.format(service=self.service, rest="scalable-target/0ec5b1d2")
        namespace = ("application-autoscaling:service-namespace", self.arguments["ServiceNamespace"])
        yield Right(self.action, target, namespace)
        yield from map(Right, DEMANDED.get(self.operation, ()))


class Statement(NamedTuple):
    sid: str
    action: str
    resource: str
    conditions: dict[str, str]

    def allows(self, right):
        return (
            fnmatchcase(right.action, self.action)
            and fnmatchcase(right.resource, self.resource)
            and self.conditions.items() <= {right.condition}
        )


def section(title):
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE.name} has no section {title!r}"
    return found[1]


def policies(title):
    return [json.loads(text) for text in re.findall(r"^```json$(.*?)^```$", section(title), re.M | re.S)]


def statements(title, words):
    """Return each action of a section's policy with each of its resources, the words in capitals replaced."""
    (policy,) = policies(title)
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement.get("Condition", ())) <= {"StringEquals"}
        conditions = statement.get("Condition", {}).get("StringEquals", {})
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield Statement(statement["Sid"], action, replaced(resource, words), conditions)


def listed(value):
    return [value] if isinstance(value, str) else value


def replaced(text, words):
    words = {"REGION": "us-east-1", "ACCOUNT": "123456789012", "BUCKET": BUCKET, **words}
    return re.sub("|".join(words), lambda found: words[found[0]], text)


@pytest.fixture(scope="module")
def world():
    """An emulator in which a minute is a second: a backlog is told once a minute."""
    images = {"program": PROGRAM}
    with SageMakerAsyncEmulator(images=images, behaviour=QUICK, clock=Clock(speed=60)) as emulator:
        world = World(emulator)
        for bucket in (WORK["WORK_BUCKET"], COPIES["COPY_BUCKET"], INPUTS["INPUT_BUCKET"]):
            world.s3.create_bucket(Bucket=bucket)
        yield world


# Waiting on the worker and in the triggerer make the same calls; some are made by both in turn.


class Watch:
    """Notes the calls of this package's clients, while it is told to."""

    def __init__(self):
        self.calls = []
        self.on = False

    @contextmanager
    def __call__(self):
        self.on = True
        yield
        self.on = False

    def note(self, client, call):
        if self.on and "airflow-async-sm/" in (client.meta.config.user_agent_extra or ""):
            self.calls.append(call)


@pytest.fixture
def watch(monkeypatch):
    watch, make = Watch(), BaseClient._make_api_call

    def noted(client, operation, arguments):
        service = client.meta.service_model.service_name.replace("sagemaker-runtime", "sagemaker")
        # The client changes what it was given.
        call = Call(service, operation, dict(arguments))
        try:
            return make(client, operation, arguments)
        except ClientError as error:
            call = call._replace(missing=error.response["ResponseMetadata"]["HTTPStatusCode"] == 404)
            raise
        finally:
            watch.note(client, call)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return watch


@pytest.fixture
def its(world, run):
    return Deployments(world, run)


def compare(title, watch, words, *, without=(), also=()):
    """
    Check that a policy allows every call, and that no action or resource of it was there for nothing.

    ``without`` are the statements that the page says are not needed for what was done, and no others.
    """
    policy = [one for one in statements(title, words) if one.sid not in without]
    needed = {right for call in watch.calls for right in call.rights()} | set(also)
    refused = [right for right in needed if not any(one.allows(right) for one in policy)]
    assert not refused, "calls that the policy does not allow"
    used = {one[:3] for one in policy for right in needed if one.allows(right)}
    for member in ("action", "resource"):
        granted = {(one.sid, getattr(one, member)) for one in policy}
        assert granted == {(one.sid, getattr(one, member)) for one in policy if one[:3] in used}, member


def optional(title):
    """Return the statements that the page calls needed for something only."""
    return {sid for sid, why in explained(title) if why.startswith("needed ")}


def explained(title):
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section(title), re.MULTILINE)
    return [(sid, why) for sids, why in rows for sid in re.findall(r"`(\w+)`", sids)]


class TestDeploy:
    def test_as_little_as_possible(self, its, world, watch):
        with watch():
            its.deploy()
            its.deploy()
            its.deploy(environment={"THREADS": "2"})
            its.deploy()
            delete(its, world)
            with pytest.raises(EndpointNotReady, match="It is being deleted"):
                its.deploy(image="unknown/image:1")
        compare("Deploy", watch, self.words(its), without=optional("Deploy"))

    def test_everything(self, its, world, watch):
        changes = {"tags": {"team": "risk"}, "scaling": {"max_instances": 2, "warm_hours": WARM}}
        with watch():
            its.deploy(**changes)
            its.deploy(**changes)
            its.deploy(**changes, instance_type="ml.m5.xlarge")
            its.deploy(**changes)
            its.deploy(scaling={"max_instances": 2, "min_instances": 1})
            delete(its, world)
            with pytest.raises(EndpointNotReady, match="It is being deleted"):
                its.deploy(**changes, image="unknown/image:1")
        role = Right("iam:CreateServiceLinkedRole", LINKED_ROLE, ("iam:AWSServiceName", LINKED))
        compare("Deploy", watch, self.words(its), also=[role])

    def words(self, its):
        return {"ENDPOINT": its.name, "EXECUTION_ROLE": ROLE.rpartition("/")[2]}


def delete(its, world):
    """Delete an endpoint without the operator."""
    world.control.delete_endpoint(EndpointName=its.name)
    eventually(lambda: not its.exists())


class TestDelete:
    SCALING = {"max_instances": 2, "warm_hours": WARM}

    def test_as_little_as_possible(self, its, watch):
        for changes in ({}, {"scaling": self.SCALING}):
            its.deploy(**changes)
            with watch():
                its.delete()
        compare("Delete", watch, {"ENDPOINT": its.name}, without=optional("Delete"))

    def test_everything(self, its, watch):
        made = its.deploy(scaling=self.SCALING)
        with watch():
            its.delete(drain=True, delete_parts=True)
            its.delete(endpoint_config_name=made["endpoint_config_name"], model_name=made["model_name"])
        compare("Delete", watch, {"ENDPOINT": its.name})


class TestCapacity:
    def have(self, its, instances):
        its.run(SageMakerAsyncCapacityOperator, endpoint_name=its.name, instances=instances)

    def test_as_little_as_possible(self, its, watch):
        its.deploy()
        with watch():
            self.have(its, 2)
            self.have(its, 2)
        compare("Capacity", watch, {"ENDPOINT": its.name}, without=optional("Capacity"))

    def test_everything(self, its, watch):
        its.deploy()
        with watch():
            self.have(its, 2)
        its.deploy(scaling={"max_instances": 2})
        with watch():
            self.have(its, 3)
            self.have(its, 0)
        compare("Capacity", watch, {"ENDPOINT": its.name})


class TestEndpointSensor:
    def sees(self, its, **wanted):
        sensor = SageMakerAsyncEndpointSensor(task_id="sensor", endpoint_name=its.name, **wanted)
        eventually(lambda: sensor.poke({}))

    def test_as_little_as_possible(self, its, watch):
        its.deploy()
        with watch():
            self.sees(its)
            self.sees(its, min_instances=1)
        compare("Endpoint sensor", watch, {"ENDPOINT": its.name}, without=optional("Endpoint sensor"))

    def test_everything(self, its, watch):
        its.deploy()
        with watch():
            self.sees(its, max_backlog=0)
        compare("Endpoint sensor", watch, {"ENDPOINT": its.name})


@pytest.fixture
def name(world):
    return world.deploy()


@pytest.fixture
def words(name):
    return {"ENDPOINT": name, **FOLDERS, **WORK, **COPIES, **INPUTS, **KEY}


@pytest.fixture
def in_parts(monkeypatch):
    """Let an answer be copied in parts that is not too large for a test."""
    parts = TransferConfig(multipart_threshold=LARGE // 2, multipart_chunksize=LARGE // 2)
    monkeypatch.setattr("airflow_async_sm.hooks._results._COPYING", parts)


class TestInvoke:
    @pytest.fixture
    def invoke(self, run, name):
        def to_its_end(**arguments):
            defaults = {"endpoint_name": name, "custom_attributes": "echo"}
            return run(SageMakerAsyncInvokeOperator, **(defaults | arguments))

        return to_its_end

    def test_as_little_as_possible(self, world, run, invoke, name, words, watch):
        def decorated(**arguments):
            return sagemaker_async_task(**arguments)(lambda: [1])().operator

        with watch():
            invoke(payload=[1])
            assert run(decorated, endpoint_name=name, custom_attributes="echo") == [1]
            result = invoke(input_location=world.put(b"1,2\n"))
            assert SageMakerAsyncHook().read_result(result["output_location"]) == b"1,2\n"
            with pytest.raises(InferenceFailed, match="Unknown task"):
                invoke(payload=[1], custom_attributes="refuse")
            world.emulator.faults.add(ReplyLost(times=1))
            assert invoke(payload=[1], result="json") == [1]
        assert "ListObjectsV2" in {call.operation for call in watch.calls}
        compare("Invoke", watch, words, without=optional("Invoke"))

    def test_everything(self, world, invoke, words, watch, in_parts):
        ways = {
            "work_prefix": replaced("s3://WORK_BUCKET/WORK_FOLDER", words),
            "payload_transport": "s3",
            "sse_kms_key_id": replaced("arn:aws:kms:REGION:ACCOUNT:key/KEY", words),
            "delete_input": True,
            "copy_to": replaced("s3://COPY_BUCKET/COPY_FOLDER/", words),
        }
        with watch():
            for payload in (b"x", b"x" * LARGE):
                answer = invoke(payload=payload, **ways)
                assert len(world.body(answer["copied_to"])) == len(payload)
                assert not world.exists(answer["input_location"])
            for part in ("UploadPart", "UploadPartCopy"):
                world.emulator.faults.add(S3Denied(operation=part, times=1))
                with pytest.raises(RequestRejected, match="AccessDenied"):
                    invoke(payload=b"x" * LARGE, **ways)
            with pytest.raises(InferenceFailed, match="Unknown task"):
                invoke(payload=[1], **ways, custom_attributes="refuse")
        compare("Invoke", watch, words)


class Store(dict):
    """Where Airflow remembers something for a task, from 3.3 on."""

    def set(self, key, value):
        self[key] = value


class TestBatch:
    @pytest.fixture
    def batch(self, run, name, words):
        def to_its_end(store=None, **arguments):
            defaults = {
                "endpoint_name": name,
                "custom_attributes": "echo",
                "work_prefix": replaced("s3://WORK_BUCKET/WORK_FOLDER", words),
                "max_attempts": 1,
            }
            context = {"ti": TaskInstance(), "task_state_store": store}
            return run(SageMakerAsyncBatchOperator, context, **(defaults | arguments))

        return to_its_end

    def put_inputs(self, world, words):
        """Put a folder of one input, a manifest that names it, and a file of records; return their places."""
        folder = replaced("s3://INPUT_BUCKET/INPUT_FOLDER", words)
        inputs = {
            "one/1.txt": "1",
            "manifest.jsonl": json.dumps(f"{folder}/one/1.txt"),
            "records.csv": "a\n1\n",
        }
        for key, content in inputs.items():
            place = {"Bucket": INPUTS["INPUT_BUCKET"], "Key": f"{INPUTS['INPUT_FOLDER']}/{key}"}
            world.s3.put_object(**place, Body=content.encode())
        return folder

    def test_as_little_as_possible(self, batch, words, watch):
        with watch():
            assert batch(Store(), inputs=["a", "b", "x" * 200_000])["counts"]["Succeeded"] == 3
            with pytest.raises(BatchFailed, match="Unknown task"):
                batch(Store(), inputs=["a"], custom_attributes="refuse")
        compare("Batch", watch, words, without=optional("Batch"))

    def test_everything(self, world, batch, words, watch, monkeypatch):
        monkeypatch.setattr("airflow_async_sm.triggers.batch._QUIET_SECONDS", 0.0)
        ways = {
            "sse_kms_key_id": replaced("arn:aws:kms:REGION:ACCOUNT:key/KEY", words),
            "merge_to": replaced("s3://COPY_BUCKET/COPY_FOLDER/", words),
        }
        folder = self.put_inputs(world, words)
        with watch():
            batch(inputs=["a", b"x" * LARGE], **ways)
            for source in (
                {"input_prefix": f"{folder}/one/"},
                {"input_manifest": f"{folder}/manifest.jsonl"},
                {"input_records": f"{folder}/records.csv"},
            ):
                batch(**source, **ways)
            batch(inputs=["a"], custom_attributes="slower")
            with pytest.raises(BatchFailed, match="Unknown task"):
                batch(inputs=["a"], custom_attributes="refuse")
            large = world.put(b"x" * LARGE)
            for given in ({"inputs": [b"y" * LARGE]}, {"input_locations": [large], **ways}):
                world.emulator.faults.add(S3Denied(operation="UploadPart", times=1))
                with pytest.raises(RequestRejected, match="AccessDenied"):
                    batch(**given)
        compare("Batch", watch, words)


class TestResultSensor:
    @pytest.fixture
    def look(self, run):
        """Return a function that looks until there is an answer."""

        def until_it_ends(**arguments):
            sensor = SageMakerAsyncResultSensor(task_id="sensor", **arguments)
            return eventually(lambda: sensor.poke({"ti": TaskInstance()})).xcom_value

        return until_it_ends

    def test_as_little_as_possible(self, world, look, name, words, watch):
        slow, refused = (
            {"output_location": reply["OutputLocation"], "failure_location": reply["FailureLocation"]}
            for reply in (world.submit(name, mode=mode) for mode in ("slow", "refuse"))
        )
        with watch():
            assert look(**slow, result="text") == "payload"
            with pytest.raises(InferenceFailed, match="Unknown task"):
                look(**refused)
        compare("Result sensor", watch, words, without=optional("Result sensor"))

    def test_everything(self, world, look, name, words, watch, in_parts):
        copied = {"copy_to": replaced("s3://COPY_BUCKET/COPY_FOLDER/", words)}
        location = world.put(b"x" * LARGE, "out/large.out")
        world.emulator.faults.add(S3Denied(operation="UploadPartCopy", times=1))
        # A young request's endpoint is not looked at.
        lost = {"endpoint_name": name, "endpoint_region": "us-east-1", "expires_at": time.time() + 60}
        lost["submitted_at"] = time.time() - 120
        places = {"output_location": location + "-none", "failure_location": f"s3://{BUCKET}/failures/none"}
        world.control.delete_endpoint(EndpointName=name)
        with watch():
            with pytest.raises(RequestRejected, match="AccessDenied"):
                look(output_location=location, **copied)
            assert look(output_location=location, **copied)["size"] == LARGE
            with pytest.raises(EndpointLost):
                look(handle=lost | places)
        compare("Result sensor", watch, words)


@pytest.mark.parametrize("scaling", [None, {"max_instances": 2}])
def test_preflight(its, watch, scaling):
    folders = (f"s3://{BUCKET}/{name}" for name in FOLDERS.values())
    its.deploy(**dict(zip(("output_path", "failure_path"), folders, strict=True)), scaling=scaling)
    with watch():
        PreflightCalls().preflight(its.name)
    compare("Preflight", watch, {"ENDPOINT": its.name, **FOLDERS})
