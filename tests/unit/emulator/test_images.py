from __future__ import annotations

import pytest

from airflow_async_sm.emulator.models.images import BUNDLED, Images


@pytest.mark.parametrize(
    "address",
    [
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        "localhost:5000/team/sagemaker-scikit-learn",
        "sagemaker-scikit-learn@sha256:0123",
    ],
)
def test_aws_scikit_learn_image_is_known_wherever_it_lies(address):
    assert Images().find(address) == BUNDLED["sagemaker-scikit-learn"]


def test_most_precise_name_is_used():
    images = Images({"r/a:1": ["tagged"], "r/a": ["untagged"], "a": ["repository"]})
    found = [images.find(name) for name in ("r/a:1", "r/a:2", "other:5000/a:2", "r/a@sha256:0")]
    assert found == [["tagged"], ["untagged"], ["repository"], ["untagged"]]


def test_bundled_image_can_be_replaced():
    assert Images({"sagemaker-scikit-learn": ["mine"]}).find("x/sagemaker-scikit-learn:1") == ["mine"]


def test_other_image_is_unknown():
    assert Images().find("x/sagemaker-scikit-learn-extended:1") is None


@pytest.mark.parametrize("stand", ["https://h:1", "h:1", "http://", "", [], [1]])
def test_what_is_neither_command_nor_address_is_refused(stand):
    with pytest.raises(ValueError, match="'a' is mapped to"):
        Images({"a": stand})
