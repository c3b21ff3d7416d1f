from __future__ import annotations

import json

import pytest

from airflow_async_sm.emulator.models.docker import Docker
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


def a_model(body, headers):
    return body


@pytest.mark.parametrize("stand", [["a", "b"], "http://h:1", a_model, Docker("x", ("--gpus", "1"))])
def test_what_can_stand_for_an_image(stand):
    assert Images({"a": stand}).find("a") == stand


def test_docker_without_an_image_gets_that_of_the_model():
    assert Images({"a": Docker(options=("--gpus", "1"))}).find("r/a:1") == Docker("r/a:1", ("--gpus", "1"))


@pytest.mark.parametrize(
    ("text", "stand"),
    [
        ("http://127.0.0.1:80/base", "http://127.0.0.1:80/base"),
        ("docker", Docker()),
        ("docker:public/image:tag", Docker("public/image:tag")),
        ("json:dumps", json.dumps),
        ("serve --name 'a b'", ["serve", "--name", "a b"]),
        (["serve", "a:b"], ["serve", "a:b"]),
        ("/opt/a:b/serve", ["/opt/a:b/serve"]),
    ],
)
def test_text_says_what_stands_for_an_image(text, stand):
    assert Images({"a": text}).find("a") == (Docker("a") if stand == Docker() else stand)


@pytest.mark.parametrize("text", ["absent_module:model", "json:absent", "json:__name__", 'serve "a'])
def test_text_that_says_nothing_of_use_is_refused(text):
    with pytest.raises(
        ValueError, match="cannot be loaded|must be something that can be called|closing quotation"
    ):
        Images({"a": text})


@pytest.mark.parametrize("stand", ["https://h:1", "http://", "", " ", [], [1], 5, b"x", {"a": 1}])
def test_what_is_neither_command_nor_address_is_refused(stand):
    with pytest.raises(ValueError, match="'a' is mapped to"):
        Images({"a": stand})
