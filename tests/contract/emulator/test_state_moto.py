"""What AWS's clients have made in one process is there in another one that begins with the same folder."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator.aws import LocalClients
from tests.world import ROLE, eventually

SERVER = Path(__file__).with_name("moto_server.py")
MEGABYTE = 1024 * 1024


class Server:
    """A running moto server and clients of it."""

    def __init__(self, process):
        self._process = process
        port, _, own = process.stdout.readline().strip().partition(" ")
        self.own = own
        self._clients = LocalClients(f"http://127.0.0.1:{port}")

    def __getattr__(self, service):
        return self._clients.get(service.replace("_", "-"))

    def save(self, word):
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "saved\n"

    def close(self):
        self._clients.close()


@pytest.fixture
def serve(tmp_path):
    """Return a function that runs a server on the test's folder."""

    @contextlib.contextmanager
    def run():
        with subprocess.Popen(
            [sys.executable, str(SERVER), str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            server = None
            try:
                server = Server(process)
                yield server
            finally:
                if server is not None:
                    server.close()
                process.kill()

    return run


@pytest.fixture
def restart(serve):
    """Return a function that makes things in one process, saves, and looks at them in another one."""

    def both(make, look):
        with serve() as server:
            assert server.own == "None"
            made = make(server)
            server.save("word")
        with serve() as server:
            assert server.own == "{'said': 'word'}"
            look(server, made)
            # What was read back can be kept again.
            server.save("again")
        with serve() as server:
            assert server.own == "{'said': 'again'}"

    return both


def test_objects_with_their_versions_and_descriptions(restart):
    large = bytes(range(256)) * 4096 * 3

    def make(server):
        s3 = server.s3
        s3.create_bucket(Bucket="plain")
        s3.put_object(
            Bucket="plain", Key="a/b", Body=b"x", ContentType="text/csv", Metadata={"Q": "r"}, Tagging="t=u"
        )
        s3.put_object(Bucket="plain", Key="large", Body=large)
        s3.put_object(Bucket="plain", Key="empty", Body=b"")
        s3.put_object(Bucket="plain", Key="gone", Body=large)
        s3.delete_object(Bucket="plain", Key="gone")
        s3.create_bucket(Bucket="versions")
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        versions = [
            s3.put_object(Bucket="versions", Key="k", Body=body)["VersionId"] for body in (b"1", b"2", large)
        ]
        s3.delete_object(Bucket="versions", Key="k")
        return versions, s3.head_object(Bucket="plain", Key="large")["ETag"]

    def look(server, made):
        s3, (versions, etag) = server.s3, made
        found = s3.get_object(Bucket="plain", Key="a/b")
        assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (
            b"x",
            "text/csv",
            {"q": "r"},
        )
        assert s3.get_object_tagging(Bucket="plain", Key="a/b")["TagSet"] == [{"Key": "t", "Value": "u"}]
        assert s3.get_object(Bucket="plain", Key="empty")["Body"].read() == b""
        found = s3.get_object(Bucket="plain", Key="large")
        assert (found["Body"].read(), found["ETag"]) == (large, etag)
        assert [key["Key"] for key in s3.list_objects_v2(Bucket="plain")["Contents"]] == [
            "a/b",
            "empty",
            "large",
        ]
        listed = s3.list_object_versions(Bucket="versions")
        assert {version["VersionId"] for version in listed["Versions"]} == set(versions)
        assert len(listed["DeleteMarkers"]) == 1
        for version, body in zip(versions, (b"1", b"2", large), strict=True):
            found = s3.get_object(Bucket="versions", Key="k", VersionId=version)
            assert found["Body"].read() == body
        s3.put_object(Bucket="versions", Key="k", Body=b"4")
        assert len(s3.list_object_versions(Bucket="versions")["Versions"]) == 4
        # The bucket's owner is kept beside the backends.
        s3.delete_object(Bucket="plain", Key="a/b")
        with pytest.raises(ClientError, match="BucketAlreadyExists|BucketAlreadyOwnedByYou"):
            server._clients.get("s3", "eu-west-1").create_bucket(
                Bucket="plain", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )

    restart(make, look)


def test_upload_in_parts_goes_on(restart):
    part = b"p" * (5 * MEGABYTE)

    def make(server):
        server.s3.create_bucket(Bucket="bucket")
        upload = server.s3.create_multipart_upload(Bucket="bucket", Key="k", ContentType="a/b")["UploadId"]
        first = server.s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=1, Body=part)
        return upload, first["ETag"]

    def look(server, made):
        upload, first = made
        second = server.s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=2, Body=b"end")[
            "ETag"
        ]
        server.s3.complete_multipart_upload(
            Bucket="bucket",
            Key="k",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]},
        )
        found = server.s3.get_object(Bucket="bucket", Key="k")
        assert (found["Body"].read(), found["ContentType"]) == (part + b"end", "a/b")

    restart(make, look)


def test_topics_reach_their_queues(restart):
    def make(server):
        topic = server.sns.create_topic(Name="t")["TopicArn"]
        queue = server.sqs.create_queue(QueueName="q")["QueueUrl"]
        arn = server.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        server.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
        server.sns.publish(TopicArn=topic, Message="before")
        return topic, queue

    def look(server, made):
        topic, queue = made
        server.sns.publish(TopicArn=topic, Message="after")
        got = server.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        assert [json.loads(m["Body"])["Message"] for m in got["Messages"]] == ["before", "after"]

    restart(make, look)


def test_queue_knows_what_is_in_flight_and_what_is_too_much(restart):
    def make(server):
        sqs = server.sqs
        dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        queue = sqs.create_queue(QueueName="q", Attributes={"RedrivePolicy": policy})["QueueUrl"]
        for body in ("taken", "left"):
            sqs.send_message(QueueUrl=queue, MessageBody=body)
        taken = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"][0]
        return queue, dead, taken["ReceiptHandle"]

    def look(server, made):
        sqs, (queue, dead, handle) = server.sqs, made
        got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600)["Messages"]
        assert [message["Body"] for message in got] == ["left"]
        # Seen once already: the next time it goes to the other queue.
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
        assert "Messages" not in sqs.receive_message(QueueUrl=queue)
        assert sqs.receive_message(QueueUrl=dead)["Messages"][0]["Body"] == "taken"
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=got[0]["ReceiptHandle"])

    restart(make, look)


def test_long_poll_after_a_restart_is_woken(restart):
    def make(server):
        return server.sqs.create_queue(QueueName="q")["QueueUrl"]

    def look(server, queue):
        got = []
        waiter = threading.Thread(
            target=lambda: got.extend(
                server.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10).get("Messages", ())
            )
        )
        waiter.start()
        server.sqs.send_message(QueueUrl=queue, MessageBody="m")
        waiter.join(15)
        assert [message["Body"] for message in got] == ["m"]

    restart(make, look)


IDENTITY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/e/variant/v",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def test_models_configurations_scaling_and_metrics(restart):
    def make(server):
        container = {"Image": "i", "Environment": {"A": "B"}}
        server.sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large"}
        server.sagemaker.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[{**variant, "InitialInstanceCount": 1}],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://b/o"}},
        )
        scaling = server.application_autoscaling
        scaling.register_scalable_target(**IDENTITY, MinCapacity=0, MaxCapacity=5)
        policy = scaling.put_scaling_policy(
            **IDENTITY,
            PolicyName="p",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 5.0,
                "CustomizedMetricSpecification": {
                    "MetricName": "A",
                    "Namespace": "N",
                    "Statistic": "Average",
                },
            },
        )
        values = {"SampleCount": 1, "Sum": 2, "Minimum": 2, "Maximum": 2}
        datum = {"MetricName": "A", "StatisticValues": values}
        server.cloudwatch.put_metric_data(Namespace="N", MetricData=[datum])
        server.cloudwatch.put_metric_alarm(
            AlarmName="a",
            MetricName="A",
            Namespace="N",
            Statistic="Average",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            AlarmActions=[policy["PolicyARN"]],
        )
        server.iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")
        return policy["PolicyARN"]

    def look(server, policy):
        found = server.sagemaker.describe_model(ModelName="m")["PrimaryContainer"]
        assert (found["Image"], found["Environment"]) == ("i", {"A": "B"})
        config = server.sagemaker.describe_endpoint_config(EndpointConfigName="c")
        assert config["AsyncInferenceConfig"]["OutputConfig"] == {"S3OutputPath": "s3://b/o"}
        scaling = server.application_autoscaling
        target = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"][0]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 5)
        policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        assert [found["PolicyARN"] for found in policies] == [policy]
        assert server.cloudwatch.list_metrics(Namespace="N")["Metrics"][0]["MetricName"] == "A"
        alarm = server.cloudwatch.describe_alarms()["MetricAlarms"][0]
        assert (alarm["AlarmName"], alarm["AlarmActions"]) == ("a", [policy])
        server.sagemaker.delete_model(ModelName="m")
        assert server.iam.get_role(RoleName="r")["Role"]["RoleName"] == "r"

    restart(make, look)


def test_a_sudden_end_leaves_the_state_of_the_last_save(serve):
    with serve() as server:
        server.s3.create_bucket(Bucket="saved")
        server.save("first")
        server.s3.create_bucket(Bucket="not-saved")
    with serve() as server:
        assert server.own == "{'said': 'first'}"
        assert [bucket["Name"] for bucket in server.s3.list_buckets()["Buckets"]] == ["saved"]


def test_saving_while_everything_changes(serve):
    with serve() as server:
        server.s3.create_bucket(Bucket="bucket")
        queue = server.sqs.create_queue(QueueName="q")["QueueUrl"]
        ending = threading.Event()
        written = []

        def write(number):
            while not ending.is_set():
                server.s3.put_object(Bucket="bucket", Key=f"{number}/{len(written)}", Body=b"x" * 20_000)
                server.sqs.send_message(QueueUrl=queue, MessageBody="m")
                written.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for done in (20, 60, 100):
                eventually(lambda least=done: len(written) > least)
                server.save("busy")
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        server.save("last")
        keys = {key["Key"] for key in server.s3.list_objects_v2(Bucket="bucket")["Contents"]}
    with serve() as server:
        assert {key["Key"] for key in server.s3.list_objects_v2(Bucket="bucket")["Contents"]} == keys
        for key in keys:
            assert server.s3.get_object(Bucket="bucket", Key=key)["Body"].read() == b"x" * 20_000
