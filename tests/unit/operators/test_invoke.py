"""The payload gets through templates and mapping, and is shown nowhere on the way."""

from __future__ import annotations

import json
from unittest.mock import create_autospec

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.payloads import Concealed
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator


class TaskInstance:
    dag_id, run_id, task_id, map_index = "dag", "run", "invoke", -1


CONTEXT = {"ti": TaskInstance()}
MEMBERS = frozenset({"Body", "S3OutputPathExtension", "Filename"})


def operator(members=MEMBERS, work_prefix=None, **arguments):
    op = SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="{{ where }}", **arguments)
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.invoke_members, hook.work_prefix, hook.expected_bucket_owner = members, work_prefix, None
    hook.region = "us-east-1"
    op.__dict__["hook"] = hook
    return op


def requested(op):
    return op.request(CONTEXT).request


def rendered_for_the_page(op):
    """Return what Airflow would store for its page of rendered templates."""
    try:
        from airflow.serialization.helpers import serialize_template_field
    except ImportError:
        from airflow.models.renderedtifields import serialize_template_field
    return {name: serialize_template_field(getattr(op, name), name) for name in op.template_fields}


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ("{{ secret }}", b"s3cr3t"),
        (["{{ secret }}", 1], b'["s3cr3t",1]'),
        ({"key": {"deep": "{{ secret }}"}}, b'{"key":{"deep":"s3cr3t"}}'),
        (b"s3cr3t", b"s3cr3t"),
    ],
)
def test_a_rendered_payload_is_sent_but_not_shown(payload, body):
    op = operator(payload=payload)
    op.render_template_fields({"where": "model", "secret": "s3cr3t"})
    assert requested(op).body == body
    assert requested(op).endpoint_name == "model"
    assert "s3cr3t" not in json.dumps(rendered_for_the_page(op))


def test_rendering_twice_as_airflow_does_after_a_deferral_is_harmless():
    op = operator(payload=["{{ secret }}"])
    op.render_template_fields({"where": "model", "secret": "s3cr3t"})
    op.render_template_fields({"where": "model", "secret": "s3cr3t"})
    assert isinstance(op.payload, Concealed)
    assert requested(op).body == b'["s3cr3t"]'


def test_only_the_operators_own_payload_is_put_out_of_sight():
    class Nested:
        template_fields = ("payload",)
        payload = "{{ secret }}"

    nested = Nested()
    operator()._do_render_template_fields(
        nested, nested.template_fields, {"secret": "seen"}, operator().get_template_env(), set()
    )
    assert nested.payload == "seen"


def test_no_payload_stays_no_payload():
    op = operator(input_location="s3://bucket/in.csv")
    op.render_template_fields({"where": "model"})
    assert requested(op).body is None
    assert requested(op).content_type is None


def test_the_content_type_follows_the_payload_unless_given():
    for given, expected in ((None, "application/json"), ("application/jsonlines", "application/jsonlines")):
        op = operator(payload=[1], content_type=given)
        op.endpoint_name = "model"
        assert requested(op).content_type == expected


def test_a_payload_whose_template_came_to_none_is_refused():
    op = operator(payload="{{ nothing }}")
    op.render_template_fields({"where": "model", "nothing": None})
    with pytest.raises(InvalidInput, match="payload is the text 'None'"):
        requested(op)


def test_a_payload_whose_template_came_to_nothing_leaves_the_object_in_s3():
    op = operator(payload="{{ nothing }}", input_location="s3://bucket/in.csv")
    op.render_template_fields({"where": "model", "nothing": ""})
    assert requested(op).input_location == "s3://bucket/in.csv"
    assert requested(op).body is None


def test_a_payload_that_cannot_be_compared_is_refused_for_what_it_is():
    """As arrays of numbers: their comparison with a text has no truth value."""

    class Incomparable:
        __hash__ = None

        def __eq__(self, other):
            raise ValueError("The truth value is ambiguous")

    op = operator(payload=Incomparable())
    op.render_template_fields({"where": "model"})
    with pytest.raises(InvalidInput, match="payload of type Incomparable cannot be written as JSON"):
        requested(op)
