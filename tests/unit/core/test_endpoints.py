from __future__ import annotations

import pytest

from airflow_async_sm.core.arguments import given
from airflow_async_sm.core.endpoints import AsyncEndpointSpec, EndpointParts
from airflow_async_sm.core.limits import InvalidInput

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
TOPIC = "arn:aws:sns:us-east-1:123456789012:topic"


def spec(**changes):
    arguments = {
        "endpoint_name": "churn",
        "image": "registry/image:1",
        "execution_role_arn": ROLE,
        "output_path": "s3://bucket/churn/answers",
        "instance_type": "ml.m5.large",
    }
    return AsyncEndpointSpec(**(arguments | changes))


def existing_model(**changes):
    return spec(**({"image": None, "execution_role_arn": None, "model_name": "m"} | changes))


def existing_config(**changes):
    return AsyncEndpointSpec(**({"endpoint_name": "churn", "endpoint_config_name": "c"} | changes))


class TestNames:
    # Where these change, every endpoint would be updated by the next version of this package.
    def test_the_names_of_parts_are_made_of_their_content_and_stay_the_same_for_ever(self):
        assert spec().model_name == "churn-x671938de80"
        assert spec().endpoint_config_name == "churn-xeeb9e887b2"

    def test_a_new_model_has_a_new_configuration(self):
        changed = spec(environment={"THREADS": "2"})
        assert changed.model_name != spec().model_name
        assert changed.endpoint_config_name != spec().endpoint_config_name

    def test_a_new_configuration_keeps_the_model(self):
        changed = spec(initial_instance_count=2)
        assert changed.model_name == spec().model_name
        assert changed.endpoint_config_name != spec().endpoint_config_name

    def test_tags_and_guardrails_change_no_name(self):
        changed = spec(tags={"team": "risk"}, deployment_config={"AutoRollbackConfiguration": {}})
        assert (changed.model_name, changed.config_name) == (spec().model_name, spec().config_name)

    def test_given_names_are_used(self):
        named = spec(model_name="my-model", endpoint_config_name="my-config")
        assert named.model_to_api()["ModelName"] == "my-model"
        assert named.endpoint_to_api()["EndpointConfigName"] == "my-config"

    def test_extra_arguments_are_content(self):
        extra = {"create_endpoint_config": {"ProductionVariants": [{"VolumeSizeInGB": 9}]}}
        changed = spec(extra_api_args=extra)
        assert changed.config_name != spec().config_name
        assert changed.endpoint_config_to_api()["ProductionVariants"][0]["VolumeSizeInGB"] == 9


def test_the_smallest_spec_always_has_a_failure_path():
    smallest = spec(model_name="m", endpoint_config_name="c")
    assert given(smallest.model_to_api()) == {
        "ModelName": "m",
        "PrimaryContainer": {"Image": "registry/image:1"},
        "ExecutionRoleArn": ROLE,
    }
    assert given(smallest.endpoint_config_to_api()) == {
        "EndpointConfigName": "c",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "m",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        "AsyncInferenceConfig": {
            "OutputConfig": {
                "S3OutputPath": "s3://bucket/churn/answers",
                "S3FailurePath": "s3://bucket/churn/answers-failures",
            }
        },
    }
    assert given(smallest.endpoint_to_api()) == {"EndpointName": "churn", "EndpointConfigName": "c"}
    assert given(smallest.update_to_api(retain_capacity=False)) == given(smallest.endpoint_to_api())


def test_everything_given_reaches_its_api_argument():
    full = spec(
        failure_path="s3://bucket/errors",
        model_data_url="s3://bucket/model.tar.gz",
        environment={"THREADS": "2"},
        subnets=["subnet-1", "subnet-2"],
        security_group_ids=["sg-1"],
        initial_instance_count=3,
        kms_key_id="alias/key",
        success_topic=TOPIC,
        error_topic=TOPIC,
        include_inference_response_in=["ERROR_NOTIFICATION_TOPIC"],
        max_concurrent_invocations_per_instance=8,
        deployment_config={"AutoRollbackConfiguration": {"Alarms": []}},
        tags={"team": "risk"},
        extra_api_args={"update_endpoint": {"RetainDeploymentConfig": True}},
    )
    tags = [{"Key": "team", "Value": "risk"}]
    model = full.model_to_api()
    assert model["PrimaryContainer"] == {
        "Image": "registry/image:1",
        "ModelDataUrl": "s3://bucket/model.tar.gz",
        "Environment": {"THREADS": "2"},
    }
    assert model["VpcConfig"] == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    config = full.endpoint_config_to_api()
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 3
    assert config["AsyncInferenceConfig"] == {
        "OutputConfig": {
            "S3OutputPath": "s3://bucket/churn/answers",
            "S3FailurePath": "s3://bucket/errors",
            "KmsKeyId": "alias/key",
            "NotificationConfig": {
                "SuccessTopic": TOPIC,
                "ErrorTopic": TOPIC,
                "IncludeInferenceResponseIn": ["ERROR_NOTIFICATION_TOPIC"],
            },
        },
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 8},
    }
    assert [made["Tags"] for made in (model, config, full.endpoint_to_api())] == [tags] * 3
    update = full.update_to_api(retain_capacity=True)
    assert update["RetainAllVariantProperties"] is True
    assert update["RetainDeploymentConfig"] is True
    assert update["DeploymentConfig"] == {"AutoRollbackConfiguration": {"Alarms": []}}


class TestExistingParts:
    def test_an_existing_model_is_not_made(self):
        assert existing_model().model_to_api() is None
        assert existing_model().endpoint_config_to_api()["ProductionVariants"][0]["ModelName"] == "m"

    def test_an_existing_configuration_is_not_made_and_has_a_model(self):
        assert existing_config().model_to_api() is None
        assert existing_config().endpoint_config_to_api() is None
        assert existing_config().endpoint_to_api()["EndpointConfigName"] == "c"

    @pytest.mark.parametrize(
        ("make", "complaint"),
        [
            (lambda: existing_model(model_name=None), "Neither image nor model_name is given"),
            (lambda: existing_model(environment={"A": "1"}), "environment cannot take effect: without image"),
            (
                lambda: existing_model(model_data_url="s3://b/k", execution_role_arn=ROLE),
                "execution_role_arn, model_data_url cannot take effect",
            ),
            (lambda: existing_config(endpoint_config_name=None), "Neither output_path nor endpoint_config_n"),
            (
                lambda: existing_config(instance_type="ml.m5.large"),
                "instance_type cannot take effect: without output_path an existing configuration is used",
            ),
        ],
    )
    def test_what_cannot_take_effect_or_is_missing_is_refused(self, make, complaint):
        with pytest.raises(InvalidInput) as caught:
            make()
        assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"endpoint_name": "x" * 64}, "endpoint_name has 64 characters"),
        ({"endpoint_name": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/x"}, "a name, not an ARN"),
        ({"execution_role_arn": ""}, "execution_role_arn is empty; give the ARN of an IAM role"),
        ({"execution_role_arn": None}, "execution_role_arn is not given"),
        ({"execution_role_arn": "my-role-for-sagemaker-endpoints"}, "the ARN of an IAM role"),
        ({"image": ""}, "image is empty"),
        ({"output_path": "bucket/answers"}, "output_path is 'bucket/answers'; SageMaker accepts an S3 URI"),
        ({"output_path": "s3:///answers"}, "output_path is 's3:///answers'"),
        ({"output_path": "s3://bucket/" + "a" * 501}, "output_path has 513 characters"),
        ({"output_path": "s3://bucket/" + "a" * 495}, "failure_path has 516 characters"),
        ({"failure_path": "nowhere"}, "failure_path is 'nowhere'"),
        ({"failure_path": "s3:///nowhere"}, "failure_path is 's3:///nowhere'"),
        ({"model_data_url": "s3://bucket"}, "model_data_url is 's3://bucket'; it names no object"),
        ({"instance_type": "m5.large"}, "an instance type such as 'ml.m5.large'"),
        ({"instance_type": None}, "instance_type is not given"),
        ({"instance_type": "ml.inf1.xlarge"}, "asynchronous inference excludes inf1"),
        ({"initial_instance_count": 0}, "initial_instance_count is 0 instances"),
        ({"model_name": "-x"}, "model_name is '-x'"),
        ({"endpoint_config_name": "a b"}, "endpoint_config_name is 'a b'"),
        ({"max_concurrent_invocations_per_instance": 1_001}, "is 1,001 invocations"),
        ({"environment": "A=1"}, "environment is str; give a dictionary of texts"),
        ({"environment": {"1ST": "x"}}, "a key of environment is '1ST'"),
        ({"environment": {"A": 1}}, "environment['A'] must be text, not int"),
        ({"environment": {f"K{n}": "" for n in range(101)}}, "environment has 101 entries"),
        ({"subnets": "subnet-1"}, "subnets is 'subnet-1'; give a list of ids"),
        ({"subnets": ["subnet-1"]}, "subnets and security_group_ids go together"),
        ({"security_group_ids": [f"sg-{n}" for n in range(6)]}, "security_group_ids has 6 entries"),
        ({"security_group_ids": ["sg 1"]}, "an entry of security_group_ids is 'sg 1'"),
        ({"kms_key_id": "a key"}, "kms_key_id is 'a key'"),
        ({"success_topic": "topic"}, "success_topic is 'topic'; SageMaker accepts the ARN"),
        ({"error_topic": f"{TOPIC}.fifo"}, "cannot publish to a FIFO topic"),
        ({"include_inference_response_in": "SUCCESS_NOTIFICATION_TOPIC"}, "give a list of"),
        ({"include_inference_response_in": ["BOTH"]}, "include_inference_response_in is ['BOTH']"),
        ({"include_inference_response_in": ["ERROR_NOTIFICATION_TOPIC"]}, "but error_topic is not given"),
        ({"tags": ["team"]}, "tags is list; give a dictionary"),
        ({"tags": {"aws:team": "x"}}, "a key of tags is 'aws:team'"),
        ({"tags": {"team": "a" * 257}}, "tags['team'] has 257 characters"),
        ({"tags": {f"k{n}": "" for n in range(51)}}, "tags has 51 entries"),
        ({"deployment_config": "BLUE_GREEN"}, "deployment_config is str"),
        ({"deployment_config": {"Canary": {}}}, "deployment_config has Canary; it can have"),
        (
            {"deployment_config": {"BlueGreenUpdatePolicy": {}, "RollingUpdatePolicy": {}}},
            "an update follows one of them",
        ),
        ({"extra_api_args": {"create_model": 1}}, "extra_api_args is no dictionary of dictionaries"),
        ({"extra_api_args": {"deploy": {}}}, "extra_api_args has deploy; the calls are"),
        ({"extra_api_args": {"create_model": {"ModelName": "x"}}}, "names have arguments of their own"),
    ],
)
def test_bad_input_is_refused(change, complaint):
    with pytest.raises(InvalidInput) as caught:
        spec(**change)
    assert complaint in str(caught.value)


def test_a_topic_must_be_in_the_endpoints_region():
    spec(success_topic=TOPIC, error_topic=TOPIC).check_region("us-east-1")
    spec().check_region("eu-west-1")
    with pytest.raises(InvalidInput, match="error_topic is .* the endpoint is in eu-west-1"):
        spec(error_topic=TOPIC).check_region("eu-west-1")


@pytest.mark.parametrize("name", ["endpoint_name", "endpoint_config_name", "model_name"])
def test_a_part_whose_name_cannot_be_is_refused(name):
    with pytest.raises(InvalidInput, match=f"{name} is 'a_b'"):
        EndpointParts(**({"endpoint_name": "churn"} | {name: "a_b"}))
    assert EndpointParts(endpoint_name="churn").model_name is None
