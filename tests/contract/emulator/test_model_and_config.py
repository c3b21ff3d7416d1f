from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

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


VPC = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
CONTAINER = {
    "ContainerHostname": "host",
    "Image": "i",
    "ImageConfig": {
        "RepositoryAccessMode": "Vpc",
        "RepositoryAuthConfig": {"RepositoryCredentialsProviderArn": "arn:aws:lambda:us-east-1:1:function:f"},
    },
    "Mode": "SingleModel",
    "ModelDataUrl": "s3://b/model.tar.gz",
    "ModelDataSource": {"S3DataSource": FOLDER},
    "AdditionalModelDataSources": [{"ChannelName": "more", "S3DataSource": FOLDER}],
    "Environment": {"K": "v"},
    "ModelPackageName": "package",
    "InferenceSpecificationName": "specification",
    "MultiModelConfig": {"ModelCacheSetting": "Disabled"},
}
VARIANT = {
    "VariantName": "v",
    "InitialInstanceCount": 2,
    "InstanceType": "ml.m5.large",
    "InitialVariantWeight": 0.5,
    "AcceleratorType": "ml.eia2.medium",
    "CoreDumpConfig": {"DestinationS3Uri": "s3://b/dumps", "KmsKeyId": "key"},
    "VolumeSizeInGB": 30,
    "ModelDataDownloadTimeoutInSeconds": 600,
    "ContainerStartupHealthCheckTimeoutInSeconds": 700,
    "EnableSSMAccess": True,
    "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3},
    "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2",
}
OUTPUT = {
    "S3OutputPath": "s3://contract-bucket/out",
    "S3FailurePath": "s3://contract-bucket/failures",
    "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/k",
    "NotificationConfig": {
        "SuccessTopic": "arn:aws:sns:us-east-1:123456789012:good",
        "ErrorTopic": "arn:aws:sns:us-east-1:123456789012:bad",
        "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"],
    },
}
CAPTURE = {
    "EnableCapture": False,
    "InitialSamplingPercentage": 10,
    "DestinationS3Uri": "s3://b/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}
SHAP = {"ShapBaselineConfig": {"MimeType": "text/csv", "ShapBaseline": "1,2"}, "Seed": 1}


class TestDescriptions:
    """What was given comes back, whatever moto makes of it, and nothing else does."""

    @pytest.mark.parametrize(
        "given",
        [
            {"PrimaryContainer": {"Image": "i"}},
            {"PrimaryContainer": CONTAINER, "VpcConfig": VPC, "EnableNetworkIsolation": True},
            {
                "Containers": [CONTAINER, {"Image": "second"}],
                "InferenceExecutionConfig": {"Mode": "Direct"},
                "EnableNetworkIsolation": False,
            },
        ],
        ids=["least", "most", "several containers"],
    )
    def test_model(self, world, given):
        name = f"described-{uuid.uuid4().hex[:8]}"
        given = {"ModelName": name, "ExecutionRoleArn": ROLE, **given}
        world.control.create_model(**given, Tags=[{"Key": "k", "Value": "v"}])
        described = self.without_metadata(world.control.describe_model(ModelName=name))
        assert described.pop("ModelArn") == world.arn("model", name)
        assert described == {"EnableNetworkIsolation": False, **given}
        world.control.delete_model(ModelName=name)

    @pytest.mark.parametrize(
        ("variant", "given"),
        [
            ({"VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, {}),
            (
                VARIANT,
                {
                    "KmsKeyId": "key",
                    "DataCaptureConfig": CAPTURE,
                    "ExplainerConfig": {"ClarifyExplainerConfig": {"ShapConfig": SHAP}},
                    "ExecutionRoleArn": ROLE,
                    "VpcConfig": VPC,
                    "EnableNetworkIsolation": True,
                    "AsyncInferenceConfig": {
                        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 3},
                        "OutputConfig": OUTPUT,
                    },
                },
            ),
        ],
        ids=["least", "most"],
    )
    def test_configuration(self, world, echo, variant, given):
        name = f"described-{uuid.uuid4().hex[:8]}"
        variant = {**variant, "ModelName": echo}
        given = {"EndpointConfigName": name, "ProductionVariants": [variant], **given}
        world.control.create_endpoint_config(**given, Tags=[{"Key": "k", "Value": "v"}])
        described = self.without_metadata(world.control.describe_endpoint_config(EndpointConfigName=name))
        assert described.pop("EndpointConfigArn") == world.arn("endpoint-config", name)
        assert described == {"EnableNetworkIsolation": False, **given}
        world.control.delete_endpoint_config(EndpointConfigName=name)

    def test_configuration_with_shadows(self, world, variant):
        name = f"described-{uuid.uuid4().hex[:8]}"
        shadows = [{**variant, "VariantName": "shadow"}]
        world.control.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], ShadowProductionVariants=shadows
        )
        described = world.control.describe_endpoint_config(EndpointConfigName=name)
        assert described["ShadowProductionVariants"] == shadows
        world.control.delete_endpoint_config(EndpointConfigName=name)

    def without_metadata(self, described):
        assert described.pop("CreationTime")
        described.pop("ResponseMetadata")
        return described


@pytest.fixture(scope="module")
def listed(world):
    common = f"listed-{uuid.uuid4().hex[:8]}"
    names = [f"{common}-{number:02}" for number in range(12)]
    for name in names:
        world.control.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"})
        world.control.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
        )
    yield common, names
    for name in names:
        world.control.delete_endpoint_config(EndpointConfigName=name)
        world.control.delete_model(ModelName=name)


class TestLists:
    """Models and configurations are listed as endpoints are: moto lists models all at once."""

    @pytest.fixture(params=[("list_models", "Model"), ("list_endpoint_configs", "EndpointConfig")])
    def names(self, world, listed, request):
        operation, what = request.param

        def names(**members):
            page = getattr(world.control, operation)(**{"NameContains": listed[0], **members})
            return [one[f"{what}Name"] for one in page[f"{what}s"]], page.get("NextToken")

        return names

    def test_newest_ten_come_first_and_then_the_others(self, listed, names):
        first, token = names()
        assert first == listed[1][:1:-1]
        assert names(NextToken=token) == ([listed[1][1], listed[1][0]], None)

    def test_order_size_and_filters(self, listed, names):
        assert names(SortBy="Name", SortOrder="Ascending", MaxResults=2)[0] == listed[1][:2]
        assert names(NameContains=f"{listed[0]}-03".upper()) == ([listed[1][3]], None)
        now = datetime.now(UTC)
        assert names(CreationTimeBefore=now - timedelta(hours=1)) == ([], None)
        assert len(names(CreationTimeAfter=now - timedelta(hours=1), MaxResults=100)[0]) == 12
        assert names(CreationTimeAfter=now + timedelta(hours=1)) == ([], None)

    def test_other_regions_have_their_own(self, world, listed):
        abroad = world.emulator.client("sagemaker", "eu-west-1")
        assert abroad.list_models(NameContains=listed[0])["Models"] == []
        assert abroad.list_endpoint_configs(NameContains=listed[0])["EndpointConfigs"] == []

    def test_entry_has_name_arn_and_time(self, world, listed):
        name = listed[1][0]
        [model] = world.control.list_models(NameContains=name)["Models"]
        described = world.control.describe_model(ModelName=name)
        assert model == {key: described[key] for key in ("ModelName", "ModelArn", "CreationTime")}
        [config] = world.control.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
        described = world.control.describe_endpoint_config(EndpointConfigName=name)
        members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
        assert config == {key: described[key] for key in members}


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
