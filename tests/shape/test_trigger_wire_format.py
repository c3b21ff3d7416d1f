"""A trigger comes back whole through the storage of a deferred task, and its wire format does not drift."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

from airflow_async_sm._compat import BaseTrigger
from tests.shape.discovery import classes

TRIGGERS = [cls for cls in classes(BaseTrigger, "triggers") if not cls.__abstractmethods__]
AWS = {
    "aws_conn_id": "other",
    "region_name": "eu-west-1",
    "verify": "/etc/certificates.pem",
    "botocore_config": {"read_timeout": 7, "retries": {"mode": "standard"}},
}
# A task that was deferred under an earlier version is resumed with these: add to them, never take away.
ARGUMENTS = {
    "SageMakerAsyncInferenceTrigger": {
        "endpoint_name": "model",
        "inference_id": "id-1",
        "output_location": "s3://bucket/out",
        "failure_location": "s3://bucket/fail",
        "input_location": "s3://bucket/in",
        "uploaded": True,
        "endpoint_region": "eu-west-1",
        "on_403": "wait",
        "submitted_at": 1.5,
        "expires_at": 2.5,
        "deadline_at": 2.25,
        "poll_interval": 7.0,
        **AWS,
    },
    "SageMakerAsyncEndpointTrigger": {
        "endpoint_name": "model",
        "goal": "InService",
        "submitted_at": 1.5,
        "endpoint_config_name": "model-2",
        "count": 2,
        "changed_at": 2.0,
        "deadline_at": 2.25,
        "poll_interval": 7.0,
        **AWS,
    },
    "SageMakerAsyncBatchTrigger": {
        "endpoint_name": "model",
        "location": "s3://bucket/work/batches/own/token/",
        "submitted_at": 1.5,
        "began_at": 1.75,
        "items": 100,
        "output_folder": "s3://bucket/out/own/token/",
        "failure_folder": "s3://bucket/fail/own/token/",
        "after": "00000007",
        "counted": 3,
        "enough": 20,
        "wake_at": 2.5,
        "done": 10,
        "failed": 2,
        "in_flight": 40,
        "oldest_at": 1.25,
        "sent_at": 2.0,
        "deadline_at": 2.75,
        "poll_interval": 7.0,
        **AWS,
    },
}


def through_airflow(kwargs):
    """Return ``kwargs`` as a triggerer gets them: encoded, stored as text, decoded."""
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:
        from airflow.serialization.serialized_objects import BaseSerialization

        return BaseSerialization.deserialize(json.loads(json.dumps(BaseSerialization.serialize(kwargs))))
    return deserialize(json.loads(json.dumps(serialize(kwargs))))


@pytest.mark.parametrize("trigger_class", TRIGGERS)
def test_a_trigger_survives_airflows_serializer_with_every_argument(trigger_class):
    kwargs = ARGUMENTS[trigger_class.__name__]
    path, stored = trigger_class(**kwargs).serialize()
    assert stored == kwargs
    module, _, name = path.rpartition(".")
    restored = getattr(import_module(module), name)(**through_airflow(stored))
    assert type(restored) is trigger_class
    assert restored.serialize() == (path, kwargs)


@pytest.mark.parametrize("trigger_class", TRIGGERS)
def test_what_is_stored_is_small_and_holds_no_secret(trigger_class):
    _, stored = trigger_class(**ARGUMENTS[trigger_class.__name__]).serialize()
    assert len(json.dumps(stored)) < 2_000
    assert not {"body", "payload", "password", "secret"} & set(stored)
