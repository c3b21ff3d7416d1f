"""Our limits are the service's: compared with the API model that comes with the installed botocore."""

from __future__ import annotations

import re

import botocore.session
import pytest

from airflow_async_sm.core import limits
from airflow_async_sm.core.endpoint_states import STATUS_PHASES
from airflow_async_sm.core.limits import NumberLimit, TextLimit

SESSION = botocore.session.Session()
LIMITS = {name: value for name, value in vars(limits).items() if isinstance(value, TextLimit | NumberLimit)}
# What we say more strictly than the model, and why, stands beside each limit in the module.
STRICTER = {"CUSTOM_ATTRIBUTES", "INFERENCE_ID", "INSTANCE_TYPE"}
SAMPLES = [
    "a",
    "A9",
    "a-b",
    "-a",
    "a-",
    "a_b",
    "a.b",
    "a.b.c",
    "a/b",
    "s3://bucket/key",
    "s3:x",
    "ä",
    " ",
    "a b",
]
SAMPLES += ["arn:aws:iam::123456789012:role/x", "arn:aws:sns:us-east-1:123456789012:topic", "x" * 70]


def model_shape(limit):
    """Return the model's shape, or skip where this botocore is older than the member."""
    service = SESSION.get_service_model(limit.service)
    name, _, member = limit.shape.partition(".")
    if not member:
        return service.shape_for(name)
    members = service.operation_model(name).input_shape.members
    if member not in members:
        pytest.skip(f"this botocore does not have {limit.shape}")
    return members[member]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_the_one_of_the_api_model(name):
    limit, published = LIMITS[name], model_shape(LIMITS[name]).metadata
    if isinstance(limit, TextLimit):
        assert limit.max_length == published.get("max", limit.max_length)
        assert limit.min_length >= published.get("min", 0)
    else:
        assert limit.minimum == published.get("min", 0)
        assert limit.maximum == published.get("max", limit.maximum)


@pytest.mark.parametrize("name", [n for n, limit in LIMITS.items() if isinstance(limit, TextLimit)])
def test_a_pattern_accepts_what_the_api_model_accepts(name):
    limit, published = LIMITS[name], model_shape(LIMITS[name]).metadata.get("pattern")
    if published is None or "\\p{Print}" in published or "\\p{L}" in published:
        pytest.skip("the model states no pattern, or one that Python cannot read")
    pattern = published.replace("\\p{ASCII}", "[\\x00-\\x7f]").removeprefix("^").removesuffix("$")
    for sample in SAMPLES:
        ours, theirs = re.fullmatch(limit.pattern, sample), re.fullmatch(pattern, sample)
        assert bool(ours) == bool(theirs) or (name in STRICTER and theirs), sample


def test_an_instance_type_of_the_api_model_is_accepted():
    shape = SESSION.get_service_model("sagemaker").shape_for("ProductionVariantInstanceType")
    assert [kind for kind in shape.enum if not re.fullmatch(limits.INSTANCE_TYPE.pattern, kind)] == []


def test_every_endpoint_status_has_a_meaning():
    shape = SESSION.get_service_model("sagemaker").shape_for("EndpointStatus")
    assert set(STATUS_PHASES) == set(shape.enum)
