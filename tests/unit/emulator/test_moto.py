"""What the emulator changes in moto is what it was when the change was written."""

from __future__ import annotations

import hashlib
import inspect

from moto.sagemaker.models import FakeEndpointConfig, SageMakerModelBackend

from airflow_async_sm.emulator.web.http_server import every_instance_type


def test_replaced_function_is_the_one_that_was_read():
    source = inspect.getsource(FakeEndpointConfig.validate_instance_type)
    assert (
        hashlib.sha256(source.encode()).hexdigest()
        == "bdc591b519e97fd127066f2a1539c1bd9e3350150410b75113459e1555561967"
    ), "moto changed its check of instance types: see whether it must still be replaced, then note its hash"


def test_resources_are_found_by_their_arn_as_when_it_was_read():
    source = inspect.getsource(SageMakerModelBackend._get_resource_from_arn)
    assert (
        hashlib.sha256(source.encode()).hexdigest()
        == "e47bd7bce3c5aa618b17e325181fb56391e87c936769b03a3ad44f1facef88fc"
    ), "moto finds what has tags in another way: see whether ARNs must still be spelled as names are"


def test_replacement_is_undone():
    original = FakeEndpointConfig.validate_instance_type
    with every_instance_type():
        assert FakeEndpointConfig.validate_instance_type is not original
    assert FakeEndpointConfig.validate_instance_type is original
