from __future__ import annotations

import pytest

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.transports import Transport, plan_transport

PREFIX = "s3://bucket/work"
LARGEST_BODY = 128_000
LARGEST_OBJECT = 1_000_000_000


@pytest.mark.parametrize(
    ("size", "wanted", "can_inline", "work_prefix", "inline", "reason"),
    [
        (1, "auto", True, None, True, "it has 1 of the 128,000 bytes that a request may have"),
        (LARGEST_BODY, "auto", True, PREFIX, True, "it has 128,000 of the 128,000 bytes"),
        (LARGEST_BODY, "inline", True, None, True, "it has 128,000 of the 128,000 bytes"),
        (
            LARGEST_BODY + 1,
            "auto",
            True,
            PREFIX,
            False,
            "it has 128,001 bytes and a request may have at most",
        ),
        (LARGEST_OBJECT, "auto", False, PREFIX, False, "it has 1,000,000,000 bytes and a request may have"),
        (1, "auto", False, PREFIX, False, "the installed boto3 cannot send a payload within a request"),
        (1, "s3", True, PREFIX, False, "payload_transport is 's3'"),
        (LARGEST_BODY + 1, "s3", False, "s3://bucket", False, "payload_transport is 's3'"),
        (None, "auto", True, PREFIX, False, "its size is not known before it is read"),
        (None, "s3", True, PREFIX, False, "payload_transport is 's3'"),
    ],
)
def test_a_payload_goes_inline_where_it_can(size, wanted, can_inline, work_prefix, inline, reason):
    plan = plan_transport(size, wanted=wanted, can_inline=can_inline, work_prefix=work_prefix)
    assert plan == Transport(inline=inline, reason=plan.reason)
    assert plan.reason.startswith(reason)


def test_what_is_wanted_is_auto_unless_told():
    assert plan_transport(1, can_inline=True).inline


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"wanted": "s3 please"},
            "payload_transport is 's3 please'; give one of 'auto', 'inline', 's3'",
        ),
        ({"wanted": None}, "payload_transport is None; give one of 'auto', 'inline', 's3'"),
        ({"size": 0}, "The payload is empty: it has 0 bytes. Give at least one"),
        ({"size": 0, "wanted": "s3", "work_prefix": PREFIX}, "The payload is empty"),
        (
            {"size": LARGEST_OBJECT + 1, "work_prefix": PREFIX},
            "has 1,000,000,001 bytes; SageMaker accepts at most 1,000,000,000. Split it into several",
        ),
        (
            {"size": LARGEST_BODY + 1, "wanted": "inline"},
            "is 'inline', but it has 128,001 bytes and a request may have at most 128,000. "
            "Give work_prefix=.*'auto', or put the payload into S3 and give its address as input_location",
        ),
        (
            {"wanted": "inline", "can_inline": False},
            "is 'inline', but the installed boto3 cannot send.*work_prefix.*or install boto3 1.43.29",
        ),
        ({"size": None, "wanted": "inline"}, "is 'inline', but its size is not known.*input_location"),
        (
            {"size": LARGEST_BODY + 1},
            "has to go through S3, because it has 128,001 bytes and a request may have at most 128,000, and "
            "there is no work_prefix to put it under. Give work_prefix=.*or put the payload into S3",
        ),
        (
            {"can_inline": False},
            "has to go through S3, because the installed boto3 cannot send a payload within a request, and "
            "there is no work_prefix.*Give work_prefix=.*or install boto3 1.43.29 or newer",
        ),
        (
            {"wanted": "s3"},
            "because payload_transport is 's3', and there is no work_prefix"
            ".*work_prefix='s3://bucket/folder', or 'auto'",
        ),
        ({"wanted": "s3", "work_prefix": ""}, "there is no work_prefix to put it under"),
        (
            {"wanted": "s3", "can_inline": False},
            "because payload_transport is 's3'.*or install boto3 1.43.29",
        ),
        (
            {"wanted": "s3", "work_prefix": "/tmp/work"},
            "work_prefix is '/tmp/work'; expected s3://bucket/key",
        ),
        (
            {"can_inline": False, "work_prefix": "s3://b?t/k"},
            "work_prefix is 's3://b.t/k'; 'b.t' is no bucket",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_what_to_do(arguments, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        plan_transport(**({"size": 1, "can_inline": True} | arguments))
