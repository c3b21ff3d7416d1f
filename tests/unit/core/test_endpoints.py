from __future__ import annotations

import pytest

from airflow_async_sm.core.endpoints import AsyncEndpointSpec, EndpointParts, given, is_described_by
from airflow_async_sm.core.limits import InvalidInput

ROLE = "arn:aws:iam::123456789012:role/sagemaker"


def spec(**changes):
    arguments = {
        "endpoint_name": "churn",
        "image": "registry/image:1",
        "execution_role_arn": ROLE,
        "output_path": "s3://bucket/churn/answers",
        "instance_type": "ml.m5.large",
    }
    return AsyncEndpointSpec(**(arguments | changes))


def test_the_smallest_spec_names_everything_after_the_endpoint_and_always_has_a_failure_path():
    smallest = spec()
    assert given(smallest.model_to_api()) == {
        "ModelName": "churn",
        "PrimaryContainer": {"Image": "registry/image:1"},
        "ExecutionRoleArn": ROLE,
    }
    assert given(smallest.endpoint_config_to_api()) == {
        "EndpointConfigName": "churn",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "churn",
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
    assert smallest.endpoint_to_api() == {"EndpointName": "churn", "EndpointConfigName": "churn"}


def test_everything_given_reaches_its_api_argument():
    full = spec(
        failure_path="s3://bucket/errors",
        model_data_url="s3://bucket/model.tar.gz",
        environment={"THREADS": "2"},
        model_name="churn-model",
        endpoint_config_name="churn-config",
        initial_instance_count=3,
        max_concurrent_invocations_per_instance=8,
    )
    assert full.model_to_api()["PrimaryContainer"] == {
        "Image": "registry/image:1",
        "ModelDataUrl": "s3://bucket/model.tar.gz",
        "Environment": {"THREADS": "2"},
    }
    config = full.endpoint_config_to_api()
    assert config["ProductionVariants"][0]["ModelName"] == "churn-model"
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 3
    assert config["AsyncInferenceConfig"] == {
        "OutputConfig": {"S3OutputPath": "s3://bucket/churn/answers", "S3FailurePath": "s3://bucket/errors"},
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 8},
    }
    assert full.endpoint_to_api() == {"EndpointName": "churn", "EndpointConfigName": "churn-config"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"endpoint_name": "x" * 64}, "endpoint_name has 64 characters"),
        ({"endpoint_name": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/x"}, "a name, not an ARN"),
        ({"execution_role_arn": ""}, "execution_role_arn is empty; give the ARN of an IAM role"),
        ({"execution_role_arn": None}, "execution_role_arn must be text"),
        ({"execution_role_arn": "my-role-for-sagemaker-endpoints"}, "the ARN of an IAM role"),
        ({"image": ""}, "image is empty"),
        ({"output_path": "bucket/answers"}, "output_path is 'bucket/answers'; expected s3://bucket/key"),
        ({"output_path": "s3://bucket/" + "a" * 501}, "output_path has 513 characters"),
        ({"failure_path": "nowhere"}, "failure_path is 'nowhere'"),
        ({"failure_path": "s3:///nowhere"}, "failure_path is 's3:///nowhere'"),
        ({"model_data_url": "s3://bucket"}, "model_data_url is 's3://bucket'; it names no object"),
        ({"instance_type": "m5.large"}, "an instance type such as 'ml.m5.large'"),
        ({"initial_instance_count": 0}, "initial_instance_count is 0 instances"),
        ({"model_name": "-x"}, "model_name is '-x'"),
        ({"endpoint_config_name": "a b"}, "endpoint_config_name is 'a b'"),
        ({"max_concurrent_invocations_per_instance": 1_001}, "is 1,001 invocations"),
        ({"environment": "A=1"}, "environment is str; give a dictionary of texts"),
        ({"environment": {"1ST": "x"}}, "a key of environment is '1ST'"),
        ({"environment": {"A": 1}}, "environment['A'] must be text, not int"),
        ({"environment": {f"K{n}": "" for n in range(101)}}, "environment has 101 entries"),
    ],
)
def test_bad_input_is_refused(change, complaint):
    with pytest.raises(InvalidInput) as caught:
        spec(**change)
    assert complaint in str(caught.value)


class TestWhatExistsAlready:
    """A retry takes what an earlier attempt made, and nothing else."""

    MODEL = spec(model_data_url="s3://bucket/model.tar.gz", environment={"THREADS": "2"}).model_to_api()
    DESCRIBED = {
        "ModelName": "churn",
        "ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/churn",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": "registry/image:1",
            "Mode": "SingleModel",
            "ModelDataUrl": "s3://bucket/model.tar.gz",
            "Environment": {"THREADS": "2"},
        },
    }

    def described(self, **container):
        return {**self.DESCRIBED, "PrimaryContainer": {**self.DESCRIBED["PrimaryContainer"], **container}}

    def test_what_the_service_adds_makes_no_difference(self):
        assert is_described_by(self.MODEL, self.DESCRIBED)

    @pytest.mark.parametrize(
        "container",
        [
            {"Image": "registry/image:2"},
            {"ModelDataUrl": "s3://bucket/other.tar.gz"},
            {"Environment": {"THREADS": "4"}},
            {"Environment": {"THREADS": "2", "MORE": "1"}},
            {"Environment": None},
        ],
    )
    def test_another_value_makes_a_difference(self, container):
        assert not is_described_by(self.MODEL, self.described(**container))

    def test_what_was_not_asked_for_must_not_be_there(self):
        plain = spec().model_to_api()
        assert not is_described_by(plain, self.DESCRIBED)
        assert is_described_by(plain, self.described(ModelDataUrl=None, Environment={}))

    def test_lists_are_compared_item_by_item(self):
        config = spec(initial_instance_count=2).endpoint_config_to_api()
        described = given(config)
        assert is_described_by(config, described)
        variants = described["ProductionVariants"]
        assert not is_described_by(config, {**described, "ProductionVariants": variants * 2})
        assert not is_described_by(config, {**described, "ProductionVariants": []})
        fewer = [{**variants[0], "InitialInstanceCount": 1}]
        assert not is_described_by(config, {**described, "ProductionVariants": fewer})


@pytest.mark.parametrize("name", ["endpoint_name", "endpoint_config_name", "model_name"])
def test_a_part_whose_name_cannot_be_is_refused(name):
    with pytest.raises(InvalidInput, match=f"{name} is 'a_b'"):
        EndpointParts(**({"endpoint_name": "churn"} | {name: "a_b"}))
    assert EndpointParts(endpoint_name="churn").model_name is None
