from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

FOLDER = {"S3Uri": "s3://b/k/", "S3DataType": "S3Prefix", "CompressionType": "None"}
ROLE = "arn:aws:iam::123456789012:role/sagemaker"


@pytest.fixture
def variant(echo):
    return {"VariantName": "v", "ModelName": echo, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def asynchronous(**output):
    return {"OutputConfig": {"S3OutputPath": "s3://contract-bucket/out", **output}}


def test_existing_model_is_refused(world, echo, refused):
    code, message = refused(world.control.create_model, ModelName=echo, ExecutionRoleArn=ROLE)
    assert (code, message.startswith("Cannot create already existing model ")) == (
        "ValidationException",
        True,
    )


def test_existing_configuration_is_refused(world, echo, variant, refused):
    code, message = refused(
        world.control.create_endpoint_config, EndpointConfigName=echo, ProductionVariants=[variant]
    )
    assert code == "ValidationException"
    assert message.startswith('Cannot create already existing endpoint configuration "arn:')


def test_configuration_of_a_missing_model_is_refused(world, variant, refused):
    code, message = refused(
        world.control.create_endpoint_config,
        EndpointConfigName="new",
        ProductionVariants=[{**variant, "ModelName": "absent"}],
    )
    assert code == "ValidationException"
    assert message == 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/absent".'


def test_one_of_many_simultaneous_creations_wins(world):
    def create(_):
        try:
            world.control.create_model(
                ModelName="contested", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"}
            )
        except ClientError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_instance_type_that_moto_does_not_know_is_accepted(world, variant):
    name = "current-instance-type"
    variant["InstanceType"] = "ml.g6e.xlarge"
    world.control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    stored = world.control.describe_endpoint_config(EndpointConfigName=name)
    assert stored["ProductionVariants"][0]["InstanceType"] == "ml.g6e.xlarge"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            asynchronous(S3OutputPath="http://elsewhere/x"),
            "Value 'http://elsewhere/x' at 'asyncInferenceConfig.outputConfig.s3OutputPath'",
        ),
        (asynchronous(S3FailurePath="s3://no!bucket/x"), "is no bucket name"),
        (asynchronous(KmsKeyId="a b"), "kmsKeyId"),
        (asynchronous(NotificationConfig={"ErrorTopic": "topic"}), "errorTopic"),
        ({"OutputConfig": {}}, "Value null at 'asyncInferenceConfig.outputConfig.s3OutputPath'"),
        (
            {**asynchronous(), "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1001}},
            "less than or equal to 1000",
        ),
    ],
)
def test_bad_asynchronous_configuration_is_refused(world, variant, refused, config, message):
    code, text = refused(
        world.control.create_endpoint_config,
        EndpointConfigName="new",
        ProductionVariants=[variant],
        AsyncInferenceConfig=config,
    )
    assert code == "ValidationException"
    assert text.startswith("1 validation error detected: ")
    assert message in text


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ModelDataDownloadTimeoutInSeconds", 3601),
        ("ContainerStartupHealthCheckTimeoutInSeconds", 3601),
        ("VolumeSizeInGB", 513),
    ],
)
def test_number_above_its_limit_is_refused(world, variant, refused, member, value):
    code, text = refused(
        world.control.create_endpoint_config,
        EndpointConfigName="new",
        ProductionVariants=[{**variant, member: value}],
    )
    where = f"productionVariants.1.member.{member[0].lower()}{member[1:]}"
    assert (code, text) == (
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{where}' failed to satisfy constraint: "
        f"Member must have value less than or equal to {value - 1}",
    )


class TestArns:
    """They are in lower case wherever they are, and the names keep the case of their creator."""

    @pytest.fixture
    def name(self):
        return f"MixedCase-{uuid.uuid4().hex[:8]}"

    def test_model(self, world, name):
        made = world.control.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": "i", "Environment": {"ModelArn": "AsItIs"}},
            Tags=[{"Key": "first", "Value": "A"}],
        )
        arn = world.arn("model", name.lower())
        described = world.control.describe_model(ModelName=name)
        listed = [one for one in world.control.list_models()["Models"] if one["ModelName"] == name]
        assert (made["ModelArn"], described["ModelArn"], listed[0]["ModelArn"]) == (arn, arn, arn)
        assert described["PrimaryContainer"]["Environment"] == {"ModelArn": "AsItIs"}
        assert described["ModelName"] == name
        self.tags_are_those_of(world, arn)
        world.control.delete_model(ModelName=name)

    def test_configuration(self, world, variant, name):
        made = world.control.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], Tags=[{"Key": "first", "Value": "A"}]
        )
        arn = world.arn("endpoint-config", name.lower())
        described = world.control.describe_endpoint_config(EndpointConfigName=name)
        listed = [
            one
            for page in world.control.get_paginator("list_endpoint_configs").paginate()
            for one in page["EndpointConfigs"]
            if one["EndpointConfigName"] == name
        ]
        found = [one["EndpointConfigArn"] for one in (made, described, *listed)]
        assert found == [arn, arn, arn]
        self.tags_are_those_of(world, arn)
        world.control.delete_endpoint_config(EndpointConfigName=name)

    def tags_are_those_of(self, world, arn):
        world.control.add_tags(ResourceArn=arn, Tags=[{"Key": "second", "Value": "B"}])
        world.control.delete_tags(ResourceArn=arn, TagKeys=["first"])
        assert world.control.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "second", "Value": "B"}]

    @pytest.mark.parametrize(
        ("kind", "words"), [("model", "model"), ("endpoint-config", "endpoint configuration")]
    )
    def test_what_is_absent_has_no_tags(self, world, refused, kind, words):
        arn = world.arn(kind, "absent")
        code, message = refused(world.control.list_tags, ResourceArn=arn)
        assert (code, message) == ("ValidationException", f'Could not find {words} "{arn}".')


def test_features_that_asynchronous_endpoints_lack_are_refused(world, variant, refused):
    call = world.control.create_endpoint_config
    serverless = {
        "VariantName": "s",
        "ModelName": variant["ModelName"],
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
    }
    for more in (
        {"ProductionVariants": [variant, {**variant, "VariantName": "second"}]},
        {"ProductionVariants": [serverless]},
        {"ProductionVariants": [variant], "ShadowProductionVariants": [{**variant, "VariantName": "shadow"}]},
    ):
        code, message = refused(call, EndpointConfigName="new", AsyncInferenceConfig=asynchronous(), **more)
        assert code == "ValidationException"
        assert message.startswith("One or more endpoint features are not supported")


def test_real_time_endpoint_comes_up_and_takes_no_asynchronous_requests(world, refused):
    name = world.deploy(asynchronous=False)
    assert "AsyncInferenceConfig" not in world.control.describe_endpoint(EndpointName=name)
    code, message = refused(world.submit, name)
    assert (code, "not an asynchronous endpoint" in message) == ("ValidationError", True)
    for call, operation in (
        (world.runtime.invoke_endpoint, "InvokeEndpoint"),
        (world.runtime.invoke_endpoint_with_response_stream, "InvokeEndpointWithResponseStream"),
    ):
        code, message = refused(call, EndpointName=name, Body=b"x")
        assert (code, message) == ("NotImplementedException", f"{operation} is not imitated by the emulator.")


@pytest.mark.parametrize(
    ("variants", "call"),
    [
        (2, "several production variants"),
        (0, "serverless"),
    ],
)
def test_endpoint_of_a_kind_that_is_not_imitated_is_refused(world, variant, refused, variants, call):
    if variants == 0:
        serverless = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
        chosen = [{"VariantName": "s", "ModelName": variant["ModelName"], "ServerlessConfig": serverless}]
    else:
        chosen = [{**variant, "VariantName": f"v{number}"} for number in range(variants)]
    name = f"kind-{variants}"
    world.control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=chosen)
    code, message = refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=name)
    assert (code, call in message) == ("NotImplementedException", True)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ({"Containers": [{"Image": "a"}, {"Image": "b"}]}, "ValidationException"),
        ({"PrimaryContainer": {"ModelPackageName": "package"}}, "NotImplementedException"),
        (
            {
                "PrimaryContainer": {
                    "Image": "a",
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": "s3://b/k/",
                            "S3DataType": "S3Prefix",
                            "CompressionType": "None",
                        }
                    },
                }
            },
            "NotImplementedException",
        ),
    ],
)
def test_model_that_cannot_be_served_is_refused_with_the_endpoint(world, variant, refused, model, code):
    name = f"m-{uuid.uuid4().hex[:8]}"
    world.control.create_model(ModelName=name, ExecutionRoleArn=ROLE, **model)
    world.control.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**variant, "ModelName": name}],
        AsyncInferenceConfig=asynchronous(),
    )
    assert refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=name)[0] == code
