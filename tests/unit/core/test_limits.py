"""Bad input is refused with a sentence that names the argument, the value and what is accepted."""

from __future__ import annotations

import pytest

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        (limits.ENDPOINT_NAME, "a" * 63),
        (limits.ENDPOINT_NAME, "churn-model-2"),
        (limits.FILENAME, "a" * 29 + ".gz"),
        (limits.INFERENCE_ID, "one two"),
        (limits.S3_OUTPUT_PATH_EXTENSION, "dag/run/task"),
        (limits.CUSTOM_ATTRIBUTES, "k=v; w"),
        (limits.REQUEST_TTL, 60),
        (limits.REQUEST_TTL, 21_600),
        (limits.INVOCATION_TIMEOUT, 1),
        (limits.EXECUTION_ROLE_ARN, "arn:aws-us-gov:iam::123456789012:role/service-role/x"),
    ],
)
def test_a_value_at_its_limits_is_returned_unchanged(limit, value):
    assert limit.check("argument", value) == value


@pytest.mark.parametrize(
    ("limit", "value", "complaint"),
    [
        (limits.ENDPOINT_NAME, "a" * 64, "argument has 64 characters; SageMaker accepts at most 63"),
        (limits.ENDPOINT_NAME, "under_score", "argument is 'under_score'; SageMaker accepts letters"),
        (limits.ENDPOINT_NAME, "", "argument is empty"),
        (limits.ENDPOINT_NAME, None, "argument must be text, not NoneType"),
        (limits.FILENAME, "a.b.c", "at most one dot"),
        (limits.FILENAME, "b" * 36, "has 36 characters; SageMaker accepts at most 32"),
        (limits.S3_OUTPUT_PATH_EXTENSION, "s3://bucket", "no bucket"),
        (limits.CUSTOM_ATTRIBUTES, "two\nlines", "on one line"),
        (limits.CONTENT_TYPE, "application/json\n", "on one line"),
        (limits.ACCEPT, "text/\x00", "on one line"),
        (limits.INPUT_LOCATION, "s3://bucket/key\r", "visible ASCII"),
        (limits.INFERENCE_ID, " leading", "does not begin with a space"),
        (limits.INFERENCE_ID, "smörgås", "visible ASCII"),
        (limits.REQUEST_TTL, 59, "argument is 59 seconds; SageMaker accepts 60 to 21,600"),
        (limits.REQUEST_TTL, 21_601, "argument is 21,601 seconds"),
        (limits.REQUEST_TTL, "300", "must be a whole number of seconds, not '300'"),
        (limits.REQUEST_TTL, True, "must be a whole number of seconds, not True"),
        (limits.REQUEST_TTL, 90.5, "must be a whole number of seconds, not 90.5"),
        (limits.EXECUTION_ROLE_ARN, "sagemaker-execution-role", "the ARN of an IAM role"),
        (limits.TOPIC_ARN, "arn:aws:sqs:us-east-1:123456789012:q", "standard SNS topic"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(limit, value, complaint):
    with pytest.raises(InvalidInput, match=r"^argument") as caught:
        limit.check("argument", value)
    assert complaint in str(caught.value)
