from __future__ import annotations

import pytest

from airflow_async_sm.core.arguments import given, is_described_by, merged
from tests.unit.core.test_endpoints import ROLE, spec


def test_what_is_not_given_is_left_out_at_every_depth():
    arguments = {"A": None, "B": {"C": None, "D": 0}, "E": [{"F": None}]}
    assert given(arguments) == {"B": {"D": 0}, "E": [{}]}


class TestMerged:
    @pytest.mark.parametrize(
        ("arguments", "more", "both"),
        [
            ({"A": 1}, {"B": 2}, {"A": 1, "B": 2}),
            ({"A": 1}, {"A": 2}, {"A": 2}),
            ({"A": {"B": 1}}, {"A": {"C": 2}}, {"A": {"B": 1, "C": 2}}),
            ({"A": [{"B": 1}]}, {"A": [{"C": 2}]}, {"A": [{"B": 1, "C": 2}]}),
            ({"A": [1]}, {"A": [2, 3]}, {"A": [2, 3]}),
            ({"A": [1, 2]}, {"A": [3]}, {"A": [3, 2]}),
            ({"A": {"B": 1}}, {"A": None}, {"A": None}),
        ],
    )
    def test_what_is_added_counts_and_the_rest_stays(self, arguments, more, both):
        before = repr(arguments)
        assert merged(arguments, more) == both
        assert repr(arguments) == before


class TestIsDescribedBy:
    """A retry takes what an earlier attempt made, and nothing else."""

    MODEL = spec(
        model_name="churn", model_data_url="s3://bucket/model.tar.gz", environment={"THREADS": "2"}
    ).model_to_api()
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
        plain = spec(model_name="churn").model_to_api()
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

    def test_tags_make_no_difference(self):
        tagged = spec(tags={"team": "risk"}).model_to_api()
        assert is_described_by(tagged, {**given(tagged), "Tags": None})
