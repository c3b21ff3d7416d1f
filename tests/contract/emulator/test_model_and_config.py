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
        (asynchronous(S3OutputPath="http://elsewhere/x"), "S3OutputPath is 'http://elsewhere/x'"),
        (asynchronous(S3FailurePath="s3://no!bucket/x"), "is no bucket name"),
        (asynchronous(KmsKeyId="a b"), "kmsKeyId"),
        (asynchronous(NotificationConfig={"ErrorTopic": "topic"}), "ErrorTopic"),
        ({"OutputConfig": {}}, "S3OutputPath must be text"),
        (
            {**asynchronous(), "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1001}},
            "maxConcurrentInvocationsPerInstance is 1,001",
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
    code, message = refused(world.runtime.invoke_endpoint, EndpointName=name, Body=b"x")
    assert (code, message) == ("NotImplementedException", "InvokeEndpoint is not imitated by the emulator.")


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
