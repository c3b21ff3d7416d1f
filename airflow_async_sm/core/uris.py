"""The address of a bucket, a folder or an object in S3, in the two spellings that AWS accepts and returns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_async_sm.core.limits import InvalidInput

__all__ = ["S3Uri"]

_S3 = re.compile(r"s3://(?P<bucket>[^/]+)(?:/(?P<key>.*))?", re.DOTALL)
_HTTPS_BUCKET_IN_HOST = re.compile(
    r"https://(?P<bucket>[^/]+)\.s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com(?:\.cn)?(?:/(?P<key>.*))?", re.DOTALL
)
_HTTPS_BUCKET_IN_PATH = re.compile(
    r"https://s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com(?:\.cn)?/(?P<bucket>[^/]+)(?:/(?P<key>.*))?", re.DOTALL
)
# What botocore accepts. The rules for new buckets are stricter, but older buckets live on under older rules.
_BUCKET = re.compile(r"[a-zA-Z0-9.\-_]{1,255}")


@dataclass(frozen=True, slots=True)
class S3Uri:
    """
    One place in S3.

    :param bucket: Name of the bucket.
    :param key: Key of an object, or of a folder with or without its last slash. Empty for the bucket itself.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str, *, argument: str = "S3 URI", needs_key: bool = False) -> S3Uri:
        """
        Read ``s3://bucket/key``, ``https://bucket.s3.region.amazonaws.com/key`` or the path-style https form.

        :param text: The address. Nothing is unquoted: SageMaker hands keys around as they are.
        :param argument: What the address is for, named in the error.
        :param needs_key: Whether a bare bucket is an error (an object is needed).
        :raises InvalidInput: the text is no S3 address, or names no object where one is needed.
        """
        for form in (_S3, _HTTPS_BUCKET_IN_PATH, _HTTPS_BUCKET_IN_HOST):
            if match := form.fullmatch(text):
                break
        else:
            raise InvalidInput(f"{argument} is {text!r}; expected s3://bucket/key.")
        bucket, key = match["bucket"], match["key"] or ""
        if not _BUCKET.fullmatch(bucket):
            raise InvalidInput(
                f"{argument} is {text!r}; {bucket!r} is no bucket name (letters, digits, dots, hyphens and "
                "underscores)."
            )
        if needs_key and (not key or key.endswith("/")):
            raise InvalidInput(f"{argument} is {text!r}; it names no object, expected s3://bucket/key.")
        return cls(bucket, key)

    def join(self, *parts: str) -> S3Uri:
        """Return the address below this one, with single slashes between the parts."""
        named = [part.strip("/") for part in (self.key, *parts)]
        return S3Uri(self.bucket, "/".join(part for part in named if part))

    def sibling(self, suffix: str) -> S3Uri:
        """Return the folder beside this one, named as it with ``suffix`` added; in a bucket: ``suffix``."""
        key = self.key.rstrip("/")
        return S3Uri(self.bucket, f"{key}-{suffix}" if key else suffix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
