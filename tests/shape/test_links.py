"""Whatever has an endpoint or a request leads to it, and Airflow knows every link."""

from __future__ import annotations

import inspect

import pytest

from airflow_async_sm._compat import BaseOperator, BaseOperatorLink
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.links import (
    SageMakerDataLogLink,
    SageMakerEndpointLink,
    SageMakerEndpointLogsLink,
    SageMakerFailureLink,
    SageMakerOutputLink,
)
from airflow_async_sm.provider_info import get_provider_info
from tests.shape.discovery import classes

CONCRETE = [cls for cls in classes(BaseOperator, "operators", "sensors") if not inspect.isabstract(cls)]
OPERATORS = [cls for cls in CONCRETE if "endpoint_name" in inspect.signature(cls).parameters]
WITH_A_REQUEST = [cls for cls in CONCRETE if cls.handle_type is InvocationHandle]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda cls: cls.__name__)
def test_an_operator_with_an_endpoint_has_both_links_to_it(operator):
    kinds = {type(link) for link in operator.operator_extra_links}
    assert kinds >= {SageMakerEndpointLink, SageMakerEndpointLogsLink}


@pytest.mark.parametrize("operator", WITH_A_REQUEST, ids=lambda cls: cls.__name__)
def test_an_operator_with_a_request_has_every_link_to_it(operator):
    kinds = {type(link) for link in operator.operator_extra_links}
    assert kinds >= {SageMakerOutputLink, SageMakerFailureLink, SageMakerDataLogLink}


def test_there_are_operators_to_look_at():
    assert len(OPERATORS) >= 4
    assert WITH_A_REQUEST


def test_airflow_is_told_of_every_link():
    links = [f"{cls.__module__}.{cls.__qualname__}" for cls in classes(BaseOperatorLink, "links")]
    public = [name for name in links if not name.rpartition(".")[2].startswith("_")]
    assert sorted(get_provider_info()["extra-links"]) == sorted(public)
    assert len(public) == 5
