"""Every error keeps its text and its fields wherever Airflow carries it."""

from __future__ import annotations

import inspect
import pickle

import pytest

from airflow_async_sm import exceptions
from airflow_async_sm._compat import AirflowException, AirflowFailException
from airflow_async_sm.exceptions import SageMakerAsyncError

ERRORS = [
    cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, SageMakerAsyncError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling_with_its_fields(kind):
    error = kind("It broke.", endpoint_name="model", inference_id="id-1", location="s3://bucket/out")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "It broke."
    assert vars(copy) == {"endpoint_name": "model", "inference_id": "id-1", "location": "s3://bucket/out"}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_airflows_own_serialization_with_its_text(kind):
    path, arguments, fields = kind("It broke.", endpoint_name="model").serialize()
    assert path == f"airflow_async_sm.exceptions.{kind.__name__}"
    assert str(kind(*arguments, **fields)) == "It broke."


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_stands_in_the_tree_at_the_top_with_its_mark(kind):
    drawn = [line for line in exceptions.__doc__.splitlines() if kind.__name__ in line.split()]
    assert len(drawn) == 1
    assert ("(*)" in drawn[0]) is issubclass(kind, AirflowFailException)
    assert issubclass(kind, AirflowException)
