from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator.account.plans import Plans


class Refusing:
    """A client that refuses everything, and the clients that hand it out."""

    def __init__(self, code):
        self.code = code

    def get(self, service, region):
        return self

    def describe_model(self, **arguments):
        raise ClientError({"Error": {"Code": self.code, "Message": "m"}}, "DescribeModel")


def test_only_a_refusal_for_absence_means_absent():
    assert not Plans(Refusing("ValidationException"), "123456789012").model_exists("m", "r")
    with pytest.raises(ClientError, match="InternalFailure"):
        Plans(Refusing("InternalFailure"), "123456789012").model_exists("m", "r")
