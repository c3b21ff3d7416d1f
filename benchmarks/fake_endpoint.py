"""
The pretended AWS with an asynchronous endpoint: it takes requests, and their answers appear some time later.

It counts the requests that it takes, by the name of the answer, so that one that is sent twice is seen. It
also knows what a batch does to S3: conditional writes, and uploads in parts.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, unquote

from benchmarks.fake_aws import FakeAws, main
from benchmarks.fake_http import Answer, Asked

ENDPOINT = "batch"
OUTPUT = "bench-batch/out"
FAILURES = "bench-batch/failures"
# Requests that come in less than this one after the other, in seconds, are sent in one go.
_IN_ONE_GO = 0.5
_PREFIX = "x-amzn-sagemaker-"


class FakeEndpoint(FakeAws):
    """
    What the service does for a batch.

    :param seconds: How long after its submission the answer of a request is there.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._taken: Counter[str] = Counter()
        self._sending_seconds = 0.0
        self._last_at = 0.0
        self._uploads: dict[str, dict[int, bytes]] = {}

    def answer(self, asked: Asked) -> Answer:
        if asked.path.startswith("/endpoints/"):
            self.counts["InvokeEndpointAsync"] += 1
            return self._take(asked, self.faults.latency * (0.5 + self._draw.random()))
        return super().answer(asked)

    def _take(self, asked: Asked, after: float) -> Answer:
        now = time.monotonic()
        if now - self._last_at < _IN_ONE_GO:
            self._sending_seconds += now - self._last_at
        self._last_at = now
        # A batch names its folder and its answers; a single request names its folder only.
        folder = asked.headers.get(f"{_PREFIX}s3outputpathextension", "none")
        name = asked.headers.get(f"{_PREFIX}filename") or f"{uuid.uuid4()}.out"
        self._taken[f"{folder}/{name}"] += 1
        bucket, _, key = f"{OUTPUT}/{folder}/{name}".partition("/")
        self._bucket(bucket).put(key, b"{}", now + self._seconds)
        identity = asked.headers.get(f"{_PREFIX}inference-id", str(uuid.uuid4()))
        headers = {
            "X-Amzn-SageMaker-OutputLocation": f"s3://{OUTPUT}/{folder}/{name}",
            "X-Amzn-SageMaker-FailureLocation": f"s3://{FAILURES}/{folder}/{name}-error.out",
        }
        body = json.dumps({"InferenceId": identity}).encode()
        return Answer(202, body, "application/json", headers, after)

    def _of_s3(self, kind: str, asked: Asked, bucket: str, key: str, after: float) -> Answer:
        query = {name: values[0] for name, values in parse_qs(asked.query, keep_blank_values=True).items()}
        if "uploads" in query or "uploadId" in query:
            return self._upload(kind, query, asked.body, bucket, key, after)
        if kind == "PUT" and not self._holds(asked, bucket, key):
            return Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", after=after)
        return super()._of_s3(kind, asked, bucket, key, after)

    def _holds(self, asked: Asked, bucket: str, key: str) -> bool:
        """Return whether the condition of a write holds."""
        there = self._bucket(bucket).get(key)
        if asked.headers.get("if-none-match") == "*":
            return there is None
        wanted = asked.headers.get("if-match")
        return wanted is None or (there is not None and wanted == f'"{there.etag}"')

    def _upload(
        self, kind: str, query: dict[str, str], body: bytes, bucket: str, key: str, after: float
    ) -> Answer:
        if "uploads" in query:
            upload_id = uuid.uuid4().hex
            self._uploads[upload_id] = {}
            return _xml("InitiateMultipartUploadResult", after, UploadId=upload_id)
        parts = self._uploads[query["uploadId"]]
        if kind == "PUT":
            parts[int(query["partNumber"])] = body
            return Answer(200, headers={"ETag": f'"{query["partNumber"]}"'}, after=after)
        content = b"".join(parts[number] for number in sorted(parts))
        del self._uploads[query["uploadId"]]
        stored = self._bucket(bucket).put(unquote(key), content, time.monotonic())
        return _xml("CompleteMultipartUploadResult", after, ETag=f'"{stored.etag}"')

    def _of_sagemaker(self, operation: str, asked: Asked, after: float) -> Answer:
        answer = super()._of_sagemaker(operation, asked, after)
        if operation != "DescribeEndpoint":
            return answer
        output = {"S3OutputPath": f"s3://{OUTPUT}", "S3FailurePath": f"s3://{FAILURES}"}
        told = {**json.loads(answer.body), "AsyncInferenceConfig": {"OutputConfig": output}}
        return Answer(200, json.dumps(told).encode(), answer.content_type, after=after)

    def _figures(self) -> dict[str, Any]:
        return {
            **super()._figures(),
            "taken": self._taken.total(),
            "more_than_once": sum(count > 1 for count in self._taken.values()),
            "sending_s": self._sending_seconds,
        }


def _xml(name: str, after: float, **values: str) -> Answer:
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in values.items())
    return Answer(200, f"<{name}>{inner}</{name}>".encode(), after=after)


if __name__ == "__main__":
    main(FakeEndpoint())
