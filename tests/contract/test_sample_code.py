"""
Code as in the service's developer guide and sample notebooks, pointed at the emulator by its address only.

Nothing here knows about the emulator but the fixtures: what stands in the tests is how people learn to use
the service. So names, order and parameters of the calls are those of the guides.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
import urllib.parse
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.emulator.clock import Clock

pytestmark = pytest.mark.default_airflow

REGION = "us-east-1"
BUCKET = "sagemaker-us-east-1-123456789012"
PREFIX = "async-inference-demo"
ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ENDPOINT = "demo-async-endpoint"
SPEED = 60.0
SCRIPT = b"""
class Doubling:
    def predict(self, rows):
        return rows.sum(axis=1) * 2

def model_fn(model_dir):
    return Doubling()
"""


@pytest.fixture(scope="module")
def account():
    """An emulator, reached as every AWS program is: by environment variables."""
    with (
        SageMakerAsyncEmulator(clock=Clock(speed=SPEED)) as emulator,
        pytest.MonkeyPatch.context() as variables,
    ):
        variables.setenv("AWS_ENDPOINT_URL", emulator.url)
        variables.setenv("AWS_ACCESS_KEY_ID", "testing")
        variables.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        variables.setenv("AWS_DEFAULT_REGION", REGION)
        for name in ("NO_PROXY", "no_proxy"):
            variables.setenv(name, "127.0.0.1")
        yield boto3.Session()


@pytest.fixture(scope="module")
def sample(account):
    """What the first cells of a notebook define, with an endpoint that is in service."""
    return Sample(account)


class Sample:
    """The cells of a notebook."""

    def __init__(self, session):
        self.s3 = session.client("s3")
        self.sagemaker_client = session.client("sagemaker")
        self.sagemaker_runtime = session.client("sagemaker-runtime")
        self.autoscaling = session.client("application-autoscaling")
        self.cloudwatch = session.client("cloudwatch")
        self.sns = session.client("sns")
        self.sqs = session.client("sqs")
        self.s3.create_bucket(Bucket=BUCKET)
        self.subscribe()
        self.create()

    def subscribe(self):
        self.success_topic = self.sns.create_topic(Name="Async-Demo-SuccessTopic")["TopicArn"]
        self.error_topic = self.sns.create_topic(Name="Async-Demo-ErrorTopic")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName="async-demo")["QueueUrl"]
        queue_arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        for topic in (self.success_topic, self.error_topic):
            self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn["Attributes"]["QueueArn"])

    def create(self):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            info = tarfile.TarInfo("code/inference.py")
            info.size = len(SCRIPT)
            tar.addfile(info, io.BytesIO(SCRIPT))
        self.s3.upload_fileobj(io.BytesIO(packed.getvalue()), BUCKET, f"{PREFIX}/model.tar.gz")
        self.sagemaker_client.create_model(
            ModelName="demo-model",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://{BUCKET}/{PREFIX}/model.tar.gz",
                "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
            },
        )
        self.sagemaker_client.create_endpoint_config(
            EndpointConfigName="demo-async-config",
            ProductionVariants=[
                {
                    "VariantName": "variant1",
                    "ModelName": "demo-model",
                    "InstanceType": "ml.m5.xlarge",
                    "InitialInstanceCount": 1,
                }
            ],
            AsyncInferenceConfig={
                "OutputConfig": {
                    "S3OutputPath": f"s3://{BUCKET}/{PREFIX}/output",
                    "S3FailurePath": f"s3://{BUCKET}/{PREFIX}/failure",
                    "NotificationConfig": {
                        "SuccessTopic": self.success_topic,
                        "ErrorTopic": self.error_topic,
                    },
                },
                "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            },
        )
        self.sagemaker_client.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="demo-async-config")
        waiter = self.sagemaker_client.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})

    def upload_file(self, content, name):
        self.s3.put_object(
            Bucket=BUCKET,
            Key=f"{PREFIX}/input/{name}",
            Body=content,
            ContentType="text/csv",
            Metadata={"purpose": "demo"},
        )
        return f"s3://{BUCKET}/{PREFIX}/input/{name}"

    def get_output(self, output_location, *, within=60.0):
        """Poll until the object is there, as the notebooks do."""
        output_url = urllib.parse.urlparse(output_location)
        give_up_at = time.monotonic() + within
        while time.monotonic() < give_up_at:
            try:
                self.s3.head_object(Bucket=output_url.netloc, Key=output_url.path[1:])
                found = self.s3.get_object(Bucket=output_url.netloc, Key=output_url.path[1:])
                return found["Body"].read().decode("utf-8")
            except ClientError as e:
                if e.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                    raise
                time.sleep(0.1)
        raise AssertionError(f"no object at {output_location}")


def test_input_from_s3_is_answered_in_s3(sample):
    input_location = sample.upload_file(b"1,2,3\n4,5,6\n", "rows.csv")
    response = sample.sagemaker_runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT, InputLocation=input_location, ContentType="text/csv", InferenceId="demo-1"
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert response["InferenceId"] == "demo-1"
    assert json.loads(sample.get_output(response["OutputLocation"])) == [12.0, 30.0]


def test_many_inputs_are_answered_in_their_own_places(sample):
    locations = [sample.upload_file(f"{n},{n}\n".encode(), f"many-{n}.csv") for n in range(20)]
    responses = [
        sample.sagemaker_runtime.invoke_endpoint_async(
            EndpointName=ENDPOINT,
            InputLocation=location,
            ContentType="text/csv",
            InvocationTimeoutSeconds=3600,
        )
        for location in locations
    ]
    answers = [json.loads(sample.get_output(response["OutputLocation"])) for response in responses]
    assert answers == [[4.0 * n] for n in range(20)]


def test_inline_payload_needs_no_upload(sample):
    response = sample.sagemaker_runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT,
        Body=json.dumps({"instances": [[1, 1]]}),
        ContentType="application/json",
        Accept="application/json",
    )
    assert json.loads(sample.get_output(response["OutputLocation"])) == [4.0]


def test_error_and_success_are_told_by_notifications(sample):
    good = sample.sagemaker_runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT, Body="1,2\n", ContentType="text/csv", InferenceId="told-good"
    )
    bad = sample.sagemaker_runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT, Body="no number\n", ContentType="text/csv", InferenceId="told-bad"
    )
    told = {}
    give_up_at = time.monotonic() + 30
    while len(told) < 2:
        assert time.monotonic() < give_up_at, told
        received = sample.sqs.receive_message(
            QueueUrl=sample.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        for message in received.get("Messages", []):
            notification = json.loads(json.loads(message["Body"])["Message"])
            # The first messages only test the topics.
            if notification.get("inferenceId") in ("told-good", "told-bad"):
                told[notification["inferenceId"]] = notification
            sample.sqs.delete_message(QueueUrl=sample.queue, ReceiptHandle=message["ReceiptHandle"])
    assert told["told-good"]["invocationStatus"] == "Completed"
    assert told["told-good"]["responseParameters"]["outputLocation"] == good["OutputLocation"]
    assert told["told-bad"]["invocationStatus"] == "Failed"
    assert "400" in told["told-bad"]["failureReason"]
    assert "no number" in sample.get_output(bad["FailureLocation"])


def test_autoscaling_as_documented_goes_to_zero_and_back(sample):
    resource_id = f"endpoint/{ENDPOINT}/variant/variant1"
    common = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource_id,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    sample.autoscaling.register_scalable_target(**common, MinCapacity=0, MaxCapacity=5)
    dimensions = [{"Name": "EndpointName", "Value": ENDPOINT}]
    sample.autoscaling.put_scaling_policy(
        **common,
        PolicyName="Invocations-ScalingPolicy",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": dimensions,
                "Statistic": "Average",
            },
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 300,
        },
    )
    step_scaling = sample.autoscaling.put_scaling_policy(
        **common,
        PolicyName="HasBacklogWithoutCapacity-ScalingPolicy",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    sample.cloudwatch.put_metric_alarm(
        AlarmName="HasBacklogWithoutCapacity-alarm",
        MetricName="HasBacklogWithoutCapacity",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        Dimensions=dimensions,
        Period=60,
        AlarmActions=[step_scaling["PolicyARN"]],
    )
    targets = sample.autoscaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource_id]
    )["ScalableTargets"]
    assert [(target["MinCapacity"], target["MaxCapacity"]) for target in targets] == [(0, 5)]

    # Fifteen quiet minutes, and the endpoint has no instance.
    give_up_at = time.monotonic() + 120
    while instance_count(sample) != 0:
        assert time.monotonic() < give_up_at, "no scale-in"
        time.sleep(0.1)
    response = sample.sagemaker_runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT, Body="2,2\n", ContentType="text/csv"
    )
    assert json.loads(sample.get_output(response["OutputLocation"], within=120)) == [8.0]
    # With nothing else to do it may be without an instance again.
    activities = sample.autoscaling.describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=resource_id
    )["ScalingActivities"]
    done = [activity["Description"] for activity in reversed(activities)]
    assert done[:2] == [f"Setting desired instance count to {count}." for count in (0, 1)]

    backlog = sample.cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="ApproximateBacklogSize",
        Dimensions=dimensions,
        StartTime=datetime.now(UTC) - timedelta(hours=1),
        EndTime=datetime.now(UTC) + timedelta(days=2),
        Period=3600,
        Statistics=["Maximum"],
        Unit="Count",
    )["Datapoints"]
    assert max(point["Maximum"] for point in backlog) >= 1

    # Cleaning up, in the order of the guide.
    sample.cloudwatch.delete_alarms(AlarmNames=["HasBacklogWithoutCapacity-alarm"])
    for name in ("Invocations-ScalingPolicy", "HasBacklogWithoutCapacity-ScalingPolicy"):
        sample.autoscaling.delete_scaling_policy(PolicyName=name, **common)
    sample.autoscaling.deregister_scalable_target(**common)


def instance_count(sample):
    described = sample.sagemaker_client.describe_endpoint(EndpointName=ENDPOINT)
    assert described["EndpointStatus"] == "InService"
    return described["ProductionVariants"][0]["CurrentInstanceCount"]
