from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/folder/file name+1.json", "bucket", "folder/file name+1.json"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/a/b", "bucket", "a/b"),
        ("https://bucket.s3.amazonaws.com/a", "bucket", "a"),
        ("https://bucket.s3-us-west-2.amazonaws.com/a", "bucket", "a"),
        ("https://bucket.s3.cn-north-1.amazonaws.com.cn/a", "bucket", "a"),
        ("https://dotted.s3.name.s3.us-east-1.amazonaws.com/a", "dotted.s3.name", "a"),
        ("https://s3.us-east-1.amazonaws.com/bucket/a/b", "bucket", "a/b"),
        ("https://bucket.s3.us-east-1.amazonaws.com", "bucket", ""),
        ("s3://My_Legacy_Bucket/key", "My_Legacy_Bucket", "key"),
    ],
)
def test_every_spelling_aws_uses_is_read(text, bucket, key):
    assert S3Uri.parse(text) == S3Uri(bucket, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bucket/key",
        "s3:/bucket/key",
        "s3://",
        "s3:///key",
        "https://example.com/bucket/key",
        "gs://bucket/key",
    ],
)
def test_what_is_no_s3_address_is_refused(text):
    with pytest.raises(InvalidInput, match=r"output_path is .*expected s3://bucket/key"):
        S3Uri.parse(text, argument="output_path")


@pytest.mark.parametrize("bucket", ["white space", "b@d", "x" * 256])
def test_a_bucket_that_cannot_exist_is_refused(bucket):
    with pytest.raises(InvalidInput, match="is no bucket name"):
        S3Uri.parse(f"s3://{bucket}/key")


@pytest.mark.parametrize("text", ["s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_a_folder_is_refused_where_an_object_is_needed(text):
    with pytest.raises(InvalidInput, match="names no object"):
        S3Uri.parse(text, needs_key=True)


def test_parts_are_joined_with_single_slashes():
    assert str(S3Uri("bucket", "a/").join("/b/", "c")) == "s3://bucket/a/b/c"
    assert str(S3Uri("bucket").join("c")) == "s3://bucket/c"


def test_the_sibling_of_a_folder_stands_beside_it():
    assert str(S3Uri.parse("s3://bucket/out/").sibling("failures")) == "s3://bucket/out-failures"
    assert str(S3Uri.parse("s3://bucket").sibling("failures")) == "s3://bucket/failures"


@given(key=st.text())
def test_any_key_survives_the_round_trip(key):
    uri = S3Uri("bucket", key)
    assert S3Uri.parse(str(uri)) == uri
