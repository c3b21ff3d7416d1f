"""What preflight finds at the emulator, by the hook and by the command as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from types import SimpleNamespace

import boto3
import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.preflight import Level
from airflow_async_sm.core.preflight_checks import NEWER_MEMBERS
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.emulator.settings.faults import ExpiredCredentials, ListDenied, S3Denied, ServiceFailed
from airflow_async_sm.hooks._preflight import PreflightCalls
from tests.world import BUCKET, eventually

OLDER = ("InputLocation", "ContentType")
KEY = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def hook(world, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    return loaded(PreflightCalls())


@pytest.fixture
def faults(world):
    yield world.emulator.faults
    world.emulator.faults.clear()


@pytest.fixture
def client(world):
    return world.emulator.client


def loaded(hook, members=(*OLDER, *NEWER_MEMBERS)):
    """Give a hook a boto3 that can send these members, whichever is installed."""
    operation = SimpleNamespace(input_shape=SimpleNamespace(members=dict.fromkeys(members)))
    model = SimpleNamespace(operation_model={"InvokeEndpointAsync": operation}.__getitem__)
    hook.__dict__["_runtime"] = SimpleNamespace(meta=SimpleNamespace(service_model=model))
    return hook


def found(hook, name):
    return {check.name: check for check in hook.preflight(name)}


def levels(checks, level):
    return [check.name for check in checks.values() if check.level is level]


def empty(world, name):
    """Take the instances of an endpoint away."""
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}]
    world.control.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=wanted
    )

    def gone():
        described = world.control.describe_endpoint(EndpointName=name)
        (variant,) = described["ProductionVariants"]
        return (described["EndpointStatus"], variant["CurrentInstanceCount"]) == ("InService", 0)

    eventually(gone)


def scalable(client, name):
    identity = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    autoscaling = client("application-autoscaling")
    autoscaling.register_scalable_target(**identity, MinCapacity=0, MaxCapacity=2)
    return autoscaling, identity


def track(client, name):
    """Let the backlog scale an endpoint, which one request does not wake."""
    autoscaling, identity = scalable(client, name)
    metric = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": name}],
        "Statistic": "Average",
    }
    autoscaling.put_scaling_policy(
        **identity,
        PolicyName="backlog",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": metric,
        },
    )


def wake(client, name):
    """Let one request wake an endpoint, as the developer guide says."""
    autoscaling, identity = scalable(client, name)
    policy = autoscaling.put_scaling_policy(
        **identity,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    client("cloudwatch").put_metric_alarm(
        AlarmName=f"wake-{name}",
        MetricName="HasBacklogWithoutCapacity",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        AlarmActions=[policy["PolicyARN"]],
    )


@pytest.mark.default_airflow
class TestEndpoints:
    def test_a_healthy_one_has_nothing_but_good_checks_and_nothing_is_changed(self, world, echo, hook):
        before = [entry["Key"] for entry in world.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
        checks = found(hook, echo)
        assert levels(checks, Level.OK) == list(checks)
        assert "account 123456789012, region us-east-1" in checks["connection"].text
        assert checks["failure path"].text == f"s3://{BUCKET}/failures"
        assert "1 of 1 instance" in checks["capacity"].text
        assert {"output bucket", "output listing", "failure reading", "boto3"} <= checks.keys()
        after = [entry["Key"] for entry in world.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
        assert after == before

    def test_one_that_does_not_exist_failed(self, hook):
        checks = found(hook, "nowhere")
        assert (list(checks), levels(checks, Level.FAILED)) == (
            ["connection", "endpoint", "boto3"],
            ["endpoint"],
        )

    def test_a_real_time_one_failed(self, world, hook):
        checks = found(hook, world.deploy(asynchronous=False))
        assert levels(checks, Level.FAILED) == ["asynchronous"]

    def test_one_without_failure_path_is_warned_about(self, world, hook):
        checks = found(hook, world.deploy(failure=None))
        assert levels(checks, Level.WARNING) == ["failure path"]
        assert "failure bucket" not in checks

    def test_one_that_is_failed_says_why(self, world, hook):
        description = world.fail(image="unknown/image:1")
        checks = found(hook, description["EndpointName"])
        assert levels(checks, Level.FAILED) == ["endpoint"]
        assert f"it is Failed: {description['FailureReason']}" in checks["endpoint"].text

    def test_a_name_that_cannot_be_one_is_refused_before_anything_is_asked(self, hook):
        with pytest.raises(InvalidInput, match="endpoint_name"):
            hook.preflight("not a name")


@pytest.mark.default_airflow
class TestCapacity:
    def test_no_instance_and_nothing_that_scales_failed(self, world, hook):
        name = world.deploy()
        empty(world, name)
        check = found(hook, name)["capacity"]
        assert (check.level, "nothing scales the endpoint" in check.text) == (Level.FAILED, True)

    def test_no_instance_and_a_policy_that_one_request_does_not_wake_failed(self, world, hook, client):
        name = world.deploy()
        track(client, name)
        check = found(hook, name)["capacity"]
        assert (check.level, "Once it has scaled to 0" in check.text) == (Level.WARNING, True)
        empty(world, name)
        check = found(hook, name)["capacity"]
        assert (check.level, "one request does not wake" in check.text) == (Level.FAILED, True)

    def test_no_instance_and_a_policy_that_wakes_is_fine(self, world, hook, client):
        name = world.deploy()
        track(client, name)
        wake(client, name)
        empty(world, name)
        checks = found(hook, name)
        assert levels(checks, Level.OK) == list(checks)
        assert "one request wakes it (up to 2)" in checks["capacity"].text

    def test_scaling_that_cannot_be_read_is_a_warning(self, echo, hook, faults, monkeypatch):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        faults.add(ServiceFailed(service="application-autoscaling"))
        checks = found(hook, echo)
        assert levels(checks, Level.WARNING) == ["capacity"]
        assert "1 of 1 instance" in checks["capacity"].text


@pytest.mark.default_airflow
class TestBuckets:
    def test_without_list_bucket_every_wait_would_fail(self, echo, hook, faults):
        faults.add(ListDenied())
        checks = found(hook, echo)
        assert levels(checks, Level.FAILED) == ["output listing", "failure listing"]
        assert "s3:ListBucket" in checks["output listing"].text
        assert checks["capacity"].level is Level.OK
        assert {"output bucket", "output reading"} <= {*levels(checks, Level.WARNING)}

    def test_without_get_object_no_answer_could_be_read(self, world, hook, faults):
        name = world.deploy(output=f"s3://{BUCKET}/{uuid.uuid4()}")
        faults.add(S3Denied(operation="GetObject"))
        checks = found(hook, name)
        assert levels(checks, Level.FAILED) == ["output reading", "failure reading"]
        assert "s3:GetObject" in checks["output reading"].text

    def test_an_object_that_is_archived_may_be_read(self, world, hook):
        folder = f"archived-{uuid.uuid4()}"
        world.put(b"old", key=f"{folder}/1.out", StorageClass="GLACIER")
        checks = found(hook, world.deploy(output=f"s3://{BUCKET}/{folder}"))
        assert checks["output reading"].level is Level.OK

    @pytest.mark.parametrize("content", [b"answer", b""], ids=["full", "empty"])
    def test_an_object_that_is_there_is_read(self, world, hook, content):
        folder = f"read-{uuid.uuid4()}"
        world.put(content, key=f"{folder}/1.out")
        checks = found(hook, world.deploy(output=f"s3://{BUCKET}/{folder}"))
        assert checks["output reading"].text == f"s3:GetObject is allowed (tried on {folder}/1.out)."

    def test_a_neighbour_with_a_longer_name_is_not_in_the_folder(self, world, hook):
        folder = f"near-{uuid.uuid4()}"
        world.put(b"", key=f"{folder}-failures/1.out")
        checks = found(hook, world.deploy(output=f"s3://{BUCKET}/{folder}"))
        assert "The folder is empty" in checks["output reading"].text

    def test_a_whole_bucket_can_be_the_folder(self, world, hook):
        world.put(b"x", key="0-first")
        checks = found(hook, world.deploy(output=f"s3://{BUCKET}"))
        assert "tried on 0-first" in checks["output reading"].text

    def test_a_bucket_of_another_region_is_a_warning(self, world, hook, client):
        where = {"LocationConstraint": "eu-west-1"}
        client("s3", "eu-west-1").create_bucket(Bucket="far-bucket", CreateBucketConfiguration=where)
        checks = found(hook, world.deploy(output="s3://far-bucket/out"))
        assert levels(checks, Level.WARNING) == ["output bucket"]
        assert "is in eu-west-1, the endpoint in us-east-1" in checks["output bucket"].text

    def test_a_bucket_that_does_not_exist_failed(self, world, hook):
        checks = found(hook, world.deploy(failure="s3://no-such-bucket/failures"))
        assert levels(checks, Level.FAILED) == ["failure bucket"]
        assert "failure listing" not in checks

    def test_s3_tells_the_region_to_who_may_not_see_the_bucket(self, world, echo, hook, faults):
        def tell(parsed, **_):
            if parsed["ResponseMetadata"]["HTTPStatusCode"] == 403:
                parsed["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] = "us-east-1"

        hook._s3_looking.meta.events.register("after-call.s3.HeadBucket", tell)
        faults.add(ListDenied())
        assert found(hook, echo)["output bucket"].level is Level.OK

    def test_a_path_that_is_no_address_hides_nothing(self, echo, hook, monkeypatch):
        described = hook.describe_endpoint(echo)
        described["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] = "https://elsewhere.example/out"
        monkeypatch.setattr(hook, "describe_endpoint", lambda _: described)
        checks = found(hook, echo)
        assert levels(checks, Level.WARNING) == ["output bucket", "output listing", "output reading"]
        assert "the output path is 'https://elsewhere.example/out'" in checks["output bucket"].text
        assert checks["failure bucket"].level is Level.OK

    @pytest.mark.parametrize(("encryption", "level"), [("aws:kms", Level.OK), ("AES256", Level.WARNING)])
    def test_a_key_is_a_reminder_until_something_encrypted_was_read(
        self, world, hook, monkeypatch, encryption, level
    ):
        folder = f"kms-{uuid.uuid4()}"
        world.put(b"secret", key=f"{folder}/1.out", ServerSideEncryption=encryption)
        name = world.deploy(output=f"s3://{BUCKET}/{folder}")
        described = hook.describe_endpoint(name)
        described["AsyncInferenceConfig"]["OutputConfig"]["KmsKeyId"] = KEY
        monkeypatch.setattr(hook, "describe_endpoint", lambda _: described)
        check = found(hook, name)["kms"]
        assert (check.level, KEY in check.text) == (level, True)


class TestConnection:
    def test_expired_credentials_failed_and_are_not_taken_for_a_missing_right(self, echo, hook, faults):
        faults.add(ExpiredCredentials())
        checks = found(hook, echo)
        assert levels(checks, Level.FAILED) == ["connection", "endpoint"]
        assert "expired" in checks["connection"].text
        assert not [check for check in checks.values() if "right" in check.text]

    def test_no_credentials_failed(self, world, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", world.emulator.url)
        checks = found(PreflightCalls(None, region_name="us-east-1"), "ep")
        assert levels(checks, Level.FAILED) == ["connection", "endpoint"]
        assert "Unable to locate credentials." in checks["connection"].text

    def test_no_region_failed(self, world, monkeypatch):
        for name, value in settings(world).items():
            monkeypatch.setenv(name, value)
        checks = found(PreflightCalls(None), "ep")
        assert levels(checks, Level.FAILED) == ["connection", "endpoint"]
        assert "no AWS region" in checks["connection"].text

    def test_a_connection_that_cannot_be_used_failed(self, monkeypatch):
        extra = {"region_name": "us-east-1", "role_arn": "arn:x", "assume_role_method": "by magic"}
        monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "aws", "extra": extra}))
        checks = found(PreflightCalls("odd"), "ep")
        assert levels(checks, Level.FAILED) == ["connection", "endpoint"]
        assert "The connection cannot be used" in checks["connection"].text

    def test_a_connection_that_does_not_exist_is_warned_about(self, world, echo, monkeypatch):
        for name, value in settings(world).items():
            monkeypatch.setenv(name, value)
        checks = found(loaded(PreflightCalls("typo", region_name="us-east-1")), echo)
        assert levels(checks, Level.WARNING) == ["connection"]
        assert "no Airflow connection 'typo'" in checks["connection"].text

    def test_a_right_that_is_missing_is_named_and_hides_nothing_else(self, echo, hook):
        deny(hook._sagemaker_looking, "sagemaker", "DescribeEndpoint")
        checks = found(hook, echo)
        assert levels(checks, Level.WARNING) == ["endpoint"]
        assert "sagemaker:DescribeEndpoint" in checks["endpoint"].text
        assert levels(checks, Level.OK) == ["connection", "boto3"]

    def test_who_may_not_ask_for_the_caller_may_still_ask_the_rest(self, echo, hook):
        deny(hook._sts_looking, "sts", "GetCallerIdentity")
        checks = found(hook, echo)
        assert levels(checks, Level.WARNING) == ["connection"]
        assert "sts:GetCallerIdentity" in checks["connection"].text


class TestBoto3:
    def test_an_older_one_is_warned_about_with_the_versions_that_can(self, echo, hook):
        checks = found(loaded(hook, OLDER), echo)
        assert levels(checks, Level.WARNING) == ["boto3"]
        assert f"{boto3.__version__} cannot send Body (1.43.29), Filename (1.42.54)" in checks["boto3"].text

    def test_the_installed_one_is_asked(self, echo, hook):
        del hook.__dict__["_runtime"]
        shape = boto3.client("sagemaker-runtime", region_name="us-east-1").meta.service_model.operation_model(
            "InvokeEndpointAsync"
        )
        can = NEWER_MEMBERS.keys() <= shape.input_shape.members.keys()
        assert found(hook, echo)["boto3"].level is (Level.OK if can else Level.WARNING)


def deny(client, service, operation):
    """Let a call of a client be refused, as IAM refuses it."""

    def refuse(http_response, parsed, **_):
        http_response.status_code = 400
        parsed["Error"] = {"Code": "AccessDeniedException", "Message": "not authorized"}

    client.meta.events.register(f"after-call.{service}.{operation}", refuse)


def settings(world):
    """Return the variables with which boto3 alone reaches the emulator."""
    return {
        "AWS_ENDPOINT_URL": world.emulator.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "NO_PROXY": "127.0.0.1",
    }


class TestCommand:
    def run(self, world, tmp_path, *arguments):
        """Run the command in an environment that has no Airflow yet, and so no database."""
        return subprocess.run(
            [sys.executable, "-m", "airflow_async_sm", "preflight", *arguments],
            env={**os.environ, **settings(world), "AIRFLOW_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def test_a_table_and_0_for_a_healthy_endpoint(self, world, echo, tmp_path):
        done = self.run(world, tmp_path, echo, "--region", "us-east-1")
        assert done.returncode == 0, done.stderr
        first, *rows, empty, last = done.stdout.splitlines()
        assert (first, empty, last[:16]) == ("level  what             found", "", "Nothing failed, ")
        assert rows[0].startswith("ok     connection       arn:aws:sts::123456789012:")
        assert "\x1b" not in done.stdout
        assert not list(tmp_path.glob("*.db"))

    def test_json_and_1_for_an_endpoint_that_does_not_exist(self, world, tmp_path):
        done = self.run(world, tmp_path, "nowhere", "--region", "us-east-1", "--json")
        assert done.returncode == 1, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["endpoint"], answer["ok"]) == ("nowhere", False)
        assert [check["name"] for check in answer["checks"] if check["level"] == "failed"] == ["endpoint"]

    def test_2_for_bad_arguments(self, world, tmp_path):
        done = self.run(world, tmp_path, "not a name")
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: airflow-async-sm preflight" in done.stderr

    def test_an_airflow_connection_is_used_where_one_is_named(self, world, echo, tmp_path, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_MINE", airflow_connection(world.emulator.url, "eu-west-1"))
        done = self.run(world, tmp_path, echo, "--aws-conn-id", "mine", "--json")
        assert done.returncode == 1, done.stderr
        connection, endpoint, *_ = json.loads(done.stdout)["checks"]
        assert (connection["level"], endpoint["level"]) == ("ok", "failed")
        assert "region eu-west-1" in connection["text"]


def test_starting_the_command_loads_neither_airflow_nor_boto3():
    program = (
        "import sys, airflow_async_sm.__main__; print({'airflow', 'boto3', 'botocore'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
